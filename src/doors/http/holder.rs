//! Whoever comes with a task token: the holder of one attempt.
//!
//! May not know whether the attempt is open. Invariant: a task token opens the routes listed here,
//! of the one effect that it was made for, and no other.

use axum::RequestExt as _;
use axum::extract::{MatchedPath, RawPathParams, Request};
use axum::http::Method;

use super::Door;
use super::auth::{Caller, Scope};
use super::guard::{bearer, forbidden, unauthenticated};
use super::problem::Problem;
use crate::ground::id::{EffectId, RunId};
use crate::shells::run_dir::task_key::is_task_token;

/// How such a caller stands in journals.
const BY: &str = "worker:task-token";

/// What a task token lets do.
const OPEN: &[(Method, &str)] = &[
    (Method::POST, "/v1/runs/{run}/tasks/{effect}/heartbeat"),
    (Method::POST, "/v1/runs/{run}/tasks/{effect}/result"),
    (Method::PUT, "/v1/runs/{run}/tasks/{effect}/blobs"),
];

/// The holder of an attempt, if a request comes with a task token.
pub(super) async fn of(door: &Door, request: &mut Request) -> Result<Option<Caller>, Problem> {
    let Some(token) = bearer(request.headers()).filter(|token| is_task_token(token)) else {
        return Ok(None);
    };
    let token = token.to_owned();
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    if !OPEN.iter().any(|(method, open)| method == request.method() && path == Some(*open)) {
        return Err(forbidden("a task token allows heartbeat, blobs and result of its attempt"));
    }
    let names = request.extract_parts::<RawPathParams>().await.ok();
    let named = |what: &str| {
        let mut names = names.iter().flatten();
        names.find(|(name, _)| *name == what).map(|(_, value)| value.to_owned())
    };
    // The whole id: a token does not find out what else there is.
    let run = named("run").and_then(|text| text.parse::<RunId>().ok());
    let effect = named("effect").and_then(|text| text.parse::<EffectId>().ok());
    let (run, effect) = run.zip(effect).ok_or_else(unauthenticated)?;
    let epoch = door.handle.task_key().await?.epoch(&token, &run, effect);
    let epoch = epoch.ok_or_else(unauthenticated)?;
    Ok(Some(Caller { by: BY.to_owned(), scopes: vec![Scope::Work], attempt: Some(epoch) }))
}
