//! `/api/jobs/{run}/trace`: what a job did, step by step.
//!
//! May not read blobs, nor more records than its page has. Invariant: pages follow each other
//! without a gap, and a step stands on the page of the record that asked for it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::super::Door;
use super::super::body::{Query, Run};
use super::super::problem::{Answer, Problem};
use super::events::{Payload, Told, after};
use super::standing::Status;
use super::{entry, job};
use crate::codecs::event::{BlobRef, ErrorInfo, Event, Record};
use crate::codecs::json::Json as Text;
use crate::ground::clock::Timestamp;
use crate::ground::digest::hex;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::ground::limits::{COMPAT_EVENTS_MAX, COMPAT_STEPS_MAX};
use crate::machines::effect::Wait;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::services::runs::Result;
use crate::services::runs::view::Look;

/// One page of what a job did.
#[derive(Debug, Serialize)]
pub(super) struct Trace {
    pub(super) job_id: RunId,
    pub(super) goal: Option<String>,
    pub(super) status: Status,
    pub(super) steps: Vec<Step>,
    pub(super) timeline: Vec<Moment>,
    node_durations: Vec<Took>,
    execution_tree: Tree,
    timeline_segments: Vec<Segment>,
    pub(super) next_cursor: Option<Seq>,
}

/// One effect.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) status: &'static str,
    pub(super) duration_ms: i64,
    queue_ms: i64,
    span_id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    label: Option<String>,
    pub(super) node_id: EffectId,
    state: &'static str,
    result_type: Option<&'static str>,
    pub(super) reason: Option<String>,
    pub(super) attempts: u32,
    worker_id: Option<String>,
    pub(super) start_time: Option<Timestamp>,
    end_time: Option<Timestamp>,
    pub(super) tool_invocation: Invocation,
}

/// What an effect was asked and gave.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Invocation {
    tool_name: String,
    idempotent: bool,
    pub(super) input: Option<Text>,
    pub(super) output: Option<Text>,
    pub(super) error: Option<ErrorInfo>,
    summary: Option<String>,
}

/// One record.
#[derive(Debug, Serialize)]
pub(super) struct Moment {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node_id: Option<EffectId>,
    payload: Payload,
}

/// How long an effect took.
#[derive(Debug, Serialize)]
struct Took {
    node_id: EffectId,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    duration_ms: i64,
}

/// The job and its effects, as spans.
#[derive(Debug, Serialize)]
struct Tree {
    span_id: String,
    parent_id: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    node_id: Option<EffectId>,
    label: Option<String>,
    status: &'static str,
    children: Vec<Self>,
}

/// One attempt that ended, or one wait.
#[derive(Debug, Serialize)]
struct Segment {
    #[serde(rename = "type")]
    kind: String,
    label: String,
    node_id: EffectId,
    start_time: Timestamp,
    end_time: Timestamp,
    duration_ms: i64,
    status: &'static str,
    attempt: u32,
    worker_id: Option<String>,
}

impl Trace {
    /// The page after a record, with at most `limit` steps.
    pub(super) fn of(look: Look<'_>, now: Timestamp, place: Seq, limit: usize) -> Self {
        let rest = after(&look, place);
        let page = &rest[..page_length(rest, limit)];
        let asked = page.iter().filter_map(|record| match &record.event {
            Event::EffectRequested(asked) => look.state.effect(asked.effect_id),
            _ => None,
        });
        let steps: Vec<Step> = asked.map(|effect| Step::of(look, effect, now)).collect();
        let (goal, status) = (entry::goal_of(&look), Status::of(look.state, now));
        let moment = |record: &std::sync::Arc<Record>| {
            let Told { kind, node_id, payload, created_at, .. } = Told::of(&look, record);
            Moment { kind, created_at, node_id, payload }
        };
        Self {
            job_id: look.state.run_id.clone(),
            timeline: page.iter().map(moment).collect(),
            node_durations: steps.iter().map(Step::took).collect(),
            execution_tree: tree(look, goal.clone(), status, &steps),
            timeline_segments: segments(look, page),
            next_cursor: page.last().map(|r| r.seq).filter(|_| rest.len() > page.len()),
            goal,
            status,
            steps,
        }
    }
}

