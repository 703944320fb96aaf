//! `/api/jobs/{run}`: a job as it stands.
//!
//! May not read more than the run's fold, its inputs and its end. Invariant: a completed job has
//! its output.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::super::Door;
use super::super::body::Run;
use super::super::problem::{Answer, Problem};
use super::entry;
use super::standing::{Status, Waited};
use super::waits;
use crate::codecs::event::{ErrorInfo, Event};
use crate::codecs::json::Json as Text;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId};
use crate::services::runs::Result;
use crate::services::runs::view::Look;

/// A job.
#[derive(Debug, Serialize)]
pub(super) struct Job {
    id: RunId,
    run_id: RunId,
    agent_id: String,
    goal: Option<String>,
    pub(super) status: Status,
    /// The last effect.
    cursor: Option<EffectId>,
    retry_count: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
    output: Option<Text>,
    answer: Option<Text>,
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_correlation_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_node_id: Option<EffectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_requested_at: Option<Timestamp>,
}

impl Job {
    /// The job that a run is.
    pub(super) fn of(look: Look<'_>, now: Timestamp) -> Result<Self> {
        let state = look.state;
        let status = Status::of(state, now);
        let waited = Waited::of(state, status);
        let node = waited.as_ref().and_then(|waited| waited.node);
        let output = look.output()?;
        Ok(Self {
            id: state.run_id.clone(),
            run_id: state.run_id.clone(),
            agent_id: entry::agent_of(state).to_owned(),
            goal: entry::goal_of(&look),
            status,
            cursor: state.effects.last_key_value().map(|(id, _)| *id),
            retry_count: state.effects.values().map(|e| e.attempts.saturating_sub(1)).sum(),
            created_at: state.created_at,
            updated_at: state.last_at,
            answer: output.as_ref().and_then(answer_in),
            output,
            error: error_of(&look),
            wait_correlation_key: node.and_then(|id| waits::key_of(state.effect(id)?)),
            wait_node_id: node,
            wait_reason: waited.map(|waited| waited.reason),
            cancel_requested_at: state.cancel.as_ref().map(|cancel| cancel.at),
        })
    }

    /// The agent that it was given to; empty for other runs.
    pub(super) fn agent(&self) -> &str {
        &self.agent_id
    }

    /// When it began.
    pub(super) const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// What it waits for, in a word.
    pub(super) fn wait_reason(&self) -> Option<&str> {
        self.wait_reason.as_deref()
    }

    /// Why it did not complete.
    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Its answer, or its whole output.
    pub(super) fn shown(&self) -> Option<&Text> {
        self.answer.as_ref().or(self.output.as_ref())
    }

    /// When it last went on, and the effect that it had come to.
    pub(super) const fn progress(&self) -> (Timestamp, Option<EffectId>) {
        (self.updated_at, self.cursor)
    }
}

/// The answer in an output: its member of that name, or the whole if it is a text.
pub(super) fn answer_in(output: &Text) -> Option<Text> {
    #[derive(serde::Deserialize)]
    struct Output {
        answer: Option<Text>,
    }
    match output.read::<Output>() {
        Ok(output) => output.answer,
        Err(_) => output.read::<String>().is_ok().then(|| output.clone()),
    }
}

/// Why a run failed or was halted, in a line.
pub(super) fn error_of(look: &Look<'_>) -> Option<String> {
    let (_, seq) = look.state.end?;
    let end = look.records.iter().rev().find(|record| record.seq == seq)?;
    error_in(&end.event)
}

/// Why a run ended that did not complete.
pub(super) fn error_in(event: &Event) -> Option<String> {
    match event {
        Event::RunFailed(failed) => Some(line(&failed.error)),
        Event::RunHalted(halted) => Some(format!("halted: {}", halted.reason)),
        Event::RunCancelled(gone) => gone.error.as_ref().map(line),
        _ => None,
    }
}

/// An error in a line.
pub(super) fn line(error: &ErrorInfo) -> String {
    format!("{}: {}", error.name, error.message)
}

/// A job as it stands now.
pub(super) async fn read(door: &Door, run: &RunId) -> Answer<Job> {
    let now = door.handle.runs().clock.now();
    let job = door.handle.read(run, move |look| Job::of(look, now)).await;
    job.map_err(|e| Problem::from(e).of_run(run.as_str()))
}

/// Shows a job.
pub(super) async fn show(State(door): State<Door>, Run(run): Run) -> Answer<Json<Job>> {
    read(&door, &run).await.map(Json)
}
