//! Clients of the storms: what they ask of the daemon, and a log of what was acknowledged to them.
//!
//! Knows nothing of the program but its HTTP door.

pub(crate) use dormouse::services::torture::client::{Client, pause};
use serde_json::{Value, json};

/// What a client was promised.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ack {
    /// This run exists.
    Created { run: String },
    /// This value is the outcome of that effect.
    Posted { run: String, effect: String, value: Value },
}

/// Driving runs, and noting what was promised.
pub(super) trait Drives {
    /// Creates a run; asked again until somebody answers. What it answers is a promise.
    fn create(&self, entry: &str, run: &str, steps: u64, log: &mut Vec<Ack>) {
        while !self.try_to_create(entry, run, steps, log) {}
    }

    /// The same, once. False if it has to be asked again.
    fn try_to_create(&self, entry: &str, run: &str, steps: u64, log: &mut Vec<Ack>) -> bool;

    /// Does what a run waits for, once. True when the run is over.
    fn go_on(&self, run: &str, dice: &mut u64, log: &mut Vec<Ack>) -> bool;

    /// Posts an outcome, once.
    fn post(&self, run: &str, effect: String, value: Value, log: &mut Vec<Ack>);
}

impl Drives for Client {
    fn try_to_create(&self, entry: &str, run: &str, steps: u64, log: &mut Vec<Ack>) -> bool {
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

    fn go_on(&self, run: &str, dice: &mut u64, log: &mut Vec<Ack>) -> bool {
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
