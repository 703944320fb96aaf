//! The index as lists ask it; `/v1/index/rebuild` and `/v1/audit`.
//!
//! May not know what lists ask. Invariant: an index that is being made anew answers nothing, rather
//! than too little.

use std::collections::BTreeSet;

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
use crate::doors::answers::AuditDone;
use crate::services::audit::{self, Audited, RootJournals, What, whole_round};
use crate::services::indexer::Unavailable;
use crate::services::manager::Handle;
use crate::shells::store::{self, Change, Index};

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
async fn rebuild(State(door): State<Door>) -> (StatusCode, Json<Rebuilding>) {
    door.handle.indexer().renew();
    (StatusCode::ACCEPTED, Json(Rebuilding { rebuilding: true }))
}

/// Compare the index with the journal of every run, and mend it
#[utoipa::path(
    post, path = "/v1/audit", operation_id = "audit",
    tag = "daemon", security(("token" = ["run.operate"])),
    responses((status = 200, description = "What was found", body = AuditDone)),
)]
async fn audit_all(State(door): State<Door>) -> Answer<Json<AuditDone>> {
    let (runs, mut indexer) = (door.handle.runs().clone(), door.handle.indexer().clone());
    let round = move || {
        let mut journals = RootJournals::new(&runs)?;
        whole_round(&mut indexer, &mut journals)
    };
    let audited = tokio::task::spawn_blocking(round).await.map_err(|_| gave_up())?;
    let audited = audited.map_err(|error| match error {
        audit::Error::Unavailable(why) => unavailable(why),
        audit::Error::Index(_) => unavailable(Unavailable::Rebuilding),
        audit::Error::Runs(error) => error.into(),
    })?;
    let audited = without_unmade(&door.handle, audited).await;
    let done = AuditDone::of(&audited);
    door.handle.heal(audited);
    Ok(Json(done))
}

/// Leaves out runs whose directory is not made yet: only the manager knows them.
async fn without_unmade(handle: &Handle, mut audited: Audited) -> Audited {
    let mut unmade = BTreeSet::new();
    for finding in audited.findings.iter().filter(|finding| finding.what == What::ExtraRow) {
        if handle.find(finding.run.as_str()).await.is_ok() {
            unmade.insert(finding.run.clone());
        }
    }
    audited.findings.retain(|finding| !unmade.contains(&finding.run));
    audited
        .mending
        .retain(|change| !matches!(change, Change::Mend { run, .. } if unmade.contains(run)));
    audited
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
