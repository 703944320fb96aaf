//! Making the derived files of a run anew.
//!
//! May not touch a journal. Invariant: asked for twice, nothing more changes.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{Nothing, Run, Strict};
use super::problem::{Answer, Problem};
use crate::doors::answers::Rebuilt;
use crate::services::manager::Flow;
use crate::services::runs::open::OpenRun;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(rebuild_state))
}

/// Make the derived files of a run anew, from its journal
#[utoipa::path(
    post, path = "/v1/runs/{run}/rebuild-state", tag = "runs",
    security(("token" = ["run.operate"])),
    params(("run" = String, Path, description = "Id of the run, or a unique beginning of it")),
    responses((status = 200, description = "They are made", body = Rebuilt)),
)]
async fn rebuild_state(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<Json<Rebuilt>> {
    let act = |open: &mut OpenRun| {
        open.rebuild()?;
        Ok(Rebuilt::of(open.look()))
    };
    let rebuilt = door.handle.deed(&run, &caller.by, Flow::Outcome, act).await;
    rebuilt.map(Json).map_err(|e| Problem::from(e).of_run(run.as_str()))
}
