//! The executor of kind `agent`, for the agents that a file lists.
//!
//! [`file`] reads the file, [`book`] keeps it, [`contract`] makes a request of an effect and
//! [`answer`] reads what comes back. May not know other kinds. Invariant: an effect whose agent is
//! not listed is left to whoever works outside.

pub mod answer;
pub mod book;
pub mod duration;
pub mod file;

mod contract;

use std::sync::Arc;

use serde_json::{Value, json};

use self::answer::{Said, Stream};
use self::book::Book;
use self::contract::Asked;
use self::file::{Agent, Endpoint, How, Protocol};
use super::guard::{self, Origin};
use super::http::exchange::{Head, Rest, Unread, exchange};
use super::http::outcome::{Class, Seen, Statuses, classify};
use super::http::wire::Traffic;
use super::http::{
    Client, class_of, ended, failure, interrupted, refused, retry_after_of, troubled, within,
};
use super::redact::Redactor;
use super::{Attempt, Bar, Executor, Outcome, Stop, Working};
use crate::codecs::event::ErrorInfo;
use crate::codecs::json::Json;
use crate::ground::limits::HTTP_ANSWER_BYTES_MAX;

/// Executes effects of kind `agent` whose agents are listed.
pub struct AgentsOverHttp {
    client: Client,
    book: Book,
}

impl AgentsOverHttp {
    /// Asks the agents of this book.
    #[must_use]
    pub const fn new(client: Client, book: Book) -> Self {
        Self { client, book }
    }

    fn agent(&self, definition: &Value) -> Option<(String, Agent)> {
        let id = contract::agent_of(definition)?;
        let agent = self.book.agents().agents.get(id)?.clone();
        Some((id.to_owned(), agent))
    }
}

impl Executor for AgentsOverHttp {
    fn kind(&self) -> &'static str {
        "agent"
    }

    fn may_run(&self, definition: &Value, _cwd: Option<&str>) -> Result<(), Bar> {
        match self.agent(definition) {
            None | Some((_, Agent { how: How::External, .. })) => Err(Bar::Elsewhere),
            Some((id, Agent { how: How::Unsupported(instead), .. })) => {
                Err(Bar::Never(unsupported(&id, &instead)))
            }
            Some(_) => Ok(()),
        }
    }

    fn timeout_ms(&self, definition: &Value) -> Option<u64> {
        match self.agent(definition)?.1.how {
            How::Http(endpoint) => Some(endpoint.timeout_ms),
            _ => None,
        }
    }

    fn target(&self, definition: &Value) -> Option<String> {
        match self.agent(definition)?.1.how {
            How::Http(endpoint) => {
                guard::read(&endpoint.url).ok().map(|url| Origin::of(&url).to_string())
            }
            _ => None,
        }
    }

    fn run(&self, attempt: Attempt, mut stop: Stop) -> Working {
        let (client, found) = (self.client.clone(), self.agent(&attempt.definition));
        Box::pin(async move {
            match found {
                Some((id, Agent { how: How::Http(endpoint), .. })) => {
                    let outcome = over_http(&client, &id, &endpoint, &attempt, &mut stop).await;
                    client.metrics.http_executor.with([&id, class_of(&outcome)]).one();
                    outcome
                }
                Some((_, Agent { how: How::Echo, .. })) => echo(&attempt),
                Some((id, Agent { how: How::Unsupported(instead), .. })) => {
                    refused(&unsupported(&id, &instead))
                }
                // It was listed when the effect was given to us.
                Some((_, Agent { how: How::External, .. })) | None => {
                    refused(&failure("AgentUnknown", "the agent is not listed any more".to_owned()))
                }
            }
        })
    }
}

fn unsupported(id: &str, instead: &str) -> ErrorInfo {
    failure("AgentUnsupported", format!("the agent {id} cannot be asked here: {instead}"))
}

/// The agent that is here says what it was told.
fn echo(attempt: &Attempt) -> Outcome {
    let (text, _) = contract::prompt_of(attempt);
    Outcome::ok(Json::of(&json!({ "answer": format!("The echo agent was told: {text}") })))
}

