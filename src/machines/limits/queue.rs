//! Who waits for slots, and whose turn it is when one is free.
//!
//! May not know how many slots there are. Invariant: whoever waits stands once, behind one bucket
//! that keeps it; finding the first of a bucket looks at nobody who waits for others.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::{Bucket, Demand, Want};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, EffectName, RunId};
use crate::machines::ready::{Rounds, level};

/// An effect among those of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    level: i64,
    at: Timestamp,
    effect: EffectId,
}

impl Place {
    const fn of(effect: EffectId, want: Want) -> Self {
        Self { level: level(want.since, want.priority), at: want.since, effect }
    }
}

/// The turn of a run: its first effect, and how long ago it was served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    level: i64,
    served: u64,
    at: Timestamp,
    run: RunId,
    effect: EffectId,
}

/// The effects of a run in a line.
#[derive(Debug, Default)]
struct OfRun {
    places: BTreeSet<Place>,
    /// When the run was served last, as its turn in the line has it.
    served: u64,
}

impl OfRun {
    fn turn(&self, run: &RunId) -> Option<Turn> {
        let Place { level, at, effect } = *self.places.first()?;
        Some(Turn { level, served: self.served, at, run: run.clone(), effect })
    }
}

/// Everybody who wants the same.
#[derive(Debug)]
struct Line {
    runs: HashMap<RunId, OfRun>,
    turns: BTreeSet<Turn>,
    /// What keeps them all.
    behind: Bucket,
}

impl Line {
    /// Does something with the effects of a run, and gives the run the turn that follows.
    fn change(&mut self, run: &RunId, deed: impl FnOnce(&mut OfRun)) {
        let of_run = self.runs.entry(run.clone()).or_default();
        if let Some(turn) = of_run.turn(run) {
            self.turns.remove(&turn);
        }
        deed(of_run);
        match of_run.turn(run) {
            Some(turn) => {
                self.turns.insert(turn);
            }
            None => {
                self.runs.remove(run);
            }
        }
    }
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: HashMap<Arc<Demand>, Line>,
    /// The first of every line, by what keeps it.
    heads: HashMap<Bucket, BTreeSet<(Turn, Arc<Demand>)>>,
    places: HashMap<EffectName, (Arc<Demand>, Want)>,
    rounds: Rounds,
}

impl Queue {
    /// Whether anybody waits for this bucket.
    pub(super) fn has_line(&self, bucket: &Bucket) -> bool {
        self.heads.contains_key(bucket)
    }

    /// What anybody waits for.
    pub(super) fn buckets(&self) -> impl Iterator<Item = &Bucket> {
        self.heads.keys()
    }

    /// Somebody waits from now on: behind this bucket, unless others who want the same wait behind
    /// another one.
    pub(super) fn enter(
        &mut self,
        holder: EffectName,
        demand: &Arc<Demand>,
        want: Want,
        behind: Bucket,
    ) {
        let (place, run) = (Place::of(holder.effect, want), holder.run.clone());
        self.leave(&holder);
        self.places.insert(holder, (Arc::clone(demand), want));
        let served = self.rounds.served(&run);
        let new = || Line { runs: HashMap::new(), turns: BTreeSet::new(), behind };
        self.lines.entry(Arc::clone(demand)).or_insert_with(new);
        self.change(demand, |line| {
            line.change(&run, |of_run| {
                of_run.places.insert(place);
                of_run.served = served;
            });
        });
    }

    /// Somebody waits no longer.
    pub(super) fn leave(&mut self, holder: &EffectName) {
        let Some((demand, want)) = self.places.remove(holder) else { return };
        let place = Place::of(holder.effect, want);
        self.change(&demand, |line| {
            line.change(&holder.run, |of_run| {
                of_run.places.remove(&place);
            });
        });
    }

    /// Whoever comes first behind a bucket, and what it wants.
    pub(super) fn first(&mut self, bucket: &Bucket) -> Option<(EffectName, Arc<Demand>, Want)> {
        loop {
            let (turn, demand) = self.heads.get(bucket)?.first()?.clone();
            let served = self.rounds.served(&turn.run);
            if turn.served == served {
                let holder = EffectName { run: turn.run, effect: turn.effect };
                let (_, want) = self.places.get(&holder)?;
                return Some((holder, demand, *want));
            }
            // It was served in another line since.
            self.change(&demand, |line| {
                line.change(&turn.run, |of_run| of_run.served = served);
            });
        }
    }

    /// An effect of this run starts.
    pub(super) fn serve(&mut self, run: &RunId) {
        self.rounds.serve(run);
    }

    /// Another bucket keeps everybody who wants this.
    pub(super) fn move_behind(&mut self, demand: &Arc<Demand>, bucket: Bucket) {
        self.change(demand, |line| line.behind = bucket);
    }

    /// Does something with a line, and puts its head where it belongs.
    fn change(&mut self, demand: &Arc<Demand>, deed: impl FnOnce(&mut Line)) {
        let Some(line) = self.lines.get_mut(demand) else { return };
        if let Some(turn) = line.turns.first()
            && let Some(heads) = self.heads.get_mut(&line.behind)
        {
            heads.remove(&(turn.clone(), Arc::clone(demand)));
            if heads.is_empty() {
                self.heads.remove(&line.behind);
            }
        }
        deed(line);
        match line.turns.first() {
            Some(turn) => {
                let heads = self.heads.entry(line.behind.clone()).or_default();
                heads.insert((turn.clone(), Arc::clone(demand)));
            }
            None => {
                self.lines.remove(demand);
            }
        }
    }
}
