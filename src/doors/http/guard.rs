//! The guard: what every request passes before its route sees it.
//!
//! May not know what a route does, only which right it wants. Invariant: a request over TCP comes
//! from no web page, is meant for this daemon and carries a token with the right of its route.

use std::collections::HashMap;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::Door;
use super::auth::{Caller, Scope};
use super::body::unsupported;
use super::compat;
use super::compat::rules::Wanted;
use super::holder;
use super::problem::Problem;
use crate::ground::limits::OPERATOR_NAME_BYTES_MAX;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// The Unix socket: the same user.
    Socket,
    /// TCP.
    Tcp {
        /// At this port of ours.
        port: u16,
        /// Where the routes for messages are open to all local users.
        is_open: bool,
    },
}

/// Which right each route wants, as its contract says; nothing for the open ones.
#[derive(Debug, Default)]
pub(super) struct Rights(HashMap<(String, Method), Option<Scope>>);

impl Rights {
    /// Reads them out of the contract.
    pub(super) fn of(contract: &Value) -> Self {
        let mut rights = HashMap::new();
        for (path, item) in contract["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
                let wanted = &operation["security"][0];
                let scope = wanted["token"][0].as_str().and_then(Scope::named);
                // A route that says nothing stays closed.
                if scope.is_some() || wanted.as_object().is_some_and(serde_json::Map::is_empty) {
                    rights.insert((path.clone(), method), scope);
                }
            }
        }
        Self(rights)
    }

    fn wanted(&self, path: &str, method: &Method) -> Option<&Option<Scope>> {
        let method = if method == Method::HEAD { Method::GET } else { method.clone() };
        self.0.get(&(path.to_owned(), method))
    }
}

/// Lets a request through to its route, or answers it.
pub(super) async fn pass(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let holder = holder::of(&door, &mut request).await;
    match holder.and_then(|holder| admit(&door, &request, holder)) {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(None) => next.run(request).await,
        Err(problem) => {
            let metrics = &door.handle.runs().telemetry.metrics;
            metrics.http_rejected.with([problem.code()]).one();
            problem.into_response()
        }
    }
}

fn admit(
    door: &Door,
    request: &Request,
    holder: Option<Caller>,
) -> Result<Option<Caller>, Problem> {
    let headers = request.headers();
    if request.version() < Version::HTTP_11 {
        return Err(Problem::bad_request("HTTP/1.1 is needed"));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(unsupported("send the body as it is, without a content encoding"));
    }
    let peer = request.extensions().get::<Peer>().copied();
    let peer = peer.ok_or_else(|| forbidden("nobody knows where the request comes from"))?;
    origin(door, request)?;
    if let Peer::Tcp { port, .. } = peer {
        host(door, request, port)?;
    }
    if let Some(wanted) = compat::rules::wanted(request) {
        return compat_caller(door, request, peer, wanted);
    }
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let wanted = path.and_then(|path| door.rights.wanted(path, request.method()));
    if wanted == Some(&None) {
        return Ok(None);
    }
    if holder.is_some() {
        return Ok(holder);
    }
    let caller = caller(door, headers, peer)?;
    match wanted {
        Some(Some(scope)) if !caller.may(*scope) => Err(lacks(&caller, *scope)),
        // A path or method that no route has: its answer says so.
        _ => Ok(Some(caller)),
    }
}

pub(super) fn forbidden(what: &str) -> Problem {
    Problem::new("forbidden", StatusCode::FORBIDDEN, what)
}

/// Who asks for something about messages.
fn compat_caller(
    door: &Door,
    request: &Request,
    peer: Peer,
    wanted: Wanted,
) -> Result<Option<Caller>, Problem> {
    if wanted == Wanted::Nothing {
        return Ok(None);
    }
    let caller = if matches!(peer, Peer::Tcp { is_open: true, .. }) {
        compat::rules::open(request)?
    } else {
        caller(door, request.headers(), peer)?
    };
    match wanted {
        Wanted::Scope(scope) if !caller.may(scope) => Err(lacks(&caller, scope)),
        _ => Ok(Some(caller)),
    }
}

/// The refusal of a caller without a right.
pub(super) fn lacks(caller: &Caller, scope: Scope) -> Problem {
    forbidden(&format!("the token {} lacks the right {}", caller.name(), scope.name()))
}

/// Whoever sends an `Origin` is a web page, and needs to be listed, but for the page of a job.
fn origin(door: &Door, request: &Request) -> Result<(), Problem> {
    let listed = |origin: &header::HeaderValue| {
        let known = |o: &str| door.allowed_origins.iter().any(|known| known == o);
        origin.to_str().is_ok_and(|o| known(o) || compat::rules::is_own_page(request, o))
    };
    if request.headers().get_all(header::ORIGIN).iter().all(listed) {
        return Ok(());
    }
    let what = "this origin is not listed";
    Err(Problem::new("origin_refused", StatusCode::FORBIDDEN, what)
        .next("list it in http.allowed_origins"))
}

/// A name that somebody else may have pointed here is refused: DNS rebinding.
fn host(door: &Door, request: &Request, port: u16) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let named = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next());
    let known = |host: &str| {
        let (name, given) = match host.rsplit_once(':') {
            Some((name, digits)) if !digits.ends_with(']') => (name, Some(digits)),
            _ => (host, None),
        };
        let ours = ["localhost", "127.0.0.1", "[::1]"].contains(&name);
        let listed = door.allowed_hosts.iter().any(|n| n.eq_ignore_ascii_case(name) || n == host);
        listed || (ours && given.map_or(port == 80, |digits| digits == port.to_string()))
    };
    let target = request.uri().authority().is_none_or(|a| known(a.as_str()));
    if matches!(named, (Some(host), None) if known(host)) && target {
        return Ok(());
    }
    let what = "the Host of the request is not one of this daemon";
    Err(Problem::new("host_refused", StatusCode::FORBIDDEN, what)
        .next("ask 127.0.0.1, or list the name in http.allowed_hosts"))
}

fn caller(door: &Door, headers: &HeaderMap, peer: Peer) -> Result<Caller, Problem> {
    if peer == Peer::Socket {
        let by = format!("operator:{}", operator(headers)?);
        return Ok(Caller { by, scopes: Scope::ALL.to_vec(), attempt: None });
    }
    let (text, now) = (bearer(headers), door.handle.runs().clock.now());
    let known = text.zip(door.tokens.as_ref()).and_then(|(text, tokens)| tokens.find(text, now));
    let known = known.ok_or_else(unauthenticated)?;
    Ok(Caller { by: format!("client:{}", known.name), scopes: known.scopes, attempt: None })
}

/// The token that comes with a request, if there is exactly one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let text = given.next().filter(|_| given.next().is_none())?;
    let (scheme, token) = text.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// The problem of a token that is worth nothing.
pub(super) fn unauthenticated() -> Problem {
    let what = "no token, or one that is not known or has expired";
    Problem::new("unauthenticated", StatusCode::UNAUTHORIZED, what)
        .next("send `Authorization: Bearer TOKEN`")
}

/// The name that an operator gives themselves on the socket.
fn operator(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(name) = headers.get("x-dormouse-operator") else { return Ok("local".into()) };
    let text = std::str::from_utf8(name.as_bytes()).unwrap_or("");
    let fits = !text.is_empty() && text.len() <= OPERATOR_NAME_BYTES_MAX;
    if fits && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    let max = OPERATOR_NAME_BYTES_MAX;
    Err(Problem::bad_request(format!("X-Dormouse-Operator has 1 to {max} bytes of plain text")))
}
