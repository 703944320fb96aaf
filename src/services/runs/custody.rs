//! Who has a root: whoever it is lets runs leave it, and come in.
//!
//! May not decide which. Invariant: nobody has a run open while it leaves or comes.

use crate::codecs::event::Head;
use crate::ground::id::RunId;
use crate::machines::replay::state::RunState;
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::root::{Root, RootView};

use super::delete::{Deleted, Deletion};
use super::{Result, Runs};

/// What is done before the directory of a run goes: something is kept of it.
pub type Prepare<'a> = &'a dyn Fn(&RootView, &RunDir, Option<&RunState>) -> Result<()>;

/// What makes the directory of a run. Gives where its journal ends.
pub type Make<'a> = &'a mut dyn FnMut(&RootView) -> Result<Head>;

/// Whoever has a root.
pub trait Custody {
    /// Keeps others off the root while what is given lives; makes every run directory complete.
    ///
    /// # Errors
    /// Somebody else has it.
    fn hold(&self) -> Result<Option<Root>>;

    /// Removes the directory of a run that may leave, after `prepare`.
    ///
    /// # Errors
    /// It has to stay, or `prepare` failed.
    fn take_out(&self, reference: &str, how: Deletion, prepare: Prepare<'_>) -> Result<Deleted>;

    /// Lets `make` make the directory of a run.
    ///
    /// # Errors
    /// `make` failed, or somebody has a run of that id.
    fn bring_in(&self, run: &RunId, make: Make<'_>) -> Result<()>;
}

/// A command that works on the files itself.
impl Custody for Runs {
    fn hold(&self) -> Result<Option<Root>> {
        self.open_root(false).map(Some)
    }

    fn take_out(&self, reference: &str, how: Deletion, prepare: Prepare<'_>) -> Result<Deleted> {
        let leaver = self.hold_leaver(reference, how)?;
        let is_gone = !how.dry_run && {
            prepare(leaver.root.view(), &leaver.dir, leaver.state.as_ref())?;
            leaver.root.remove(&leaver.dir)?
        };
        Ok(Deleted::of(leaver.dir.id(), leaver.state.as_ref(), is_gone))
    }

    fn bring_in(&self, _: &RunId, make: Make<'_>) -> Result<()> {
        let root = self.open_root(true)?;
        make(root.view()).map(drop)
    }
}
