//! Asking the daemon that owns a root, over its Unix socket.
//!
//! May not know verbs. Invariant: a request that may have reached the daemon is never sent a second
//! time; what became of it is then said to be unknown.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::failure::{Exit, Failure};
use super::{output, variables};

/// How long a daemon may take to answer.
#[derive(Debug, Clone, Copy)]
struct Waits {
    /// Somebody wants to look.
    look: Duration,
    /// A deed: no turn takes as long.
    deed: Duration,
    /// After so long, whoever waits for a deed is told.
    told: Duration,
}

const WAITS: Waits = Waits {
    look: Duration::from_secs(10),
    deed: Duration::from_mins(10),
    told: Duration::from_secs(5),
};

/// A daemon that answers.
pub(super) struct Client {
    runtime: Runtime,
    socket: PathBuf,
    operator: String,
    waits: Waits,
    /// The process behind the socket, once it was reached.
    pid: OnceLock<i32>,
}

/// Why there is no answer.
enum Broken {
    /// The request did not leave.
    Unreachable(String),
    /// It may have arrived.
    Silent(String),
}

impl Client {
    /// The daemon that answers at `socket`, if there is one.
    pub(super) fn find(socket: &Path, operator: &str) -> Result<Option<Self>, Failure> {
        if std::os::unix::net::UnixStream::connect(socket).is_err() {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| {
            Failure::usage(&format!("cannot ask the daemon: {e}"), "give --offline to do without")
        })?;
        let (socket, operator) = (socket.to_owned(), operator.to_owned());
        Ok(Some(Self { runtime, socket, operator, waits: WAITS, pid: OnceLock::new() }))
    }

    /// Asks for a deed.
    pub(super) fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|e| Failure::usage(&format!("the request is no JSON: {e}"), ""))?;
        read(&self.ask(&Method::POST, path, body)?)
    }

    /// Asks for something to look at.
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        read(&self.ask(&Method::GET, path, Vec::new())?)
    }

    /// The same for whoever has a runtime of their own, and waits there.
    pub(super) async fn post_on(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Value, Failure> {
        let body = serde_json::to_vec(body)
            .map_err(|e| Failure::usage(&format!("the request is no JSON: {e}"), ""))?;
        read(&answered(self.exchange(&Method::POST, path, body).await)?)
    }

    /// The same, to look at something.
    pub(super) async fn get_on(&self, path: &str) -> Result<Value, Failure> {
        read(&answered(self.exchange(&Method::GET, path, Vec::new()).await)?)
    }

    fn ask(&self, method: &Method, path: &str, body: Vec<u8>) -> Result<Bytes, Failure> {
        let exchange = self.exchange(method, path, body);
        let looks = *method == Method::GET;
        let answered = self.runtime.block_on(async {
            if looks {
                return timeout(self.waits.look, exchange).await.ok();
            }
            let mut exchange = std::pin::pin!(exchange);
            if let Ok(answered) = timeout(self.waits.told, exchange.as_mut()).await {
                return Some(answered);
            }
            output::remark(&format!("{} does not answer yet", self.daemon()));
            timeout(self.waits.deed.saturating_sub(self.waits.told), exchange).await.ok()
        });
        let Some(given) = answered else {
            let wait = if looks { self.waits.look } else { self.waits.deed };
            let why = format!("no answer within {}", humantime::format_duration(wait));
            return Err(if looks { self.silent(&why) } else { unknown(&why) });
        };
        self::answered(given)
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), Broken> {
        let unreachable = |e: &dyn std::fmt::Display| Broken::Unreachable(e.to_string());
        let silent = |e: hyper::Error| Broken::Silent(e.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| unreachable(&e))?;
        if let Some(pid) = stream.peer_cred().ok().and_then(|peer| peer.pid()) {
            // It is the same one each time.
            let _ = self.pid.set(pid);
        }
        let connected = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.map_err(|e| unreachable(&e))?;
        tokio::spawn(connection);
        let operator = HeaderValue::from_bytes(self.operator.as_bytes());
        let mut request = Request::builder();
        if let Some(place) = variables::traceparent() {
            request = request.header("traceparent", place.to_string());
        }
        let request = request
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .header("x-dormouse-operator", operator.map_err(|e| unreachable(&e))?)
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| unreachable(&e))?;
        let answer = sender.send_request(request).await.map_err(silent)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(silent)?;
        Ok((status, body.to_bytes()))
    }

    fn daemon(&self) -> String {
        self.pid.get().map_or_else(|| "the daemon".into(), |pid| format!("the daemon, pid {pid},"))
    }

    /// A daemon that is there and says nothing: nothing was asked of it but to tell.
    fn silent(&self, why: &str) -> Failure {
        let what = format!("{} does not answer: {why}", self.daemon());
        let mut next = Vec::new();
        if let Some(pid) = self.pid.get() {
            next.push(format!("see whether it is stopped or stuck: `ps -o stat,wchan -p {pid}`"));
            next.push(format!("`kill -CONT {pid}` if it is stopped"));
        }
        Failure { exit: Exit::Storage, code: "daemon_silent".into(), what, next }
    }
}

