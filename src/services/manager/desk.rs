//! The desk: which effects are executed in this daemon, which wait for a place, which are held.
//!
//! May not touch a run. Invariant: an effect stands here once at most, and a kind never has more
//! at work than it has places.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Epoch, RunId};
use crate::machines::limits::{Bucket, Limit, Scope};
use crate::services::executor::{Registry, StopWhy, Stopper};

/// Waiting this long is worth as much as one step of priority.
const STEP_MS: i64 = 6_000;
/// Priority of an effect that says nothing about it.
const PRIORITY_DEFAULT: i64 = 500;

/// What is known of the effects of kinds that are executed here.
pub(super) struct Desk {
    pub(super) registry: Registry,
    /// Who starts effects, as it stands in records: no other daemon has this name.
    pub(super) worker: String,
    places: HashMap<RunId, BTreeMap<EffectId, Place>>,
    kinds: HashMap<String, Slots>,
    /// Runs with an effect whose turn has come.
    called: VecDeque<RunId>,
    /// Attempts that end with this daemon.
    mortal: usize,
}

/// Where an effect stands.
pub(super) enum Place {
    /// It waits for others of its kind.
    Waiting(Waiter),
    /// It has a place, and is started when its run is here and stands still.
    Called(String),
    /// It is at work.
    Working(Work),
    /// Configuration keeps it from starting.
    Held {
        /// Why.
        why: String,
        /// The line that would let it start.
        allow: String,
    },
}

/// An attempt at work.
pub(super) struct Work {
    pub(super) kind: String,
    pub(super) epoch: Epoch,
    pub(super) stopper: Arc<Stopper>,
    /// It goes on when the daemon ends.
    pub(super) outlives: bool,
}

/// Somebody in the queue of a kind, in the order in which they are called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiter {
    /// Smaller with higher priority and with longer waiting.
    rank: i64,
    ready_at: Timestamp,
    run: RunId,
    effect: EffectId,
    kind: String,
}

impl Waiter {
    pub(super) fn new(
        run: &RunId,
        effect: EffectId,
        kind: &str,
        priority: Option<u32>,
        ready_at: Timestamp,
    ) -> Self {
        // Everybody's claim grows alike, so that it never has to be computed anew.
        let rank = ready_at.millis() / STEP_MS - priority.map_or(PRIORITY_DEFAULT, i64::from);
        Self { rank, ready_at, run: run.clone(), effect, kind: kind.to_owned() }
    }
}

/// The places of a kind.
#[derive(Default)]
struct Slots {
    /// How many there are; nothing: as many as are wanted.
    most: Option<u64>,
    used: u64,
    waiting: BTreeSet<Waiter>,
}

impl Slots {
    fn has_room(&self) -> bool {
        self.most.is_none_or(|most| self.used < most)
    }
}

/// An effect of a kind that is executed here, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// The effect.
    pub effect: EffectId,
    /// Where it stands.
    pub standing: Standing,
}

/// Where an effect of such a kind stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Others of its kind have all places.
    HeldByLimit,
    /// Configuration keeps it from starting.
    HeldByPolicy {
        /// Why.
        why: String,
        /// The line of configuration that would let it start.
        allow: String,
    },
    /// It is executed.
    Working,
}

impl Desk {
    pub(super) fn new(
        registry: Registry,
        limits: &BTreeMap<Bucket, Limit>,
        worker: String,
    ) -> Self {
        let of_kinds = limits.iter().filter(|(place, _)| place.scope == Scope::Kind);
        let kinds = of_kinds.map(|(place, limit)| {
            (place.name.clone(), Slots { most: limit.concurrency, ..Slots::default() })
        });
        Self {
            registry,
            worker,
            places: HashMap::new(),
            kinds: kinds.collect(),
            called: VecDeque::new(),
            mortal: 0,
        }
    }

    /// Whether the number at work of a kind is limited.
    pub(super) fn is_limited(&self, kind: &str) -> bool {
        self.kinds.get(kind).is_some_and(|slots| slots.most.is_some())
    }

    pub(super) fn place(&self, run: &RunId, effect: EffectId) -> Option<&Place> {
        self.places.get(run)?.get(&effect)
    }

    /// Effects of a run that stand here.
    pub(super) fn of_run(&self, run: &RunId) -> impl Iterator<Item = (EffectId, &Place)> {
        self.places.get(run).into_iter().flatten().map(|(effect, place)| (*effect, place))
    }

    /// The same for people.
    pub(super) fn shown(&self, run: &RunId) -> Vec<Inside> {
        let shown = |(effect, place): (EffectId, &Place)| {
            let standing = match place {
                Place::Waiting(_) => Standing::HeldByLimit,
                Place::Called(_) | Place::Working(_) => Standing::Working,
                Place::Held { why, allow } => {
                    Standing::HeldByPolicy { why: why.clone(), allow: allow.clone() }
                }
            };
            Inside { effect, standing }
        };
        self.of_run(run).map(shown).collect()
    }

    /// Takes a place for somebody new, unless others wait or there is none: then it waits as well.
    pub(super) fn take_or_wait(&mut self, waiter: Waiter) -> bool {
        let slots = self.kinds.entry(waiter.kind.clone()).or_default();
        if slots.waiting.is_empty() && slots.has_room() {
            slots.used += 1;
            let (run, effect, kind) = (waiter.run, waiter.effect, waiter.kind);
            self.put(&run, effect, Place::Called(kind));
            return true;
        }
        slots.waiting.insert(waiter.clone());
        let (run, effect) = (waiter.run.clone(), waiter.effect);
        self.put(&run, effect, Place::Waiting(waiter));
        false
    }

