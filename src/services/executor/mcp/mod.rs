//! The executor of kind `mcp`: a tool of a configured server, called once.
//!
//! [`definition`] reads what is asked for, [`server`] keeps a server at hand, [`web`] reaches one
//! over HTTP, [`talk`] calls its tools, [`fate`] knows whether a request can have been acted on.
//! May not retry. Invariant: an attempt counts as not begun only if the server said that it
//! refused the request, or cannot have it.

mod definition;
mod fate;
mod keys;
mod ours;
mod server;
mod talk;
mod web;

pub use server::{Means, Section, Way};

use std::collections::BTreeMap;
use std::sync::Arc;

use rmcp::model::{CallToolResult, ErrorCode, ErrorData, MetaObject};
use serde_json::{Map, Value, json};

use self::definition::Definition;
use self::server::Server;
use self::talk::{Call, End};
use super::http::class_of;
use super::redact::Redactor;
use super::{Attempt, Bar, Executor, Outcome, Stop, StopWhy, Working};
use crate::codecs::event::{ErrorInfo, FailureClass};
use crate::codecs::json::Json;
use crate::ground::limits::{MCP_ATTEMPT_MS_DEFAULT, MCP_ERROR_TEXT_BYTES};
use crate::machines::effect::plain_error;
use crate::ports::telemetry::Metrics;

/// Calls tools.
pub struct Mcp {
    servers: BTreeMap<String, Arc<Server>>,
    metrics: Arc<Metrics>,
}

impl Mcp {
    /// With these servers. None of them is started before it is needed.
    #[must_use]
    pub fn new(sections: BTreeMap<String, Section>, means: &Means) -> Self {
        let server = |(name, section)| (name, Arc::new(Server::new(section, means.clone())));
        let servers = sections.into_iter().map(server).collect();
        Self { servers, metrics: Arc::clone(&means.client.metrics) }
    }

    fn find(&self, definition: &Value) -> Result<(Definition, &Arc<Server>), Bar> {
        let called = Definition::read(definition)
            .map_err(|why| Bar::Never(plain_error("InvalidMcpDefinition", why)))?;
        let Definition { server: name, tool, .. } = &called;
        let server = self.servers.get(name).ok_or_else(|| Bar::Held {
            why: format!("there is no server {name:?}"),
            allow: format!("[mcp.servers.{name}]"),
        })?;
        let allowed = &server.section.allow_tools;
        if allowed.as_ref().is_some_and(|allowed| !allowed.contains(tool)) {
            return Err(Bar::Held {
                why: format!("the tool {tool:?} of {name} is not allowed"),
                allow: format!("mcp.servers.{name}.allow_tools = [{tool:?}]"),
            });
        }
        Ok((called, server))
    }
}

impl Executor for Mcp {
    fn kind(&self) -> &'static str {
        "mcp"
    }

    fn may_run(&self, definition: &Value, _cwd: Option<&str>) -> Result<(), Bar> {
        self.find(definition).map(|_| ())
    }

    fn timeout_ms(&self, _definition: &Value) -> Option<u64> {
        Some(MCP_ATTEMPT_MS_DEFAULT)
    }

    fn target(&self, definition: &Value) -> Option<String> {
        let called = Definition::read(definition).ok()?;
        Some(format!("{}/{}", called.server, called.tool))
    }

    fn run(&self, attempt: Attempt, mut stop: Stop) -> Working {
        let found = self.find(&attempt.definition).map(|(call, server)| (call, Arc::clone(server)));
        let metrics = Arc::clone(&self.metrics);
        Box::pin(async move {
            let (called, server) = match found {
                Ok(found) => found,
                Err(Bar::Held { why, .. }) => return not_begun("McpNotAllowed", why, false),
                Err(Bar::Never(error)) => return not_begun(&error.name, error.message, true),
                Err(Bar::Elsewhere) => {
                    let what = "no server of tools is asked here".to_owned();
                    return not_begun("McpNotHere", what, false);
                }
            };
            let name = called.server.clone();
            let tool = called.tool.clone();
            let call =
                Call { meta: meta(&attempt), tool: called.tool, arguments: called.arguments };
            let (end, open) = server.call(call, &mut stop).await;
            let outcome = judge(&name, &tool, end);
            let outcome = match &open {
                Some(open) => redacted(open.redactor(), outcome),
                None => outcome,
            };
            metrics.mcp_calls.with([&name, class_of(&outcome)]).one();
            outcome
        })
    }
}

