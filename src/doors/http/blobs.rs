//! `/v1/runs/{run}/tasks/{effect}/blobs`: content that is too large for a request, in and out.
//!
//! May not know what it is for: a result says so. Invariant: what is answered is durable, and an
//! upload costs one piece of memory, however long it is.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::auth::Caller;
use super::body::{self, EffectPath, Query, drain};
use super::effects::about;
use super::files;
use super::problem::{Answer, Problem};
use crate::codecs::event::BlobRef;
use crate::codecs::json::{Json as Text, Surrogates, gate};
use crate::doors::answers::effect_of;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, RunId};
use crate::ground::limits::{HTTP_CHUNK_BYTES, JSON_DEPTH_MAX, VALUE_BYTES_MAX};
use crate::machines::effect::attempt::may_bring;
use crate::ports::disk;
use crate::services::runs::Error;
use crate::services::runs::trouble::Trouble;
use crate::shells::run_dir::blob::Incoming;
use crate::shells::run_dir::dir::RunDir;

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(upload)).routes(routes!(download))
}

/// Content that stands beside a journal, under its digest
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Blob {
    /// Digest of its bytes: `b3:` and 64 hex digits
    digest: String,
    /// How many there are
    bytes: u64,
}

impl Blob {
    /// As records name it.
    pub(super) fn read(self) -> Answer<BlobRef> {
        let digest = self.digest.parse::<Digest>();
        let digest = digest.map_err(|e| Problem::bad_request(e.to_string()))?;
        Ok(BlobRef { digest, bytes: self.bytes })
    }
}

/// For which start
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// The start that it belongs to, by whoever claimed it
    epoch: Option<u64>,
}

/// Upload what is too large for a result
///
/// The bytes are the body, of any type. A result names what is answered as `valueBlob`,
/// `stdoutBlob` or `stderrBlob`.
#[utoipa::path(
    put, path = "/v1/runs/{run}/tasks/{effect}/blobs", operation_id = "uploadBlob",
    tag = "tasks", security(("token" = ["task.work"])),
    params(EffectPath, Wanted),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, description = "It is kept", body = Blob)),
)]
async fn upload(
    State(door): State<Door>,
    caller: Caller,
    body::Effect(run, effect): body::Effect,
    Query(wanted): Query<Wanted>,
    request: Request,
) -> Answer<(StatusCode, Json<Blob>)> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    let admitted = if length.is_some_and(|length| length > door.bounds.blob_bytes_max) {
        Err(too_large(&door))
    } else {
        admit(&door, &caller, (&run, effect), wanted.epoch).await
    };
    let (dir, epoch) = match admitted {
        Ok(admitted) => admitted,
        Err(problem) => {
            drain(request, &door.bounds).await;
            return Err(problem);
        }
    };
    let incoming = take(&door, dir, request.into_body()).await?;
    let blob = aside(move || incoming.finish()).await?;
    // Somebody else may have been let in while it came.
    fence(&door, (&run, effect), epoch).await?;
    let blob = Blob { digest: blob.digest.to_string(), bytes: blob.bytes };
    Ok((StatusCode::CREATED, Json(blob)))
}

/// Refuses what nobody may bring before it comes. Gives where it goes, and the start it is for.
async fn admit(
    door: &Door,
    caller: &Caller,
    task: (&RunId, EffectId),
    epoch: Option<u64>,
) -> Answer<(RunDir, Option<Epoch>)> {
    let epoch = caller.attempt(epoch)?;
    Ok((fence(door, task, epoch).await?, epoch))
}

fn too_large(door: &Door) -> Problem {
    let what = format!("an upload has at most {} bytes (blob_max)", door.bounds.blob_bytes_max);
    Problem::new("payload_too_large", StatusCode::PAYLOAD_TOO_LARGE, what)
}

/// Whether parts of the outcome may be brought for that start. Gives the run's directory.
async fn fence(door: &Door, task: (&RunId, EffectId), epoch: Option<Epoch>) -> Answer<RunDir> {
    let (run, id) = task;
    let look = move |look: crate::services::runs::view::Look<'_>| {
        may_bring(effect_of(look, id)?, epoch)?;
        Ok(look.dir.clone())
    };
    door.handle.read(run, look).await.map_err(|e| about(e, run, id))
}

