//! The log for whoever only looks: what it holds beyond the journals, in memory.
//!
//! May not write or lock, nor judge: a log that is being written, or is damaged, adds nothing it
//! cannot prove. Invariant: a root at rest has no overlay.

use super::scan::{self, Scanned};
use super::tail::{self, Fate, Piece, Tail};
use crate::ground::id::RunId;
use crate::ports::disk::{Dir, Open};
use crate::shells::run_dir::root::RootState;
use crate::shells::run_dir::root_file;
use std::collections::BTreeMap;

/// What the log of a root holds of each run.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    tails: BTreeMap<RunId, Tail>,
}

impl Overlay {
    /// What the journal of a run ends with.
    #[must_use]
    pub fn pieces(&self, run: &RunId) -> &[Piece] {
        self.tails.get(run).map(Tail::pieces).unwrap_or_default()
    }

    /// Runs that the log holds from their first record on: their directories may not be made yet.
    pub fn born(&self) -> impl Iterator<Item = &RunId> {
        self.tails.iter().filter(|(_, tail)| tail.from_birth()).map(|(run, _)| run)
    }

    /// Whether the run was deleted.
    #[must_use]
    pub fn is_gone(&self, run: &RunId) -> bool {
        self.tails.get(run).is_some_and(|tail| tail.fate == Fate::Gone)
    }
}

/// Reads the log of the root whose own directory is `meta`. Empty at rest, and where the log cannot
/// be read or judged: journals are shown as they are then, and whoever writes next will say why.
#[must_use]
pub fn overlay(meta: &dyn Dir) -> Overlay {
    // A batch that is just being written, or a segment that is just being released, looks bad
    // once; what stands before a bad end counts all the same.
    let scanned = match look(meta) {
        Some(scanned) if scanned.torn.is_none() => Some(scanned),
        _ => look(meta),
    };
    let tails = scanned.and_then(|scanned| tail::fold(&scanned).ok());
    Overlay { tails: tails.unwrap_or_default() }
}

fn look(meta: &dyn Dir) -> Option<Scanned> {
    let json = root_file::read(meta).ok()??;
    if json.state == RootState::AtRest {
        return Some(Scanned::default());
    }
    scan::scan(meta, &json, Open::Read).ok()
}