async fn over_http(
    client: &Client,
    id: &str,
    endpoint: &Endpoint,
    attempt: &Attempt,
    stop: &mut Stop,
) -> Outcome {
    let traffic = Arc::default();
    let limit_ms = attempt.timeout_ms.unwrap_or(endpoint.timeout_ms);
    let outcome = within(limit_ms, stop, ask(client, id, endpoint, attempt, &traffic)).await;
    outcome.unwrap_or_else(|why| interrupted(why, &traffic))
}

async fn ask(
    client: &Client,
    id: &str,
    endpoint: &Endpoint,
    attempt: &Attempt,
    traffic: &Arc<Traffic>,
) -> Outcome {
    let prepared = match contract::prepare(client, id, endpoint, attempt).await {
        Ok(prepared) => prepared,
        Err(error) => return refused(&error),
    };
    let Asked { guard, order, redactor } = prepared;
    let (head, rest) = match exchange(&client.wire, &guard, order, traffic).await {
        Ok(answer) => answer,
        Err(trouble) => return troubled(client, &trouble, &redactor, traffic),
    };
    Hearing { client, endpoint, redactor: &redactor, traffic }.hear(&head, rest).await
}

/// Everything that hearing an answer takes.
struct Hearing<'a> {
    client: &'a Client,
    endpoint: &'a Endpoint,
    redactor: &'a Redactor,
    traffic: &'a Traffic,
}

impl Hearing<'_> {
    async fn hear(&self, head: &Head, mut rest: Rest) -> Outcome {
        if !head.status.is_success() {
            return self.refusal(head, rest).await;
        }
        let said = match self.endpoint.protocol {
            Protocol::Sse => self.stream(&mut rest).await,
            Protocol::Json => rest.whole(HTTP_ANSWER_BYTES_MAX).await.map(|body| {
                let content_type = head.headers.get("content-type");
                answer::of_body(content_type.map_or(&b""[..], |v| v.as_bytes()), &body)
            }),
        };
        let status = head.status.as_u16();
        match said {
            Ok(Said::Answer(mut value)) => {
                self.redactor.value(&mut value);
                Outcome::ok(Json::of(&value))
            }
            Ok(Said::Error(why)) => {
                self.end(Class::Reported { is_final: false }, "AgentError", &why, status)
            }
            Ok(Said::NotFinal) => {
                let why = "the agent says that its answer is not final";
                self.end(Class::Reported { is_final: true }, "AgentNotFinal", why, status)
            }
            Ok(Said::Unreadable(why)) => self.seen(Seen::Unreadable, "AgentAnswer", &why, status),
            Err(Unread::Broken(why)) => self.seen(Seen::Broken, "HttpBroken", &why, status),
            Err(e) => self.seen(Seen::Unreadable, "AgentAnswer", &e.to_string(), status),
        }
    }

    async fn stream(&self, rest: &mut Rest) -> Result<Said, Unread> {
        let mut stream = Stream::default();
        while let Some(bytes) = rest.chunk().await? {
            if let Some(said) = stream.take(&bytes) {
                return Ok(said);
            }
        }
        Err(Unread::Broken("the stream ended before it said [DONE]".to_owned()))
    }

    async fn refusal(&self, head: &Head, mut rest: Rest) -> Outcome {
        let status = head.status.as_u16();
        let body = rest.beginning(HTTP_ANSWER_BYTES_MAX).await;
        let error = answer::error_in(&body);
        let seen = Seen::Status {
            status,
            retry_after_ms: retry_after_of(&head.headers, self.client),
            says_error: error.is_some(),
        };
        let class = classify(seen, &[Statuses::Hundred(2)], &[]);
        if let Some(why) = error {
            return self.end(class, "AgentError", &why, status);
        }
        let why = format!("the agent's server answered {status}");
        self.end(class, "HttpStatus", &why, status)
    }

    fn seen(&self, seen: Seen, name: &str, why: &str, status: u16) -> Outcome {
        self.end(classify(seen, &[], &[]), name, why, status)
    }

    fn end(&self, class: Class, name: &str, why: &str, status: u16) -> Outcome {
        let message = self.redactor.text(why).into_owned();
        let data = Some(Json::of(&json!({ "status": status })));
        ended(class, &ErrorInfo { data, ..failure(name, message) }, self.traffic)
    }
}