    /// An attempt is at work, for which a place was taken.
    pub(super) fn works(&mut self, run: &RunId, effect: EffectId, work: Work) {
        self.mortal += usize::from(!work.outlives);
        self.put(run, effect, Place::Working(work));
    }

    /// The same for an attempt that an earlier daemon began: it has its place whatever is free.
    pub(super) fn adopt(&mut self, run: &RunId, effect: EffectId, work: Work) {
        self.kinds.entry(work.kind.clone()).or_default().used += 1;
        self.works(run, effect, work);
    }

    pub(super) fn hold(&mut self, run: &RunId, effect: EffectId, why: String, allow: String) {
        self.put(run, effect, Place::Held { why, allow });
    }

    fn put(&mut self, run: &RunId, effect: EffectId, place: Place) {
        self.places.entry(run.clone()).or_default().insert(effect, place);
    }

    /// An effect stands here no longer. Whoever waited for its place is called.
    pub(super) fn release(&mut self, run: &RunId, effect: EffectId) {
        let Some(of_run) = self.places.get_mut(run) else { return };
        let place = of_run.remove(&effect);
        if of_run.is_empty() {
            self.places.remove(run);
        }
        let kind = match place {
            Some(Place::Waiting(waiter)) => {
                if let Some(slots) = self.kinds.get_mut(&waiter.kind) {
                    slots.waiting.remove(&waiter);
                }
                return;
            }
            Some(Place::Called(kind)) => kind,
            Some(Place::Working(work)) => {
                self.mortal -= usize::from(!work.outlives);
                work.kind
            }
            Some(Place::Held { .. }) | None => return,
        };
        if let Some(slots) = self.kinds.get_mut(&kind) {
            slots.used = slots.used.saturating_sub(1);
        }
        self.call(&kind);
    }

    fn call(&mut self, kind: &str) {
        while let Some(slots) = self.kinds.get_mut(kind)
            && slots.has_room()
            && let Some(next) = slots.waiting.pop_first()
        {
            slots.used += 1;
            self.put(&next.run, next.effect, Place::Called(next.kind));
            self.called.push_back(next.run);
        }
    }

    /// A run with an effect whose turn has come.
    pub(super) fn next_called(&mut self) -> Option<RunId> {
        self.called.pop_front()
    }

    /// A run cannot be had: what it has not begun makes room for others.
    pub(super) fn lose(&mut self, run: &RunId) {
        let idle: Vec<EffectId> = self
            .of_run(run)
            .filter(|(_, place)| !matches!(place, Place::Working(_)))
            .map(|(effect, _)| effect)
            .collect();
        for effect in idle {
            self.release(run, effect);
        }
    }

    /// Whether attempts are at work that end with this daemon.
    pub(super) const fn is_busy(&self) -> bool {
        self.mortal > 0
    }

    /// Asks all attempts to end, because the daemon does.
    pub(super) fn drain(&self) {
        for place in self.places.values().flat_map(BTreeMap::values) {
            if let Place::Working(work) = place {
                work.stopper.stop(StopWhy::Draining);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk(most: u64) -> Desk {
        let place = Bucket::limited(Scope::Kind, "k").unwrap();
        let limit = Limit { concurrency: Some(most), ..Limit::default() };
        let slots = BTreeMap::from([(place, limit)]);
        Desk::new(Registry::default(), &slots, "@daemon/1".to_owned())
    }

    fn waiter(run: &str, effect: u32, priority: u32, ready_ms: i64) -> Waiter {
        let (run, ready) = (run.parse().unwrap(), Timestamp::from_millis(ready_ms));
        Waiter::new(&run, EffectId::new(effect), "k", Some(priority), ready)
    }

    fn run(id: &str) -> RunId {
        id.parse().unwrap()
    }

    #[test]
    fn places_go_to_the_highest_priority_and_then_to_who_waited_longest() {
        let mut desk = desk(1);
        assert!(desk.take_or_wait(waiter("a", 1, 0, 0)));
        for (id, priority, ready) in [("b", 500, 10), ("c", 501, 20), ("d", 500, 5), ("e", 500, 7)]
        {
            assert!(!desk.take_or_wait(waiter(id, 1, priority, ready)));
        }
        let mut order = Vec::new();
        let mut last = "a".to_owned();
        while let Some(next) = {
            desk.release(&run(&last), EffectId::new(1));
            desk.next_called()
        } {
            last = next.to_string();
            order.push(last.clone());
        }
        assert_eq!(order, ["c", "d", "e", "b"]);
    }

    #[test]
    fn waiting_a_minute_is_worth_ten_steps_of_priority() {
        let mut desk = desk(0);
        let late = waiter("late", 1, 510, 60_000);
        let early = waiter("early", 1, 501, 0);
        assert!(early < late, "it waited a minute longer and has nine steps less");
        assert!(waiter("early", 1, 499, 0) > late);
        assert!(!desk.take_or_wait(late), "none at all is a limit too");
    }

    #[test]
    fn whoever_leaves_the_queue_leaves_no_trace() {
        let mut desk = desk(1);
        assert!(desk.take_or_wait(waiter("a", 1, 500, 0)));
        assert!(!desk.take_or_wait(waiter("b", 1, 500, 0)));
        assert!(!desk.take_or_wait(waiter("c", 2, 500, 1)));
        desk.lose(&run("b"));
        desk.release(&run("a"), EffectId::new(1));
        assert_eq!(desk.next_called(), Some(run("c")));
        assert_eq!(desk.next_called(), None);
        desk.lose(&run("c"));
        assert!(desk.places.is_empty() && desk.kinds["k"].used == 0);
    }
}
