//! What committed records say to those who watch: numbers, and spans where somebody collects them.
//!
//! May not know who collects. Invariant: watching changes nothing about a run and never waits; no
//! value of an input or outcome is looked at.

use std::sync::Arc;

use crate::codecs::event::{Event, Record, Status};
use crate::ground::clock::Timestamp;
use crate::ground::id::EffectId;
use crate::machines::replay::state::RunState;
use crate::ports::telemetry::Metrics;

/// Turns committed records into spans.
pub trait Tracer: Send + Sync {
    /// A record is durable; `run` is the fold with it. Must not wait.
    fn committed(&self, run: &RunState, record: &Record);
}

/// What is handed down to everything that has something to tell.
#[derive(Clone, Default)]
pub struct Telemetry {
    /// The numbers.
    pub metrics: Arc<Metrics>,
    /// Who makes spans, if anybody.
    pub tracer: Option<Arc<dyn Tracer>>,
}

impl Telemetry {
    /// A record is durable; `run` is the fold with it.
    pub fn committed(&self, run: &RunState, record: &Record) {
        count(&self.metrics, run, record);
        say(run, record);
        if let Some(tracer) = &self.tracer {
            tracer.committed(run, record);
        }
    }
}

/// One line: which run, which effect, what kind of record. Never what it carries.
fn say(run: &RunState, record: &Record) {
    let (id, seq, event) = (&run.run_id, record.seq.0, record.event.name());
    let effect = match &record.event {
        Event::RunHeld(held) => {
            tracing::warn!(run = %id, seq, event, code = held.reason, "a run is held");
            return;
        }
        Event::EffectRequested(e) => e.effect_id,
        Event::EffectStarted(e) => e.effect_id,
        Event::EffectAttemptFailed(e) => e.effect_id,
        Event::EffectUncertain(e) => e.effect_id,
        Event::EffectResolved(e) => e.effect_id,
        Event::EffectCancelled(e) => e.effect_id,
        _ => {
            tracing::debug!(run = %id, seq, event, "committed");
            return;
        }
    };
    tracing::debug!(run = %id, %effect, seq, event, "committed");
}

fn count(metrics: &Metrics, run: &RunState, record: &Record) {
    match &record.event {
        Event::RunCreated(created) => {
            let who = created.by.split_once(':').map_or(created.by.as_str(), |(who, _)| who);
            let via = if created.parent.is_some() { "parent" } else { who };
            metrics.runs_created.with([via]).one();
        }
        Event::RunHeld(held) if held.reason == "diverged" => metrics.divergences.one(),
        Event::EffectRequested(asked) => metrics.effects_requested.with([&asked.kind]).one(),
        Event::EffectResolved(resolved) => {
            let outcome = match resolved.status {
                Status::Ok => "ok",
                Status::Error => "error",
            };
            effect_ended(metrics, run, record, resolved.effect_id, outcome);
            if resolved.by == "timer" {
                timer_fired(metrics, run, record, resolved.effect_id);
            }
        }
        Event::EffectCancelled(gone) => {
            effect_ended(metrics, run, record, gone.effect_id, "cancelled");
        }
        Event::RunCompleted(_)
        | Event::RunFailed(_)
        | Event::RunHalted(_)
        | Event::RunCancelled(_) => {
            let Some((end, _)) = run.end else { return };
            metrics.runs_ended.with([end.name()]).one();
            metrics.run_duration.with([end.name()]).observe(seconds(run.created_at, record.at));
        }
        _ => {}
    }
}

fn effect_ended(metrics: &Metrics, run: &RunState, record: &Record, id: EffectId, outcome: &str) {
    let Some(effect) = run.effect(id) else { return };
    let labels = [effect.kind.as_str(), outcome];
    metrics.effect_outcomes.with(labels).one();
    metrics.effect_duration.with(labels).observe(seconds(effect.requested_at, record.at));
}

fn timer_fired(metrics: &Metrics, run: &RunState, record: &Record, id: EffectId) {
    metrics.timer_fires.one();
    if let Some(due) = run.effect(id).and_then(|effect| effect.wait.due_at(None)) {
        metrics.timer_late.observe(seconds(due, record.at));
    }
}

/// From one time to another, never less than nothing.
#[allow(clippy::cast_precision_loss, reason = "exact for centuries")]
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.micros().saturating_sub(from.micros()).max(0) as f64 / 1e6
}
