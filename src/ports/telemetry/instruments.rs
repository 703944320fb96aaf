//! Instruments: counters, gauges and histograms of plain atomics, alone or by label.
//!
//! May not know who reads them. Invariant: writing never waits for a reader of the numbers, and a
//! label never has more than [`LABEL_VALUES_MAX`] values.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ground::limits::{LABEL_BYTES_MAX, LABEL_VALUES_MAX};

/// Upper bounds for short work, in seconds: 50 µs to 30 s.
pub const SHORT_SECONDS: &[f64] =
    &[5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Upper bounds for what people and agents do, in seconds: 10 ms to 30 days.
pub const LONG_SECONDS: &[f64] =
    &[0.01, 0.1, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0, 2_592_000.0];
/// Upper bounds for how many of something: 1 to 4,096.
pub const COUNTS: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// What an instrument shows at one moment.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// How often, or how much in all.
    Count(u64),
    /// How much there is now.
    Level(i64),
    /// How observations are spread.
    Spread {
        /// All observations together.
        sum: f64,
        /// Observations by upper bound; not cumulative, the last bound is infinite.
        buckets: Vec<(f64, u64)>,
    },
}

/// The shape of a reading, known before there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// [`Reading::Count`].
    Count,
    /// [`Reading::Level`].
    Level,
    /// [`Reading::Spread`].
    Spread,
}

/// The readings of a metric: label values, in the order of the label names, and what they show.
pub type Readings = Vec<(Vec<String>, Reading)>;

/// Something that can be read.
pub trait Instrument {
    /// The shape of its readings.
    const SHAPE: Shape;

    /// The names of its labels.
    fn labels(&self) -> Vec<&'static str>;

    /// What it shows now; nothing while nobody has written it.
    fn read(&self) -> Readings;
}

/// Counts up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Instrument for Counter {
    const SHAPE: Shape = Shape::Count;

    fn labels(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn read(&self) -> Readings {
        let value = self.value();
        if value == 0 { Vec::new() } else { vec![(Vec::new(), Reading::Count(value))] }
    }
}

/// Stands at a level.
#[derive(Debug)]
pub struct Gauge(AtomicI64);

/// The level of a gauge that nobody has set.
const UNSET: i64 = i64::MIN;

impl Default for Gauge {
    fn default() -> Self {
        Self(AtomicI64::new(UNSET))
    }
}

