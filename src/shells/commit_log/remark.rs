//! What the log has to say about its disk.
//!
//! May not say it itself: whoever owns the log does. Invariant: trouble that was survived is said
//! as well as trouble that was not.

use crate::ground::id::{RunId, Seq};
use std::fmt;

/// One thing that somebody who looks after the disk wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// There is no room for new work, for these reasons.
    Full(String),
    /// There is room again.
    Healthy,
    /// Nothing will be written any more, for this reason.
    Failed(String),
    /// A segment of a journal could not be trusted and was built again from the log.
    Rebuilt {
        /// Whose.
        run: RunId,
        /// The segment's first record.
        first: Seq,
    },
    /// Something failed and costs nobody an answer.
    Survived(String),
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(why) => write!(f, "no new work is taken: {why}"),
            Self::Healthy => f.write_str("there is room again, and new work is taken"),
            Self::Failed(why) => write!(f, "nothing is written any more: {why}"),
            Self::Rebuilt { run, first } => {
                write!(f, "the journal of {run} was built again from record {first} on")
            }
            Self::Survived(what) => f.write_str(what),
        }
    }
}
