//! Errors as clients of that runtime read them: `{"error": text, "code": …}`.
//!
//! May not change a status. Invariant: the code is that of the problem which it was.

use axum::Json;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::problem::Problem;
use super::rules::is_ours;

/// Paths of that runtime that are not served, by what stands after `/api/`, and what to use.
const NOT_SERVED: &[(&str, &str)] = &[
    ("login", "tokens are made with `dormouse token create`"),
    ("rbac", "tokens have scopes: `dormouse token create --scope`"),
    ("documents", "processes and agents keep their own documents"),
    ("knowledge", "processes and agents keep their own knowledge"),
    ("query", "give an agent a message: POST /api/agents/ID/message"),
    ("agent/run", "give an agent a message: POST /api/agents/ID/message"),
    ("runs", "ask for runs under /v1/runs"),
    ("approvals", "what waits for a person is at /v1/breakpoints"),
    ("forensics", "GET /api/jobs/ID/trace, /events and /verify"),
    ("compliance", "a run's directory verifies anywhere: `dormouse journal verify`"),
    ("runtime/tools", "tools are effects of kind mcp: `dormouse config default`"),
    ("runtime/llm", "models belong to agents"),
];

/// Writes the problems of this folder's routes as their clients read them.
pub(in crate::doors::http) async fn plainly(request: Request, next: Next) -> Response {
    if !is_ours(&request) {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>().cloned() else { return response };
    let problem = instead(&path, problem);
    let (detail, next) = problem.details();
    let body = Json(json!({ "error": detail, "code": problem.code(), "hint": next.first() }));
    let mut plain = (response.status(), body).into_response();
    for (name, value) in response.headers() {
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name) {
            plain.headers_mut().insert(name, value.clone());
        }
    }
    plain
}

/// The same, or what there is instead of a route that is not served.
fn instead(path: &str, problem: Problem) -> Problem {
    if problem.code() != "route_not_found" {
        return problem;
    }
    let rest = path.trim_start_matches("/api/");
    let begins = |known: &str| {
        rest.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let found = NOT_SERVED.iter().find(|(known, _)| begins(known));
    let hint = found.map_or("docs/compat.md lists what is served", |(_, hint)| hint);
    let what = format!("{path} is not served");
    Problem::new("route_not_found", StatusCode::NOT_FOUND, what).next(hint)
}
