//! Chance that can be had again: everything random in a storm follows from its seed.
//!
//! Knows nothing of storms. Invariant: the same seed and name give the same sequence.

use std::time::Duration;

/// A sequence of numbers that a seed gives.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// One for each who throws: threads must not share a sequence, or it depends on who is first.
    #[must_use]
    pub fn of(seed: u64, who: &str) -> Self {
        let digest = blake3::hash(format!("{seed} {who}").as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_bytes()[..8]);
        Self(u64::from_le_bytes(first))
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % end
    }

    /// One of `all`; nothing if there is none.
    pub(super) fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.index(all.len()))
    }

    /// A place in a list of this length.
    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length.max(1) as u64)).unwrap_or(0)
    }

    /// One time in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Lets some time pass, up to `millis`.
    pub fn pause(&mut self, millis: u64) {
        std::thread::sleep(Duration::from_millis(self.below(millis)));
    }
}
