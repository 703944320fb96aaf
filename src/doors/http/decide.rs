//! `…/decide`, `…/retry-now`: what operators do about effects.
//!
//! May not know what happened outside. Invariant: a decision names the start that it is about.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{self, EffectPath, Nothing, Strict, present};
use super::effects::{PostError, about};
use super::problem::{Answer, Problem};
use crate::codecs::json::Json as Text;
use crate::doors::work::{Decided, Stands};
use crate::ground::id::Epoch;
use crate::machines::effect::decide::{Choice, Decision};
use crate::machines::effect::life::EffectStatus;
use crate::services::manager::{Flow, Wish};
use crate::services::runs::open::OpenRun;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(decide)).routes(routes!(retry_now))
}

/// What is decided
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum What {
    /// It is done again: that may be twice
    Retry,
    /// It is done, with this value
    Done,
    /// It has failed, with this error
    Failed,
    /// Whoever its author named is asked, and the answer is taken
    Probe,
}

/// A decision about an effect whose outcome nobody knows
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Decide {
    /// What
    decision: What,
    /// The start that it is about; 0 if there was none
    epoch: u64,
    /// Why, for the journal
    #[schema(min_length = 1)]
    reason: String,
    /// The value, for `done`
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Value, required = false)]
    value: Option<Text>,
    /// The error, for `failed`
    error: Option<PostError>,
    /// What the decision rests on, kept beside it
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Value, required = false)]
    evidence: Option<Text>,
    /// Also while somebody is at it: they are declared lost
    #[serde(default)]
    force: bool,
}

impl Decide {
    fn read(self) -> Answer<Decision> {
        let what = match (self.decision, self.value, self.error) {
            (What::Retry, None, None) => Choice::Retry,
            (What::Done, Some(value), None) => Choice::Done(value),
            (What::Failed, None, Some(error)) => Choice::Failed(error.into()),
            _ => {
                let what = "done takes a value, failed an error, retry and probe neither";
                return Err(Problem::bad_request(what));
            }
        };
        Ok(Decision {
            what,
            epoch: Epoch(self.epoch),
            reason: self.reason,
            evidence: self.evidence,
            force: self.force,
        })
    }
}

/// Decide what became of an effect
#[utoipa::path(
    post, path = "/v1/runs/{run}/tasks/{effect}/decide", operation_id = "decideTask",
    tag = "work", security(("token" = ["run.operate"])),
    params(EffectPath),
    request_body = Decide,
    responses((status = 200, description = "It is decided", body = Decided)),
)]
async fn decide(
    State(door): State<Door>,
    caller: Caller,
    body::Effect(run, effect): body::Effect,
    Strict(asked): Strict<Decide>,
) -> Answer<Json<Decided>> {
    if asked.reason.trim().is_empty() {
        return Err(Problem::bad_request("reason is empty: say why"));
    }
    if let Decide { decision: What::Probe, value: None, error: None, .. } = &asked {
        let wish = Wish { by: caller.by, reason: asked.reason };
        let said = door.handle.probe(&run, effect, Epoch(asked.epoch), wish).await;
        return Ok(Json(Decided::asked(effect, said.map_err(|e| about(e, &run, effect))?)));
    }
    let decision = asked.read()?;
    let act = move |open: &mut OpenRun| open.decide(effect, &decision);
    let done = door.handle.deed(&run, &caller.by, Flow::Outcome, act).await;
    Ok(Json(Decided::of(effect, &done.map_err(|e| about(e, &run, effect))?)))
}

/// Let an effect be tried again now that waits for its next attempt
#[utoipa::path(
    post, path = "/v1/runs/{run}/tasks/{effect}/retry-now", operation_id = "retryNow",
    tag = "work", security(("token" = ["run.operate"])),
    params(EffectPath),
    request_body = Option<Nothing>,
    responses((status = 200, description = "It may be started", body = Stands)),
)]
async fn retry_now(
    State(door): State<Door>,
    body::Effect(run, effect): body::Effect,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<Json<Stands>> {
    door.handle.retry_now(&run, effect).await.map_err(|e| about(e, &run, effect))?;
    Ok(Json(Stands::of(effect, EffectStatus::Requested)))
}
