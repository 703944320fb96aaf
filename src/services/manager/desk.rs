//! The desk: which effects are executed in this daemon, and which it may not execute.
//!
//! May not touch a run. Invariant: an effect stands here once at most.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::ground::id::{EffectId, EffectName, Epoch, RunId};
use crate::services::executor::{Registry, StopWhy, Stopper};
use crate::services::why::memory::Hold;
use crate::shells::store::Inside;

/// What is known of the effects of kinds that are executed here.
pub(super) struct Desk {
    pub(super) registry: Registry,
    /// Who starts effects, as it stands in records: no other daemon has this name.
    pub(super) worker: String,
    places: HashMap<RunId, BTreeMap<EffectId, Place>>,
    /// Effects that configuration keeps from starting here, by kind: others may start them.
    held: HashMap<String, BTreeSet<EffectName>>,
    /// Attempts that end with this daemon.
    mortal: usize,
}

/// Where an effect stands.
pub(super) enum Place {
    /// It is at work.
    Working(Work),
    /// Configuration keeps it from starting.
    Held {
        /// Its kind.
        kind: String,
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

impl Desk {
    pub(super) fn new(registry: Registry, worker: String) -> Self {
        Self { registry, worker, places: HashMap::new(), held: HashMap::new(), mortal: 0 }
    }

    pub(super) fn place(&self, run: &RunId, effect: EffectId) -> Option<&Place> {
        self.places.get(run)?.get(&effect)
    }

    /// Effects of a run that stand here.
    pub(super) fn of_run(&self, run: &RunId) -> impl Iterator<Item = (EffectId, &Place)> {
        self.places.get(run).into_iter().flatten().map(|(effect, place)| (*effect, place))
    }

    /// An attempt is at work.
    pub(super) fn works(&mut self, run: &RunId, effect: EffectId, work: Work) {
        self.mortal += usize::from(!work.outlives);
        self.put(run, effect, Place::Working(work));
    }

    /// Configuration keeps it from starting.
    pub(super) fn hold(&mut self, name: EffectName, kind: String, why: String, allow: String) {
        let (run, effect) = (name.run.clone(), name.effect);
        self.held.entry(kind.clone()).or_default().insert(name);
        self.put(&run, effect, Place::Held { kind, why, allow });
    }

    /// What of a kind is executed here and not by whoever works outside, if any of it is.
    pub(super) fn inside(&self, kind: &str) -> Option<Inside> {
        let agents = self.registry.get(kind)?.agents();
        Some(Inside { agents, held: self.held.get(kind).cloned().unwrap_or_default() })
    }

    fn put(&mut self, run: &RunId, effect: EffectId, place: Place) {
        self.places.entry(run.clone()).or_default().insert(effect, place);
    }

    /// An effect stands here no longer.
    pub(super) fn release(&mut self, run: &RunId, effect: EffectId) {
        let Some(of_run) = self.places.get_mut(run) else { return };
        match of_run.remove(&effect) {
            Some(Place::Working(work)) => self.mortal -= usize::from(!work.outlives),
            Some(Place::Held { kind, .. }) => {
                if let Some(held) = self.held.get_mut(&kind) {
                    held.remove(&EffectName::of(run, effect));
                }
            }
            None => {}
        }
        if of_run.is_empty() {
            self.places.remove(run);
        }
    }

    /// A run cannot be had: what it has not begun is forgotten.
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

    /// What configuration keeps from starting, of a run.
    pub(super) fn holds_of(&self, run: &RunId) -> impl Iterator<Item = (EffectId, Hold)> {
        self.of_run(run).filter_map(|(effect, place)| match place {
            Place::Held { why, allow, .. } => {
                Some((effect, Hold::Policy { why: why.clone(), allow: allow.clone() }))
            }
            Place::Working(_) => None,
        })
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
