//! Runs that leave the root of a daemon, and runs that come into it from a file.
//!
//! May not read a journal on the manager's thread. Invariant: while a run leaves or comes, its
//! place is taken, so that nobody opens or creates it; the directory goes only after the log says,
//! durably, that the run is gone, and a run that came is answered only after the log says so.

use tokio::sync::oneshot;

use crate::codecs::format::log_entry::Entry;
use crate::ground::id::RunId;
use crate::machines::replay::facts::Update;
use crate::services::runs::custody::{Custody, Make, Prepare};
use crate::services::runs::delete::{Deleted, Deletion};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::commit_log::Unit;
use crate::shells::commit_log::overlay::Overlay;
use crate::shells::run_dir::root::Root;
use crate::shells::store::{Batch, Change};

use super::commit::unknown;
use super::handle;
use super::seat::{Leaving, Seat};
use super::{Handle, Manager};

/// How often a place is asked for that somebody has.
const TRIES_MAX: usize = 100;
const TRY_AGAIN_MS: u64 = 20;

/// The place of a run, taken. Dropped, whoever came meanwhile gets it.
struct Place<'a> {
    handle: &'a Handle,
    run: RunId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let run = self.run.clone();
        // A manager that has ended has no places.
        let _ = self.handle.tell(move |manager| manager.left(&run));
    }
}

impl Handle {
    /// Does something with runs that leave or come, for `by`. It is finished also if nobody waits.
    pub async fn in_custody<T: Send + 'static>(
        &self,
        by: &str,
        work: impl FnOnce(&Runs, &dyn Custody) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (handle, by) = (self.clone(), by.to_owned());
        self.aside(move |runs| work(&Runs { by, ..runs.clone() }, &handle)).await
    }

    /// Takes the place of a run that nobody has. Waits a little for whoever is leaving.
    fn place(&self, run: &RunId) -> Result<Place<'_>> {
        for _ in 0..TRIES_MAX {
            let id = run.clone();
            let taken = self.told(move |manager, reply| {
                // Whoever asked waits for the answer.
                let _ = reply.send(manager.take_place(&id));
            })?;
            if taken {
                return Ok(Place { handle: self, run: run.clone() });
            }
            self.runs().clock.sleep_millis(TRY_AGAIN_MS);
        }
        let what = format!("run {run} is at work");
        let next = format!("dormouse run halt {run}");
        Err(Error::Conflict(Trouble::new("run_open", what).next(next)))
    }

    /// Has the log say something of a run whose place is taken; it is durable when this returns.
    fn logged(&self, entry: Entry) -> Result<()> {
        self.told(move |manager, reply| manager.log(entry, reply))?
    }

    /// Has the manager do something that answers, and waits: not for async code.
    fn told<T: Send + 'static>(
        &self,
        deed: impl FnOnce(&mut Manager, oneshot::Sender<T>) + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(move |manager| deed(manager, reply))?;
        answer.blocking_recv().map_err(|_| unknown())
    }
}

/// A daemon, for whoever may wait.
impl Custody for Handle {
    fn hold(&self) -> Result<Option<Root>> {
        // It has the root for itself, and every directory is complete soon.
        Ok(None)
    }

    fn take_out(&self, reference: &str, how: Deletion, prepare: Prepare<'_>) -> Result<Deleted> {
        let runs = self.runs();
        let root = runs.view_root()?;
        let dir = runs.find(reference)?;
        let run = dir.id().clone();
        let place = self.place(&run)?;
        let lock = dir.lock(runs.lock_wait_ms, &*runs.clock)?;
        let state = runs.judge_leaver(&root, &dir, &Overlay::default(), how)?;
        if how.dry_run {
            return Ok(Deleted::of(&run, state.as_ref(), false));
        }
        prepare(&root, &dir, state.as_ref())?;
        self.logged(Entry::Gone { run: run.clone() })?;
        let is_gone = root.remove(&run)?;
        let id = run.clone();
        self.tell(move |manager| manager.departed(&id))?;
        drop((lock, place));
        Ok(Deleted::of(&run, state.as_ref(), is_gone))
    }

    fn bring_in(&self, run: &RunId, make: Make<'_>) -> Result<()> {
        let root = self.runs().view_root()?;
        let place = self.place(run)?;
        let head = make(&root)?;
        // The log may still say of an earlier life of the run that it is gone.
        self.logged(Entry::Rebase { run: run.clone(), seq: head.seq, sum: head.sum })?;
        let state = self.runs().look_owned(run.as_str())?.state;
        let is_open = state.end.is_none();
        let update = Update::whole(&state, !is_open);
        self.tell(move |manager| manager.came(update))?;
        drop(place);
        if is_open {
            self.wake(run);
        }
        Ok(())
    }
}

impl Manager {
    fn take_place(&mut self, run: &RunId) -> bool {
        let is_free = !self.failed && !self.stopping && !self.seats.contains_key(run);
        if is_free {
            self.seats.insert(run.clone(), Seat::Leaving(Leaving::default()));
            self.leaving += 1;
        }
        is_free
    }

    fn log(&mut self, entry: Entry, reply: oneshot::Sender<Result<()>>) {
        if self.failed {
            // Whoever asked may be gone.
            let _ = reply.send(Err(handle::gone()));
            return;
        }
        self.logging.insert(entry.run().clone(), reply);
        self.outbox.push_back(Unit { entry, inflow: false });
        self.pump();
    }

    /// What the log was to say of a run is durable, or was refused.
    pub(super) fn was_logged(&mut self, run: &RunId, done: impl FnOnce() -> Result<()>) {
        if let Some(reply) = self.logging.remove(run) {
            // Whoever asked finishes, whoever waits for that.
            let _ = reply.send(done());
        }
    }

    fn departed(&mut self, run: &RunId) {
        self.timers.set(run, None);
        self.set_aside(run, None);
        self.restless.remove(run);
        self.probes.forget(run);
        let changes = vec![Change::Gone(run.clone())];
        self.indexer.apply(Batch { frame: self.frame, changes });
    }

    fn came(&mut self, update: Update) {
        let changes = vec![Change::Put(Box::new(update))];
        self.indexer.apply(Batch { frame: self.frame, changes });
    }
}
