//! Steering a run: iterate, cancel, halt, pause, resume, recover, note.
//!
//! May not know who may steer. Invariant: a repeat of what stands already is told so.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{Nothing, Run, RunPath, Strict};
use super::problem::{Answer, Problem};
use crate::codecs::json::Json as Text;
use crate::doors::answers::{Did, HaltDone};
use crate::doors::shapes;
use crate::ground::id::{EffectId, RunId};
use crate::services::manager::Flow;
use crate::services::runs::open::OpenRun;
use crate::services::runs::steer::{Done, FinalStatus};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new()
        .routes(routes!(iterate))
        .routes(routes!(cancel))
        .routes(routes!(halt))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(recover))
        .routes(routes!(note))
}

/// Why something is done
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Why {
    /// For the journal
    reason: Option<String>,
}

/// Does something to a run that appends one record.
async fn did(
    door: &Door,
    caller: &Caller,
    run: &RunId,
    word: &'static str,
    act: impl FnOnce(&mut OpenRun) -> Result<Done> + Send + 'static,
) -> Answer<Json<Did>> {
    let done = door.handle.deed(run, &caller.by, Flow::Outcome, act).await;
    let done = done.map_err(|e| Problem::from(e).of_run(run.as_str()))?;
    Ok(Json(Did::of(run, word, &done)))
}

/// Let a run go on until it rests, and say where
#[utoipa::path(
    post, path = "/v1/runs/{run}/iterate", operation_id = "iterateRun",
    tag = "runs", security(("token" = ["run.write"])),
    params(RunPath),
    request_body = Option<Nothing>,
    responses((status = 200, description = "Where it rests", body = shapes::Report)),
)]
async fn iterate(
    State(door): State<Door>,
    Run(run): Run,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<Json<Value>> {
    let of_run = |e: Error| Problem::from(e).of_run(run.as_str());
    let report = door.handle.iterate(&run).await.map_err(of_run)?;
    if report["metadata"]["processId"].is_null() {
        let bare = Trouble::new("run_is_bare", format!("run {run} has no process assigned"));
        let next = format!("dormouse run assign-process {run} --entry FILE");
        return Err(of_run(Error::Refused(bare.next(next))));
    }
    Ok(Json(report))
}

/// How to cancel
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Cancel {
    /// Why, for the process and the journal
    reason: Option<String>,
    /// Leave no time for clean-up effects
    #[serde(default)]
    now: bool,
}

/// Ask a run to stop; its process may clean up
#[utoipa::path(
    post, path = "/v1/runs/{run}/cancel", operation_id = "cancelRun",
    tag = "runs", security(("token" = ["run.write"])),
    params(RunPath),
    request_body = Option<Cancel>,
    responses((status = 202, description = "It is asked to", body = Did)),
)]
async fn cancel(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(asked): Strict<Cancel>,
) -> Answer<(StatusCode, Json<Did>)> {
    let act = move |open: &mut OpenRun| open.cancel(asked.reason, asked.now);
    let done = did(&door, &caller, &run, "cancelling", act).await?;
    Ok((StatusCode::ACCEPTED, done))
}

/// How to end a run
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Halt {
    /// Why, for the journal
    #[schema(default = "manual_halt")]
    reason: Option<String>,
    /// How the run shall count
    #[serde(default)]
    final_status: Final,
}

/// How a run counts that was ended from outside
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Final {
    /// As completed
    #[default]
    Completed,
    /// As failed
    Failed,
}

