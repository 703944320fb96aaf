//! `/v1/runs/{run}/tasks/{effect}/stdout` and `…/stderr`: what a task printed, whole, in part, or
//! as it comes.
//!
//! May not write. Invariant: a reader costs one piece of memory, however long the log is.

use std::ops::Range;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Door;
use super::blobs::aside;
use super::body::{self, EffectPath, Query};
use super::effects::about;
use super::files;
use super::follow::Place;
use super::problem::{Answer, Problem};
use super::wire::stopped;
use crate::doors::answers::effect_of;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::ground::limits::{HTTP_CHUNK_BYTES, LOG_LOOK_MS};
use crate::services::manager::Handle;
use crate::services::runs::Result;
use crate::services::runs::view::{Look, Stream};
use crate::shells::run_dir::dir::RunDir;

const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn routes() -> OpenApiRouter<Door> {
    OpenApiRouter::new().routes(routes!(stdout)).routes(routes!(stderr))
}

/// How a log is read
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// `1`: go on until the task has ended
    follow: Option<String>,
}

/// Which part of a log, for the contract
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the contract alone")]
struct Part {
    /// One range of bytes, such as `bytes=0-99` or `bytes=-100`
    range: Option<String>,
}

/// Show what a task printed
#[utoipa::path(
    get, path = "/v1/runs/{run}/tasks/{effect}/stdout", operation_id = "showStdout",
    tag = "tasks", security(("token" = ["run.read"])),
    params(EffectPath, Wanted, Part),
    responses(
        (status = 200, description = "All of it", body = String, content_type = "text/plain"),
        (status = 206, description = "A part", body = String, content_type = "text/plain"),
        (status = 416, description = "It has no such part"),
    ),
)]
async fn stdout(
    State(door): State<Door>,
    body::Effect(run, effect): body::Effect,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer<Response> {
    show(&door, (run, effect), Stream::Stdout, &wanted, &headers).await
}

/// Show what a task printed as errors
#[utoipa::path(
    get, path = "/v1/runs/{run}/tasks/{effect}/stderr", operation_id = "showStderr",
    tag = "tasks", security(("token" = ["run.read"])),
    params(EffectPath, Wanted, Part),
    responses(
        (status = 200, description = "All of it", body = String, content_type = "text/plain"),
        (status = 206, description = "A part", body = String, content_type = "text/plain"),
        (status = 416, description = "It has no such part"),
    ),
)]
async fn stderr(
    State(door): State<Door>,
    body::Effect(run, effect): body::Effect,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer<Response> {
    show(&door, (run, effect), Stream::Stderr, &wanted, &headers).await
}

/// Where a log is, and whether it may grow.
struct Log {
    dir: RunDir,
    path: String,
    is_open: bool,
}

async fn log(handle: &Handle, task: &(RunId, EffectId), which: Stream) -> Result<Log> {
    let (run, id) = task.clone();
    let look = move |look: Look<'_>| {
        let effect = effect_of(look, id)?;
        let is_open = effect.status.is_open() && look.state.is_open();
        Ok(Log { dir: look.dir.clone(), path: look.log(effect, which), is_open })
    };
    handle.read(&run, look).await
}

