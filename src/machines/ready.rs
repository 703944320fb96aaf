//! Who comes first among effects that could be started now.
//!
//! May not know who starts them. Invariant: the order is total, and whatever waits long enough
//! comes first in the end.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::limits::Demand;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Epoch, RunId};

/// Priority of an effect whose author gave none.
pub const PRIORITY_DEFAULT: u32 = 500;
/// What a full minute of waiting adds.
const AGED_PER_MINUTE: i64 = 10;
const MINUTE_MICROS: i64 = 60_000_000;
/// Waiting that is worth one point of priority.
const POINT_MICROS: i64 = MINUTE_MICROS / AGED_PER_MINUTE;

/// An effect that could be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The run.
    pub run_id: RunId,
    /// The effect.
    pub effect_id: EffectId,
    /// Since when.
    pub at: Timestamp,
    /// 0 to 1000; higher first.
    pub priority: u32,
    /// The number of its last start.
    pub after: Epoch,
    /// What its start takes a place under.
    pub demand: Arc<Demand>,
}

impl Ready {
    /// Its priority with what waiting has added.
    #[must_use]
    pub fn aged(&self, now: Timestamp) -> i64 {
        let waited = now.micros().saturating_sub(self.at.micros()).max(0);
        i64::from(self.priority) + waited / MINUTE_MICROS * AGED_PER_MINUTE
    }
}

/// A place in an order that does not move while time passes: lower first. It differs from
/// [`Ready::aged`] by less than what one minute adds, so that a list in this order has at its
/// beginning what comes first in the other.
#[must_use]
pub const fn rank(at: Timestamp, priority: u32) -> i64 {
    at.micros().saturating_sub(priority as i64 * POINT_MICROS)
}

/// The same in whole minutes: effects of one level came within a minute of each other, with what
/// their priorities are worth, and their runs take turns. Lower first.
#[must_use]
pub const fn level(at: Timestamp, priority: u32) -> i64 {
    at.micros().div_euclid(MINUTE_MICROS) * AGED_PER_MINUTE - priority as i64
}

/// Whose turn it is among runs: the one that was served longest ago.
#[derive(Debug, Default)]
pub struct Rounds {
    served: HashMap<RunId, u64>,
    count: u64,
}

/// Runs that are remembered; with more of them everybody begins anew.
const RUNS_MAX: usize = 10_000;

impl Rounds {
    /// An effect of this run was started.
    pub fn serve(&mut self, run: &RunId) {
        if self.served.len() >= RUNS_MAX && !self.served.contains_key(run) {
            self.served.clear();
        }
        self.count += 1;
        self.served.insert(run.clone(), self.count);
    }

    /// When a run was served last, as a number that grows; 0: not yet.
    #[must_use]
    pub fn served(&self, run: &RunId) -> u64 {
        self.served.get(run).copied().unwrap_or(0)
    }

    /// Which of two effects comes first.
    #[must_use]
    pub fn order(&self, a: &Ready, b: &Ready, now: Timestamp) -> Ordering {
        let served = |effect: &Ready| self.served(&effect.run_id);
        b.aged(now)
            .cmp(&a.aged(now))
            .then_with(|| served(a).cmp(&served(b)))
            .then_with(|| (a.at, &a.run_id, a.effect_id).cmp(&(b.at, &b.run_id, b.effect_id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(run: &str, effect: u32, seconds: i64, priority: u32) -> Ready {
        Ready {
            run_id: run.parse().unwrap(),
            effect_id: EffectId::new(effect),
            at: Timestamp::from_millis(seconds * 1000),
            priority,
            after: Epoch(0),
            demand: Arc::new(Demand::new("k", &[])),
        }
    }

    fn order(mut left: Vec<Ready>, seconds: i64) -> Vec<String> {
        let (mut rounds, mut out) = (Rounds::default(), Vec::new());
        let now = Timestamp::from_millis(seconds * 1000);
        while !left.is_empty() {
            left.sort_by(|a, b| rounds.order(a, b, now));
            let next = left.remove(0);
            rounds.serve(&next.run_id);
            out.push(format!("{}/{}", next.run_id, next.effect_id.ordinal()));
        }
        out
    }

    #[test]
    fn priority_comes_first_then_the_run_that_waits_longest_then_time() {
        let all = vec![
            ready("a", 1, 0, 500),
            ready("a", 2, 1, 500),
            ready("b", 1, 2, 500),
            ready("a", 3, 3, 501),
        ];
        assert_eq!(order(all, 10), ["a/3", "b/1", "a/1", "a/2"]);
    }

    #[test]
    fn a_full_minute_counts_ten_points() {
        let all = || vec![ready("a", 1, 0, 495), ready("b", 1, 59, 500)];
        assert_eq!(order(all(), 59), ["b/1", "a/1"]);
        assert_eq!(order(all(), 60), ["a/1", "b/1"]);
    }

    #[test]
    fn the_order_that_does_not_move_is_never_a_minute_off() {
        for (a, b) in [((0, 500), (30, 504)), ((0, 0), (60, 11)), ((7, 1000), (900, 1000))] {
            let of = |(seconds, priority)| ready("r", 1, seconds, priority);
            let (a, b) = (of(a), of(b));
            let now = Timestamp::from_millis(1_000_000);
            let ranks = rank(a.at, a.priority) - rank(b.at, b.priority);
            let ages = (b.aged(now) - a.aged(now)) * POINT_MICROS;
            assert!((ranks - ages).abs() < MINUTE_MICROS, "{a:?} {b:?}");
        }
    }
}