/// End a run from outside, at once
#[utoipa::path(
    post, path = "/v1/runs/{run}/halt", operation_id = "haltRun",
    tag = "runs", security(("token" = ["run.operate"])),
    params(RunPath),
    request_body = Option<Halt>,
    responses((status = 200, description = "It has ended", body = HaltDone)),
)]
async fn halt(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(asked): Strict<Halt>,
) -> Answer<Json<HaltDone>> {
    let (final_status, as_) = match asked.final_status {
        Final::Completed => ("completed", FinalStatus::Completed),
        Final::Failed => ("failed", FinalStatus::Failed),
    };
    let reason = asked.reason.unwrap_or_else(|| "manual_halt".into());
    let act = move |open: &mut OpenRun| {
        let done = open.halt(&reason, as_)?;
        let look = open.look();
        let ended = look.records.iter().find(|r| r.seq == done.seq);
        Ok(HaltDone {
            run_dir: look.dir.path().display().to_string(),
            halted: true,
            final_status,
            reason,
            completion_proof: None,
            already_terminal: ended.filter(|_| done.repeat).map(|r| r.event.name()),
            event: ended.map(|r| (&**r).into()),
        })
    };
    let halted = door.handle.deed(&run, &caller.by, Flow::Outcome, act).await;
    halted.map(Json).map_err(|e| Problem::from(e).of_run(run.as_str()))
}

/// Keep a run from going on; posts and signals are still taken
#[utoipa::path(
    post, path = "/v1/runs/{run}/pause", operation_id = "pauseRun",
    tag = "runs", security(("token" = ["run.write"])),
    params(RunPath),
    request_body = Option<Nothing>,
    responses((status = 200, description = "It is paused", body = Did)),
)]
async fn pause(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<Json<Did>> {
    did(&door, &caller, &run, "paused", OpenRun::pause).await
}

/// Let a paused or held run go on
#[utoipa::path(
    post, path = "/v1/runs/{run}/resume", operation_id = "resumeRun",
    tag = "runs", security(("token" = ["run.write"])),
    params(RunPath),
    request_body = Option<Why>,
    responses((status = 200, description = "It goes on", body = Did)),
)]
async fn resume(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(asked): Strict<Why>,
) -> Answer<Json<Did>> {
    did(&door, &caller, &run, "resumed", |open| open.resume(asked.reason)).await
}

/// How a held run goes on
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Recover {
    /// Another value inside the outcome of an effect
    patch: Option<Patch>,
    /// Why, for the journal
    reason: Option<String>,
}

/// Another value inside the outcome of an effect
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Patch {
    /// The effect
    #[schema(value_type = String, pattern = "^e[0-9]{4,}$")]
    effect_id: EffectId,
    /// Where, by names with dots between them
    path: String,
    /// The value
    #[schema(value_type = Value)]
    value: Text,
}

/// Let a run go on that an error of its process holds
#[utoipa::path(
    post, path = "/v1/runs/{run}/recover", operation_id = "recoverRun",
    tag = "runs", security(("token" = ["run.operate"])),
    params(RunPath),
    request_body = Option<Recover>,
    responses((status = 200, description = "It goes on", body = Did)),
)]
async fn recover(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(asked): Strict<Recover>,
) -> Answer<Json<Did>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let odd = |key: &str| key.is_empty() || !key.chars().all(plain);
    if asked.patch.as_ref().is_some_and(|patch| patch.path.split('.').any(odd)) {
        return Err(Problem::bad_request("patch.path is names with dots between them"));
    }
    let patch = asked.patch.map(|patch| (patch.effect_id, patch.path, patch.value));
    did(&door, &caller, &run, "recovered", |open| open.recover(patch, asked.reason)).await
}

/// A remark for whoever reads the journal
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Note {
    /// The remark
    #[schema(min_length = 1)]
    text: String,
}

/// Write a remark into the journal
#[utoipa::path(
    post, path = "/v1/runs/{run}/note", operation_id = "noteRun",
    tag = "runs", security(("token" = ["run.write"])),
    params(RunPath),
    request_body = Note,
    responses((status = 200, description = "It stands there", body = Did)),
)]
async fn note(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(asked): Strict<Note>,
) -> Answer<Json<Did>> {
    if asked.text.is_empty() {
        return Err(Problem::bad_request("text is empty"));
    }
    did(&door, &caller, &run, "noted", move |open| open.note(&asked.text)).await
}
