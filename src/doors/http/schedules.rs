//! `/v1/schedules`: documents that make runs begin by themselves.
//!
//! May not decide about a time. Invariant: what was changed is durable when the answer is given.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{Named, Nothing, Strict};
use super::problem::{Answer, Problem};
use super::runs::read_time;
use crate::codecs::outline::Notation;
use crate::doors::schedules::{
    Backfilled, ScheduleApplied, ScheduleDeleted, ScheduleShown, SchedulesShown, Triggered,
};
use crate::machines::schedule::Name;
use crate::services::schedules::book::Document;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new()
        .routes(routes!(list, apply))
        .routes(routes!(show))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(trigger))
        .routes(routes!(backfill))
        .routes(routes!(delete))
}

/// Which schedule
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct Which {
    /// Where its name belongs; `default` unless its document says otherwise
    namespace: String,
    /// Its name
    name: String,
}

impl Which {
    fn read(self) -> Answer<Name> {
        let read = format!("{}/{}", self.namespace, self.name).parse();
        read.map_err(|e: crate::machines::schedule::NotAName| Problem::bad_request(e.to_string()))
    }
}

/// List all schedules
#[utoipa::path(
    get, path = "/v1/schedules", operation_id = "listSchedules",
    tag = "schedules", security(("token" = ["run.read"])),
    responses((status = 200, description = "The schedules", body = SchedulesShown)),
)]
async fn list(State(door): State<Door>) -> Answer<Json<SchedulesShown>> {
    let listed = door.schedules.ask(|keeper| Ok(keeper.list())).await?;
    Ok(Json(listed.into()))
}

/// A document to apply
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Apply {
    /// A document of the kind `CronWorkflow`, as text
    document: String,
    /// How it is written
    #[serde(default)]
    notation: Written,
}

/// How a document is written
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Written {
    /// As YAML
    #[default]
    Yaml,
    /// As JSON
    Json,
}

/// Apply a schedule
///
/// The same document may be applied again; another one needs another name, or the first deleted.
#[utoipa::path(
    post, path = "/v1/schedules", operation_id = "applySchedule",
    tag = "schedules", security(("token" = ["run.operate"])),
    request_body = Apply,
    responses(
        (status = 201, description = "The schedule is at work", body = ScheduleApplied),
        (status = 200, description = "It was, with this document", body = ScheduleApplied),
    ),
)]
async fn apply(
    State(door): State<Door>,
    caller: Caller,
    Strict(asked): Strict<Apply>,
) -> Answer<(StatusCode, Json<ScheduleApplied>)> {
    let notation = match asked.notation {
        Written::Yaml => Notation::Yaml,
        Written::Json => Notation::Json,
    };
    let text = asked.document;
    let done = door.schedules.ask(move |keeper| {
        let (document, findings) = Document::read(&text, notation)?;
        let warnings = findings.iter().map(|finding| finding.print("document", &text)).collect();
        let (seen, existed) = keeper.apply(&document, &caller.by)?;
        Ok(ScheduleApplied { existed, warnings, schedule: seen.into() })
    });
    let done = done.await?;
    let status = if done.existed { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(done)))
}

/// Show a schedule, its next times and its last decisions
#[utoipa::path(
    get, path = "/v1/schedules/{namespace}/{name}", operation_id = "showSchedule",
    tag = "schedules", security(("token" = ["run.read"])), params(Which),
    responses((status = 200, description = "The schedule", body = ScheduleShown)),
)]
async fn show(State(door): State<Door>, Named(which): Named<Which>) -> Answer<Json<ScheduleShown>> {
    let name = which.read()?;
    let seen = door.schedules.ask(move |keeper| keeper.show(&name)).await?;
    Ok(Json(seen.into()))
}

async fn suspend(door: &Door, which: Which, is_suspended: bool) -> Answer<Json<ScheduleShown>> {
    let name = which.read()?;
    let seen = door.schedules.ask(move |keeper| keeper.suspend(&name, is_suspended)).await?;
    Ok(Json(seen.into()))
}

/// Let times pass without a run
#[utoipa::path(
    post, path = "/v1/schedules/{namespace}/{name}/pause", operation_id = "pauseSchedule",
    tag = "schedules", security(("token" = ["run.operate"])), params(Which),
    request_body = Option<Nothing>,
    responses((status = 200, description = "The schedule", body = ScheduleShown)),
)]
async fn pause(
    State(door): State<Door>,
    Named(which): Named<Which>,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<Json<ScheduleShown>> {
    suspend(&door, which, true).await
}

/// Let a schedule make runs again
///
/// Times that passed meanwhile are not made up for.
#[utoipa::path(
    post, path = "/v1/schedules/{namespace}/{name}/resume", operation_id = "resumeSchedule",
    tag = "schedules", security(("token" = ["run.operate"])), params(Which),
    request_body = Option<Nothing>,
    responses((status = 200, description = "The schedule", body = ScheduleShown)),
)]
async fn resume(
    State(door): State<Door>,
    Named(which): Named<Which>,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<Json<ScheduleShown>> {
    suspend(&door, which, false).await
}

/// Make a run of a schedule now
///
/// Also of one that is suspended or has ended. An earlier run stands in the way, or is replaced, as
/// the schedule says.
#[utoipa::path(
    post, path = "/v1/schedules/{namespace}/{name}/trigger", operation_id = "triggerSchedule",
    tag = "schedules", security(("token" = ["run.write"])), params(Which),
    request_body = Option<Nothing>,
    responses((status = 201, description = "The run exists", body = Triggered)),
)]
async fn trigger(
    State(door): State<Door>,
    Named(which): Named<Which>,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<(StatusCode, Json<Triggered>)> {
    let name = which.read()?;
    let run = door.schedules.ask(move |keeper| keeper.trigger(&name)).await?;
    Ok((StatusCode::CREATED, Json(Triggered { run_id: run.to_string() })))
}

/// A span of time
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Span {
    /// Its first moment
    #[schema(format = DateTime)]
    from: String,
    /// Its last moment
    #[schema(format = DateTime)]
    until: String,
}

/// Make runs for times that have passed without one
///
/// Oldest first; one after the other unless the schedule lets runs overlap.
#[utoipa::path(
    post, path = "/v1/schedules/{namespace}/{name}/backfill", operation_id = "backfillSchedule",
    tag = "schedules", security(("token" = ["run.write"])), params(Which),
    request_body = Span,
    responses((status = 202, description = "Times that get a run", body = Backfilled)),
)]
async fn backfill(
    State(door): State<Door>,
    Named(which): Named<Which>,
    Strict(span): Strict<Span>,
) -> Answer<(StatusCode, Json<Backfilled>)> {
    let (name, from, until) = (which.read()?, read_time(&span.from)?, read_time(&span.until)?);
    let times = door.schedules.ask(move |keeper| keeper.backfill(&name, from, until)).await?;
    Ok((StatusCode::ACCEPTED, Json(Backfilled { times })))
}

/// Delete a schedule; its runs stay
#[utoipa::path(
    post, path = "/v1/schedules/{namespace}/{name}/delete", operation_id = "deleteSchedule",
    tag = "schedules", security(("token" = ["run.operate"])), params(Which),
    request_body = Option<Nothing>,
    responses((status = 200, description = "It is no more", body = ScheduleDeleted)),
)]
async fn delete(
    State(door): State<Door>,
    Named(which): Named<Which>,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<Json<ScheduleDeleted>> {
    let name = which.read()?;
    door.schedules.ask(move |keeper| keeper.delete(&name)).await?;
    Ok(Json(ScheduleDeleted { deleted: true }))
}