fn answered(answered: Result<(StatusCode, Bytes), Broken>) -> Result<Bytes, Failure> {
    match answered {
        Ok((status, bytes)) if status.is_success() => Ok(bytes),
        Ok((status, bytes)) => Err(problem(status, &bytes)),
        Err(Broken::Unreachable(why)) => Err(gone(&why)),
        Err(Broken::Silent(why)) => Err(unknown(&why)),
    }
}

fn read(bytes: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(bytes).map_err(|e| unknown(&format!("its answer is not JSON: {e}")))
}

/// A daemon that ends while it is asked: nothing was done.
fn gone(why: &str) -> Failure {
    let what = format!("the daemon is stopping; nothing was done: {why}");
    let next = vec!["run the command again".to_owned()];
    Failure { exit: Exit::Storage, code: "shutting_down".into(), what, next }
}

fn unknown(why: &str) -> Failure {
    let what = format!("the daemon took the request and did not answer: {why}");
    let next = vec!["look again with `dormouse run show`: it may or may not be done".to_owned()];
    Failure { exit: Exit::Storage, code: "unknown_outcome".into(), what, next }
}

/// A problem as the failure that the same deed would be without a daemon.
fn problem(status: StatusCode, bytes: &[u8]) -> Failure {
    let problem: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().map(str::to_owned);
    let mut code = text("code").unwrap_or_else(|| "unknown_outcome".into());
    let exit = exit_of(status, &code);
    if exit == Exit::Damaged {
        code = text("case").unwrap_or(code);
    }
    let what = text("detail").unwrap_or_else(|| format!("the daemon answered {status}"));
    let next = problem["next"].as_array().into_iter().flatten();
    let next = next.filter_map(|step| step.as_str().map(str::to_owned)).collect();
    Failure { exit, code, what, next }
}

/// The exit code of a problem: by its code where the status says less, as without a daemon.
fn exit_of(status: StatusCode, code: &str) -> Exit {
    match code {
        "run_is_bare" => return Exit::No,
        "run_damaged" => return Exit::Damaged,
        "overloaded" | "index_rebuilding" | "followers_full" => return Exit::Refused,
        "disk_full" | "shutting_down" | "not_written" | "unknown_outcome" | "storage_failed"
        | "index_unusable" => return Exit::Storage,
        "bug" => return Exit::Bug,
        _ => {}
    }
    match status.as_u16() {
        400 => Exit::Usage,
        404 => Exit::NotFound,
        409 => Exit::Conflict,
        401 | 403 | 413 | 422 | 429 => Exit::Refused,
        408 | 503 | 507 => Exit::Storage,
        _ => Exit::Bug,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_daemon_that_does_not_answer_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        // Whoever connects waits to be accepted for ever, as beside a process that is stopped.
        let _listens = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let mut client = Client::find(&socket, "local").unwrap().unwrap();
        let brief = Duration::from_millis(1);
        client.waits = Waits { look: brief, deed: 2 * brief, told: brief };
        let failure = client.get("/v1/status").unwrap_err();
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Storage, "daemon_silent"));
        let named = format!("the daemon, pid {}, does not answer", std::process::id());
        assert!(failure.what.starts_with(&named), "{}", failure.what);
        let failure = client.post("/v1/runs", &json!({})).unwrap_err();
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Storage, "unknown_outcome"));
    }

    #[test]
    fn a_problem_is_the_failure_it_was_made_of() {
        for (status, code, case, exit, shown) in [
            (404, "run_not_found", None, Exit::NotFound, "run_not_found"),
            (409, "run_damaged", Some("J20"), Exit::Damaged, "J20"),
            (422, "run_is_bare", None, Exit::No, "run_is_bare"),
            (422, "value_invalid", None, Exit::Refused, "value_invalid"),
            (503, "unknown_outcome", None, Exit::Storage, "unknown_outcome"),
            (503, "index_rebuilding", None, Exit::Refused, "index_rebuilding"),
            (429, "overloaded", None, Exit::Refused, "overloaded"),
            (507, "disk_full", None, Exit::Storage, "disk_full"),
            (429, "disk_full", None, Exit::Storage, "disk_full"),
            (500, "bug", None, Exit::Bug, "bug"),
        ] {
            let body = json!({ "code": code, "case": case, "detail": "why", "next": ["do"] });
            let status = StatusCode::from_u16(status).unwrap();
            let failure = problem(status, body.to_string().as_bytes());
            assert_eq!((failure.exit, failure.code.as_str()), (exit, shown));
            assert_eq!((failure.what.as_str(), failure.next.len()), ("why", 1));
        }
        assert_eq!(problem(StatusCode::BAD_GATEWAY, b"<html>").exit, Exit::Storage);
    }
}
