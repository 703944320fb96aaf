//! `/v1/runs/{run}/why` and `/brief`: what a run waits for, and what whoever comes back may do.
//!
//! May not judge. Invariant: a run that cannot be read has an answer, too.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::body::{Query, Run, RunPath};
use super::problem::{Answer, Problem};
use crate::doors::shapes;
use crate::services::why::Why;
use crate::services::why::brief::Brief;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(why)).routes(routes!(brief))
}

/// Say why a run does not go on, and what to do about it
#[utoipa::path(
    get, path = "/v1/runs/{run}/why", operation_id = "whyRun",
    tag = "runs", security(("token" = ["run.read"])),
    params(RunPath),
    responses((status = 200, description = "Why, most important first", body = shapes::Why)),
)]
async fn why(State(door): State<Door>, Run(run): Run) -> Answer<Json<Why>> {
    let why = door.handle.why(&run).await;
    why.map(Json).map_err(|e| Problem::from(e).of_run(run.as_str()))
}

/// Who asks
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Asking {
    /// The name under which the asker claims tasks
    worker: Option<String>,
}

/// Say what was done, what is open, and what of that is safe to do
#[utoipa::path(
    get, path = "/v1/runs/{run}/brief", operation_id = "briefRun",
    tag = "runs", security(("token" = ["run.read"])),
    params(RunPath, Asking),
    responses((status = 200, description = "The run in brief", body = shapes::Brief)),
)]
async fn brief(
    State(door): State<Door>,
    Run(run): Run,
    Query(asking): Query<Asking>,
) -> Answer<Json<Brief>> {
    let brief = door.handle.brief(&run, asking.worker).await;
    brief.map(Json).map_err(|e| Problem::from(e).of_run(run.as_str()))
}
