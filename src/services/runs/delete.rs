//! Deleting a run.
//!
//! May not make anybody execute something twice, nor decide that it is done: the operator says so.
//! Invariant: while another run waits for it, or its idempotency keys count, a run stays.

use crate::ground::id::RunId;
use crate::machines::effect::Wait;
use crate::machines::ledger::{Row, State};
use crate::machines::replay::state::RunState;
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::root::RootView;

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

impl Runs {
    /// Deletes a run of the root, for good.
    ///
    /// # Errors
    /// It has not ended, somebody waits for it, its keys count, or somebody has it open.
    pub fn delete(&self, reference: &str, how: Deletion) -> Result<Deleted> {
        let dir = self.find_to_write(reference)?;
        if !dir.in_root() {
            let what = format!("{} stands in no runs root", dir.path().display());
            let next = "remove the directory itself: nothing else knows of it";
            return Err(Error::Invalid(Trouble::new("usage", what).next(next)));
        }
        let root = self.open_root_of(&dir)?;
        let run_id = dir.id().clone();
        let lock = dir.lock(self.lock_wait_ms, &*self.clock)?;
        if !root.still_has(&dir)? {
            return Err(Error::NotFound(Trouble::new("run_not_found", format!("run {run_id}"))));
        }
        let state = match self.look_dir(dir.clone()) {
            Ok(seen) => Some(seen.state),
            Err(Error::Damaged(_)) if how.force => None,
            Err(e @ Error::Damaged(_)) => {
                return Err(e.and_next(format!("dormouse run delete {run_id} --force")));
            }
            Err(e) => return Err(e),
        };
        if let Some(state) = &state {
            self.must_be_dispensable(root.view(), &dir, state, how)?;
        }
        let is_gone = !how.dry_run && root.remove(&dir)?;
        drop(lock);
        let end = state.and_then(|state| Some(state.end?.0.name()));
        Ok(Deleted { run_id, end, is_gone })
    }

    fn must_be_dispensable(
        &self,
        root: &RootView,
        dir: &RunDir,
        state: &RunState,
        how: Deletion,
    ) -> Result<()> {
        let id = dir.id();
        if state.end.is_none() && !how.force {
            let what = format!("run {id} has not ended");
            let next = format!("dormouse run halt {id}");
            return Err(Error::Conflict(Trouble::new("run_open", what).next(next)));
        }
        if let Some(parent) = &state.parent
            && let Ok(above) = root.run(&parent.run_id)
        {
            let waits = self.look_dir(above).map(|seen| {
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
            && let Some(child) = self.open_child(root, id, state)
        {
            let what = format!("run {child}, a child of {id}, has not ended");
            let next = format!("dormouse run halt {child}");
            return Err(Error::Conflict(Trouble::new("children_open", what).next(next)));
        }
        self.must_hold_no_keys(id, state, how.keys_kept_ms)
    }

    /// A child run that goes on without anybody above it.
    fn open_child(&self, root: &RootView, id: &RunId, state: &RunState) -> Option<RunId> {
        let children = state.effects.values().filter(|e| matches!(e.wait, Wait::Run(_)));
        let mut children = children.filter_map(|e| e.target.as_ref()?.parse::<RunId>().ok());
        children.find(|child| {
            let seen = root.run(child).map_err(Error::from).and_then(|dir| self.look_dir(dir));
            seen.is_ok_and(|seen| {
                let ours = seen.state.parent.as_ref().is_some_and(|p| p.run_id == *id);
                ours && seen.state.end.is_none()
            })
        })
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
