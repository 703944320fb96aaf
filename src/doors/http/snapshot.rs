//! `/v1/runs/{run}/snapshot`: a run of a workflow document, task run by task run.
//!
//! May not know documents. Invariant: what is shown follows from the journal alone.

use axum::Json;
use axum::extract::State;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::body::{Run, RunPath};
use super::problem::{Answer, Problem};

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(snapshot))
}

/// Show a run of a workflow document, task run by task run
#[utoipa::path(
    get, path = "/v1/runs/{run}/snapshot", operation_id = "snapshotRun",
    tag = "runs", security(("token" = ["run.read"])),
    params(RunPath),
    responses((status = 200, description = "Every task run with its phase, inputs and outputs",
        body = Object)),
)]
async fn snapshot(State(door): State<Door>, Run(run): Run) -> Answer<Json<Value>> {
    let snapshot = door.handle.snapshot(&run).await;
    snapshot.map(Json).map_err(|e| Problem::from(e).of_run(run.as_str()))
}
