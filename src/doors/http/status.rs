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
use super::problem::Answer;
use crate::ground::clock::Timestamp;
use crate::services::runs::{Result, Runs};
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
    pending: usize,
}

impl Status {
    fn of(runs: &Runs) -> Result<Self> {
        let meta = runs.disk.open_dir(&runs.root.join(META))?;
        let started_at = lock::read_note(&*meta, ROOT_LOCK).map(|note| note.started);
        let now = runs.clock.now();
        let listed = runs.list()?;
        let mut counts = BTreeMap::new();
        for run in &listed {
            *counts.entry(run.state.clone()).or_default() += 1;
        }
        Ok(Self {
            running: true,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            started_at,
            uptime_ms: started_at.map_or(0, |at| now.millis() - at.millis()),
            runs_root: runs.root.display().to_string(),
            runs: counts,
            pending: listed.iter().map(|run| run.pending).sum(),
        })
    }
}

/// Show the daemon and its root at a glance
#[utoipa::path(
    get, path = "/v1/status", tag = "daemon", security(("token" = ["run.read"])),
    responses((status = 200, description = "How it stands", body = Status)),
)]
async fn status(State(door): State<Door>) -> Answer<Json<Status>> {
    let runs = door.handle.runs().clone();
    let seen = tokio::task::spawn_blocking(move || Status::of(&runs)).await;
    Ok(Json(seen.map_err(|_| gave_up())??))
}
