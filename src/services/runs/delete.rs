//! Deleting a run.
//!
//! May not make anybody execute something twice, nor decide that it is done: the operator says so.
//! Invariant: while another run waits for it, or its idempotency keys count, a run stays; its id is
//! never free, for whoever got results under it may still bring or keep some.

use crate::ground::id::RunId;
use crate::machines::effect::Wait;
use crate::machines::ledger::{Row, State};
use crate::machines::replay::state::RunState;
use crate::shells::commit_log::overlay::{Overlay, overlay};
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::former::Mark;
use crate::shells::run_dir::lock::Held;
use crate::shells::run_dir::root::{Root, RootView};

use super::custody::Custody;
use super::open::look_over;
use super::trouble::Trouble;
use super::{Error, Result, Runs};

/// What is allowed about a deletion.
#[derive(Debug, Clone, Copy)]
pub struct Deletion {
    /// Also a run that has not ended, or that cannot be read.
    pub force: bool,
    /// How long idempotency keys count after the end of their effects.
    pub keys_kept_ms: u64,
    /// Only look whether it could be done.
    pub dry_run: bool,
}

/// A run that was deleted, or could be.
#[derive(Debug)]
pub struct Deleted {
    /// The run.
    pub run_id: RunId,
    /// How it ended; nothing if it has not, or cannot be read.
    pub end: Option<&'static str>,
    /// Nothing of it is left on the disk.
    pub is_gone: bool,
}

impl Deleted {
    /// A run that left its root, or may.
    pub(in crate::services) fn of(run: &RunId, state: Option<&RunState>, is_gone: bool) -> Self {
        let end = state.and_then(|state| Some(state.end?.0.name()));
        Self { run_id: run.clone(), end, is_gone }
    }
}

/// A run that may leave the root. Nobody else has it while this lives.
pub(in crate::services) struct Leaver {
    /// The root it stands in.
    pub(in crate::services) root: Root,
    /// Its directory.
    pub(in crate::services) dir: RunDir,
    /// What it is; nothing if it cannot be read.
    pub(in crate::services) state: Option<RunState>,
    _lock: Held,
}

impl Runs {
    /// Deletes a run of the root, for good. What is left is a mark that keeps its id from being
    /// given to another run.
    ///
    /// # Errors
    /// It has not ended, somebody waits for it, its keys count, or somebody has it open.
    pub fn delete(&self, root: &dyn Custody, reference: &str, how: Deletion) -> Result<Deleted> {
        root.take_out(reference, how, &|view, dir, state| self.mark_deleted(view, dir.id(), state))
    }

    /// Takes a run that may leave the root.
    pub(in crate::services) fn hold_leaver(
        &self,
        reference: &str,
        how: Deletion,
    ) -> Result<Leaver> {
        let dir = self.find_to_write(reference)?;
        if !dir.in_root() {
            let what = format!("{} stands in no runs root", dir.path().display());
            let next = "remove the directory itself: nothing else knows of it";
            return Err(Error::Invalid(Trouble::new("usage", what).next(next)));
        }
        let root = self.open_root_of(&dir)?;
        let lock = dir.lock(self.lock_wait_ms, &*self.clock)?;
        if !root.still_has(&dir)? {
            let what = format!("run {}", dir.id());
            return Err(Error::NotFound(Trouble::new("run_not_found", what)));
        }
        let log = dir.root().map(|meta| overlay(&**meta)).unwrap_or_default();
        let state = self.judge_leaver(root.view(), &dir, &log, how)?;
        Ok(Leaver { root, dir, state, _lock: lock })
    }

    /// Whether a run may leave the root. Gives its fold, unless it cannot be read.
    pub(in crate::services) fn judge_leaver(
        &self,
        root: &RootView,
        dir: &RunDir,
        log: &Overlay,
        how: Deletion,
    ) -> Result<Option<RunState>> {
        let state = match look_over(dir.clone(), log) {
            Ok(seen) => seen.state,
            Err(Error::Damaged(_)) if how.force => return Ok(None),
            Err(e @ Error::Damaged(_)) => {
                return Err(e.and_next(format!("dormouse run delete {} --force", dir.id())));
            }
            Err(e) => return Err(e),
        };
        self.must_be_dispensable(root, dir.id(), &state, log, how)?;
        Ok(Some(state))
    }

