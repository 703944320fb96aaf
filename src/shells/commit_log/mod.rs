//! The commit log: all runs' records of a moment become durable as one frame, then are copied to
//! the runs' journals.
//!
//! [`log`] writes frames and says what became of each unit; [`job`] is the slow work that threads
//! do beside it: spare segments, making run directories, syncing journals, releasing segments.
//! [`scan`] reads the log back and judges it, [`recover`] puts what it holds into journals and
//! empties it, [`overlay`] is for looking while somebody else may write. May not know what a record
//! means. Invariant: a line reaches a journal only after its frame is durable, and a segment goes
//! only after everything in it is in journals that were synced.

mod copy;
mod duty;
pub mod figures;
pub mod job;
pub mod label;
pub mod log;
pub mod overlay;
mod rebuild;
mod reconcile;
pub mod recover;
pub mod remark;
mod runs;
pub mod scan;
mod segment;
pub mod tail;

use crate::codecs::format::log_entry::{Append, Entry};
use crate::ground::id::{RunId, Seq};
use crate::ground::limits;
use crate::ports::disk;

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

/// How large and how patient the log is. The defaults are the limits of the same names.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Size of a segment.
    pub segment_bytes: u64,
    /// Size beyond which a batch takes no further unit.
    pub batch_bytes_max: usize,
    /// Most records of a batch.
    pub batch_records_max: usize,
    /// Bytes kept for outcomes when there is no room for another segment.
    pub reserve_bytes: u64,
    /// Free space below which no new work is taken.
    pub free_bytes_min: u64,
    /// Quiet time before a mark.
    pub mark_after_ms: u64,
    /// Quiet time before a new segment.
    pub idle_rotate_ms: u64,
    /// Quiet time before a run is settled.
    pub settle_idle_ms: u64,
    /// Age of an unsynced record at which its run is settled.
    pub settle_age_max_ms: u64,
    /// Most jobs that settle at a time: other jobs must not wait behind them.
    pub settle_jobs_max: usize,
    /// Most journal files that stay open.
    pub open_files_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: limits::LOG_SEGMENT_BYTES,
            batch_bytes_max: limits::LOG_BATCH_BYTES_MAX,
            batch_records_max: limits::LOG_BATCH_RECORDS_MAX,
            reserve_bytes: limits::LOG_RESERVE_BYTES,
            free_bytes_min: limits::DISK_FREE_BYTES_MIN,
            mark_after_ms: limits::LOG_MARK_AFTER_MS,
            idle_rotate_ms: limits::LOG_IDLE_ROTATE_MS,
            settle_idle_ms: limits::SETTLE_IDLE_MS,
            settle_age_max_ms: limits::SETTLE_AGE_MAX_MS,
            settle_jobs_max: limits::SETTLE_THREADS - 2,
            open_files_max: limits::FD_CACHE_MAX,
        }
    }
}

/// What one caller wants durable at once: it is never split over frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// What it says.
    pub entry: Entry,
    /// New work, which is refused first when room runs out; otherwise an outcome of work that was
    /// taken.
    pub inflow: bool,
}

impl Unit {
    /// Records of one run.
    #[must_use]
    pub const fn append(append: Append, inflow: bool) -> Self {
        Self { entry: Entry::Append(append), inflow }
    }

    /// The place of its last record; 0 for the end of a run.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        match &self.entry {
            Entry::Append(append) => append.last_seq(),
            Entry::Rebase { seq, .. } => *seq,
            Entry::Gone { .. } => Seq(0),
        }
    }
}

/// What the writer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriterState {
    /// Everything.
    #[default]
    Healthy,
    /// Outcomes only: there is no room for new work.
    Full,
    /// Nothing, and never again in this process.
    Failed,
}

/// Why a unit was not written. It is known not to be: trying again is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// It does not fit into a frame: a bug of whoever built it.
    #[error("the unit is longer than a frame may be [W2]")]
    TooLong,
    /// It does not build on the run's head: a bug, or a unit before it was refused.
    #[error("the unit does not build on the head of its run [W3]")]
    NotTheHead,
    /// A run is deleted or repaired only when its directory is there.
    #[error("the directory of the run is not made yet")]
    NotMade,
    /// The run's journal cannot be read.
    #[error("the journal of the run cannot be opened: {0:?}")]
    Unreadable(disk::Kind),
    /// No room.
    #[error("there is no room [W4]")]
    NoRoom,
    /// The writer failed before.
    #[error("storage failed before [W4]")]
    Failed,
}

/// What became of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// A unit is durable.
    Durable {
        /// The run.
        run: RunId,
        /// Its last record.
        seq: Seq,
        /// The frame that holds it.
        frame: u64,
    },
    /// A unit was not written.
    NotWritten {
        /// The run.
        run: RunId,
        /// The unit's last record.
        seq: Seq,
        /// Why.
        why: Why,
    },
    /// The write of a unit failed: it may be durable or not. The writer has failed.
    Unknown {
        /// The run.
        run: RunId,
        /// The unit's last record.
        seq: Seq,
    },
    /// A frame without entries is durable.
    Mark {
        /// Its number.
        frame: u64,
    },
    /// A run's directory is there.
    Made {
        /// The run.
        run: RunId,
    },
    /// A run's journal is durable by itself up to a record.
    Settled {
        /// The run.
        run: RunId,
        /// The record.
        seq: Seq,
    },
    /// A run's directory was removed by somebody, and with it what was to be settled.
    Removed {
        /// The run.
        run: RunId,
    },
    /// Segments up to this one are gone.
    Released {
        /// Its number.
        segno: u64,
    },
    /// The writer takes other things than before.
    State(WriterState),
}

/// Why a log cannot be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Sizes that contradict each other.
    #[error("settings of the commit log: {0}")]
    Settings(&'static str),
    /// Runs are not settled: the root stays open and is recovered at the next start.
    #[error("{0} runs could not be settled")]
    Unsettled(usize),
    /// The index has not applied all frames.
    #[error("the index has applied frames up to {applied}, the log ends at {last}")]
    Index {
        /// Applied up to here.
        applied: u64,
        /// The last frame.
        last: u64,
    },
    /// The writer has failed.
    #[error("the writer of the commit log failed: {0}")]
    Failed(String),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}
