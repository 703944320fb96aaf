//! `/v1/runs/{run}/signals`, `/v1/signals`: sending signals.
//!
//! May not know whether anybody waits. Invariant: a signal id is accepted once.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{Run, RunPath, Strict, present};
use super::index;
use super::problem::{Answer, Problem};
use super::runs::one_key;
use crate::codecs::json::Json as Text;
use crate::doors::answers::Did;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::ground::limits::PAGE_SIZE_MAX;
use crate::machines::effect::Wait;
use crate::services::manager::Flow;
use crate::services::runs::open::OpenRun;
use crate::services::runs::steer::{Done, Signal};
use crate::shells::store::Waiter;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(send)).routes(routes!(correlate))
}

/// A signal
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Send {
    /// Its name
    #[schema(min_length = 1)]
    name: String,
    /// What a wait may name besides
    #[schema(min_length = 1)]
    correlation_key: Option<String>,
    /// The same id is accepted once
    #[serde(alias = "dedupeKey")]
    #[schema(min_length = 1)]
    signal_id: Option<String>,
    /// What the wait resolves with, kept byte for byte
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Value, required = false)]
    payload: Option<Text>,
}

/// Send a signal; it is kept until the process waits for it
#[utoipa::path(
    post, path = "/v1/runs/{run}/signals", operation_id = "sendSignal",
    tag = "runs", security(("token" = ["run.write"])),
    params(
        RunPath,
        ("Idempotency-Key" = Option<String>, Header, description = "As `signalId`"),
    ),
    request_body = Send,
    responses((status = 200, description = "It stands in the journal", body = Did)),
)]
async fn send(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    headers: HeaderMap,
    Strict(asked): Strict<Send>,
) -> Answer<Json<Did>> {
    if asked.name.is_empty() || asked.correlation_key.as_ref().is_some_and(String::is_empty) {
        return Err(Problem::bad_request("a name or key is empty"));
    }
    let signal = Signal {
        name: asked.name,
        correlation_key: asked.correlation_key,
        signal_id: one_key(&headers, asked.signal_id)?,
        payload: asked.payload.unwrap_or_else(Text::null),
    };
    let sent = door.handle.deed(&run, &caller.by, Flow::Inflow, |open| open.signal(signal)).await;
    let sent = sent.map_err(|e| Problem::from(e).of_run(run.as_str()))?;
    Ok(Json(Did::of(&run, "signalled", &sent)))
}

/// To how many waits a signal goes
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Deliver {
    /// To the only one; several are refused
    #[default]
    One,
    /// To all
    All,
}

/// A signal for whoever waits for it
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Correlate {
    /// Its name; if left out, whatever the wait is called
    #[schema(min_length = 1)]
    name: Option<String>,
    /// The key that the wait names
    #[schema(min_length = 1)]
    correlation_key: String,
    /// A run takes the same id once
    #[serde(alias = "dedupeKey")]
    #[schema(min_length = 1)]
    signal_id: String,
    /// To how many waits
    #[serde(default)]
    deliver: Deliver,
    /// What the wait resolves with, kept byte for byte
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Value, required = false)]
    payload: Option<Text>,
}

/// Who got a signal
#[derive(Debug, Serialize, ToSchema)]
struct Correlated {
    /// Those who waited
    delivered: Vec<Delivered>,
}

/// A wait that got a signal
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Delivered {
    /// The run
    #[schema(value_type = String)]
    run_id: RunId,
    /// The effect that waited
    #[schema(value_type = String)]
    effect_id: EffectId,
    /// The record of the signal
    #[schema(value_type = u64)]
    seq: Seq,
    /// It stood there already
    repeat: bool,
}

/// Send a signal to whichever run waits for its correlation key
///
/// Only waits that name the key get it. What nobody waits for is refused, not kept.
#[utoipa::path(
    post, path = "/v1/signals", operation_id = "correlateSignal",
    tag = "runs", security(("token" = ["run.write"])),
    request_body = Correlate,
    responses((status = 200, description = "Who got it", body = Correlated)),
)]
async fn correlate(
    State(door): State<Door>,
    caller: Caller,
    Strict(asked): Strict<Correlate>,
) -> Answer<Json<Correlated>> {
    let texts = [asked.name.as_ref(), Some(&asked.correlation_key), Some(&asked.signal_id)];
    if texts.into_iter().flatten().any(String::is_empty) {
        return Err(Problem::bad_request("a name, key or id is empty"));
    }
    let (name, key) = (asked.name.clone(), asked.correlation_key.clone());
    let ask = move |index: &crate::shells::store::Index| {
        index.correlated(name.as_deref(), &key, PAGE_SIZE_MAX)
    };
    let waiters = index::ask(&door.handle, ask).await?;
    if asked.deliver == Deliver::One && waiters.len() > 1 {
        let what = format!("{} effects wait for {}", waiters.len(), asked.correlation_key);
        return Err(Problem::new("ambiguous", StatusCode::CONFLICT, what)
            .next("name the signal, say deliver: all, or send it to one run"));
    }
    let mut delivered = Vec::new();
    for waiter in waiters {
        let act = deliver(&asked, &waiter);
        let sent = door.handle.deed(&waiter.run_id, &caller.by, Flow::Inflow, act).await;
        let Waiter { run_id, effect_id, .. } = waiter;
        match sent.map_err(|e| Problem::from(e).of_run(run_id.as_str()))? {
            Some(Done { seq, repeat }) => {
                delivered.push(Delivered { run_id, effect_id, seq, repeat });
            }
            None => {}
        }
    }
    if delivered.is_empty() {
        let what = format!("no effect waits for {}", asked.correlation_key);
        return Err(Problem::new("no_waiter", StatusCode::NOT_FOUND, what)
            .next("send it to a run, which keeps it until its process waits"));
    }
    Ok(Json(Correlated { delivered }))
}

/// Sends the signal to a wait that is still there.
fn deliver(
    asked: &Correlate,
    waiter: &Waiter,
) -> impl FnOnce(&mut OpenRun) -> crate::services::runs::Result<Option<Done>> + std::marker::Send + 'static {
    let effect = waiter.effect_id;
    let (name, key) = (asked.name.clone(), asked.correlation_key.clone());
    let (id, payload) = (asked.signal_id.clone(), asked.payload.clone());
    move |open| {
        let waits = open.state().effect(effect).filter(|effect| effect.status.is_open());
        let waits = waits.and_then(|effect| match &effect.wait {
            Wait::Signal(facts) => Some(facts.name.clone()),
            _ => None,
        });
        let Some(waits) = waits else { return Ok(None) };
        open.signal(Signal {
            name: name.unwrap_or(waits),
            correlation_key: Some(key),
            signal_id: Some(id),
            payload: payload.unwrap_or_else(Text::null),
        })
        .map(Some)
    }
}
