//! A root and its index in the hands of a command, while no daemon serves the root.
//!
//! May not let runs go on. Invariant: the index is looked at only after the log was recovered.

use crate::services::audit::{self, Audited, RootJournals, whole_round};
use crate::services::indexer::rebuild;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::commit_log::recover::{self, Patience, Recovered};
use crate::shells::run_dir::owned::OwnedRoot;
use crate::shells::run_dir::root::Options;
use crate::shells::store::{Batch, Condition, Index};

use super::wiring::{freshen, not_rebuilt, unusable};

/// A root that nobody else may have for now.
pub struct Alone {
    runs: Runs,
    root: OwnedRoot,
    index: Index,
    condition: Condition,
    recovered: Recovered,
}

impl Alone {
    /// Takes the root and recovers it.
    pub fn open(runs: &Runs) -> Result<Self> {
        let wait_ms = runs.lock_wait_ms;
        let options = Options { create: false, wait_ms, allow_fs: runs.allow_fs.clone() };
        let root = OwnedRoot::open(&runs.disk, &runs.root, &options, &*runs.clock)?;
        let (index, condition) =
            Index::open(&*runs.disk, root.meta().path()).map_err(|e| unusable(&e))?;
        let patience = Patience { lock_wait_ms: wait_ms, ..Patience::default() };
        let recovered = recover::recover(&root, condition.applied(), &patience, &*runs.clock)?;
        Ok(Self { runs: runs.clone(), root, index, condition, recovered })
    }

    /// Makes the index anew from the journals.
    pub fn rebuild(&mut self, progress: &mut dyn FnMut(usize, usize)) -> Result<()> {
        let frame = self.recovered.last_seq;
        rebuild::rebuild(&self.runs, &mut self.index, frame, progress).map_err(not_rebuilt)?;
        rebuild::take_touched(&self.runs, &mut self.index).map_err(not_rebuilt)?;
        Ok(())
    }

    /// Compares every run with its row, and mends what is wrong.
    pub fn audit(&mut self) -> Result<Audited> {
        freshen(&self.runs, &mut self.index, &self.condition, &self.recovered)?;
        let journals = RootJournals::new(&self.runs);
        let audited = journals.and_then(|mut found| whole_round(&mut &self.index, &mut found));
        let audited = audited.map_err(not_audited)?;
        let changes = audited.mending.clone();
        self.index.apply(&Batch { frame: 0, changes }).map_err(|e| unusable(&e))?;
        Ok(audited)
    }

    /// Lets the root go, with every run directory complete.
    pub fn close(self) -> Result<()> {
        self.index.close().map_err(|e| unusable(&e))?;
        Ok(self.root.rest()?)
    }
}

fn not_audited(error: audit::Error) -> Error {
    match error {
        audit::Error::Runs(error) => error,
        audit::Error::Index(error) => unusable(&error),
        audit::Error::Unavailable(_) => unreachable!("an index that is held alone is available"),
    }
}
