//! The code of a run: giving it, checking it, taking other code over.
//!
//! May not guess what to do about differences. Invariant: without `yes` nothing is accepted.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{Run, RunPath, Strict, present};
use super::problem::{Answer, Problem};
use super::runs::CodeSource;
use crate::codecs::json::Json as Text;
use crate::doors::answers::{AcceptDone, AssignDone, CheckDone};
use crate::services::manager::Assignment;
use crate::services::runs::accept::{OnChange, OnRemoved};

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(assign)).routes(routes!(check)).routes(routes!(accept))
}

/// A process for a run
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Assign {
    /// Its code
    source: CodeSource,
    /// The inputs of the process, kept byte for byte
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Value, required = false)]
    inputs: Option<Text>,
    /// Replace the process of an open run
    #[serde(default)]
    force: bool,
    /// Why, for the journal
    reason: Option<String>,
}

/// Give a bare run its process
#[utoipa::path(
    post, path = "/v1/runs/{run}/assign-process", operation_id = "assignProcess",
    tag = "code",
    security(("token" = ["run.write"])),
    params(RunPath),
    request_body = Assign,
    responses((status = 200, description = "It has its process", body = AssignDone)),
)]
async fn assign(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(asked): Strict<Assign>,
) -> Answer<Json<AssignDone>> {
    let source = asked.source.read()?;
    let entry = source.entry.path.display().to_string();
    let (inputs, force, reason) = (asked.inputs, asked.force, asked.reason);
    let assignment = Assignment { source, inputs, force, reason };
    let done = door.handle.assign(&run, &caller.by, assignment).await;
    let (dir, process, previous) = done.map_err(|e| Problem::from(e).of_run(run.as_str()))?;
    Ok(Json(AssignDone {
        run_id: run,
        run_dir: dir.display().to_string(),
        entry,
        process_id: process.process_id,
        previous_entrypoint: previous.map(Into::into),
        assigned: true,
        digest: process.digest,
    }))
}

/// What to check a run against
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Check {
    /// Other code; its own if left out
    source: Option<CodeSource>,
}

/// Replay a run against its own or other code; nothing is written
#[utoipa::path(
    post, path = "/v1/runs/{run}/check", operation_id = "checkRun",
    tag = "code", security(("token" = ["run.write"])),
    params(RunPath),
    request_body = Option<Check>,
    responses((status = 200, description = "How it fares", body = CheckDone)),
)]
async fn check(
    State(door): State<Door>,
    Run(run): Run,
    Strict(asked): Strict<Check>,
) -> Answer<Json<CheckDone>> {
    let source = asked.source.map(CodeSource::read).transpose()?;
    let checked = door.handle.check(&run, source).await;
    checked.map(|c| Json(c.into())).map_err(|e| Problem::from(e).of_run(run.as_str()))
}

/// Other code for an open run
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Accept {
    /// The code
    source: CodeSource,
    /// Calls whose arguments or kind changed
    #[serde(default)]
    on_args_change: ArgsChange,
    /// Pending calls that the new code does not make
    on_removed: Option<Removed>,
    /// Why, for the journal
    reason: Option<String>,
    /// Do it; without this the plan is only shown
    #[serde(default)]
    yes: bool,
}

/// What becomes of calls that the new code makes differently
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum ArgsChange {
    /// The recorded outcome stands
    Keep,
    /// They are asked for anew
    Redo,
    /// The code is refused
    #[default]
    Fail,
}

/// What becomes of pending calls that the new code does not make
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Removed {
    /// Their outcome is waited for
    Keep,
    /// They are given up
    Cancel,
}

/// Take other code over for an open run
#[utoipa::path(
    post, path = "/v1/runs/{run}/accept", operation_id = "acceptCode",
    tag = "code", security(("token" = ["run.operate"])),
    params(RunPath),
    request_body = Accept,
    responses((status = 200, description = "The plan, and whether it stands", body = AcceptDone)),
)]
async fn accept(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(asked): Strict<Accept>,
) -> Answer<Json<AcceptDone>> {
    let on_change = match asked.on_args_change {
        ArgsChange::Keep => OnChange::Keep,
        ArgsChange::Redo => OnChange::Redo,
        ArgsChange::Fail => OnChange::Fail,
    };
    let on_removed = asked.on_removed.map(|choice| match choice {
        Removed::Keep => OnRemoved::Keep,
        Removed::Cancel => OnRemoved::Cancel,
    });
    let of_run = |e| Problem::from(e).of_run(run.as_str());
    let source = asked.source.read()?;
    let planned = door.handle.plan_accept(&run, source, on_change, on_removed).await;
    let (plan, graph) = planned.map_err(of_run)?;
    if !asked.yes {
        return Ok(Json(AcceptDone::of(plan, None)));
    }
    let accepted = door.handle.accept(&run, &caller.by, plan, graph, asked.reason).await;
    let (plan, done) = accepted.map_err(of_run)?;
    Ok(Json(AcceptDone::of(plan, Some(done))))
}
