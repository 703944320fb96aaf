//! What keeps one run from going on: a function of its fold and records, of the time, and of what a
//! daemon's memory knows.
//!
//! May not read files nor look at other runs. Invariant: an open run has a reason, whatever its
//! journal says.

use std::sync::Arc;

use super::code::Code;
use super::memory::{Asks, Hold, Memory, Probing};
use super::reason::{Failure, Reason};
use super::{unblock, words};
use crate::codecs::event::{Event, ParentRef, Record};
use crate::ground::clock::Timestamp;
use crate::ground::id::{RunId, Seq};
use crate::ground::limits::{CLEANUP_TIMEOUT_MS, WHY_LOST_AFTER_MS, WHY_REASONS_MAX};
use crate::machines::effect::Wait;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::replay::facts::{native_state, wake_after};
use crate::machines::replay::state::{End, RunState, cause_of};

/// Failed attempts that are shown.
const FAILURES_SHOWN: usize = 3;

/// A run as it is looked at.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// How commands name it: its id, or its path if it stands alone.
    pub name: &'a str,
    /// Its fold.
    pub state: &'a RunState,
    /// Its records.
    pub records: &'a [Arc<Record>],
    /// The present.
    pub now: Timestamp,
    /// What a daemon knows besides, if there is one.
    pub memory: Option<&'a Memory>,
}

/// Why one run does not go on, without what its child runs add.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The run.
    pub run_id: RunId,
    /// Its state's finer name.
    pub state: &'static str,
    /// Why; empty once it has ended.
    pub reasons: Vec<Reason>,
    /// Reasons that are left out.
    pub omitted: usize,
    /// When time will wake it.
    pub wake_at: Option<Timestamp>,
    /// The effect that it belongs to.
    pub parent: Option<ParentRef>,
    /// How and when it ended.
    pub ended: Option<(End, Timestamp)>,
    /// Whether a daemon knows that nobody is at it.
    pub is_idle: bool,
}

impl Found {
    /// Looks at a run.
    #[must_use]
    pub fn of(seen: Seen<'_>) -> Self {
        let state = seen.state;
        let ended = state.end.map(|(end, seq)| (end, seen.time_of(seq)));
        let (reasons, omitted) = match ended {
            Some(_) => (Vec::new(), 0),
            None => seen.reasons(),
        };
        Self {
            run_id: state.run_id.clone(),
            state: native_state(state),
            reasons,
            omitted,
            wake_at: wake_after(state, seen.now),
            parent: state.parent.clone(),
            ended,
            is_idle: seen.is_idle(),
        }
    }
}

/// Whether something that ought to have happened at `due` is overdue at `now`.
#[must_use]
pub(super) fn is_late(due: Timestamp, now: Timestamp) -> bool {
    due.plus_millis(WHY_LOST_AFTER_MS) <= now
}