/// Writes a body as it comes.
async fn take(door: &Door, dir: RunDir, mut body: Body) -> Answer<Incoming> {
    let wait = Duration::from_millis(door.bounds.body_wait_ms);
    let mut incoming = aside(move || dir.begin_blob()).await?;
    let mut piece = Vec::with_capacity(HTTP_CHUNK_BYTES);
    loop {
        let frame = match tokio::time::timeout(wait, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(e))) => {
                return Err(Problem::bad_request(format!("the body cannot be read: {e}")));
            }
            Err(_) => {
                let what = format!("nothing of the body came for {} ms", door.bounds.body_wait_ms);
                return Err(Problem::new("body_timeout", StatusCode::REQUEST_TIMEOUT, what));
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        if incoming.bytes() + (piece.len() + data.len()) as u64 > door.bounds.blob_bytes_max {
            return Err(too_large(door));
        }
        piece.extend_from_slice(&data);
        if piece.len() >= HTTP_CHUNK_BYTES {
            (incoming, piece) = write(incoming, piece).await?;
        }
    }
    Ok(write(incoming, piece).await?.0)
}

async fn write(mut incoming: Incoming, mut piece: Vec<u8>) -> Answer<(Incoming, Vec<u8>)> {
    aside(move || {
        incoming.write(&piece)?;
        piece.clear();
        Ok((incoming, piece))
    })
    .await
}

/// Does something with files where nobody waits for it.
pub(super) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> disk::Result<T> + Send + 'static,
) -> Answer<T> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| body::gave_up())?;
    Ok(done.map_err(Error::from)?)
}

/// Get the content of a blob of a run
///
/// Where an answer shows `{"$blob": digest, "bytes": n}`, this has the bytes.
#[utoipa::path(
    get, path = "/v1/runs/{run}/tasks/{effect}/blobs/{digest}", operation_id = "downloadBlob",
    tag = "tasks", security(("token" = ["task.work"])),
    params(EffectPath, ("digest" = String, Path, description = "`b3:` and 64 hex digits")),
    responses((
        status = 200, description = "Its bytes",
        body = Vec<u8>, content_type = "application/octet-stream",
    )),
)]
async fn download(
    State(door): State<Door>,
    body::Effect(run, id): body::Effect,
    names: RawPathParams,
) -> Answer<Response> {
    let named = names.iter().find(|(name, _)| *name == "digest").map_or("", |(_, text)| text);
    let digest: Digest = named
        .parse()
        .map_err(|e: crate::ground::digest::NotADigest| Problem::bad_request(e.to_string()))?;
    let dir = door.handle.read(&run, move |look| {
        effect_of(look, id)?;
        Ok(look.dir.clone())
    });
    let dir = dir.await.map_err(|e| about(e, &run, id))?;
    let opened = aside(move || {
        let file = dir.open_blob(&digest)?;
        file.map(|file| Ok((file.stat()?.bytes, file))).transpose()
    });
    let Some((bytes, file)) = opened.await? else {
        return Err(about(unknown(&digest), &run, id));
    };
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, bytes.to_string()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    Ok((headers, files::body(file, 0, bytes, Some(digest))).into_response())
}

fn unknown(digest: &Digest) -> Error {
    let what = format!("the run has no blob {digest}");
    Error::NotFound(Trouble::new("blob_unknown", what).next("upload it first, for this task"))
}

/// Whether a blob that a result names was uploaded. Gives its run-relative file.
pub(super) async fn file(door: &Door, run: &RunId, blob: BlobRef) -> Answer<String> {
    let run = run.clone();
    let find = move |runs: &crate::services::runs::Runs| {
        let dir = runs.find(run.as_str())?;
        let file = dir.open_blob(&blob.digest)?.ok_or_else(|| unknown(&blob.digest))?;
        if file.stat()?.bytes != blob.bytes {
            return Err(unknown(&blob.digest));
        }
        Ok(format!("blobs/{}", blob.digest.hex()))
    };
    Ok(door.handle.aside(find).await?)
}

/// The value that was uploaded as a blob.
pub(super) async fn value(door: &Door, run: &RunId, blob: BlobRef) -> Answer<Text> {
    if blob.bytes > VALUE_BYTES_MAX as u64 {
        let what = format!("the value has {} bytes, at most {VALUE_BYTES_MAX}", blob.bytes);
        return Err(Error::Refused(Trouble::new("value_too_large", what)).into());
    }
    file(door, run, blob.clone()).await?;
    let run = run.clone();
    let read = move |runs: &crate::services::runs::Runs| {
        let bytes = runs.find(run.as_str())?.get_blob(&blob)?;
        gate(&bytes, JSON_DEPTH_MAX, Surrogates::Paired).map_err(|e| {
            Error::Invalid(Trouble::new("value_not_json", format!("{}: {e}", blob.digest)))
        })
    };
    Ok(door.handle.aside(read).await?)
}