/// What the server is told beside the arguments.
fn meta(attempt: &Attempt) -> MetaObject {
    let mut meta = Map::new();
    meta.insert("idempotencyKey".to_owned(), attempt.idempotency_key.clone().into());
    if let Some(traceparent) = &attempt.traceparent {
        meta.insert("traceparent".to_owned(), traceparent.clone().into());
    }
    MetaObject(meta)
}

/// What an end means for the effect.
fn judge(server: &str, tool: &str, end: End) -> Outcome {
    let about = |what: String| format!("{server}: {what}");
    match end {
        End::Answered(result) => answered(&result),
        End::Refused(error) => refused(&error),
        End::NoTool => {
            not_begun("McpUnknownTool", about(format!("there is no tool {tool:?}")), true)
        }
        End::Asks => failed(
            FailureClass::Reported,
            plain_error("McpInputRequired", about("it asks back, and nobody answers".to_owned())),
            true,
        ),
        End::NotSent(why) => not_begun("McpUnreachable", about(why), false),
        End::Lost(why) => unknown("transport", &about(why)),
        End::Stopped(StopWhy::TimedOut) => unknown("attempt_timeout", &about("no answer".into())),
        End::Stopped(StopWhy::Draining) => unknown("daemon_stopped", &about("no answer".into())),
        End::Stopped(StopWhy::Cancelled) => unknown("cancelled", &about("no answer".into())),
    }
}

fn answered(result: &CallToolResult) -> Outcome {
    let mut value = json!({ "content": result.content });
    if let Some(structured) = &result.structured_content {
        value["structured"] = structured.clone();
    }
    if result.is_error != Some(true) {
        return Outcome::ok(Json::of(&value));
    }
    let texts = result.content.iter().filter_map(|part| Some(part.as_text()?.text.as_str()));
    let message = cut(&texts.collect::<Vec<_>>().join("\n"));
    let mut error = plain_error("McpToolError", message);
    error.data = Some(Json::of(&value));
    failed(FailureClass::Reported, error, false)
}

/// A server that calls a request invalid did nothing about it; any other error is a report.
fn refused(error: &ErrorData) -> Outcome {
    let invalid = [
        ErrorCode::PARSE_ERROR,
        ErrorCode::INVALID_REQUEST,
        ErrorCode::METHOD_NOT_FOUND,
        ErrorCode::INVALID_PARAMS,
    ];
    let is_invalid = invalid.contains(&error.code);
    let (name, class) = if is_invalid {
        ("McpInvalidRequest", FailureClass::NotBegun)
    } else {
        ("McpError", FailureClass::Reported)
    };
    let mut info = plain_error(name, cut(&error.message));
    info.data = Some(Json::of(&json!({ "code": error.code.0, "data": error.data })));
    failed(class, info, is_invalid)
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MCP_ERROR_TEXT_BYTES)].to_owned()
}

fn not_begun(name: &str, why: String, is_final: bool) -> Outcome {
    failed(FailureClass::NotBegun, plain_error(name, why), is_final)
}

const fn failed(class: FailureClass, error: ErrorInfo, is_final: bool) -> Outcome {
    Outcome::Failed { class, error, is_final, retry_after_ms: None }
}

fn unknown(cause: &'static str, evidence: &str) -> Outcome {
    Outcome::Unknown { cause, evidence: Some(Json::of(evidence)) }
}

/// The same, without the secrets that the server was given.
fn redacted(redactor: &Redactor, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Ok { value, stdout, stderr } => {
            Outcome::Ok { value: redactor.json(value), stdout, stderr }
        }
        Outcome::Failed { class, mut error, is_final, retry_after_ms } => {
            error.message = redactor.text(&error.message).into_owned();
            error.data = error.data.map(|data| redactor.json(data));
            Outcome::Failed { class, error, is_final, retry_after_ms }
        }
        Outcome::Unknown { cause, evidence } => {
            Outcome::Unknown { cause, evidence: evidence.map(|told| redactor.json(told)) }
        }
    }
}
