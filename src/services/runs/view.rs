//! What a run looks like from outside: states, reasons, pending work, events.
//!
//! May not print. Invariant: a view is a function of verified records and their fold; names and
//! shapes here are what doors publish.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::codecs::event::{ErrorInfo, Event, Payload, Record, Status};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Seq};
use crate::machines::effect::Wait;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::replay::check::Divergence;
pub use crate::machines::replay::facts::{native_state, state_name};
use crate::machines::replay::state::RunState;
use crate::shells::run_dir::dir::RunDir;

use super::Result;
use super::children::Ended;
use super::open::{OpenRun, SeenRun, record_at, value_of};

/// A run as a view sees it, owned or not.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// Its directory.
    pub dir: &'a RunDir,
    /// Its records.
    pub records: &'a [Arc<Record>],
    /// Their fold.
    pub state: &'a RunState,
}

impl Look<'_> {
    /// How the run ended, for its parent; nothing while it is open.
    pub fn how_it_ended(&self) -> Result<Option<Ended>> {
        let Some((end, _)) = self.state.end else { return Ok(None) };
        let error = self.records.iter().rev().find_map(|r| match &r.event {
            Event::RunFailed(failed) => Some(failed.error.clone()),
            _ => None,
        });
        let (output, path) = (self.output()?, self.dir.path().to_owned());
        Ok(Some(Ended { end, output, error, path }))
    }

    /// The value behind a payload.
    pub fn value(&self, payload: &Payload) -> Result<Json> {
        value_of(self.dir, payload)
    }

    /// The output of a completed run.
    pub fn output(&self) -> Result<Option<Json>> {
        let completed = self.records.iter().rev().find_map(|r| match &r.event {
            Event::RunCompleted(c) => Some(c),
            _ => None,
        });
        let payload =
            completed.and_then(|c| Payload::join(c.output.as_ref(), c.output_blob.as_ref()));
        payload.map(|p| value_of(self.dir, &p)).transpose()
    }
}

impl OpenRun {
    /// For views.
    #[must_use]
    pub fn look(&self) -> Look<'_> {
        Look { dir: &self.dir, records: self.records(), state: self.state() }
    }
}

impl SeenRun {
    /// For views.
    #[must_use]
    pub fn look(&self) -> Look<'_> {
        Look { dir: &self.dir, records: &self.records, state: &self.state }
    }
}

/// What a parked run waits for: `breakpoint`, `timer`, `signal`, `child`, `uncertain`, `effects`;
/// of a held one, why.
#[must_use]
pub fn reasons(state: &RunState) -> Vec<String> {
    if let Some(held) = &state.held {
        return vec![held.reason.clone()];
    }
    if let Some(paused) = &state.paused {
        return vec![paused.reason.clone()];
    }
    let mut reasons: Vec<String> = Vec::new();
    for effect in state.open_effects() {
        let reason = match (&effect.wait, effect.status) {
            (_, EffectStatus::Uncertain) => "uncertain",
            (Wait::Breakpoint(_), _) => "breakpoint",
            (Wait::Sleep { .. }, _) => "timer",
            (Wait::Signal(_), _) => "signal",
            (Wait::Run(_), _) => "child",
            _ => "effects",
        };
        if !reasons.iter().any(|r| r == reason) {
            reasons.push(reason.to_owned());
        }
    }
    reasons
}

/// How many effects of each kind have no outcome.
#[must_use]
pub fn pending_by_kind(state: &RunState) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for effect in state.open_effects() {
        *counts.entry(effect.kind.as_str()).or_insert(0) += 1;
    }
    counts
}

/// Why an iterate stopped, in the words of the public runtime.
#[must_use]
pub fn waiting_reason(state: &RunState) -> String {
    let kinds: Vec<&str> = pending_by_kind(state).into_keys().collect();
    match kinds.as_slice() {
        [] => "no-pending-effects".to_owned(),
        ["breakpoint"] => "breakpoint-waiting".to_owned(),
        ["sleep"] => "sleep-waiting".to_owned(),
        [kind] => format!("{kind}-pending"),
        kinds => format!("mixed-pending:{}", kinds.join(",")),
    }
}

/// What people call an effect: its label, unless that only repeats the kind and there is a title.
#[must_use]
pub fn display_name(action: &Value) -> &str {
    let text = |name: &str| action[name].as_str();
    let label = text("label").filter(|label| Some(*label) != text("kind"));
    label.or_else(|| text("title")).or_else(|| text("label")).unwrap_or("")
}

