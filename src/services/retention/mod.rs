//! Retention: ended runs leave the root for an archive or for good, and what nobody names goes.
//!
//! [`archive`] puts a run into a file and back, [`plan`] says which runs a policy lets go, [`gc`]
//! lets them go, [`sweep`] removes what was left over. May not touch a run that has not ended, nor
//! one that cannot be read. Invariant: a run is whole in its directory, or whole in its archive, or
//! marked as deleted; whatever dies in between, doing the same again finishes it.

pub mod archive;
pub mod gc;
pub mod plan;
pub mod sweep;

use crate::machines::replay::state::End;

/// What may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How long nothing may have been written to a run.
    pub older_than_ms: u64,
    /// How it may have ended.
    pub ends: Vec<End>,
    /// Of each process so many ended runs stay, the newest ones.
    pub keep: usize,
    /// Runs are archived, not deleted.
    pub archive: bool,
    /// How long idempotency keys count after the end of their effects.
    pub keys_kept_ms: u64,
    /// Age at which an upload goes that nothing names, and what else was left over.
    pub left_over_ms: u64,
    /// Age at which goes what a repair set aside; nothing of it goes unless this is given.
    pub set_aside_ms: Option<u64>,
}
