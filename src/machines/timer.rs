//! Timers: which run time alone will wake, and when.
//!
//! May not read a clock. Invariant: a run has at most one timer, its earliest; what is due comes
//! out in order of time.

use std::collections::{BTreeSet, HashMap};

use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;

/// All timers of a root.
#[derive(Debug, Default)]
pub struct Timers {
    by_time: BTreeSet<(Timestamp, RunId)>,
    by_run: HashMap<RunId, Timestamp>,
}

impl Timers {
    /// Sets the time at which a run is to be woken; nothing: no time will.
    pub fn set(&mut self, run: &RunId, at: Option<Timestamp>) {
        let before = match at {
            Some(at) => self.by_run.insert(run.clone(), at),
            None => self.by_run.remove(run),
        };
        if let Some(before) = before.filter(|before| Some(*before) != at) {
            self.by_time.remove(&(before, run.clone()));
        }
        if let Some(at) = at {
            self.by_time.insert((at, run.clone()));
        }
    }

    /// The earliest time.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out the run whose time came first, if it has come.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<(RunId, Timestamp)> {
        let (at, _) = self.by_time.first().filter(|(at, _)| *at <= now)?;
        let at = *at;
        let (_, run) = self.by_time.pop_first()?;
        self.by_run.remove(&run);
        Some((run, at))
    }

    /// When a run is to be woken.
    #[must_use]
    pub fn of(&self, run: &RunId) -> Option<Timestamp> {
        self.by_run.get(run).copied()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_run.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_run.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn what_is_due_comes_out_in_order_of_time(
            sets in prop::collection::vec((0_u8..20, prop::option::of(0_i64..50)), 0..100),
            now in 0_i64..60,
        ) {
            let (mut timers, mut model) = (Timers::default(), BTreeMap::new());
            for (run, at) in sets {
                let run: RunId = format!("r{run}").parse().unwrap();
                let at = at.map(Timestamp::from_millis);
                timers.set(&run, at);
                match at {
                    Some(at) => model.insert(run, at),
                    None => model.remove(&run),
                };
            }
            let now = Timestamp::from_millis(now);
            let mut due: Vec<_> = model.iter().filter(|(_, at)| **at <= now).collect();
            due.sort_by_key(|(run, at)| (**at, (*run).clone()));
            for (run, at) in due {
                prop_assert_eq!(timers.next(), Some(*at));
                prop_assert_eq!(timers.pop_due(now), Some((run.clone(), *at)));
                prop_assert_eq!(timers.of(run), None);
            }
            prop_assert_eq!(timers.pop_due(now), None);
            let left = model.values().filter(|at| **at > now).count();
            prop_assert_eq!(timers.len(), left);
        }
    }
}