/// How many records a page has whose steps are at most `limit`.
fn page_length(rest: &[std::sync::Arc<Record>], limit: usize) -> usize {
    let mut steps = 0;
    let is_beyond = |record: &std::sync::Arc<Record>| {
        steps += usize::from(matches!(record.event, Event::EffectRequested(_)));
        steps > limit
    };
    let bounded = &rest[..rest.len().min(COMPAT_EVENTS_MAX)];
    bounded.iter().position(is_beyond).unwrap_or(bounded.len())
}

impl Step {
    /// An effect as it stands.
    pub(super) fn of(look: Look<'_>, effect: &Effect, now: Timestamp) -> Self {
        let ended = effect.ended.as_ref().map(|ended| ended.at);
        let until = ended.unwrap_or(now);
        let is_never_started = effect.wait.is_never_started();
        let started = if is_never_started { Some(effect.requested_at) } else { effect.started_at };
        let queued_until = effect.first_started_at.or_else(|| started.filter(|_| is_never_started));
        let invocation = Invocation::of(look, effect);
        let uncertain = effect.uncertain_cause.clone();
        let error = invocation.error.as_ref().map(job::line);
        Self {
            name: name(effect),
            status: word(effect),
            duration_ms: started.map_or(0, |at| millis(at, until)),
            queue_ms: millis(effect.requested_at, queued_until.unwrap_or(until)),
            span_id: hex(&look.state.trace().effect_span(effect.id)),
            kind: effect.kind.clone(),
            label: effect.label.clone(),
            node_id: effect.id,
            state: effect.status.name(),
            result_type: ended.map(|_| effect.status.name()),
            reason: error.or(uncertain.filter(|_| effect.status == EffectStatus::Uncertain)),
            attempts: effect.attempts,
            worker_id: effect.worker.clone(),
            start_time: started,
            end_time: ended,
            tool_invocation: invocation,
        }
    }

    fn took(&self) -> Took {
        Took {
            node_id: self.node_id,
            started_at: self.start_time,
            finished_at: self.end_time,
            duration_ms: self.duration_ms,
        }
    }
}

impl Invocation {
    /// What an effect was asked and gave.
    pub(super) fn of(look: Look<'_>, effect: &Effect) -> Self {
        let (mut input, mut output, mut error) = (None, None, None);
        if let Some(Event::EffectRequested(asked)) = event_at(look, effect.requested_seq) {
            let args = shown(asked.args.as_ref(), asked.args_blob.as_ref());
            input = args.or_else(|| shown(asked.def.as_ref(), asked.def_blob.as_ref()));
        }
        if let Some(ended) = &effect.ended
            && let Some(Event::EffectResolved(done)) = event_at(look, ended.seq)
        {
            output = shown(done.value.as_ref(), done.value_blob.as_ref());
            error.clone_from(&done.error);
            if let (None, Some(seq)) = (&output, done.signal_seq)
                && let Some(Event::SignalReceived(signal)) = event_at(look, seq)
            {
                output = shown(signal.payload.as_ref(), signal.payload_blob.as_ref());
            }
        }
        Self {
            tool_name: effect.agent.clone().unwrap_or_else(|| effect.name.clone()),
            idempotent: effect.policy.idempotent,
            input,
            output,
            error,
            summary: effect.title.clone(),
        }
    }
}

fn event_at(look: Look<'_>, seq: Seq) -> Option<&Event> {
    let at = usize::try_from(seq.0.checked_sub(1)?).ok()?;
    look.records.get(at).map(|record| &record.event)
}

/// A value, or where it is kept.
fn shown(inline: Option<&Text>, blob: Option<&BlobRef>) -> Option<Text> {
    let kept = |blob: &BlobRef| {
        Text::of(&serde_json::json!({ "$blob": blob.digest, "bytes": blob.bytes }))
    };
    blob.map(kept).or_else(|| inline.cloned())
}

