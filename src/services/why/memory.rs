//! What only a daemon's memory knows of a run. It may vanish at any moment.
//!
//! May not know where it comes from. Invariant: an answer without it is true, and says less.

use std::collections::{BTreeMap, BTreeSet};

use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, EffectName};
use crate::machines::limits::Bucket;

/// What a daemon knows of one run besides its journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// A host works for it, or it is on its way to one.
    pub is_moving: bool,
    /// The case of damage for which it was set aside.
    pub damage: Option<String>,
    /// Its process has returned; what it left open is waited for.
    pub is_draining: bool,
    /// Until when the started effects' leases run, as far as one is known.
    pub leases: BTreeMap<EffectId, Timestamp>,
    /// How far the holders of started effects say that they are.
    pub progress: BTreeMap<EffectId, String>,
    /// How many workers asked for work in the last minute, by kind.
    pub workers: BTreeMap<String, usize>,
    /// Effects that an operator does not let wait for their next attempt.
    pub hurried: BTreeSet<EffectId>,
    /// Requested effects that are kept from starting.
    pub holds: BTreeMap<EffectId, Hold>,
    /// Uncertain effects about which the outside is asked.
    pub probes: BTreeMap<EffectId, Probing>,
}

/// How far the outside was asked about an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probing {
    /// How often it did not know.
    pub asked: u32,
    /// What is next.
    pub next: Asks,
}

/// When the outside is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Then.
    At(Timestamp),
    /// At this moment.
    Now,
    /// Not any more by itself.
    Never,
}

/// What keeps an effect from starting although it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// A limit is used up.
    Limit {
        /// The limit, by the name under which it is set.
        limit: Bucket,
        /// The kind or key that is full.
        bucket: Bucket,
        /// Of those who have slots, who has one for longest; nobody: none is given at all, or time
        /// alone keeps it.
        holder: Option<EffectName>,
        /// When time alone will let it start.
        until: Option<Timestamp>,
    },
    /// Its idempotency key is taken by an effect without an outcome.
    Key {
        /// The key.
        key: String,
        /// Who has it.
        holder: EffectName,
    },
    /// The configuration does not allow it.
    Policy {
        /// Why not.
        why: String,
        /// The line that would.
        allow: String,
    },
}
