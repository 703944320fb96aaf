//! Chance that can be had again: everything random in a storm follows from its seed.
//!
//! Knows nothing of storms.

use std::time::Duration;

/// A sequence of numbers that a seed gives.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// One for each who throws: threads must not share a sequence, or it depends on who is first.
    pub(crate) fn of(seed: u64, who: &str) -> Self {
        let digest = blake3::hash(format!("{seed} {who}").as_bytes());
        Self(u64::from_le_bytes(*digest.as_bytes().first_chunk().unwrap()))
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % end
    }

    /// One time in `n`.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Lets some time pass, up to `millis`.
    pub(crate) fn pause(&mut self, millis: u64) {
        std::thread::sleep(Duration::from_millis(self.below(millis)));
    }
}