impl<'a> Seen<'a> {
    /// The record at a place.
    pub(super) fn record(&self, seq: Seq) -> Option<&'a Arc<Record>> {
        let place = seq.0.checked_sub(1).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.records.get(place))
    }

    /// What an open effect waits for, in words.
    pub(super) fn why_open(&self, effect: &Effect) -> String {
        words::of_effect(self.code_of(effect), effect, self.known(effect), None)
    }

    fn time_of(&self, seq: Seq) -> Timestamp {
        self.record(seq).map_or(self.state.last_at, |record| record.at)
    }

    fn is_served(&self) -> bool {
        self.memory.is_some()
    }

    /// Whether a daemon knows that nobody is at it.
    fn is_idle(&self) -> bool {
        self.memory.is_some_and(|memory| !memory.is_moving)
    }

    /// What can go on now and should have done so at `due`: goes on, or is forgotten.
    fn ready(&self, due: Timestamp) -> Code {
        if self.is_idle() && is_late(due, self.now) { Code::LostWake } else { Code::Runnable }
    }

    /// Reasons about the run, then those about its effects, and how many of these are left out.
    fn reasons(&self) -> (Vec<Reason>, usize) {
        let mut reasons = self.stops();
        // What the run gives up is gone as soon as it goes on; whoever executes is waited for.
        let run = self.state.standing(self.now);
        let mut open: Vec<(Code, &Effect)> = self
            .state
            .open_effects()
            .filter(|effect| effect.status == EffectStatus::Started || !run.gives_up(effect))
            .map(|effect| (self.code_of(effect), effect))
            .collect();
        open.sort_by_key(|(code, effect)| (*code, effect.id));
        let omitted = open.len().saturating_sub(WHY_REASONS_MAX);
        open.truncate(WHY_REASONS_MAX);
        reasons.extend(open.into_iter().map(|(code, effect)| self.of_effect(code, effect)));
        if reasons.is_empty() {
            reasons.push(self.waits_for_nothing());
        }
        reasons.extend(self.unanswered());
        (reasons, omitted)
    }

    /// What stops the run as a whole.
    fn stops(&self) -> Vec<Reason> {
        let state = self.state;
        let since = |is: fn(&Event) -> bool| {
            self.records.iter().rev().find(|record| is(&record.event)).map(|record| record.at)
        };
        let mut reasons = Vec::new();
        let mut add = |code: Code, what: String, hold: &str, since: Option<Timestamp>| {
            let unblock = unblock::of_run(code, self.name, hold, self.is_served());
            reasons.push(Reason { since, ..self.of_run(code, what, unblock) });
        };
        if let Some(case) = self.memory.and_then(|memory| memory.damage.as_ref()) {
            let what = format!("it was set aside: something of it is damaged [{case}]");
            add(Code::Damaged, what, case, Some(state.last_at));
        }
        if state.process.is_none() && state.cancel.is_none() {
            let what = "it has no process: nothing can be executed".to_owned();
            add(Code::NoProcess, what, "", Some(state.created_at));
        }
        if let Some(held) = state.held.as_ref().filter(|_| state.cancel.is_none()) {
            let since = since(|event| matches!(event, Event::RunHeld(_)));
            let error = held.error.as_ref();
            let error = error.map_or(String::new(), |e| format!(": {} {:?}", e.name, e.message));
            let what = format!("it is held: {}{error}", words::of_hold(&held.reason));
            add(Code::of_hold(&held.reason), what, &held.reason, since);
        }
        if let Some(paused) = &state.paused {
            let since = since(|event| matches!(event, Event::RunPaused(_)));
            let effect = paused.effect_id.map_or(String::new(), |id| format!(" for {id}"));
            let what = match paused.reason.as_str() {
                "attempts_exhausted" => format!("it is paused: no attempts are left{effect}"),
                "imported" => format!(
                    "it was imported by {} and may go on elsewhere: resume it only if it does not",
                    paused.by
                ),
                _ => format!("it was paused by {}", paused.by),
            };
            add(Code::Paused, what, "", since);
        }
        if let Some(cancel) = &state.cancel {
            let over = cancel.at.plus_millis(if cancel.now { 0 } else { CLEANUP_TIMEOUT_MS });
            let code = match self.ready(over) {
                Code::LostWake => Code::LostWake,
                _ => Code::Cancelling,
            };
            add(code, words::of_cancel(cancel, self.now), "", Some(cancel.at));
        }
        if self.memory.is_some_and(|memory| memory.is_draining) {
            let what = "its process has returned; what it left open is waited for".to_owned();
            add(Code::Draining, what, "", Some(state.last_at));
        }
        if self.memory.is_some_and(|memory| memory.is_moving) {
            let what = "it is going on at this moment, or is about to".to_owned();
            add(Code::Runnable, what, "", Some(state.last_at));
        }
        reasons
    }

    /// An open run that nothing stops and that waits for nothing.
    fn waits_for_nothing(&self) -> Reason {
        let state = self.state;
        let code = self.ready(state.last_at);
        let has_begun = state.outputs_count > 0 || state.generation > 1;
        let what = match (code, has_begun) {
            (Code::LostWake, _) => {
                "nothing will wake it: its process waits for something that it never asked for, \
                 or a wake-up was lost"
            }
            (_, false) => "it has not begun",
            (_, true) => "it can go on: nothing that it asked for is open",
        };
        let unblock = unblock::of_run(code, self.name, "", self.is_served());
        let reason = self.of_run(code, what.to_owned(), unblock);
        Reason { since: Some(state.last_at), ..reason }
    }

    /// Whether its process may not have heard of everything: without a daemon nobody knows, for a
    /// turn may put out nothing.
    fn unanswered(&self) -> Option<Reason> {
        let state = self.state;
        let is_stopped = state.held.is_some() || state.paused.is_some() || state.cancel.is_some();
        if self.is_served() || is_stopped || state.open.is_empty() {
            return None;
        }
        let answered = self.records.iter().rev().find_map(|record| cause_of(&record.event))?;
        let newer = self.records.iter().rev().take_while(|record| record.seq > answered);
        let ends = |record: &&Arc<Record>| {
            matches!(record.event, Event::EffectResolved(_) | Event::EffectCancelled(_))
        };
        let input = newer.filter(ends).last()?;
        let what = format!("its process may not have heard of record {} yet", input.seq);
        let unblock = unblock::of_run(Code::Runnable, self.name, "", false);
        let reason = self.of_run(Code::Runnable, what, unblock);
        Some(Reason { since: Some(input.at), is_guess: true, ..reason })
    }

    /// Since when something could be done about an effect that has not ended.
    fn due_since(&self, effect: &Effect) -> Option<Timestamp> {
        let state = self.state;
        if state.held.is_some() {
            return None;
        }
        if state.immediate.contains(&effect.id) || state.suspects.contains(&effect.id) {
            return Some(effect.requested_at);
        }
        match &effect.wait {
            Wait::Signal(facts) => {
                let takes = |key: Option<&str>, name: &str| facts.takes(name, key);
                let met =
                    state.signals.iter().find(|s| takes(s.correlation_key.as_deref(), &s.name));
                met.map(|signal| self.time_of(signal.seq))
            }
            Wait::Run(_) if effect.status == EffectStatus::Requested => Some(effect.requested_at),
            _ => None,
        }
        .or_else(|| effect.due_at().filter(|due| *due <= self.now))
    }

    fn code_of(&self, effect: &Effect) -> Code {
        if effect.status == EffectStatus::Uncertain {
            return Code::Uncertain;
        }
        if let Some(Hold::Key { .. }) = self.hold(effect) {
            return Code::HeldKey;
        }
        if let Some(due) = self.due_since(effect) {
            return self.ready(due);
        }
        match (&effect.wait, effect.status) {
            (Wait::Run(_), _) => Code::WaitingChild,
            (Wait::Breakpoint(_), _) => Code::WaitingPerson,
            (Wait::Sleep { .. }, _) => Code::WaitingTimer,
            (Wait::Signal(_), _) => Code::WaitingSignal,
            (_, EffectStatus::Started) => Code::Executing,
            _ => match self.hold(effect) {
                Some(Hold::Limit { .. }) => Code::HeldLimit,
                Some(Hold::Key { .. }) => Code::HeldKey,
                Some(Hold::Policy { .. }) => Code::HeldPolicy,
                None if self.is_delayed(effect) => Code::Backoff,
                None => Code::WaitingWorker,
            },
        }
    }

    fn is_delayed(&self, effect: &Effect) -> bool {
        let is_hurried = self.memory.is_some_and(|memory| memory.hurried.contains(&effect.id));
        effect.delayed_until().is_some_and(|at| at > self.now) && !is_hurried
    }

    fn hold(&self, effect: &Effect) -> Option<&'a Hold> {
        self.memory?.holds.get(&effect.id)
    }

    fn probing(&self, effect: &Effect) -> Option<Probing> {
        self.memory?.probes.get(&effect.id).copied()
    }

    /// What memory knows of an effect.
    fn known(&self, effect: &Effect) -> (Option<&'a Hold>, Option<Probing>) {
        (self.hold(effect), self.probing(effect))
    }

    /// When the outside is asked about an effect.
    fn asked_at(&self, effect: &Effect) -> Option<Timestamp> {
        match self.probing(effect)?.next {
            Asks::At(at) => Some(at),
            Asks::Now | Asks::Never => None,
        }
    }

    fn of_run(&self, code: Code, what: String, unblock: Vec<String>) -> Reason {
        Reason::of_run(code, &self.state.run_id, what, unblock)
    }

    fn of_effect(&self, code: Code, effect: &Effect) -> Reason {
        let is_served = self.is_served();
        let hold = self.hold(effect);
        let workers_seen = (code == Code::WaitingWorker)
            .then(|| self.memory.map(|m| m.workers.get(&effect.kind).copied().unwrap_or(0)))
            .flatten();
        let unblock = unblock::of_effect(code, self.name, effect, hold, is_served);
        let is_child = code == Code::WaitingChild;
        let has_started = effect.epoch.0 > 0;
        let waits = match hold {
            Some(Hold::Limit { until, .. }) => *until,
            _ => effect.delayed_until().filter(|_| code == Code::Backoff),
        };
        let mut what = words::of_effect(code, effect, self.known(effect), workers_seen);
        if let Some(said) = self.memory.and_then(|memory| memory.progress.get(&effect.id)) {
            what = format!("{what} ({said})");
        }
        Reason {
            effect_id: Some(effect.id),
            kind: Some(effect.kind.clone()),
            since: Some(self.time_of(effect.seq)),
            held_by: holder(effect, hold),
            epoch: has_started.then_some(effect.epoch),
            lease_until: self.memory.and_then(|memory| memory.leases.get(&effect.id)).copied(),
            attempts: has_started.then_some(effect.attempts),
            last_failures: failures(effect),
            next_at: waits.or_else(|| self.asked_at(effect)).or_else(|| effect.due_at()),
            workers_seen,
            child_run_id: effect.target.as_ref().filter(|_| is_child).and_then(|c| c.parse().ok()),
            ..self.of_run(code, what, unblock)
        }
    }
}

fn holder(effect: &Effect, hold: Option<&Hold>) -> Option<String> {
    match hold {
        Some(Hold::Limit { holder, .. }) => holder.as_ref().map(ToString::to_string),
        Some(Hold::Key { holder, .. }) => Some(holder.to_string()),
        _ => effect.worker.clone().filter(|_| effect.status != EffectStatus::Requested),
    }
}

/// The last failed attempts, newest first.
fn failures(effect: &Effect) -> Vec<Failure> {
    effect.failures.last.iter().rev().take(FAILURES_SHOWN).map(Failure::from).collect()
}