async fn show(
    door: &Door,
    task: (RunId, EffectId),
    which: Stream,
    wanted: &Wanted,
    headers: &HeaderMap,
) -> Answer<Response> {
    // Subscribed first: whatever ends the task from now on is heard.
    let durable = door.handle.follow(&task.0);
    let log = log(&door.handle, &task, which).await.map_err(|e| about(e, &task.0, task.1))?;
    match wanted.follow.as_deref() {
        None | Some("0" | "false") => {}
        Some("1" | "true") => {
            let (handle, stop) = (door.handle.clone(), door.stop.clone());
            let place = Place::take(door)?;
            let follower =
                Follower { handle, task, which, log, at: 0, durable, stop, _place: place };
            return Ok(([(header::CONTENT_TYPE, TEXT)], follower.body()).into_response());
        }
        Some(_) => return Err(Problem::bad_request("follow is 1 or 0")),
    }
    let opened = aside(move || {
        let file = log.dir.open_relative(&log.path)?;
        file.map(|file| Ok((file.stat()?.bytes, file))).transpose()
    });
    let opened = opened.await?;
    let bytes = opened.as_ref().map_or(0, |(bytes, _)| *bytes);
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, part) = match range.map(|text| part(text, bytes)) {
        None | Some(Asked::Whole) => (StatusCode::OK, 0..bytes),
        Some(Asked::Of(part)) => (StatusCode::PARTIAL_CONTENT, part),
        Some(Asked::Nowhere) => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{bytes}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, range).into_response());
        }
    };
    let length = part.end - part.start;
    let body =
        opened.map_or_else(Body::empty, |(_, file)| files::body(file, part.start, length, None));
    let headers = [
        (header::CONTENT_TYPE, TEXT.to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    let mut response = (status, headers, body).into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {}-{}/{bytes}", part.start, part.end - 1);
        let value = range.try_into().map_err(|_| body::gave_up())?;
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

/// What a `Range` asks of so many bytes.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Nothing that is understood: everything is the answer.
    Whole,
    /// These.
    Of(Range<u64>),
    /// Bytes that are not there.
    Nowhere,
}

fn part(text: &str, bytes: u64) -> Asked {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|text| text.split_once('-'))
    else {
        return Asked::Whole;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(bytes),
        (Some(first), None) if last.trim().is_empty() => first..bytes,
        (None, Some(count)) if first.trim().is_empty() => bytes.saturating_sub(count)..bytes,
        _ => return Asked::Whole,
    };
    if range.is_empty() { Asked::Nowhere } else { Asked::Of(range) }
}

/// Somebody who reads a log as it grows.
struct Follower {
    handle: Handle,
    task: (RunId, EffectId),
    which: Stream,
    log: Log,
    at: u64,
    durable: watch::Receiver<Seq>,
    stop: watch::Receiver<bool>,
    _place: Place,
}

impl Follower {
    fn body(self) -> Body {
        Body::from_stream(stream::unfold(self, |mut follower| async move {
            let piece = follower.next().await?;
            Some((Ok::<_, std::convert::Infallible>(piece), follower))
        }))
    }

    /// What was printed next; nothing when the task has ended and all was read.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let was_open = self.log.is_open;
            let piece = self.piece().await?;
            if !piece.is_empty() {
                return Some(piece);
            }
            if !was_open {
                return None;
            }
            tokio::select! {
                changed = self.durable.changed() => {
                    changed.ok()?;
                    let path = std::mem::take(&mut self.log.path);
                    self.log = log(&self.handle, &self.task, self.which).await.ok()?;
                    // What was begun is read to its end, wherever the whole is kept.
                    if self.at > 0 {
                        self.log.path = path;
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(LOG_LOOK_MS)) => {}
                () = stopped(&mut self.stop) => return None,
            }
        }
    }

    async fn piece(&mut self) -> Option<Bytes> {
        let (dir, path, at) = (self.log.dir.clone(), self.log.path.clone(), self.at);
        let read = aside(move || {
            let Some(file) = dir.open_relative(&path)? else { return Ok((0, Vec::new())) };
            // The next attempt prints anew.
            let at = if file.stat()?.bytes < at { 0 } else { at };
            let mut piece = vec![0; HTTP_CHUNK_BYTES];
            let got = file.read_at(at, &mut piece)?;
            piece.truncate(got);
            Ok((at + got as u64, piece))
        });
        let (at, piece) = read.await.ok()?;
        self.at = at;
        Some(piece.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_part_of_what_is_there() {
        for (text, asked) in [
            ("bytes=0-0", Asked::Of(0..1)),
            ("bytes=2-", Asked::Of(2..10)),
            ("bytes=-3", Asked::Of(7..10)),
            ("bytes=-30", Asked::Of(0..10)),
            ("bytes=8-99", Asked::Of(8..10)),
            ("bytes=10-", Asked::Nowhere),
            ("bytes=-0", Asked::Nowhere),
            ("bytes=5-4", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("bytes=x", Asked::Whole),
        ] {
            assert_eq!(part(text, 10), asked, "{text}");
        }
        assert_eq!(part("bytes=0-", 0), Asked::Nowhere);
    }
}
