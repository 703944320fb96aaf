//! The executor of kind `http`: one request, its redirects, its answer as a value.
//!
//! [`definition`] reads what is asked for, [`request`] makes a request of it, [`wire`] sends it and
//! [`exchange`] follows redirects, [`outcome`] says what the answer means. May not know agents.
//! Invariant: what leaves here for a record has passed redaction.

pub mod definition;
pub mod exchange;
pub mod outcome;
pub(crate) mod request;
pub mod wire;

mod answer;

pub(crate) use self::answer::{retry_after_of, says_error};

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use self::answer::Reading;
use self::definition::Definition;
use self::outcome::{Class, Seen};
use self::wire::{Traffic, Trouble, Wire};
use super::guard::{self, Guard, Origin};
use super::redact::Redactor;
use super::secrets::Secrets;
use super::{Attempt, Bar, Executor, Outcome, Stop, StopWhy, Working};
use crate::codecs::event::{ErrorInfo, FailureClass};
use crate::codecs::json::Json;
use crate::ground::clock::{Clock, Stopwatch};
use crate::ground::limits::HTTP_ATTEMPT_MS_DEFAULT;
use crate::ports::telemetry::Metrics;

/// What executors that speak HTTP share.
#[derive(Clone)]
pub struct Client {
    /// Sends.
    pub wire: Wire,
    /// Says where to.
    pub guard: Guard,
    /// Knows secrets.
    pub secrets: Secrets,
    /// Tells dates.
    pub clock: Arc<dyn Clock>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// Executes effects of kind `http`.
pub struct Http(Client);

impl Http {
    /// With these means.
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self(client)
    }
}

impl Executor for Http {
    fn kind(&self) -> &'static str {
        "http"
    }

    fn may_run(&self, definition: &Value, _cwd: Option<&str>) -> Result<(), Bar> {
        match Definition::read(definition) {
            Ok(_) => Ok(()),
            Err(why) => Err(Bar::Never(failure("HttpDefinition", why))),
        }
    }

    fn timeout_ms(&self, definition: &Value) -> Option<u64> {
        Some(Definition::read(definition).map_or(HTTP_ATTEMPT_MS_DEFAULT, |def| def.limit_ms()))
    }

    fn target(&self, definition: &Value) -> Option<String> {
        let url = Definition::read(definition).ok()?.url;
        // Placeholders may hold anything, and are not filled in for a record.
        guard::read(&url)
            .ok()
            .filter(|_| !url.contains("${"))
            .map(|url| Origin::of(&url).to_string())
    }

    fn run(&self, attempt: Attempt, mut stop: Stop) -> Working {
        let client = self.0.clone();
        Box::pin(async move {
            let definition = match Definition::read(&attempt.definition) {
                Ok(definition) => definition,
                Err(why) => return refused(&failure("HttpDefinition", why)),
            };
            let limit_ms = attempt.timeout_ms.unwrap_or_else(|| definition.limit_ms());
            let traffic = Arc::default();
            let work = work(&client, &attempt, &definition, &traffic);
            let outcome = within(limit_ms, &mut stop, work).await;
            let outcome = outcome.unwrap_or_else(|why| interrupted(why, &traffic));
            client.metrics.http_executor.with(["none", class_of(&outcome)]).one();
            outcome
        })
    }
}

async fn work(
    client: &Client,
    attempt: &Attempt,
    definition: &Definition,
    traffic: &Arc<Traffic>,
) -> Outcome {
    let Client { wire, guard, secrets, metrics, .. } = client;
    let prepared = match request::prepare(attempt, definition, guard, secrets, metrics).await {
        Ok(prepared) => prepared,
        Err(error) => {
            if error.name == "HttpRefused" {
                metrics.ssrf_refusals.one();
            }
            return refused(&error);
        }
    };
    let (redactor, watch) = (prepared.redactor, Stopwatch::start());
    let answer = exchange::exchange(wire, guard, prepared.order, traffic).await;
    let (head, rest) = match answer {
        Ok(answer) => answer,
        Err(trouble) => return troubled(client, &trouble, &redactor, traffic),
    };
    let reading = Reading { client, definition, redactor: &redactor, traffic, watch };
    reading.read(&head, rest, &attempt.dir).await
}

/// Does it within a time, and until it is asked to stop; else says why it was not finished.
pub(crate) async fn within<T>(
    limit_ms: u64,
    stop: &mut Stop,
    work: impl Future<Output = T>,
) -> Result<T, String> {
    tokio::select! {
        done = work => Ok(done),
        why = stop.asked() => Err(match why {
            StopWhy::Cancelled => "it was given up".to_owned(),
            StopWhy::TimedOut => "no whole answer came in time".to_owned(),
            StopWhy::Draining => "the daemon ended".to_owned(),
        }),
        () = tokio::time::sleep(Duration::from_millis(limit_ms)) => {
            Err(format!("no whole answer came within {limit_ms} ms"))
        }
    }
}

/// What is known when an attempt was not finished.
pub(crate) fn interrupted(why: String, traffic: &Traffic) -> Outcome {
    let seen = if traffic.sent() == 0 { Seen::Unsent } else { Seen::Broken };
    let class = outcome::classify(seen, &[], &[]);
    ended(class, &failure("HttpUnreachable", why), traffic)
}

/// What came of a request without an answer.
pub(crate) fn troubled(
    client: &Client,
    trouble: &Trouble,
    redactor: &Redactor,
    traffic: &Traffic,
) -> Outcome {
    let (seen, name) = match trouble {
        Trouble::Refused(_) => (Seen::Refused, "HttpRefused"),
        Trouble::Unreachable(_) => (Seen::Unsent, "HttpUnreachable"),
        Trouble::Broken(_) => (Seen::Broken, "HttpBroken"),
    };
    if seen == Seen::Refused {
        client.metrics.ssrf_refusals.one();
    }
    let error = failure(name, redactor.text(&trouble.to_string()).into_owned());
    ended(outcome::classify(seen, &[], &[]), &error, traffic)
}

/// H1: nothing was sent, and nothing would be another time.
pub(crate) fn refused(error: &ErrorInfo) -> Outcome {
    ended(outcome::classify(Seen::Refused, &[], &[]), error, &Traffic::default())
}

/// An outcome without a value. What it says must have passed redaction.
pub(crate) fn ended(class: Class, error: &ErrorInfo, traffic: &Traffic) -> Outcome {
    let failed = |class, is_final, retry_after_ms| Outcome::Failed {
        class,
        error: error.clone(),
        is_final,
        retry_after_ms,
    };
    match class {
        Class::NotBegun { is_final, retry_after_ms } => {
            failed(FailureClass::NotBegun, is_final, retry_after_ms)
        }
        Class::Reported { is_final } => failed(FailureClass::Reported, is_final, None),
        Class::Unknown | Class::Ok => Outcome::Unknown {
            cause: "transport",
            evidence: Some(Json::of(&json!({
                "bytesSent": traffic.sent(),
                "bytesReceived": traffic.received(),
                "error": error,
            }))),
        },
    }
}

/// An error of ours.
pub(crate) fn failure(name: &str, message: String) -> ErrorInfo {
    ErrorInfo { name: name.to_owned(), message, stack: None, data: None }
}

/// The class of an outcome, as a word.
pub(crate) const fn class_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Ok { .. } => "ok",
        Outcome::Failed { class: FailureClass::NotBegun, .. } => "not_begun",
        Outcome::Failed { .. } => "reported",
        Outcome::Unknown { .. } => "unknown",
    }
}
