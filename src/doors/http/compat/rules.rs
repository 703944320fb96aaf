//! Who may ask about messages and jobs, and what a listener without tokens lets in.
//!
//! May not know what a route does. Invariant: no page of another origin can make a browser change
//! anything here.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};

use super::super::auth::{Caller, Scope};
use super::super::body::unsupported;
use super::super::problem::Problem;

/// Who asks where no token is needed.
const LOCAL: &str = "client:local";

/// What a route of this folder wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::doors::http) enum Wanted {
    /// Nothing.
    Nothing,
    /// To know who asks.
    Caller,
    /// A right.
    Scope(Scope),
}

/// Whether a request is for this folder.
pub(super) fn is_ours(request: &Request) -> bool {
    let matched = request.extensions().get::<MatchedPath>();
    request.uri().path().starts_with("/api/")
        || matched.is_some_and(|path| path.as_str() == "/agents/{agent}/message")
}

/// What a request wants, if it is for this folder or for the numbers beside it.
pub(in crate::doors::http) fn wanted(request: &Request) -> Option<Wanted> {
    let path = request.uri().path();
    if path == "/metrics" {
        return Some(Wanted::Caller);
    }
    if !is_ours(request) {
        return None;
    }
    Some(match *request.method() {
        Method::GET | Method::HEAD if path == "/api/health" => Wanted::Nothing,
        Method::GET | Method::HEAD => Wanted::Scope(Scope::Read),
        _ => Wanted::Scope(Scope::Write),
    })
}

/// Whether the form of a job's page was sent from this door's own page.
pub(in crate::doors::http) fn is_own_page(request: &Request, origin: &str) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    is_form(request) && host.is_some_and(|host| origin == format!("http://{host}"))
}

/// Who asks at a listener where messages need no token, if a browser did not do it for somebody.
pub(in crate::doors::http) fn open(request: &Request) -> Result<Caller, Problem> {
    let headers = request.headers();
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let said = |name: &str, words: &[&str]| {
        headers.get(name).is_none_or(|value| words.iter().any(|word| value == word))
    };
    // Somebody who follows a link sees the page; the page with the link does not.
    let is_visit =
        !changes && headers.contains_key("sec-fetch-dest") && said("sec-fetch-dest", &["document"]);
    if !said("sec-fetch-site", &["same-origin", "none"]) && !is_visit {
        let what = "a page of another origin asked for it";
        return Err(Problem::new("origin_refused", StatusCode::FORBIDDEN, what)
            .next("open the page of the job itself"));
    }
    let sent =
        if is_form(request) { "application/x-www-form-urlencoded" } else { "application/json" };
    if changes && essence(headers) != Some(sent) {
        let hint = format!("send the header `content-type: {sent}`");
        return Err(unsupported(&format!("without a token only {sent} is taken")).next(hint));
    }
    let scopes = vec![Scope::Read, Scope::Write, Scope::Work, Scope::Decide];
    Ok(Caller { by: LOCAL.to_owned(), scopes, attempt: None })
}

fn is_form(request: &Request) -> bool {
    let path = request.uri().path();
    path.starts_with("/api/jobs/") && path.ends_with("/answer")
}

fn essence(headers: &HeaderMap) -> Option<&str> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(kind.split(';').next().unwrap_or("").trim())
}
