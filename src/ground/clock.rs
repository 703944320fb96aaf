//! Time: instants as values, and the only place that reads a clock.
//!
//! May not know what a time is for. Invariant: nothing outside this module calls the operating
//! system for time (`tests/it/tidy.rs`), so a test with a [`ManualClock`] decides what time it is.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};

use super::sabotage::{self, Guard};

/// An instant on the wall clock: microseconds since 1970-01-01T00:00:00Z. Text form: RFC 3339, UTC,
/// exactly six decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

/// A text that is not `YYYY-MM-DDTHH:MM:SS.ffffffZ`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time of the form 2026-11-20T12:00:00.000000Z")]
pub struct NotATimestamp(String);

impl Timestamp {
    /// From microseconds since the epoch; a value outside years 0000-9999 is clamped into them.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        const YEAR_0: i64 = -62_167_219_200_000_000;
        const YEAR_9999_END: i64 = 253_402_207_200_999_999;
        Self(micros.clamp(YEAR_0, YEAR_9999_END))
    }

    /// From milliseconds since the epoch, the unit of JavaScript's `Date`.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self::from_micros(millis.saturating_mul(1000))
    }

    /// From RFC 3339 as other programs and people write it, with any offset.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let read = text.parse::<jiff::Timestamp>().ok()?;
        Some(Self::from_micros(read.as_microsecond()))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch, rounded down.
    #[must_use]
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// As it stands in names of files: `20261121T215334.000000Z`.
    #[must_use]
    pub fn stamp(self) -> String {
        self.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect()
    }

    /// This instant and `millis` more.
    #[must_use]
    pub fn plus_millis(self, millis: i64) -> Self {
        Self::from_micros(self.0.saturating_add(millis.saturating_mul(1000)))
    }

    /// This instant and a duration more.
    #[must_use]
    pub fn later_by(self, millis: u64) -> Self {
        self.plus_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }

    /// This instant and `millis` less.
    #[must_use]
    pub fn earlier_by(self, millis: u64) -> Self {
        self.plus_millis(i64::try_from(millis).unwrap_or(i64::MAX).saturating_neg())
    }

    /// RFC 3339 without decimals: the second that the instant is in.
    #[must_use]
    pub fn iso_seconds(self) -> String {
        let text = self.to_string();
        format!("{}Z", &text[..text.len() - 8])
    }

    /// RFC 3339 with three decimals, as JavaScript's `toISOString` prints it.
    #[must_use]
    pub fn iso_millis(self) -> String {
        let text = self.to_string();
        format!("{}Z", &text[..text.len() - 4])
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, in_day) = (self.0.div_euclid(86_400_000_000), self.0.rem_euclid(86_400_000_000));
        let (year, month, day) = civil_from_days(days);
        let (seconds, micros) = (in_day / 1_000_000, in_day % 1_000_000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
        )
    }
}

/// Year, month, day of a day number counted from 1970-01-01, in the proleptic Gregorian calendar.
/// Shifts the year to begin in March so that the leap day comes last. Written out because printing
/// `at` is on the path of every record.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_400_YEARS: i64 = 146_097;
    let shifted = days + 719_468;
    let era = shifted.div_euclid(DAYS_PER_400_YEARS);
    let day_of_era = shifted.rem_euclid(DAYS_PER_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl FromStr for Timestamp {
    type Err = NotATimestamp;

    fn from_str(text: &str) -> Result<Self, NotATimestamp> {
        let wrong = || NotATimestamp(text.chars().take(40).collect());
        let parsed: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
        let stamp = Self::from_micros(parsed.as_microsecond());
        // One instant has one spelling: what prints differently was not written by us.
        if stamp.to_string() == text { Ok(stamp) } else { Err(wrong()) }
    }
}

crate::ground::id::serde_as_text!(Timestamp);

/// The standard library's view of the instant; what lies before 1970 becomes its beginning.
impl From<Timestamp> for std::time::SystemTime {
    fn from(at: Timestamp) -> Self {
        let micros = u64::try_from(at.micros()).unwrap_or(0);
        Self::UNIX_EPOCH + std::time::Duration::from_micros(micros)
    }
}

/// Measures how long something takes, on a clock that nobody sets.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(u64);

impl Stopwatch {
    /// Begins to measure.
    #[must_use]
    pub fn start() -> Self {
        Self(monotonic_micros())
    }

    /// Seconds since then.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "exact for 285 years")]
    pub fn seconds(self) -> f64 {
        monotonic_micros().saturating_sub(self.0) as f64 / 1e6
    }
}

/// Where the present comes from. Implemented by [`SystemClock`] and, for tests, [`ManualClock`].
pub trait Clock: Send + Sync {
    /// The wall clock now.
    fn now(&self) -> Timestamp;

    /// Let `millis` milliseconds pass.
    fn sleep_millis(&self, millis: u64);

    /// Milliseconds that have passed since some moment, those included in which the machine slept.
    fn passed_millis(&self) -> u64;
}

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Timestamp::from_micros(now.tv_sec.saturating_mul(1_000_000) + now.tv_nsec / 1000)
    }

    fn sleep_millis(&self, millis: u64) {
        std::thread::sleep(std::time::Duration::from_millis(millis));
    }

    fn passed_millis(&self) -> u64 {
        if sabotage::is_removed(Guard::WallLeases) {
            return u64::try_from(self.now().millis()).unwrap_or(0);
        }
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(clock);
        u64::try_from(now.tv_sec * 1000 + now.tv_nsec / 1_000_000).unwrap_or(0)
    }
}

/// A clock that stands still until told otherwise; sleeping moves it.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub const fn at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn sleep_millis(&self, millis: u64) {
        let then = self.now().plus_millis(i64::try_from(millis).unwrap_or(i64::MAX));
        self.0.store(then.0, Ordering::SeqCst);
    }

    fn passed_millis(&self) -> u64 {
        u64::try_from(self.now().millis()).unwrap_or(0)
    }
}

/// CPU time that the calling thread has used, in microseconds.
#[must_use]
pub fn thread_cpu_micros() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(used.tv_sec * 1_000_000 + used.tv_nsec / 1000).unwrap_or(0)
}

/// CPU time that this process has used, in microseconds.
#[must_use]
pub fn process_cpu_micros() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(used.tv_sec * 1_000_000 + used.tv_nsec / 1000).unwrap_or(0)
}

/// Microseconds on a clock that never goes backwards; only differences mean anything.
#[must_use]
pub fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000 + now.tv_nsec / 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_the_one_of_other_implementations() {
        let mut micros = -62_135_596_800_000_000;
        while micros < 253_402_207_200_000_000 {
            let stamp = Timestamp::from_micros(micros);
            let theirs = jiff::Timestamp::from_microsecond(micros).unwrap();
            assert_eq!(stamp.to_string(), format!("{theirs:.6}"), "{micros}");
            assert_eq!(stamp.to_string().parse(), Ok(stamp));
            micros += 86_400_000_000 * 29 + 12_345_678_901;
        }
    }

    #[test]
    fn other_spellings_of_an_instant_are_refused() {
        for bad in
            ["2026-11-20T12:00:00Z", "2026-11-20T12:00:00.000Z", "2026-11-20 12:00:00.000000Z"]
        {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
        assert_eq!(Timestamp::from_micros(0).iso_millis(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_micros(1_999_999).iso_seconds(), "1970-01-01T00:00:01Z");
    }
}
