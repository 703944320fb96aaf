//! Slots at work: what the gate asks limits, and what limits hear of starts.
//!
//! May not touch a run nor wait for more than a question of the index's thread. Invariant: whoever
//! was let in has their slots until a durable record says that their start is over, or until it is
//! given up before it was made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::codecs::event::{Event, Record};
use crate::ground::clock::{Clock, Timestamp};
use crate::ground::id::{EffectId, EffectName, Epoch, RunId};
use crate::ground::limits::LIMIT_NAMES_SHOWN_MAX;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::limits::{Bucket, Called, Demand, Held, Level, Limit, Limits, Want};
use crate::machines::ready::{PRIORITY_DEFAULT, Ready};
use crate::machines::replay::state::RunState;
use crate::ports::telemetry::Metrics;
use crate::services::why::memory::Hold;
use crate::shells::store::EffectRow;

use super::limits::Full;

/// The limits of a daemon. Cheap to clone: the index's thread asks as well.
#[derive(Clone)]
pub(super) struct Slots {
    limits: Arc<Mutex<Limits>>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

fn demand(effect: &Effect) -> Arc<Demand> {
    Arc::new(Demand::new(&effect.kind, &effect.policy.limit_keys))
}

/// The start before this one, as far as it matters.
const fn before(epoch: Epoch) -> Epoch {
    Epoch(epoch.0.saturating_sub(1))
}

impl Slots {
    /// With these limits set, and what the index knows of starts that are not over.
    pub(super) fn new(
        set: BTreeMap<Bucket, Limit>,
        started: &[EffectRow],
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let mut limits = Limits::default();
        let now_ms = clock.passed_millis();
        for (place, limit) in set {
            limits.set(place, limit, now_ms);
        }
        for EffectRow { run_id, facts } in started {
            let demand = Arc::new(Demand::new(&facts.kind, &facts.limit_keys));
            let (holder, after) = (EffectName::of(run_id, facts.effect_id), before(facts.epoch));
            match facts.status {
                // One that was never started has no slot.
                EffectStatus::Uncertain if facts.epoch == Epoch(0) => {}
                EffectStatus::Uncertain => limits.count_uncertain(&holder, &demand, after),
                _ => limits.count(&holder, &demand, after),
            }
        }
        Self { limits: Arc::new(Mutex::new(limits)), clock, metrics }
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        self.clock.passed_millis()
    }

    fn want(&self, after: Epoch, since: Timestamp, priority: u32, now: Timestamp) -> Want {
        let waited = now.micros().saturating_sub(since.micros()).max(0).unsigned_abs() / 1_000;
        Want { after, since, since_ms: self.now_ms().saturating_sub(waited), priority }
    }

    fn want_of(&self, effect: &Effect, now: Timestamp) -> Want {
        let priority = effect.policy.priority.unwrap_or(PRIORITY_DEFAULT);
        self.want(effect.epoch, effect.ready_at().unwrap_or(now), priority, now)
    }

    /// Whether something that wants this could start.
    pub(super) fn admits(&self, demand: &Demand) -> bool {
        self.limits().admits(demand, self.now_ms())
    }

    /// Takes the slots of an effect that is about to be started for a claim.
    pub(super) fn take_ready(&self, ready: &Ready, now: Timestamp) -> bool {
        let want = self.want(ready.after, ready.at, ready.priority, now);
        let holder = EffectName::of(&ready.run_id, ready.effect_id);
        self.limits().take(&holder, &ready.demand, want, self.now_ms()).is_ok()
    }

    /// Takes the slots of an effect that is about to be started.
    pub(super) fn take(&self, run: &RunId, effect: &Effect, now: Timestamp) -> Result<(), Hold> {
        let want = self.want_of(effect, now);
        let (holder, demand, now_ms) =
            (EffectName::of(run, effect.id), demand(effect), self.now_ms());
        let taken = self.limits().take(&holder, &demand, want, now_ms);
        taken.map_err(|held| self.hold(&held, now))
    }

    /// The same for an effect that waits for its turn if it has to.
    pub(super) fn take_or_wait(&self, run: &RunId, effect: &Effect, now: Timestamp) -> bool {
        let want = self.want_of(effect, now);
        let (holder, demand, now_ms) =
            (EffectName::of(run, effect.id), demand(effect), self.now_ms());
        self.limits().take_or_wait(&holder, &demand, want, now_ms).is_ok()
    }

    /// Whether an effect waits for its turn.
    pub(super) fn waits(&self, run: &RunId, effect: EffectId) -> bool {
        self.limits().waits(&EffectName::of(run, effect))
    }

    /// The effects of a run that wait for their turn, or have slots and are not started yet.
    pub(super) fn unstarted_of(&self, run: &RunId) -> Vec<EffectId> {
        self.limits().unstarted_of(run)
    }

