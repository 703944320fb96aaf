//! The commit log: all runs' records of a moment become durable as one frame, then are copied to
//! the runs' journals.
//!
//! [`scan`] reads it back and judges it, [`recover`] puts what it holds into journals and empties
//! it, [`overlay`] is for looking while somebody else may write. May not know what a record means.
//! Invariant: a line reaches a journal only after its frame is durable, and a segment goes only
//! after everything in it is in journals that were synced.

pub mod label;
pub mod overlay;
mod reconcile;
pub mod recover;
pub mod scan;
pub mod tail;

/// The directory of the segments, below the root's own.
pub const LOG_DIR: &str = "commit-log";

/// Name of a segment's file.
#[must_use]
pub fn segment_file(segno: u64) -> String {
    format!("{segno:016x}.dlog")
}

/// The number of the segment that a file name stands for.
#[must_use]
pub fn segment_number(name: &str) -> Option<u64> {
    let segno = u64::from_str_radix(name.strip_suffix(".dlog")?, 16).ok()?;
    (segment_file(segno) == name).then_some(segno)
}
