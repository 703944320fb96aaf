//! Reading a request: its body, its query, the names in its path.
//!
//! May not know routes. Invariant: a body passes the JSON gate before anything looks into it; what
//! a request says and no route knows is refused, not skipped.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Multipart, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::problem::Problem;
use super::{Bounds, Door};
use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::id::{self, EffectId, RunId};
use crate::ground::limits::{HTTP_UNREAD_BYTES_MAX, INLINE_BYTES_MAX, JSON_DEPTH_MAX};

/// A body: one JSON object whose members are all known. No body and `null` count as `{}`.
pub(super) struct Strict<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Door> for Strict<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, door: &Door) -> Result<Self, Problem> {
        let is_json = speaks_json(request.headers());
        let bytes = bytes(request, &door.bounds).await?;
        match is_json {
            Some(true) => {}
            None if bytes.is_empty() => {}
            _ => return Err(unsupported("send application/json")),
        }
        read(bytes).await.map(Self)
    }
}

/// Reads an object, a long one aside: others of this thread would have to wait for it.
async fn read<T: DeserializeOwned + Send + 'static>(bytes: Vec<u8>) -> Result<T, Problem> {
    if bytes.len() <= INLINE_BYTES_MAX {
        return parse(&bytes);
    }
    let parsed = tokio::task::spawn_blocking(move || parse(&bytes)).await;
    parsed.unwrap_or_else(|_| Err(gave_up()))
}

/// A body that may come in parts, as `multipart/form-data`: `outcome` is the object, the others go
/// beside it.
pub(super) struct InParts<T> {
    /// The object.
    pub(super) outcome: T,
    /// The other parts by name, each once.
    pub(super) parts: BTreeMap<String, Vec<u8>>,
}

impl<T: DeserializeOwned + Send + 'static> FromRequest<Door> for InParts<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, door: &Door) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).cloned();
        let kind = kind.filter(|kind| kind.as_bytes().starts_with(b"multipart/form-data"));
        let Some(kind) = kind else {
            let Strict(outcome) = Strict::from_request(request, door).await?;
            return Ok(Self { outcome, parts: BTreeMap::new() });
        };
        let unreadable =
            |e: &dyn std::fmt::Display| Problem::bad_request(format!("the parts: {e}"));
        // The whole of it is bounded before anything looks at its parts.
        let whole = bytes(request, &door.bounds).await?;
        let request = Request::builder().header(header::CONTENT_TYPE, kind).body(whole.into());
        let request = request.map_err(|e| unreadable(&e))?;
        let form = Multipart::from_request(request, door).await;
        let mut form = form.map_err(|e| unreadable(&e.body_text()))?;
        let mut parts = BTreeMap::new();
        while let Some(part) = form.next_field().await.map_err(|e| unreadable(&e.body_text()))? {
            let name = part.name().unwrap_or_default().to_owned();
            let bytes = part.bytes().await.map_err(|e| unreadable(&e.body_text()))?;
            if parts.insert(name.clone(), Vec::from(bytes)).is_some() {
                return Err(unreadable(&format!("{name:?} stands twice")));
            }
        }
        let outcome = parts.remove("outcome");
        let outcome = outcome.ok_or_else(|| unreadable(&"the part outcome is missing"))?;
        Ok(Self { outcome: read(outcome).await?, parts })
    }
}

// It is read all the same: a client that still sends must not find the connection closed.
/// Nothing to say
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Reads what comes with a request that no route takes, up to a limit. It is of no interest.
pub(super) async fn drain(request: Request, bounds: &Bounds) {
    let bounds = Bounds { body_bytes_max: HTTP_UNREAD_BYTES_MAX, ..*bounds };
    // More than that is cut off.
    let _ = bytes(request, &bounds).await;
}

/// A refusal of the form that a body comes in.
pub(super) fn unsupported(what: &str) -> Problem {
    Problem::new("unsupported_media", StatusCode::UNSUPPORTED_MEDIA_TYPE, what)
}

/// Something of ours panicked.
pub(super) fn gave_up() -> Problem {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    Problem::new("bug", status, "the request could not be finished")
}

/// Whether the body says that it is JSON; nothing if it says nothing.
fn speaks_json(headers: &HeaderMap) -> Option<bool> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or("");
    let essence = kind.split(';').next().unwrap_or("").trim();
    Some(essence.eq_ignore_ascii_case("application/json"))
}

