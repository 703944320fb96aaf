//! What the log has done, in numbers.
//!
//! May not know who shows them. Invariant: counters only grow; the rest says how things are now.

/// Bounds double from 1: the last bucket holds everything from 2²³ on.
pub const BUCKETS: usize = 24;

/// How many values fell between powers of two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Histogram {
    /// `buckets[i]`: values `v` with `2^(i-1) < v <= 2^i`.
    pub buckets: [u64; BUCKETS],
    /// Sum of all values.
    pub sum: u64,
}

impl Histogram {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        let bucket = u64::BITS - value.saturating_sub(1).leading_zeros();
        self.buckets[(bucket as usize).min(BUCKETS - 1)] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Counters and levels of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Frames with entries.
    pub frames: u64,
    /// Marks.
    pub marks: u64,
    /// Number of the last frame.
    pub last_frame: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of frames, padding included.
    pub bytes: u64,
    /// Units in a batch.
    pub batch_units: Histogram,
    /// Microseconds until a frame was durable.
    pub sync_micros: Histogram,
    /// Segments that were begun.
    pub segments: u64,
    /// Segments that were removed.
    pub released: u64,
    /// Bytes of segments that are not released.
    pub unsettled_bytes: u64,
    /// Runs that are not settled.
    pub unsettled_runs: u64,
    /// Runs that were settled.
    pub settles: u64,
    /// Directories of runs that were made.
    pub made: u64,
    /// Runs whose journal is behind the log for want of room.
    pub lagging: u64,
    /// Journal segments that were built again.
    pub rebuilds: u64,
    /// Journal files that are open.
    pub open_files: u64,
    /// Failures that were survived: each is worth a look at the disk.
    pub alarms: u64,
    /// Units that were refused.
    pub refused: u64,
    /// What is short is not room but descriptors.
    pub crowded: bool,
    /// It writes through the page cache, because the filesystem cannot do without.
    pub buffered: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_between_powers_of_two() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 5, u64::MAX] {
            histogram.add(value);
        }
        assert_eq!(histogram.buckets[..5], [2, 1, 2, 1, 0]);
        assert_eq!((histogram.buckets[BUCKETS - 1], histogram.count()), (1, 7));
    }
}
