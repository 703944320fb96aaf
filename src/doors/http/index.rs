//! The index as lists ask it; `/v1/index/rebuild` and `/v1/audit`.
//!
//! May not know what lists ask. Invariant: an index that is being made anew answers nothing, rather
//! than too little.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::body::{Nothing, Strict, gave_up};
use super::problem::{Answer, Problem};
use crate::doors::answers::AuditDone;
use crate::services::audit::{self, RootJournals, whole_round};
use crate::services::indexer::Unavailable;
use crate::services::manager::Handle;
use crate::shells::store::{self, Index};

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(rebuild)).routes(routes!(audit_all))
}

/// An index that is being made anew
#[derive(Debug, Serialize, ToSchema)]
struct Rebuilding {
    /// Always true
    rebuilding: bool,
}

/// Make the index anew from the journals
///
/// Lists answer `index_rebuilding` until that is done.
#[utoipa::path(
    post, path = "/v1/index/rebuild", operation_id = "rebuildIndex",
    tag = "daemon", security(("token" = ["run.operate"])),
    responses((status = 202, description = "It is begun", body = Rebuilding)),
)]
async fn rebuild(
    State(door): State<Door>,
    Strict(Nothing {}): Strict<Nothing>,
) -> (StatusCode, Json<Rebuilding>) {
    door.handle.indexer().renew();
    (StatusCode::ACCEPTED, Json(Rebuilding { rebuilding: true }))
}

/// Compare the index with the journal of every run, and mend it
#[utoipa::path(
    post, path = "/v1/audit", operation_id = "audit",
    tag = "daemon", security(("token" = ["run.operate"])),
    responses((status = 200, description = "What was found", body = AuditDone)),
)]
async fn audit_all(
    State(door): State<Door>,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<Json<AuditDone>> {
    let mut handle = door.handle.clone();
    let round = move || {
        let mut journals = RootJournals::new(handle.runs())?;
        whole_round(&mut handle, &mut journals)
    };
    let audited = tokio::task::spawn_blocking(round).await.map_err(|_| gave_up())?;
    let audited = audited.map_err(|error| match error {
        audit::Error::Unavailable(why) => unavailable(why),
        audit::Error::Index(_) => unavailable(Unavailable::Rebuilding),
        audit::Error::Runs(error) => error.into(),
    })?;
    let done = AuditDone::of(&audited);
    door.handle.heal(audited);
    Ok(Json(done))
}

/// Asks the index something short.
pub(super) async fn ask<T: Send + 'static>(
    handle: &Handle,
    ask: impl FnOnce(&Index) -> store::Result<T> + Send + 'static,
) -> Answer<T> {
    let answer = handle.indexer().query(ask).await;
    answer.unwrap_or(Err(Unavailable::Stopped)).map_err(unavailable)
}

/// Why the index does not answer.
pub(super) fn unavailable(why: Unavailable) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    match why {
        Unavailable::Rebuilding | Unavailable::Busy => {
            Problem::new("index_rebuilding", status, why.to_string()).next("ask again in a second")
        }
        Unavailable::Stopped => Problem::new("shutting_down", status, "the daemon is stopping"),
    }
}