/// The whole body, refused before it is read where its length is known to be too large.
async fn bytes(request: Request, bounds: &Bounds) -> Result<Vec<u8>, Problem> {
    let (max, wait_ms) = (bounds.body_bytes_max, bounds.body_wait_ms);
    let too_large = || {
        let detail = format!("a body has at most {max} bytes (http.body_max)");
        Problem::new("payload_too_large", StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if length.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    let reading = Limited::new(request.into_body(), max).collect();
    match tokio::time::timeout(Duration::from_millis(wait_ms), reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes().into()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(e)) => Err(Problem::bad_request(format!("the body cannot be read: {e}"))),
        Err(_) => {
            let detail = format!("the body did not come within {wait_ms} ms");
            Err(Problem::new("body_timeout", StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes = if matches!(bytes, b"" | b"null") { b"{}" } else { bytes };
    let json = gate(bytes, JSON_DEPTH_MAX, Surrogates::Paired)
        .map_err(|e| Problem::bad_request(format!("the body is not JSON: {e}")))?;
    if !json.as_str().starts_with('{') {
        return Err(Problem::bad_request("the body is not a JSON object"));
    }
    serde_json::from_str(json.as_str()).map_err(|e| misfit("the body", &e.to_string()))
}

/// The problem of members that are unknown, missing or of another shape.
fn misfit(place: &str, why: &str) -> Problem {
    if why.contains("unknown field") {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Problem::new("unknown_field", status, format!("{place}: {why}"))
            .next("correct that name; GET /v1/openapi.json has all names");
    }
    Problem::bad_request(format!("{place}: {why}"))
}

/// A member that is there: `null` is a value, only a missing one is none.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Json>, D::Error> {
    <Json as serde::Deserialize>::deserialize(d).map(Some)
}

/// A query whose members are all known.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        read.map(|query| Self(query.0)).map_err(|e| misfit("the query", &reason(&e)))
    }
}

/// An error's innermost reason.
fn reason(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), reason)
}

/// The names in the path of a run, for the contract.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the contract alone")]
pub(super) struct RunPath {
    /// Id of the run, or a unique beginning of it
    #[param(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$", max_length = 64)]
    run: String,
}

/// The names in the path of an effect, for the contract.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "read by the contract alone")]
pub(super) struct EffectPath {
    /// Id of the run, or a unique beginning of it
    #[param(pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$", max_length = 64)]
    run: String,
    /// Id of the effect
    #[param(pattern = "^e[0-9]{4,9}$", example = "e0001")]
    effect: String,
}

/// The words of a path that are no ids.
pub(super) struct Named<T>(pub(super) T);

/// The run that a path names: an id, or the beginning of one id only. Never a path of files.
pub(super) struct Run(pub(super) RunId);

/// The effect that a path names, with its run.
pub(super) struct Effect(pub(super) RunId, pub(super) EffectId);

/// The names in the path of an effect; there may be more.
#[derive(serde::Deserialize)]
struct EffectNames {
    run: String,
    effect: String,
}

async fn names<T: DeserializeOwned + Send>(parts: &mut Parts) -> Result<T, Problem> {
    let named = Path::<T>::from_request_parts(parts, &()).await;
    named.map(|path| path.0).map_err(|e| Problem::bad_request(e.body_text()))
}

pub(super) async fn run_named(door: &Door, text: &str) -> Result<RunId, Problem> {
    let invalid = |e: id::Error| {
        Problem::new("run_id_invalid", StatusCode::BAD_REQUEST, e.to_string())
            .next("dormouse run list")
    };
    let reference: RunId = text.parse().map_err(invalid)?;
    let found = door.handle.find(reference.as_str()).await;
    found.map_err(|e| Problem::from(e).of_run(text))
}

impl<T: DeserializeOwned + Send> FromRequestParts<Door> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Door) -> Result<Self, Problem> {
        names(parts).await.map(Self)
    }
}

impl FromRequestParts<Door> for Run {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Problem> {
        let run: String = names(parts).await?;
        run_named(door, &run).await.map(Self)
    }
}

impl FromRequestParts<Door> for Effect {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Problem> {
        let EffectNames { run, effect } = names(parts).await?;
        let run = run_named(door, &run).await?;
        let invalid = |e: id::Error| {
            let next = format!("dormouse task list {run}");
            Problem::new("effect_id_invalid", StatusCode::BAD_REQUEST, e.to_string()).next(next)
        };
        let effect = EffectId::from_str(&effect).map_err(invalid)?;
        Ok(Self(run, effect))
    }
}
