//! Values that are right by themselves and wrong together.
//!
//! May not know where a value came from. Invariant: a log can be begun with the sizes that pass.

use super::keys::size;
use super::layers::{Error, Settings};
use super::number;
use crate::ground::limits::LOG_SEGMENT_BYTES_MIN;

const SEGMENT: &str = "log.segment_bytes";
const RESERVE: &str = "log.reserve_bytes";
const BATCH: &str = "log.batch_bytes_max";

/// Checks what keys say together.
pub(super) fn check(settings: &Settings) -> Result<(), Error> {
    let segment = number(settings, SEGMENT);
    if !segment.is_multiple_of(LOG_SEGMENT_BYTES_MIN) {
        return Err(Error::Together {
            wrong: settings.named(SEGMENT),
            other: "the layout of segments".to_owned(),
            allowed: format!("a multiple of {}", size(LOG_SEGMENT_BYTES_MIN)),
        });
    }
    if number(settings, RESERVE) >= segment {
        return Err(beside_segment(settings, RESERVE, &format!("less than {}", size(segment))));
    }
    let batch_max = batch_bytes_max(segment);
    // A batch that nobody asked for follows its segment.
    if settings.is_given(BATCH) && number(settings, BATCH) > batch_max {
        return Err(beside_segment(settings, BATCH, &format!("at most {}", size(batch_max))));
    }
    Ok(())
}

/// Most bytes of a batch, so that every segment takes one.
pub(super) const fn batch_bytes_max(segment_bytes: u64) -> u64 {
    segment_bytes / 2
}

fn beside_segment(settings: &Settings, key: &str, allowed: &str) -> Error {
    Error::Together {
        wrong: settings.named(key),
        other: settings.named(SEGMENT),
        allowed: allowed.to_owned(),
    }
}