    /// An effect was started.
    pub(super) fn began(&self, run: &RunId, effect: EffectId) {
        if let Some((scope, since)) = self.limits().began(&EffectName::of(run, effect)) {
            let micros = self.clock.now().micros().saturating_sub(since.micros()).max(0);
            let waited = std::time::Duration::from_micros(micros.unsigned_abs());
            self.metrics.limit_wait.with([scope.name()]).observe(waited.as_secs_f64());
        }
    }

    /// A start is not made after all.
    pub(super) fn give_back(&self, run: &RunId, effect: EffectId) {
        let now_ms = self.now_ms();
        self.limits().give_back(&EffectName::of(run, effect), now_ms);
    }

    /// The same for a start that was recorded, and whose record was not written.
    pub(super) fn lose(&self, run: &RunId, effect: EffectId) {
        let now_ms = self.now_ms();
        self.limits().release(&EffectName::of(run, effect), now_ms);
    }

    /// Nothing of a run will be started for now.
    pub(super) fn give_back_all(&self, run: &RunId) {
        for effect in self.unstarted_of(run) {
            self.give_back(run, effect);
        }
    }

    /// A record of a run is durable, and folded already.
    pub(super) fn committed(&self, run: &RunId, state: &RunState, record: &Record) {
        let now_ms = self.now_ms();
        match &record.event {
            Event::EffectStarted(start) => {
                if let Some(effect) = state.effect(start.effect_id) {
                    let (holder, demand) = (EffectName::of(run, effect.id), demand(effect));
                    self.limits().count(&holder, &demand, before(start.epoch));
                }
            }
            Event::EffectAttemptFailed(over) => {
                self.limits().settle(&EffectName::of(run, over.effect_id), over.epoch, now_ms);
            }
            Event::EffectUncertain(over) => {
                self.limits().unsure(&EffectName::of(run, over.effect_id), over.epoch, now_ms);
            }
            Event::EffectResolved(over) => {
                self.limits().release(&EffectName::of(run, over.effect_id), now_ms);
            }
            Event::EffectCancelled(over) => {
                self.limits().release(&EffectName::of(run, over.effect_id), now_ms);
            }
            _ => {}
        }
    }

    /// The names of the limits under which a start of an effect takes a place.
    pub(super) fn names(&self, effect: &Effect) -> Vec<String> {
        self.limits().names(&demand(effect))
    }

    /// Gives what is free to those whose turn it is.
    pub(super) fn call(&self) -> Called {
        let now_ms = self.now_ms();
        self.limits().call(now_ms)
    }

    /// When time alone gives room to somebody.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.limits().next_ms()
    }

    /// What keeps the effects of a run from starting that could start otherwise.
    pub(super) fn holds_of(&self, state: &RunState, now: Timestamp) -> BTreeMap<EffectId, Hold> {
        let run = state.standing(now);
        let could = |effect: &&Effect| {
            effect.status == EffectStatus::Requested
                && !effect.wait.is_never_started()
                && !run.gives_up(effect)
                && effect.delayed_until().is_none_or(|until| until <= now)
        };
        let held = |effect: &Effect| {
            let limits = self.limits();
            let has_slots = limits.has_slots(&EffectName::of(&state.run_id, effect.id));
            let held = limits.ask(&demand(effect), self.now_ms()).err();
            held.filter(|_| !has_slots).map(|held| (effect.id, self.hold(&held, now)))
        };
        state.open_effects().filter(could).filter_map(held).collect()
    }

    fn hold(&self, held: &Held, now: Timestamp) -> Hold {
        let holder = held.holder.as_ref().filter(|_| held.until_ms.is_none());
        Hold::Limit {
            limit: held.limit.clone(),
            bucket: held.bucket.clone(),
            holder: holder.cloned(),
            until: self.until(held, now),
        }
    }

    /// Sets a limit from now on.
    pub(super) fn set(&self, place: Bucket, limit: Limit) {
        let now_ms = self.now_ms();
        if limit == Limit::default() {
            let labels = [place.scope.name(), place.name.as_str()];
            self.metrics.limit_in_use.with(labels).set(0);
            self.metrics.limit_waiting.with(labels).set(0);
        }
        self.limits().set(place, limit, now_ms);
    }

    /// How much of each limit is used.
    pub(super) fn levels(&self) -> Vec<Level> {
        self.limits().levels(LIMIT_NAMES_SHOWN_MAX, self.now_ms())
    }

    /// The limit that keeps what wants this from starting.
    pub(super) fn limit_that_holds(&self, demand: &Demand) -> Option<Bucket> {
        self.limits().ask(demand, self.now_ms()).err().map(|held| held.limit)
    }

    /// What starts nothing at the moment, for people.
    pub(super) fn full(&self, held: &Held, now: Timestamp) -> Full {
        Full { name: held.bucket.name.clone(), until: self.until(held, now) }
    }

    fn until(&self, held: &Held, now: Timestamp) -> Option<Timestamp> {
        held.until_ms.map(|at| now.later_by(at.saturating_sub(self.now_ms())))
    }
}
