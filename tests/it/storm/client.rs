//! One client of the daemon: requests over its socket, and a log of what was acknowledged to it.
//!
//! Knows nothing of the program but its HTTP door.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

/// What a client was promised.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ack {
    /// This run exists.
    Created { run: String },
    /// This value is the outcome of that effect.
    Posted { run: String, effect: String, value: Value },
}

/// Speaks HTTP over the daemon's socket, one connection a request.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) socket: PathBuf,
}

impl Client {
    /// Status and body of the answer, which is JSON.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
        let (status, body) = self.exchange(method, path, body)?;
        let half = |_| io::Error::new(io::ErrorKind::UnexpectedEof, "half a body");
        Ok((status, serde_json::from_str(&body).map_err(half)?))
    }

    /// Status and body of the answer.
    pub(crate) fn exchange(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> io::Result<(u16, String)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let cut = |what: &str| io::Error::new(io::ErrorKind::UnexpectedEof, what.to_owned());
        let text = String::from_utf8(answer).map_err(|_| cut("not text"))?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| cut("no head"))?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| cut("no status"))?;
        Ok((status, body.to_owned()))
    }

    /// Creates a run; asked again until somebody answers. What it answers is a promise.
    pub(super) fn create(&self, entry: &str, run: &str, steps: u64, log: &mut Vec<Ack>) {
        while !self.try_to_create(entry, run, steps, log) {}
    }

    /// The same, once. False if it has to be asked again.
    pub(super) fn try_to_create(
        &self,
        entry: &str,
        run: &str,
        steps: u64,
        log: &mut Vec<Ack>,
    ) -> bool {
        let body = json!({
            "source": { "entry": entry }, "runId": run, "inputs": { "steps": steps },
            "idempotencyKey": format!("key of {run}"),
        });
        match self.call("POST", "/v1/runs", &body) {
            Ok((200 | 201, _)) => {
                log.push(Ack::Created { run: run.to_owned() });
                true
            }
            Ok((429 | 503 | 507, _)) | Err(_) => {
                pause();
                false
            }
            Ok((status, answer)) => panic!("create {run}: {status} {answer}"),
        }
    }

    /// Does what a run waits for, once. True when the run is over.
    pub(super) fn go_on(&self, run: &str, dice: &mut u64, log: &mut Vec<Ack>) -> bool {
        let report = match self.call("POST", &format!("/v1/runs/{run}/iterate"), &json!({})) {
            Ok((200, report)) => report,
            Ok((429 | 503 | 507, _)) | Err(_) => {
                pause();
                return false;
            }
            Ok((status, answer)) => panic!("iterate {run}: {status} {answer}"),
        };
        if report["status"] == "completed" {
            return true;
        }
        for action in report["nextActions"].as_array().into_iter().flatten() {
            let effect = action["effectId"].as_str().unwrap_or_default().to_owned();
            *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let value = json!({ "n": *dice >> 40 });
            self.post(run, effect, value, log);
        }
        false
    }

    fn post(&self, run: &str, effect: String, value: Value, log: &mut Vec<Ack>) {
        let path = format!("/v1/runs/{run}/tasks/{effect}/result");
        match self.call("POST", &path, &json!({ "status": "ok", "value": value })) {
            Ok((200, _)) => log.push(Ack::Posted { run: run.to_owned(), effect, value }),
            // Somebody else's outcome stands, or nobody knows: the run says what it waits for.
            Ok((409 | 429 | 503 | 507, _)) | Err(_) => {}
            Ok((status, answer)) => panic!("post {run} {effect}: {status} {answer}"),
        }
    }
}

/// Lets a daemon that is not there come back. Nothing depends on how long this takes.
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
