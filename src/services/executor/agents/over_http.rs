//! Asking an agent over HTTP, and hearing what it answers.
//!
//! May not know which agents there are. Invariant: what leaves here for a record has passed
//! redaction.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;

use super::agent::{Endpoint, Protocol};
use super::answer::{self, Said, Stream};
use super::contract::{self, Asked};
use super::postbox::Postbox;
use crate::codecs::event::ErrorInfo;
use crate::codecs::json::Json;
use crate::ground::limits::{AGENT_ATTEMPT_MS_DEFAULT, HTTP_ANSWER_BYTES_MAX};
use crate::services::executor::http::exchange::{Head, Rest, Unread, exchange};
use crate::services::executor::http::outcome::{Class, Seen, Statuses, classify};
use crate::services::executor::http::wire::Traffic;
use crate::services::executor::http::{
    Client, ended, failure, interrupted, refused, retry_after_of, troubled, within,
};
use crate::services::executor::redact::Redactor;
use crate::services::executor::{Attempt, Outcome, Stop};

/// Asks one agent.
pub(super) struct Asks<'a> {
    pub(super) client: &'a Client,
    pub(super) id: &'a str,
    pub(super) endpoint: &'a Endpoint,
    pub(super) postbox: &'a Postbox,
}

impl Asks<'_> {
    pub(super) async fn ask(&self, attempt: &Attempt, stop: &mut Stop) -> Outcome {
        let traffic = Arc::default();
        let limit_ms = attempt.timeout_ms.unwrap_or(AGENT_ATTEMPT_MS_DEFAULT);
        let outcome = within(limit_ms, stop, self.exchange(attempt, &traffic)).await;
        outcome.unwrap_or_else(|why| interrupted(why, &traffic))
    }

    async fn exchange(&self, attempt: &Attempt, traffic: &Arc<Traffic>) -> Outcome {
        let Self { client, endpoint, .. } = *self;
        let slip = match endpoint.posts_later_ms {
            None => None,
            Some(_) => match self.postbox.slip(attempt).await {
                Ok(slip) => Some(slip),
                Err(why) => return refused(&failure("AgentPostbox", why)),
            },
        };
        let prepared = contract::prepare(client, self.id, endpoint, attempt, slip.as_ref()).await;
        let Asked { guard, order, redactor } = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                client.metrics.ssrf_refusals.add(u64::from(error.name == "HttpRefused"));
                return refused(&error);
            }
        };
        let (head, rest) = match exchange(&client.wire, &guard, order, traffic).await {
            Ok(answer) => answer,
            Err(trouble) => return troubled(client, &trouble, &redactor, traffic),
        };
        if slip.is_some() && head.status == StatusCode::ACCEPTED {
            return Outcome::HandedOver;
        }
        Hearing { client, endpoint, redactor: &redactor, traffic }.hear(&head, rest).await
    }
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
            Ok(other) => {
                let (name, why, is_final) = other.failure();
                self.end(Class::Reported { is_final }, name, &why, status)
            }
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
