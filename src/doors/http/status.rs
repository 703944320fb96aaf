//! `/v1/status`: the daemon and its root at a glance.
//!
//! May not change anything. Invariant: a run is counted once, under its state.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::body::gave_up;
use super::index;
use super::problem::Answer;
use crate::ground::clock::Timestamp;
use crate::services::runs::{Result, Runs};
use crate::shells::commit_log::WriterState;
use crate::shells::run_dir::lock;
use crate::shells::run_dir::root::{META, ROOT_LOCK};

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(status))
}

/// The daemon and its root
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// Always true
    running: bool,
    /// Its process
    pid: u32,
    /// Its version
    version: &'static str,
    /// When it took the root
    #[schema(required, value_type = Option<String>)]
    started_at: Option<Timestamp>,
    /// How long ago that is
    uptime_ms: i64,
    /// The root
    runs_root: String,
    /// How many runs are in each state
    runs: BTreeMap<String, u64>,
    /// Effects without an outcome
    pending: u64,
    /// The same by kind
    waiting_by_kind: BTreeMap<String, u64>,
    /// What the commit log takes: `healthy`, `full` (outcomes only), `failed`
    writer: &'static str,
    /// Runs in memory
    loaded: usize,
    /// Of these, runs at rest whose process is kept
    warm: usize,
    /// Runs that wait for a place in memory
    queued: usize,
    /// Runs that time will wake
    timers: usize,
    /// Schedules that make runs begin by themselves
    schedules: usize,
    /// When the next of them does
    #[schema(required, value_type = Option<String>)]
    next_scheduled: Option<Timestamp>,
    /// The last durable batch of the commit log
    frame: u64,
    /// Batches that the index does not have yet
    index_lag: u64,
    /// Records that were made durable since the daemon began
    records: u64,
}

const fn word(state: WriterState) -> &'static str {
    match state {
        WriterState::Healthy => "healthy",
        WriterState::Full => "full",
        WriterState::Failed => "failed",
    }
}

/// When this daemon took the root.
fn started_at(runs: &Runs) -> Result<Option<Timestamp>> {
    let meta = runs.disk.open_dir(&runs.root.join(META))?;
    Ok(lock::read_note(&*meta, ROOT_LOCK).map(|note| note.started))
}

/// Show the daemon and its root at a glance
#[utoipa::path(
    get, path = "/v1/status", tag = "daemon", security(("token" = ["run.read"])),
    responses((status = 200, description = "How it stands", body = Status)),
)]
async fn status(State(door): State<Door>) -> Answer<Json<Status>> {
    let runs = door.handle.runs().clone();
    let started = tokio::task::spawn_blocking(move || started_at(&runs)).await;
    let started_at = started.map_err(|_| gave_up())??;
    let figures = door.handle.figures().await?;
    let (counts, applied) =
        index::ask(&door.handle, |index| Ok((index.counts().clone(), index.applied()))).await?;
    let runs = door.handle.runs();
    let (now, schedules) = (runs.clock.now(), door.schedules.glance());
    Ok(Json(Status {
        running: true,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION"),
        started_at,
        uptime_ms: started_at.map_or(0, |at| now.millis() - at.millis()),
        runs_root: runs.root.display().to_string(),
        runs: counts.runs.into_iter().filter(|(_, count)| *count > 0).collect(),
        pending: counts.effects.values().sum(),
        waiting_by_kind: counts.effects.into_iter().filter(|(_, count)| *count > 0).collect(),
        writer: word(figures.writer),
        loaded: figures.loaded,
        warm: figures.warm,
        queued: figures.queued,
        timers: figures.timers,
        schedules: schedules.count,
        next_scheduled: schedules.next,
        frame: figures.frame,
        index_lag: figures.frame.saturating_sub(applied),
        records: figures.records,
    }))
}
