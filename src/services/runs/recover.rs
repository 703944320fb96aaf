//! A root whose daemon died: recovered by the first command that wants to write in it.
//!
//! May not serve anything. Invariant: a command works in a root only while every run directory is
//! complete; nobody turns a shared lock into an exclusive one.

use std::path::Path;

use crate::ports::disk::Kind;
use crate::shells::commit_log::LOG_DIR;
use crate::shells::commit_log::overlay::overlay;
use crate::shells::commit_log::recover::{self, Patience, Recovered};
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::owned::OwnedRoot;
use crate::shells::run_dir::root::{self, Guard, Options, Root};

use super::trouble::Trouble;
use super::{Error, Result, Runs};

/// The code of a run, or a root, that a recovery has to complete.
const UNMADE: &str = "root_needs_recovery";

impl Runs {
    /// Opens a root for writing commands; one that a daemon left open is recovered first.
    pub(in crate::services) fn share_root(&self, path: &Path, create: bool) -> Result<Root> {
        let options = self.options(create);
        match Root::open(&self.disk, path, &options, &*self.clock) {
            Err(root::Error::NeedsRecovery(_)) => {
                self.recover_root(path)?;
                Ok(Root::open(&self.disk, path, &options, &*self.clock)?)
            }
            other => Ok(other?),
        }
    }

    /// Holds the root that a run stands in, if it stands in one; recovers it first if need be.
    pub(in crate::services) fn guard(&self, dir: &RunDir) -> Result<Option<Guard>> {
        match root::guard(dir, self.lock_wait_ms, &*self.clock) {
            Err(root::Error::NeedsRecovery(_)) => {
                if let Some(above) = self.disk.canonicalize(dir.path())?.parent() {
                    self.recover_root(above)?;
                }
                Ok(root::guard(dir, self.lock_wait_ms, &*self.clock)?)
            }
            other => Ok(other?),
        }
    }

    /// The directory of a run that will be written. One that stands in the commit log alone so far
    /// gets its directory by recovering the root.
    pub(in crate::services) fn find_to_write(&self, reference: &str) -> Result<RunDir> {
        match self.find(reference) {
            Err(Error::Conflict(t)) if t.code == UNMADE => {
                drop(self.open_root(false)?);
                self.find(reference)
            }
            other => other,
        }
    }

    /// What to say of a run that was not found if it stands in the commit log alone so far.
    pub(super) fn or_unmade(&self, reference: &str) -> Option<Error> {
        let root = self.view_root().ok()?;
        let meta = root.meta()?;
        if let Err(e) = meta.open_dir(LOG_DIR)
            && e.kind == Kind::TooManyOpen
        {
            // The log cannot be read: whether it has the run is not known.
            return Some(e.into());
        }
        let log = overlay(&**meta);
        let id = log.born().find(|id| id.as_str().starts_with(reference))?;
        let what = format!("run {id} stands in the commit log only: its directory is not made yet");
        Some(Error::Conflict(Trouble::new(UNMADE, what).next("dormouse run list")))
    }

    /// Recovers a root and leaves it at rest.
    pub fn recover_root(&self, path: &Path) -> Result<Recovered> {
        let options = self.options(false);
        let root = OwnedRoot::open(&self.disk, path, &options, &*self.clock)?;
        let patience = Patience { lock_wait_ms: self.lock_wait_ms, ..Patience::default() };
        let done = recover::recover(&root, None, &patience, &*self.clock)?;
        root.rest()?;
        Ok(done)
    }

    fn options(&self, create: bool) -> Options {
        Options { create, wait_ms: self.lock_wait_ms, allow_fs: self.allow_fs.clone() }
    }
}
