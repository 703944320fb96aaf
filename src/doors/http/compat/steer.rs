//! `/api/jobs/{run}/stop`, `/pause` and `/resume`.
//!
//! May not answer for a person. Invariant: asking again for what stands already is no error.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Door;
use super::super::auth::Caller;
use super::super::body::{Run, Strict};
use super::super::problem::{Answer, Problem};
use super::signal::{self, Given};
use super::waits;
use crate::codecs::json::Json as Text;
use crate::ground::id::RunId;
use crate::machines::replay::state::{End, RunState};
use crate::services::manager::Flow;
use crate::services::runs::open::OpenRun;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};

/// The key that resumes a paused job.
const PAUSE_KEY: &str = "pause";

/// Why something is done.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Why {
    reason: Option<String>,
}

/// How a job goes on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Resume {
    correlation_key: Option<String>,
}

async fn did(
    door: &Door,
    caller: &Caller,
    run: &RunId,
    act: impl FnOnce(&mut OpenRun) -> Result<Value> + Send + 'static,
) -> Answer<Json<Value>> {
    let done = door.handle.deed(run, &caller.by, Flow::Outcome, act).await;
    done.map(Json).map_err(|e| Problem::from(e).of_run(run.as_str()))
}

/// Refuses to steer a job that has ended.
fn must_go_on(state: &RunState) -> Result<()> {
    let Some((end, _)) = state.end else { return Ok(()) };
    let what = format!("the job has ended: it is {}", end.name());
    Err(Error::Invalid(Trouble::new("job_ended", what)))
}

/// Asks a job to stop.
pub(super) async fn stop(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(why): Strict<Why>,
) -> Answer<Json<Value>> {
    let id = run.clone();
    let act = move |open: &mut OpenRun| {
        if !matches!(open.state().end, Some((End::Cancelled, _))) {
            must_go_on(open.state())?;
            open.cancel(why.reason, false)?;
        }
        Ok(json!({ "job_id": id, "status": "cancelling" }))
    };
    did(&door, &caller, &run, act).await
}

/// Keeps a job from going on.
pub(super) async fn pause(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(why): Strict<Why>,
) -> Answer<Json<Value>> {
    let id = run.clone();
    let act = move |open: &mut OpenRun| {
        must_go_on(open.state())?;
        if let Some(reason) = why.reason.filter(|_| open.state().paused.is_none()) {
            open.note(&format!("paused: {reason}"))?;
        }
        open.pause()?;
        Ok(json!({ "job_id": id, "status": "parked", "correlation_key": PAUSE_KEY }))
    };
    did(&door, &caller, &run, act).await
}

/// Lets a job go on: one that is paused or held, or one that waits under the key that is given.
pub(super) async fn resume(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(asked): Strict<Resume>,
) -> Answer<Response> {
    let key = asked.correlation_key.filter(|key| !key.is_empty());
    if let Some(key) = key.filter(|key| key != PAUSE_KEY) {
        let wanted = key.clone();
        let waits = door.handle.read(&run, move |look| {
            Ok(waits::open(look.state).any(|effect| waits::is_named(effect, &wanted)))
        });
        let waits = waits.await.map_err(|e| Problem::from(e).of_run(run.as_str()))?;
        if waits {
            let payload = Text::of(&json!({}));
            let name = caller.name().to_owned();
            let given = Given { key: Some(key), payload, signal_id: None, name };
            let told = signal::give(&door, &caller, &run, given).await?;
            return Ok(Json(told).into_response());
        }
    }
    let id = run.clone();
    let act = move |open: &mut OpenRun| {
        must_go_on(open.state())?;
        if open.state().paused.is_none() && open.state().held.is_none() {
            let what = format!("{id} is not paused, and waits for no such key");
            let next = format!("dormouse why {id}");
            return Err(Error::Invalid(Trouble::new("not_waiting", what).next(next)));
        }
        open.resume(None)?;
        Ok(json!({ "job_id": id, "status": "pending" }))
    };
    did(&door, &caller, &run, act).await.map(IntoResponse::into_response)
}