/// Breakpoints whose timeout has passed and that only mark it.
#[must_use]
pub fn overdue(state: &RunState, now: Timestamp) -> Vec<String> {
    let late = |e: &&Effect| {
        e.policy.total_timeout_ms.is_some_and(|ms| {
            e.requested_at.plus_millis(i64::try_from(ms).unwrap_or(i64::MAX)) <= now
        })
    };
    state.open_effects().filter(late).map(|e| e.id.to_string()).collect()
}

/// What a task prints to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Its output.
    Stdout,
    /// Its errors.
    Stderr,
}

impl Stream {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl Look<'_> {
    /// Run-relative file of what a task printed, or prints to while it is executed here. Whether it
    /// is there shows when it is opened.
    #[must_use]
    pub fn log(&self, effect: &Effect, stream: Stream) -> String {
        let ended = effect.ended.as_ref().and_then(|ended| record_at(self.records, ended.seq));
        let kept = match ended.map(|record| &record.event) {
            Some(Event::EffectResolved(done)) => match stream {
                Stream::Stdout => done.stdout.clone(),
                Stream::Stderr => done.stderr.clone(),
            },
            _ => None,
        };
        kept.unwrap_or_else(|| format!("tasks/{}/{}.log", effect.id, stream.name()))
    }

    /// Whether every value of an effect can be had.
    pub fn intact(&self, effect: &Effect) -> super::Result<()> {
        let records = [Some(effect.requested_seq), effect.ended.as_ref().map(|e| e.seq)];
        for seq in records.into_iter().flatten() {
            for blob in record_at(self.records, seq).iter().flat_map(|r| r.event.blobs()) {
                self.dir.get_blob(blob)?;
            }
        }
        Ok(())
    }

    /// The definition of an effect, if its blob can be had.
    #[must_use]
    pub fn definition(&self, effect: &Effect) -> Option<Json> {
        self.asked(effect, |e| Payload::join(e.def.as_ref(), e.def_blob.as_ref()))
    }

    /// The arguments of an effect, if its blob can be had.
    #[must_use]
    pub fn args(&self, effect: &Effect) -> Option<Json> {
        self.asked(effect, |e| Payload::join(e.args.as_ref(), e.args_blob.as_ref()))
    }

    fn asked(
        &self,
        effect: &Effect,
        pick: impl Fn(&crate::codecs::event::EffectRequested) -> Option<Payload>,
    ) -> Option<Json> {
        match &record_at(self.records, effect.requested_seq)?.event {
            Event::EffectRequested(asked) => value_of(self.dir, &pick(asked)?).ok(),
            _ => None,
        }
    }

    /// The outcome of an effect.
    #[must_use]
    pub fn outcome(&self, effect: &Effect) -> Option<Outcome> {
        let seq = effect.ended.as_ref()?.seq;
        match &record_at(self.records, seq)?.event {
            Event::EffectResolved(done) => {
                let payload = Payload::join(done.value.as_ref(), done.value_blob.as_ref())
                    .or_else(|| self.signal_payload(done.signal_seq?));
                Some(Outcome::Resolved {
                    effect_id: effect.id,
                    status: done.status,
                    value: payload.and_then(|p| value_of(self.dir, &p).ok()),
                    error: done.error.clone(),
                    started_at: done.started_at.clone(),
                    finished_at: done.finished_at.clone(),
                    by: done.by.clone(),
                    seq,
                })
            }
            Event::EffectCancelled(gone) => Some(Outcome::Cancelled {
                effect_id: effect.id,
                status: "cancelled",
                reason: gone.reason.clone(),
                outcome: json!(gone.outcome),
                by: gone.by.clone(),
                seq,
            }),
            _ => None,
        }
    }

    fn signal_payload(&self, seq: Seq) -> Option<Payload> {
        match &record_at(self.records, seq)?.event {
            Event::SignalReceived(s) => Payload::join(s.payload.as_ref(), s.payload_blob.as_ref()),
            _ => None,
        }
    }

    /// What someone outside could do now, in order of request.
    #[must_use]
    pub fn next_actions(&self) -> Vec<Value> {
        let count = self.state.open.len();
        self.state.open_effects().map(|effect| self.next_action(effect, count)).collect()
    }