/// What people call an effect.
pub(super) fn name(effect: &Effect) -> String {
    match (&effect.title, &effect.label) {
        (Some(title), _) => title.clone(),
        (None, Some(label)) => format!("{} {label}", effect.kind),
        (None, None) => effect.kind.clone(),
    }
}

/// Where an effect stands, in the words of that runtime.
fn word(effect: &Effect) -> &'static str {
    match (effect.status, &effect.wait) {
        (EffectStatus::Ok, _) => "completed",
        (EffectStatus::Error, _) => "failed",
        (EffectStatus::Cancelled, _) => "cancelled",
        (EffectStatus::Uncertain, _) => "uncertain",
        (EffectStatus::Started, Wait::Run(_)) => "waiting",
        (EffectStatus::Started, _) => "running",
        (EffectStatus::Requested, Wait::Outside) => "pending",
        (EffectStatus::Requested, _) => "waiting",
    }
}

fn millis(from: Timestamp, until: Timestamp) -> i64 {
    until.millis().saturating_sub(from.millis()).max(0)
}

fn tree(look: Look<'_>, goal: Option<String>, status: Status, steps: &[Step]) -> Tree {
    let span_id = hex(&look.state.trace().run_span());
    let leaf = |step: &Step| Tree {
        span_id: step.span_id.clone(),
        parent_id: Some(span_id.clone()),
        kind: step.kind.clone(),
        node_id: Some(step.node_id),
        label: Some(step.name.clone()),
        status: step.status,
        children: Vec::new(),
    };
    let children = steps.iter().map(leaf).collect();
    let (kind, node_id) = ("job".to_owned(), None);
    Tree { span_id, parent_id: None, kind, node_id, label: goal, status: status.word(), children }
}

/// The attempts and waits that ended among these records.
fn segments(look: Look<'_>, page: &[std::sync::Arc<Record>]) -> Vec<Segment> {
    let mut begun: std::collections::HashMap<EffectId, Timestamp> =
        std::collections::HashMap::new();
    let mut segments = Vec::new();
    for record in page {
        let (status, attempt) = match &record.event {
            Event::EffectStarted(start) => {
                begun.insert(start.effect_id, record.at);
                continue;
            }
            Event::EffectAttemptFailed(failed) => ("retryable", Some(failed.attempt)),
            Event::EffectResolved(done) if done.error.is_none() => ("ok", None),
            Event::EffectResolved(_) | Event::EffectCancelled(_) => ("failed", None),
            _ => continue,
        };
        let effect = record.event.effect_id().and_then(|id| look.state.effect(id));
        let Some(effect) = effect else { continue };
        let start = begun.get(&effect.id).copied().or(effect.first_started_at);
        let start = start.unwrap_or(effect.requested_at);
        segments.push(Segment {
            kind: effect.kind.clone(),
            label: name(effect),
            node_id: effect.id,
            start_time: start,
            end_time: record.at,
            duration_ms: millis(start, record.at),
            status,
            attempt: attempt.unwrap_or(effect.attempts),
            worker_id: effect.worker.clone(),
        });
    }
    segments
}

/// Which steps.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    cursor: u64,
    limit: Option<usize>,
}

/// Reads a page of what a job did, and something else besides.
pub(super) async fn read<T: Send + 'static>(
    door: &Door,
    run: &RunId,
    wanted: Wanted,
    besides: impl FnOnce(Look<'_>, Trace) -> Result<T> + Send + 'static,
) -> Answer<T> {
    let now = door.handle.runs().clock.now();
    let limit = wanted.limit.unwrap_or(COMPAT_STEPS_MAX).clamp(1, COMPAT_STEPS_MAX);
    let place = Seq(wanted.cursor);
    let read = door.handle.read(run, move |look| besides(look, Trace::of(look, now, place, limit)));
    read.await.map_err(|e| Problem::from(e).of_run(run.as_str()))
}

/// Shows what a job did.
pub(super) async fn show(
    State(door): State<Door>,
    Run(run): Run,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<Trace>> {
    read(&door, &run, wanted, |_, trace| Ok(trace)).await.map(Json)
}