    /// Keeps the mark of a run that is about to be deleted.
    fn mark_deleted(&self, root: &RootView, run: &RunId, state: Option<&RunState>) -> Result<()> {
        let mark = Mark {
            run_id: run.clone(),
            at: self.clock.now(),
            by: self.by.clone(),
            head: state.map(|state| state.head),
            end: state.and_then(|state| Some(state.end?.0.name().to_owned())),
        };
        root.mark_removed(&mark)?;
        // A copy that an archiving left when it died.
        Ok(root.forget_archive(run)?)
    }

    fn must_be_dispensable(
        &self,
        root: &RootView,
        id: &RunId,
        state: &RunState,
        log: &Overlay,
        how: Deletion,
    ) -> Result<()> {
        if state.end.is_none() && !how.force {
            let what = format!("run {id} has not ended");
            let next = format!("dormouse run halt {id}");
            return Err(Error::Conflict(Trouble::new("run_open", what).next(next)));
        }
        if let Some(parent) = &state.parent
            && let Ok(above) = root.run(&parent.run_id)
        {
            let waits = look_over(above, log).map(|seen| {
                seen.state.effect(parent.effect_id).is_some_and(|e| e.status.is_open())
            });
            // A parent that cannot be read may wait all the same.
            if waits.unwrap_or(true) {
                let (run, effect) = (&parent.run_id, parent.effect_id);
                let what = format!("run {id} is a child run that {run}/{effect} waits for");
                let next = format!("dormouse run iterate {run}");
                return Err(Error::Conflict(Trouble::new("parent_waits", what).next(next)));
            }
        }
        if !how.force
            && let Some(child) = open_child(root, id, state, log)
        {
            let what = format!("run {child}, a child of {id}, has not ended");
            let next = format!("dormouse run halt {child}");
            return Err(Error::Conflict(Trouble::new("children_open", what).next(next)));
        }
        self.must_hold_no_keys(id, state, how.keys_kept_ms)
    }

    /// An explicit key outlives its effect: freed early, it would let the same be done again.
    fn must_hold_no_keys(&self, id: &RunId, state: &RunState, kept_ms: u64) -> Result<()> {
        let now = self.clock.now();
        let counts = |row: &Row| {
            let is_old = row.ended_at.is_some_and(|at| at.later_by(kept_ms) <= now);
            row.state != State::Failed && !is_old
        };
        let rows = state.effects.values().filter_map(|effect| {
            let row = Row::of(id, effect).filter(counts)?;
            Some((effect.policy.idempotency_key.clone()?, row.ended_at))
        });
        let Some((key, ended_at)) = rows.max_by_key(|(_, at)| (at.is_none(), *at)) else {
            return Ok(());
        };
        let until = ended_at.map_or(String::new(), |at| format!(" until {}", at.later_by(kept_ms)));
        let what = format!("the idempotency key {key:?} of run {id} counts{until}");
        let next = format!("dormouse run export {id}: it may be kept elsewhere until then");
        Err(Error::Conflict(Trouble::new("keys_held", what).next(next)))
    }
}

/// A child run that goes on without anybody above it.
fn open_child(root: &RootView, id: &RunId, state: &RunState, log: &Overlay) -> Option<RunId> {
    let children = state.effects.values().filter(|e| matches!(e.wait, Wait::Run(_)));
    let mut children = children.filter_map(|e| e.target.as_ref()?.parse::<RunId>().ok());
    children.find(|child| {
        let seen = root.run(child).map_err(Error::from).and_then(|dir| look_over(dir, log));
        seen.is_ok_and(|seen| {
            let ours = seen.state.parent.as_ref().is_some_and(|p| p.run_id == *id);
            ours && seen.state.end.is_none()
        })
    })
}
