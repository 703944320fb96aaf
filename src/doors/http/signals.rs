//! `/v1/runs/{run}/signals`: sending signals.
//!
//! May not know whether anybody waits. Invariant: a signal id is accepted once.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{Run, RunPath, Strict, present};
use super::problem::{Answer, Problem};
use super::runs::one_key;
use crate::codecs::json::Json as Text;
use crate::doors::answers::Did;
use crate::services::manager::Flow;
use crate::services::runs::steer::Signal;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(send))
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
