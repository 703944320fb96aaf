//! A root whose daemon died: recovered by the first command that wants to write in it.
//!
//! May not serve anything. Invariant: a command works in a root only while every run directory is
//! complete; nobody turns a shared lock into an exclusive one.

use std::path::Path;

use crate::shells::commit_log::recover::{self, Patience, Recovered};
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::owned::OwnedRoot;
use crate::shells::run_dir::root::{self, Guard, Options, Root};

use super::{Result, Runs};

impl Runs {
    /// Opens a root for writing commands; one that a daemon left open is recovered first.
    pub(super) fn share_root(&self, path: &Path, create: bool) -> Result<Root> {
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
