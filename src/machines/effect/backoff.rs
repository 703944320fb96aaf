//! Backoff: when a failed attempt is followed by the next.
//!
//! May not draw randomness. Invariant: the delay is a function of run, effect and count, so that
//! effects spread and a test sees the same instant every time; the instant is journaled and never
//! computed again.

use crate::codecs::event::Retry;
use crate::ground::id::{EffectId, RunId};
use crate::ground::limits::RETRY_AFTER_MS_MAX;

/// Fractions of 53 bits.
const UNIT: f64 = 9_007_199_254_740_992.0;

/// The delay after the `k`-th failure, from 1, in milliseconds. `asked_ms` is what the failure
/// itself asked for: it lengthens the delay, up to an hour, and never shortens it.
#[must_use]
pub fn delay_ms(
    retry: &Retry,
    run: &RunId,
    effect: EffectId,
    k: u32,
    asked_ms: Option<u64>,
) -> u64 {
    let steps = i32::try_from(k.saturating_sub(1)).unwrap_or(i32::MAX);
    #[expect(clippy::cast_precision_loss, reason = "durations are far below 2^53")]
    let (initial, max) = (retry.initial_ms as f64, retry.max_ms as f64);
    // Zero times infinity is no number; what begins with no delay stays without one.
    let grown = initial * retry.factor.powi(steps);
    let whole = if grown.is_nan() { 0.0 } else { grown.min(max) };
    let spread = whole * (1.0 - retry.jitter * share(run, effect, k));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to max_ms")]
    let delay = spread.max(0.0) as u64;
    delay.max(asked_ms.unwrap_or(0).min(RETRY_AFTER_MS_MAX))
}

/// A number from 0 to below 1 that differs between effects and counts.
fn share(run: &RunId, effect: EffectId, k: u32) -> f64 {
    let mut hasher = blake3::Hasher::new();
    for part in ["backoff", run.as_str(), &effect.to_string(), &k.to_string()] {
        hasher.update(part.as_bytes());
    }
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let bits = (u64::from_be_bytes(first) >> 11) as f64;
    bits / UNIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::effect::policy::RETRY_DEFAULT;
    use proptest::prelude::*;

    fn delay(retry: &Retry, k: u32) -> u64 {
        delay_ms(retry, &"r".parse().unwrap(), EffectId::new(1), k, None)
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let even = Retry { jitter: 0.0, ..RETRY_DEFAULT };
        let delays: Vec<u64> = (1..=11).map(|k| delay(&even, k)).collect();
        let expected = [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300].map(|s| s * 1000);
        assert_eq!(delays, expected);
        assert_eq!(delay(&even, u32::MAX), 300_000);
        assert_eq!(delay(&Retry { initial_ms: 0, ..even }, 4_000), 0);
    }

    #[test]
    fn effects_are_spread() {
        let of = |n| delay_ms(&RETRY_DEFAULT, &"r".parse().unwrap(), EffectId::new(n), 9, None);
        let all: std::collections::BTreeSet<u64> = (1..=100).map(of).collect();
        assert!(all.len() > 90, "{}", all.len());
    }

    proptest! {
        #[test]
        fn jitter_takes_off_at_most_its_share(
            (run, n, k) in ("[a-z]{1,9}", 1_u32..99, 1_u32..40), jitter in 0.0..=1.0,
        ) {
            let (run, id): (RunId, _) = (run.parse().unwrap(), EffectId::new(n));
            let even = Retry { jitter: 0.0, ..RETRY_DEFAULT };
            let most = delay_ms(&even, &run, id, k, None);
            let spread = Retry { jitter, ..RETRY_DEFAULT };
            let delay = delay_ms(&spread, &run, id, k, None);
            prop_assert!(delay <= most);
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let (least, delay) = (most as f64 * (1.0 - jitter), delay as f64 + 1.0);
            prop_assert!(delay >= least);
        }

        #[test]
        fn what_a_failure_asks_for_only_lengthens_the_delay(asked in 0_u64..10_000_000) {
            let run: RunId = "r".parse().unwrap();
            let plain = delay_ms(&RETRY_DEFAULT, &run, EffectId::new(1), 3, None);
            let longer = delay_ms(&RETRY_DEFAULT, &run, EffectId::new(1), 3, Some(asked));
            prop_assert_eq!(longer, plain.max(asked.min(3_600_000)));
        }
    }
}
