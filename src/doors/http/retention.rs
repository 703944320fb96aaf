//! Runs that leave the root and come back: deleting, archiving, importing, collecting.
//!
//! May not decide what goes. Invariant: what was begun is finished, whether somebody waits or not.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{Named, Nothing, Run, Strict};
use super::problem::{Answer, Problem};
use crate::codecs::format::signature::PublicKey;
use crate::doors::retention::{ArchiveDone, DeleteDone, GcDone, ImportDone};
use crate::machines::replay::state::End;
use crate::services::retention::Policy;
use crate::services::runs::custody::Custody;
use crate::services::runs::delete::Deletion;
use crate::services::runs::{Error, Runs};

pub(super) fn routes() -> OpenApiRouter<Door> {
    let single = OpenApiRouter::new().routes(routes!(delete)).routes(routes!(archive));
    single.routes(routes!(unarchive)).routes(routes!(import)).routes(routes!(gc))
}

/// Does something with one run that leaves or comes back.
async fn with_run<T: Send + 'static>(
    door: &Door,
    caller: &Caller,
    run: &str,
    work: impl FnOnce(&Runs, &dyn Custody, &str) -> Result<T, Error> + Send + 'static,
) -> Answer<Json<T>> {
    let id = run.to_owned();
    let done = door.handle.in_custody(&caller.by, move |runs, root| work(runs, root, &id)).await;
    done.map(Json).map_err(|e| Problem::from(e).of_run(run))
}

/// How to delete
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Deleting {
    /// Also a run that has not ended, has open child runs, or is damaged
    #[serde(default)]
    force: bool,
    /// Only look whether it can be done
    #[serde(default)]
    dry_run: bool,
}

/// Delete a run for good
///
/// Its id is not given to another one.
#[utoipa::path(
    post, path = "/v1/runs/{run}/delete", operation_id = "deleteRun", tag = "runs",
    security(("token" = ["run.operate"])),
    params(("run" = String, Path, description = "Id of the run, or a unique beginning of it")),
    request_body = Deleting,
    responses((status = 200, description = "It is gone, or could be", body = DeleteDone)),
)]
async fn delete(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(Deleting { force, dry_run }): Strict<Deleting>,
) -> Answer<Json<DeleteDone>> {
    let how = Deletion { force, keys_kept_ms: door.handle.keys_kept_ms(), dry_run };
    let delete = move |runs: &Runs, root: &dyn Custody, run: &str| {
        Ok(DeleteDone::of(&runs.delete(root, run, how)?, !dry_run))
    };
    with_run(&door, &caller, run.as_str(), delete).await
}

/// Put a run that has ended into an archive
#[utoipa::path(
    post, path = "/v1/runs/{run}/archive", operation_id = "archiveRun", tag = "runs",
    security(("token" = ["run.operate"])),
    params(("run" = String, Path, description = "Id of the run, or a unique beginning of it")),
    responses((status = 200, description = "It is archived", body = ArchiveDone)),
)]
async fn archive(
    State(door): State<Door>,
    caller: Caller,
    Run(run): Run,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<Json<ArchiveDone>> {
    let kept_ms = door.handle.keys_kept_ms();
    let archive = move |runs: &Runs, root: &dyn Custody, run: &str| {
        Ok(ArchiveDone::from(runs.archive(root, run, kept_ms, None)?))
    };
    with_run(&door, &caller, run.as_str(), archive).await
}

/// Bring an archived run back
#[utoipa::path(
    post, path = "/v1/archives/{run}/unarchive", operation_id = "unarchiveRun", tag = "runs",
    security(("token" = ["run.operate"])),
    params(("run" = String, Path, description = "Id of the run, or a unique beginning of it")),
    responses((status = 200, description = "It is here again", body = ImportDone)),
)]
async fn unarchive(
    State(door): State<Door>,
    caller: Caller,
    Named(run): Named<String>,
    Strict(Nothing {}): Strict<Nothing>,
) -> Answer<Json<ImportDone>> {
    let unarchive = |runs: &Runs, root: &dyn Custody, run: &str| {
        Ok(ImportDone::of(runs.unarchive(root, run)?, None))
    };
    with_run(&door, &caller, &run, unarchive).await
}

/// What to import
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Importing {
    /// The file, as this machine names it
    #[schema(pattern = "^/", max_length = 4096)]
    file: String,
    /// Whose signature it must have: 64 hex digits
    key: Option<String>,
}

/// Make a run of an export
///
/// One that has not ended is paused.
#[utoipa::path(
    post, path = "/v1/import", operation_id = "importRun", tag = "runs",
    security(("token" = ["run.operate"])),
    request_body = Importing,
    responses((status = 200, description = "It is here", body = ImportDone)),
)]
async fn import(
    State(door): State<Door>,
    caller: Caller,
    Strict(Importing { file, key }): Strict<Importing>,
) -> Answer<Json<ImportDone>> {
    let file = PathBuf::from(file);
    if !file.is_absolute() {
        let what = format!("{} is not an absolute path", file.display());
        return Err(Problem::new("path_not_absolute", StatusCode::BAD_REQUEST, what));
    }
    let key = key.map(|text| text.parse::<PublicKey>()).transpose();
    let key = key.map_err(|e| Problem::from(crate::services::export::no_key("key", e)))?;
    let done = door.handle.in_custody(&caller.by, move |runs, root| {
        let (done, signer) = runs.import_file(root, &file, key)?;
        Ok(ImportDone::of(done, signer))
    });
    Ok(Json(done.await?))
}

/// What may go
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Collecting {
    /// How long nothing may have been written to a run
    older_than_ms: u64,
    /// How it may have ended: completed, failed, halted, cancelled
    status: Vec<String>,
    /// Of each process so many ended runs stay
    keep: usize,
    /// Archive runs instead of deleting them
    archive: bool,
    /// Age at which goes what nothing names
    left_over_ms: u64,
    /// Age at which goes what repairs set aside; it stays if left out
    set_aside_ms: Option<u64>,
    /// Only say what would go
    #[serde(default)]
    dry_run: bool,
}

/// Let ended runs go that are old enough, and what nothing names
#[utoipa::path(
    post, path = "/v1/gc", operation_id = "collect", tag = "daemon",
    security(("token" = ["run.operate"])),
    request_body = Collecting,
    responses((status = 200, description = "What went, or would go", body = GcDone)),
)]
async fn gc(
    State(door): State<Door>,
    caller: Caller,
    Strict(wanted): Strict<Collecting>,
) -> Answer<Json<GcDone>> {
    let ends = wanted.status.iter().map(|name| {
        End::named(name).ok_or_else(|| Problem::bad_request(format!("no run ends as {name:?}")))
    });
    let policy = Policy {
        older_than_ms: wanted.older_than_ms,
        ends: ends.collect::<Result<_, _>>()?,
        keep: wanted.keep,
        archive: wanted.archive,
        keys_kept_ms: door.handle.keys_kept_ms(),
        left_over_ms: wanted.left_over_ms,
        set_aside_ms: wanted.set_aside_ms,
    };
    let done = door.handle.in_custody(&caller.by, move |runs, root| {
        Ok(GcDone(runs.gc(root, &policy, wanted.dry_run, &|_, _| {})?))
    });
    Ok(Json(done.await?))
}
