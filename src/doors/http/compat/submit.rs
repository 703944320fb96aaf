//! `POST /api/agents/{agent}/message`: a message becomes a job.
//!
//! May not wait for the agent. Invariant: a job that was answered exists, durably, and the same key
//! makes one job of an agent.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::Door;
use super::super::auth::Caller;
use super::super::body::{Named, Strict, present};
use super::super::problem::{Answer, Problem};
use super::super::runs::one_key;
use super::agents::Receiver;
use super::entry;
use crate::codecs::json::Json as Text;
use crate::services::runs::create::{NewRun, Source};
use crate::services::runs::{Error, builtin};
use crate::shells::pin::EntrySpec;

/// The highest priority of an effect.
const PRIORITY_MAX: u32 = 1000;

/// A message. Unknown members are no error here.
#[derive(Debug, Deserialize)]
pub(super) struct Submission {
    content: Option<String>,
    message: Option<String>,
    goal: Option<String>,
    #[serde(default, deserialize_with = "present")]
    input: Option<Text>,
    #[serde(default, deserialize_with = "present")]
    metadata: Option<Text>,
    priority: Option<u32>,
    idempotency_key: Option<String>,
}

/// What somebody who posts an answer writes.
const ANSWER: &str = "'{\"answer\":\"…\"}'";

/// The inputs of a process that is itself the agent.
#[derive(Debug, Serialize)]
struct Given {
    goal: Text,
    message: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Text>,
}

/// The inputs of the process that makes a run of a message.
#[derive(Debug, Serialize)]
struct Inputs {
    agent: String,
    message: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
}

impl Submission {
    /// What the agent is told.
    fn told(&self) -> Answer<Text> {
        let texts = [&self.content, &self.message, &self.goal].map(Option::as_deref);
        let mut texts = texts.into_iter().flatten();
        let text = texts.next();
        if texts.any(|other| Some(other) != text) {
            let what = "content, message and goal are names of one text; these differ";
            return Err(Problem::bad_request(what));
        }
        let input = self.input.as_ref().filter(|input| input.as_str() != "null");
        match (text.filter(|text| !text.trim().is_empty()), input) {
            (Some(_), Some(_)) => Err(Problem::bad_request("send a message or an input, not both")),
            (Some(text), None) => Ok(Text::of(text)),
            (None, Some(input)) => Ok(input.clone()),
            (None, None) => {
                let what = "there is no message, or a blank one";
                Err(Problem::new("message_required", StatusCode::BAD_REQUEST, what)
                    .next("send {\"message\": \"…\"}, or {\"input\": …} for other JSON"))
            }
        }
    }

    /// The process that makes a run of the message, and its inputs.
    fn process(self, receiver: &Receiver, message: Text) -> Answer<(Source, Text)> {
        let Self { metadata, priority, .. } = self;
        match receiver {
            Receiver::Here(agent) | Receiver::Outside(agent) => {
                let inputs = Inputs { agent: agent.clone(), message, metadata, priority };
                Ok((builtin::agent(), Text::of(&inputs)))
            }
            Receiver::Process(entry) => {
                let entry = EntrySpec::parse(entry).map_err(Error::from)?;
                let (root, library_root, extra, process_id) = (None, None, Vec::new(), None);
                let given = Given { goal: message.clone(), message, metadata };
                Ok((Source { entry, root, library_root, extra, process_id }, Text::of(&given)))
            }
        }
    }
}

/// Gives a message to an agent.
pub(super) async fn submit(
    State(door): State<Door>,
    caller: Caller,
    Named(agent): Named<String>,
    headers: HeaderMap,
    Strict(asked): Strict<Submission>,
) -> Answer<Response> {
    let message = asked.told()?;
    if asked.priority.is_some_and(|priority| priority > PRIORITY_MAX) {
        return Err(Problem::bad_request(format!("priority is 0 to {PRIORITY_MAX}")));
    }
    let receiver = door.compat.receiver(&agent)?;
    let key = one_key(&headers, asked.idempotency_key.clone())?;
    let (source, inputs) = asked.process(&receiver, message)?;
    let new = NewRun {
        source: Some(source),
        inputs: Some(inputs),
        // An agent's id has no blank.
        idempotency_key: key.map(|key| format!("{} {key}", entry::tag_of(&agent))),
        tags: vec![entry::tag_of(&agent)],
        ..NewRun::default()
    };
    let made = door.handle.create(new, &caller.by).await?;
    let id = made.run_id.as_str();
    let mut body = json!({
        "status": "accepted", "agent_id": agent, "job_id": id, "run_id": id, "id": id,
        "runtime_submission": {
            "legacy_facade": false, "canonical_api": "/v1/runs", "job_id": id, "run_id": id,
            "run_status": "created",
        },
    });
    if let Receiver::Outside(name) = receiver {
        body["hint"] = json!([
            format!("dormouse worker run --kind agent --agent {name} -- COMMAND"),
            format!("dormouse task post {id} e0001 --status ok --value-inline {ANSWER}"),
            format!("open /api/jobs/{id}/trace/page and answer there"),
        ]);
    }
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    if let Ok(place) = HeaderValue::try_from(format!("/api/jobs/{id}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}
