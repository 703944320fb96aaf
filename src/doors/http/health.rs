//! `/v1/health` and `/v1/version`: whether the daemon lives, takes work, and what it is.
//!
//! May not look at runs. Invariant: health answers without a token and says nothing about runs.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::body::gave_up;
use super::problem::{Answer, Problem};
use crate::shells::commit_log::WriterState;
use crate::shells::run_dir::dir::FORMAT_VERSION;

/// A manager that takes longer is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).routes(routes!(version))
}

/// The daemon answers
#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `ok`
    status: &'static str,
    /// `dormouse`
    service: &'static str,
    /// Its version
    version: &'static str,
}

impl Health {
    const OK: Self = Self { status: "ok", service: "dormouse", version: env!("CARGO_PKG_VERSION") };
}

/// Whether the daemon lives
#[utoipa::path(
    get, path = "/v1/health/live", operation_id = "healthLive",
    tag = "daemon", security(()),
    responses((status = 200, description = "It lives", body = Health)),
)]
async fn live() -> Json<Health> {
    Json(Health::OK)
}

/// Whether the daemon takes work: its root can be read and it is not stopping
#[utoipa::path(
    get, path = "/v1/health/ready", operation_id = "healthReady",
    tag = "daemon", security(()),
    responses((status = 200, description = "It takes work", body = Health)),
)]
async fn ready(State(door): State<Door>) -> Answer<Json<Health>> {
    must_be_ready(&door).await.map(|()| Json(Health::OK))
}

/// Refuses where the daemon takes no work: its root, its manager and its commit log are asked.
pub(super) async fn must_be_ready(door: &Door) -> Answer<()> {
    if *door.stop.borrow() {
        let what = "the daemon is stopping";
        return Err(Problem::new("shutting_down", StatusCode::SERVICE_UNAVAILABLE, what));
    }
    let runs = door.handle.runs().clone();
    let seen = tokio::task::spawn_blocking(move || runs.view_root().map(|_| ())).await;
    seen.map_err(|_| gave_up())?.map_err(|e| {
        let what = format!("the runs root cannot be read: {e}");
        Problem::new("storage_failed", StatusCode::SERVICE_UNAVAILABLE, what)
    })?;
    let answered = tokio::time::timeout(ANSWER_WITHIN, door.handle.figures()).await;
    let failed = |what| Problem::new("storage_failed", StatusCode::SERVICE_UNAVAILABLE, what);
    match answered {
        Ok(Ok(figures)) if figures.writer == WriterState::Failed => {
            Err(failed("the commit log cannot be written any more"))
        }
        Ok(figures) => Ok(figures.map(|_| ())?),
        Err(_) => Err(failed("the manager of runs does not answer")),
    }
}

/// What the daemon is
#[derive(Debug, Serialize, ToSchema)]
struct About {
    /// `dormouse`
    name: &'static str,
    /// Its version
    version: &'static str,
    /// The formats it reads and writes
    formats: Formats,
    /// What executes processes
    engine: Engine,
    /// What it can do
    features: Vec<&'static str>,
}

/// Versions of formats
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Formats {
    /// Journals
    journal: u32,
    /// Run directories
    run_directory: u32,
    /// Runs roots
    root: u32,
    /// Locks of pinned code
    process_lock: u32,
}

/// What executes processes
#[derive(Debug, Serialize, ToSchema)]
struct Engine {
    /// Its name
    name: &'static str,
    /// How it is bound
    binding: &'static str,
}

/// Show the version, the formats and the features of the daemon
#[utoipa::path(
    get, path = "/v1/version", operation_id = "version",
    tag = "daemon", security(("token" = ["run.read"])),
    responses((status = 200, description = "What it is", body = About)),
)]
async fn version() -> Json<About> {
    Json(About {
        name: "dormouse",
        version: env!("CARGO_PKG_VERSION"),
        formats: Formats { journal: 1, run_directory: FORMAT_VERSION, root: 1, process_lock: 1 },
        engine: Engine { name: "quickjs-ng", binding: "rquickjs" },
        features: vec!["direct", "http"],
    })
}
