//! `/api/jobs/{run}/events`: the records of a run under the names of that runtime.
//!
//! May not leave a record out. Invariant: one record is one event, and its id is the record's
//! place.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::super::Door;
use super::super::body::{Query, Run};
use super::super::events::{last_seen, names};
use super::super::follow::{Page, follow};
use super::super::problem::{Answer, Problem};
use super::job::{self, answer_in};
use super::standing::Status;
use super::{entry, waits};
use crate::codecs::event::{Event, Record};
use crate::codecs::json::Json as Text;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::ground::limits::{COMPAT_EVENTS_MAX, EVENTS_PAGE_BYTES_MAX, EVENTS_PAGE_MAX};
use crate::machines::effect::Wait;
use crate::machines::effect::life::Effect;
use crate::services::runs::view::Look;

/// A record under the names of that runtime.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    id: Seq,
    job_id: RunId,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node_id: Option<EffectId>,
    pub(super) payload: Payload,
    pub(super) created_at: Timestamp,
    dormouse_type: &'static str,
}

/// What an event carries.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Payload {
    /// The record's own data.
    Data(Text),
    /// A wait begins.
    Waiting {
        /// The effect.
        node_id: EffectId,
        /// `signal`, `approval`, `timer`.
        wait_type: &'static str,
        /// The key by which an answer names it.
        correlation_key: Option<String>,
        /// When time ends it.
        expires_at: Option<Timestamp>,
    },
    /// The end, with an output.
    Completed {
        /// What was asked.
        goal: Option<String>,
        /// The answer in the output.
        answer: Option<Text>,
        /// The output.
        result: Option<Text>,
        /// The output.
        output: Option<Text>,
    },
    /// The end, without.
    Failed {
        /// Why, in a word.
        reason: &'static str,
        /// Why, in a line.
        error: Option<String>,
    },
}

impl Told {
    /// What a record of a run is called here.
    pub(super) fn of(look: &Look<'_>, record: &Record) -> Self {
        let node = record.event.effect_id();
        let effect = node.and_then(|id| look.state.effect(id));
        Self {
            id: record.seq,
            job_id: look.state.run_id.clone(),
            kind: name_of(&record.event, effect),
            node_id: node,
            payload: payload(look, record, effect),
            created_at: record.at,
            dormouse_type: record.event.name(),
        }
    }
}

/// What kind of wait an effect is, if nobody executes it.
fn wait_type(effect: Option<&Effect>) -> Option<&'static str> {
    match &effect?.wait {
        Wait::Signal(_) => Some("signal"),
        Wait::Breakpoint(_) => Some("approval"),
        Wait::Sleep { .. } => Some("timer"),
        _ => None,
    }
}

fn name_of(event: &Event, effect: Option<&Effect>) -> &'static str {
    let is_wait = wait_type(effect).is_some();
    match event {
        Event::RunCreated(_) => "job_created",
        Event::ProcessAssigned(_) => "plan_generated",
        Event::EffectRequested(_) if is_wait => "job_waiting",
        Event::EffectRequested(_) => "command_emitted",
        Event::EffectStarted(_) => "tool_invocation_started",
        Event::EffectResolved(_) if is_wait => "wait_completed",
        Event::EffectResolved(_) => "command_committed",
        Event::EffectAttemptFailed(_) => "step_retried",
        Event::EffectUncertain(_) | Event::RunPaused(_) | Event::RunHeld(_) => "job_parked",
        Event::EffectCancelled(_) => "step_failed",
        Event::SignalReceived(_) => "agent_message",
        Event::RunResumed(_) => "job_resumed",
        Event::RunCompleted(_) => "job_completed",
        Event::RunFailed(_) | Event::RunHalted(_) => "job_failed",
        Event::RunCancelled(_) => "job_cancelled",
        _ => "state_changed",
    }
}

fn payload(look: &Look<'_>, record: &Record, effect: Option<&Effect>) -> Payload {
    match (&record.event, effect.zip(wait_type(effect))) {
        (Event::EffectRequested(_), Some((effect, wait_type))) => Payload::Waiting {
            node_id: effect.id,
            wait_type,
            correlation_key: waits::key_of(effect),
            expires_at: effect.wait.due_at(effect.deadline()),
        },
        (Event::RunCompleted(_), _) => {
            let output = look.output().ok().flatten();
            Payload::Completed {
                goal: entry::goal_of(look),
                answer: output.as_ref().and_then(answer_in),
                result: output.clone(),
                output,
            }
        }
        (Event::RunFailed(_), _) => {
            Payload::Failed { reason: "failed", error: job::error_in(&record.event) }
        }
        (Event::RunHalted(_), _) => {
            Payload::Failed { reason: "halted", error: job::error_in(&record.event) }
        }
        (event, _) => Payload::Data(event.data()),
    }
}

/// Which records.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    cursor: u64,
    limit: Option<usize>,
}

/// A page of records.
#[derive(Debug, Serialize)]
struct Events {
    job_id: RunId,
    #[serde(rename = "events")]
    shown: Vec<Told>,
    next_cursor: Option<Seq>,
}

/// The records after a place, at most so many.
pub(super) fn after<'a>(look: &Look<'a>, place: Seq) -> &'a [std::sync::Arc<Record>] {
    let start = usize::try_from(place.0).unwrap_or(usize::MAX).min(look.records.len());
    &look.records[start..]
}

/// Shows the records of a job, or follows them.
pub(super) async fn list(
    State(door): State<Door>,
    Run(run): Run,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Answer<Response> {
    if i64::try_from(wanted.cursor).is_err() {
        return Err(Problem::bad_request("cursor is beyond every journal"));
    }
    let place = last_seen(&headers)?.unwrap_or(Seq(wanted.cursor));
    if names(&headers, "text/event-stream") {
        return follow(&door, run, place, told_lines).await;
    }
    let limit = wanted.limit.unwrap_or(COMPAT_EVENTS_MAX).clamp(1, COMPAT_EVENTS_MAX);
    let page = door.handle.read(&run, move |look| {
        let rest = after(&look, place);
        let page = &rest[..limit.min(rest.len())];
        Ok(Events {
            job_id: look.state.run_id.clone(),
            shown: page.iter().map(|record| Told::of(&look, record)).collect(),
            next_cursor: page.last().map(|r| r.seq).filter(|_| rest.len() > page.len()),
        })
    });
    let page = page.await.map_err(|e| Problem::from(e).of_run(run.as_str()))?;
    Ok(Json(page).into_response())
}

/// Records for a follower.
fn told_lines(look: Look<'_>, place: Seq) -> Page {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    for record in after(&look, place).iter().take(EVENTS_PAGE_MAX) {
        let told = Told::of(&look, record);
        let text = Text::of(&told).as_str().to_owned();
        bytes += text.len();
        lines.push((record.seq, told.kind, text));
        if bytes >= EVENTS_PAGE_BYTES_MAX {
            break;
        }
    }
    Page {
        lines,
        head: look.state.head.seq,
        state: Status::of(look.state, look.state.last_at).word(),
        ended: look.state.end.is_some(),
    }
}