impl Gauge {
    /// The level is this now.
    pub fn set(&self, level: u64) {
        self.0.store(i64::try_from(level).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// The level rises, or falls.
    pub fn shift(&self, by: i64) {
        let shifted = |level: i64| Some(if level == UNSET { 0 } else { level }.saturating_add(by));
        // The function never refuses.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, shifted);
    }
}

impl Instrument for Gauge {
    const SHAPE: Shape = Shape::Level;

    fn labels(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn read(&self) -> Readings {
        match self.0.load(Ordering::Relaxed) {
            UNSET => Vec::new(),
            level => vec![(Vec::new(), Reading::Level(level))],
        }
    }
}

/// Spreads observations over buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// The bits of a floating point number.
    sum: AtomicU64,
}

impl Histogram {
    /// One without observations. `bounds` rise; what lies beyond the last is counted too.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0f64.to_bits()) }
    }

    /// One more observation.
    pub fn observe(&self, what: f64) {
        let place = self.bounds.partition_point(|bound| *bound < what);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        let more = |bits| Some((f64::from_bits(bits) + what).to_bits());
        // The function never refuses.
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

impl Instrument for Histogram {
    const SHAPE: Shape = Shape::Spread;

    fn labels(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn read(&self) -> Readings {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        if buckets.iter().all(|(_, count)| *count == 0) {
            return Vec::new();
        }
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        vec![(Vec::new(), Reading::Spread { sum, buckets })]
    }
}

/// One instrument for every combination of label values.
#[derive(Debug)]
pub struct Family<T, const N: usize> {
    names: [&'static str; N],
    make: fn() -> T,
    // Few rows, and most writes hit one of the first: a list is faster than a map of owned texts.
    rows: Mutex<Vec<([String; N], Arc<T>)>>,
}

impl<T, const N: usize> Family<T, N> {
    /// A family without members yet.
    #[must_use]
    pub fn new(names: [&'static str; N], make: fn() -> T) -> Self {
        Self { names, make, rows: Mutex::default() }
    }

    /// The instrument of these label values. Odd characters of a value are replaced, and values
    /// that a label has no more room for count as `other`.
    pub fn with(&self, values: [&str; N]) -> Arc<T> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = rows.iter().find(|(row, _)| row.each_ref() == values) {
            return Arc::clone(found);
        }
        let mut wanted = values.map(plain);
        for (place, value) in wanted.iter_mut().enumerate() {
            let mut known: Vec<&String> = rows.iter().map(|(row, _)| &row[place]).collect();
            known.sort_unstable();
            known.dedup();
            if known.len() >= LABEL_VALUES_MAX && !known.contains(&&*value) {
                OTHER.clone_into(value);
            }
        }
        if let Some((_, found)) = rows.iter().find(|(row, _)| *row == wanted) {
            return Arc::clone(found);
        }
        let made = Arc::new((self.make)());
        rows.push((wanted, Arc::clone(&made)));
        made
    }
}

/// What values are called that a label has no room for.
const OTHER: &str = "other";

/// A label value of harmless characters.
fn plain(value: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "_.:/@{}-".contains(c);
    value.chars().take(LABEL_BYTES_MAX).map(|c| if harmless(c) { c } else { '_' }).collect()
}

impl<T: Instrument, const N: usize> Instrument for Family<T, N> {
    const SHAPE: Shape = T::SHAPE;

    fn labels(&self) -> Vec<&'static str> {
        self.names.to_vec()
    }

    fn read(&self) -> Readings {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |(values, it): &([String; N], Arc<T>)| {
            it.read().pop().map(|(_, reading)| (values.to_vec(), reading))
        };
        let mut all: Readings = rows.iter().filter_map(read).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_never_has_more_values_than_it_may() {
        let family = Family::new(["kind", "outcome"], Counter::default);
        for n in 0..LABEL_VALUES_MAX + 10 {
            family.with([&format!("kind-{n}"), "ok"]).one();
        }
        let read = family.read();
        assert_eq!(read.len(), LABEL_VALUES_MAX + 1);
        let other = read.iter().find(|(values, _)| values[0] == "other");
        assert_eq!(other.map(|(_, reading)| reading), Some(&Reading::Count(10)));
        family.with(["kind-0", "error"]).one();
        assert_eq!(family.read().len(), LABEL_VALUES_MAX + 2);
    }

    #[test]
    fn odd_characters_do_not_reach_a_label() {
        let family = Family::new(["kind"], Counter::default);
        family.with(["a\u{1b}[31m\n\"b\u{202e}"]).one();
        family.with(["a\u{1b}[31m\n\"b\u{202e}"]).one();
        assert_eq!(family.read(), [(vec!["a__31m__b_".to_owned()], Reading::Count(2))]);
    }

    #[test]
    fn a_histogram_keeps_sum_and_buckets() {
        let histogram = Histogram::new(&[1.0, 2.0]);
        assert!(histogram.read().is_empty());
        for what in [0.5, 1.0, 1.5, 99.0] {
            histogram.observe(what);
        }
        let buckets = vec![(1.0, 2), (2.0, 1), (f64::INFINITY, 1)];
        assert_eq!(histogram.read()[0].1, Reading::Spread { sum: 102.0, buckets });
    }

    #[test]
    fn a_gauge_that_was_set_to_nothing_is_not_one_that_nobody_set() {
        let gauge = Gauge::default();
        assert!(gauge.read().is_empty());
        gauge.set(0);
        assert_eq!(gauge.read()[0].1, Reading::Level(0));
        gauge.shift(3);
        gauge.shift(-1);
        assert_eq!(gauge.read()[0].1, Reading::Level(2));
    }
}
