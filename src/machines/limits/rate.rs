//! How many starts in a span of time, and what is left of them.
//!
//! May not know what is started. Invariant: in any span that is as long as the rate's own, at most
//! its number and the burst are taken.

use std::fmt;
use std::str::FromStr;

use crate::ground::limits::LIMIT_RATE_MAX;

const NANOS_PER_MILLI: u64 = 1_000_000;

/// So many starts in one unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    count: u64,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
}

const UNITS: [Unit; 3] = [Unit::Second, Unit::Minute, Unit::Hour];

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "h",
        }
    }

    const fn nanos(self) -> u64 {
        let seconds = match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
        };
        seconds * 1_000 * NANOS_PER_MILLI
    }
}

impl Rate {
    /// How many.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.count
    }

    /// Time between two of them, never too short.
    const fn interval_nanos(self) -> u64 {
        self.unit.nanos().div_ceil(self.count)
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (count, unit) = text.split_once('/')?;
            let count = count.trim().parse().ok()?;
            let unit = UNITS.into_iter().find(|known| known.name() == unit.trim())?;
            (1..=LIMIT_RATE_MAX).contains(&count).then_some(Self { count, unit })
        };
        read().ok_or_else(|| {
            format!(
                "rate is a number from 1 to {LIMIT_RATE_MAX} per s, min or h, such as \
                 \"10/s\" or \"100/min\", not {text:?}"
            )
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.name())
    }
}

/// What is left of a rate: the moment at which nothing was left says everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tokens {
    empty_nanos: u64,
}

impl Tokens {
    /// Nothing is left now.
    pub(super) const fn empty(now_ms: u64) -> Self {
        Self { empty_nanos: nanos(now_ms) }
    }

    /// When there is one, in whole milliseconds.
    pub(super) const fn next_ms(self, rate: Rate) -> u64 {
        self.empty_nanos.saturating_add(rate.interval_nanos()).div_ceil(NANOS_PER_MILLI)
    }

    /// Takes one that is there.
    pub(super) fn take(&mut self, rate: Rate, burst: u64, now_ms: u64) {
        let interval = rate.interval_nanos();
        let full = nanos(now_ms).saturating_sub(interval.saturating_mul(burst));
        self.empty_nanos = self.empty_nanos.max(full).saturating_add(interval);
    }

    /// One was not needed.
    pub(super) const fn give_back(&mut self, rate: Rate) {
        self.empty_nanos = self.empty_nanos.saturating_sub(rate.interval_nanos());
    }

    /// Whether waiting adds nothing.
    pub(super) const fn is_full(self, rate: Rate, burst: u64, now_ms: u64) -> bool {
        let span = rate.interval_nanos().saturating_mul(burst);
        self.empty_nanos.saturating_add(span) <= nanos(now_ms)
    }
}

const fn nanos(ms: u64) -> u64 {
    ms.saturating_mul(NANOS_PER_MILLI)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rates_are_read_and_printed() {
        for text in ["10/s", "100/min", "1/h"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["", "10", "0/s", "10/d", "-1/s", "10/", "/s", "9999999999/s", "1.5/s"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn nothing_is_there_at_first_and_no_more_than_the_burst_later() {
        let rate: Rate = "2/s".parse().unwrap();
        let mut tokens = Tokens::empty(1_000);
        assert_eq!(tokens.next_ms(rate), 1_500);
        let mut taken = 0;
        while tokens.next_ms(rate) <= 60_000 {
            tokens.take(rate, 3, 60_000);
            taken += 1;
        }
        assert_eq!((taken, tokens.next_ms(rate)), (3, 60_500));
        assert!(!tokens.is_full(rate, 3, 61_499) && tokens.is_full(rate, 3, 61_500));
        tokens.give_back(rate);
        assert_eq!(tokens.next_ms(rate), 60_000);
    }

    proptest! {
        #[test]
        fn a_span_never_has_more_than_its_number_and_the_burst(
            count in 1u64..20,
            burst in 1u64..20,
            pauses in proptest::collection::vec(0u64..400, 1..200),
        ) {
            let rate = Rate { count, unit: Unit::Second };
            let (mut tokens, mut now, mut taken) = (Tokens::empty(0), 0, Vec::new());
            for pause in pauses {
                now += pause;
                if tokens.next_ms(rate) <= now {
                    tokens.take(rate, burst, now);
                    taken.push(now);
                }
            }
            for (n, from) in taken.iter().enumerate() {
                let within = taken[n..].iter().take_while(|at| **at < from + 1_000).count();
                prop_assert!(within as u64 <= count + burst);
            }
        }
    }
}
