//! What the log's work adds to the numbers.
//!
//! May not know what was committed. Invariant: whatever the log has done is counted once.

use crate::ports::telemetry::Metrics;
use crate::shells::commit_log::figures::Figures;

/// Counts what the log did between two looks at its figures.
pub(super) fn count(metrics: &Metrics, before: &Figures, now: &Figures) {
    metrics.commit_log_bytes.add(now.bytes - before.bytes);
    metrics.commit_log_rotations.add(now.segments - before.segments);
    metrics.settles.add(now.settles - before.settles);
    if now.frames > before.frames {
        // One frame at most is written between two looks.
        let (frames, records) = (now.frames - before.frames, now.records - before.records);
        metrics.commit_log_frames.add(frames);
        metrics.commit_log_records.add(records);
        metrics.commit_log_batch.observe(exact(records));
        metrics.commit.observe(exact(now.sync_micros.sum - before.sync_micros.sum) / 1e6);
    }
}

/// Counts journals that one job settled together.
pub(super) fn settled(metrics: &Metrics, journals: usize, seconds: f64) {
    for _ in 0..journals {
        metrics.settle.observe(seconds / exact(journals as u64));
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
const fn exact(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_counted() {
        let metrics = Metrics::default();
        let mut now = Figures { bytes: 4_096, segments: 1, ..Figures::default() };
        count(&metrics, &Figures::default(), &now);
        let before = now;
        (now.bytes, now.frames, now.records) = (8_192, 1, 3);
        now.sync_micros.add(500);
        count(&metrics, &before, &now);
        count(&metrics, &now, &now);
        settled(&metrics, 2, 0.5);
        let seen = [&metrics.commit_log_bytes, &metrics.commit_log_frames];
        assert_eq!(seen.map(crate::ports::telemetry::Counter::value), [8_192, 1]);
        assert_eq!(metrics.commit_log_records.value(), 3);
        assert_eq!(metrics.commit_log_rotations.value(), 1);
        let sums = metrics.show().into_iter().flat_map(|metric| {
            let readings = metric.readings.into_iter();
            readings.filter_map(move |(_, reading)| match reading {
                crate::ports::telemetry::Reading::Spread { sum, .. } => Some((metric.field, sum)),
                _ => None,
            })
        });
        let sums: Vec<_> = sums.collect();
        assert_eq!(sums, [("commit_log_batch", 3.0), ("commit", 0.0005), ("settle", 0.5)]);
    }
}