    fn next_action(&self, effect: &Effect, count: usize) -> Value {
        let id = effect.id;
        let mut hints = json!({ "pendingCount": count });
        if let Wait::Sleep { target } = &effect.wait {
            hints["sleepUntilEpochMs"] = json!(target.millis());
        }
        let task_id = effect.task_id.as_deref().unwrap_or(&effect.name);
        let mut action = json!({
            "effectId": id, "invocationKey": effect.key, "kind": effect.kind,
            "label": effect.label.as_ref().or(effect.title.as_ref()), "labels": effect.labels,
            "taskDef": self.definition(effect), "args": self.args(effect), "taskId": task_id,
            "stepId": effect.key, "taskDefRef": format!("tasks/{id}/task.json"),
            "inputsRef": format!("tasks/{id}/inputs.json"), "requestedAt": effect.requested_at,
            "schedulerHints": hints, "status": effect.status.name(), "epoch": effect.epoch,
            "title": effect.title,
        });
        if effect.wait.is_postable() {
            return action;
        }
        for derived in ["taskDefRef", "inputsRef"] {
            action.as_object_mut().map(|a| a.remove(derived));
        }
        if let Some(child) = &effect.target {
            action["childRunId"] = json!(child);
        }
        action
    }

    /// One effect of a list.
    #[must_use]
    pub fn task(&self, effect: &Effect) -> Value {
        let id = effect.id;
        let status = match effect.status {
            EffectStatus::Ok => "resolved_ok",
            EffectStatus::Error => "resolved_error",
            other => other.name(),
        };
        let ended = effect.ended.as_ref();
        let result = ended.map(|_| format!("tasks/{id}/result.json"));
        let (stdout, stderr) = match ended.and_then(|e| record_at(self.records, e.seq)) {
            Some(record) => match &record.event {
                Event::EffectResolved(done) => (done.stdout.clone(), done.stderr.clone()),
                _ => (None, None),
            },
            None => (None, None),
        };
        json!({
            "effectId": id, "taskId": effect.task_id.as_deref().unwrap_or(&effect.name),
            "stepId": effect.key, "invocationKey": effect.key, "status": status,
            "kind": effect.kind, "label": effect.label.as_ref().or(effect.title.as_ref()),
            "labels": effect.labels, "taskDefRef": format!("tasks/{id}/task.json"),
            "inputsRef": format!("tasks/{id}/inputs.json"), "resultRef": result,
            "stdoutRef": stdout, "stderrRef": stderr, "requestedAt": effect.requested_at,
            "resolvedAt": ended.map(|e| e.at), "attempts": effect.attempts,
            "epoch": effect.epoch, "leasedBy": effect.worker.as_ref().filter(|_| {
                effect.status == EffectStatus::Started
            }),
            "title": effect.title,
        })
    }
}

/// How an effect ended. The value keeps its text.
#[derive(Debug, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Outcome {
    /// By somebody's post.
    Resolved {
        /// The effect.
        effect_id: EffectId,
        /// How.
        status: Status,
        /// The value.
        value: Option<Json>,
        /// The error.
        error: Option<ErrorInfo>,
        /// When the work began, in the poster's words.
        started_at: Option<String>,
        /// When it ended.
        finished_at: Option<String>,
        /// Who posted it.
        by: String,
        /// The record.
        seq: Seq,
    },
    /// It was given up.
    Cancelled {
        /// The effect.
        effect_id: EffectId,
        /// `cancelled`.
        status: &'static str,
        /// Why.
        reason: String,
        /// What is known of the outside.
        outcome: Value,
        /// Who gave it up.
        by: String,
        /// The record.
        seq: Seq,
    },
}

/// One record, for lists of events.
#[must_use]
pub fn event(record: &Record) -> Value {
    json!({
        "seq": record.seq, "type": record.event.name(), "recordedAt": record.at,
        "data": record.event.data(), "sum": record.sum,
    })
}

/// The report of a divergence.
#[must_use]
pub fn divergence_report(dir: &RunDir, state: &RunState, found: &Divergence) -> Value {
    let mut report = serde_json::to_value(found).unwrap_or_default();
    report["runId"] = json!(dir.id());
    report["turn"] = json!(found.cause);
    report["pinned"] = json!({ "recorded": state.process.as_ref().map(|p| p.digest) });
    report
}
