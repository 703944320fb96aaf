//! Mending a run that the daemon has set aside, and taking that back.
//!
//! May not decide that a loss is acceptable. Invariant: what would be done was shown before; the
//! daemon takes the run up again by itself.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{Nothing, Run, RunPath, Strict};
use super::problem::{Answer, Problem};
use super::runs::absolute;
use crate::doors::answers::{RepairDone, UndoDone};
use crate::services::repair::{Loss, Order};
use crate::services::runs::Runs;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(repair)).routes(routes!(undo))
}

/// What may be done
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Repair {
    /// Records that may be lost, as the plan names them
    accept_loss: Option<u64>,
    /// Whatever is gone may be lost
    #[serde(default)]
    accept_any_loss: bool,
    /// A copy of the run, where the daemon is
    #[schema(value_type = Option<String>)]
    from: Option<PathBuf>,
    /// Why, for the journal
    reason: Option<String>,
}

impl Repair {
    fn order(self) -> Answer<Order> {
        let loss = match (self.accept_any_loss, self.accept_loss) {
            (true, _) => Loss::Unknown,
            (false, Some(count)) => Loss::Records(count),
            (false, None) => Loss::None,
        };
        Ok(Order { loss, why: self.reason, from: self.from.map(absolute).transpose()? })
    }
}

/// Mend a run whose journal or files are damaged
///
/// `dormouse run repair-journal` shows what would be done.
#[utoipa::path(
    post, path = "/v1/runs/{run}/repair", operation_id = "repairRun",
    tag = "runs", security(("token" = ["run.operate"])),
    params(RunPath),
    request_body = Option<Repair>,
    responses((status = 200, description = "It is mended", body = RepairDone)),
)]
async fn repair(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(asked): Strict<Repair>,
) -> Answer<Json<RepairDone>> {
    let order = asked.order()?;
    let mended = door.handle.mend(&run, &caller.by, move |runs, dir| runs.repair_held(dir, &order));
    let mended = mended.await.map_err(|e| Problem::from(e).of_run(run.as_str()))?;
    Ok(Json(mended.into()))
}

/// Take the latest repair of a run back
#[utoipa::path(
    post, path = "/v1/runs/{run}/repair/undo", operation_id = "undoRepair",
    tag = "runs", security(("token" = ["run.operate"])),
    params(RunPath),
    responses((status = 200, description = "Its files are what they were", body = UndoDone)),
)]
async fn undo(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<Json<UndoDone>> {
    let undone = door.handle.mend(&run, &caller.by, Runs::undo_held).await;
    undone.map(|done| Json(done.into())).map_err(|e| Problem::from(e).of_run(run.as_str()))
}
