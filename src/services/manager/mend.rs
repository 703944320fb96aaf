//! A run that is mended, or whose repair is taken back, while the daemon serves the others.
//!
//! May not judge or mend itself: a worker does that. Invariant: while a run is mended nobody has
//! it, and it is opened again only when the log has forgotten what it held of it.

use tokio::sync::oneshot;

use crate::codecs::event::Head;
use crate::codecs::format::log_entry::Entry;
use crate::ground::id::RunId;
use crate::machines::replay::facts::Update;
use crate::services::repair::judge::{Reading, judge};
use crate::services::runs::trouble::{Trouble, damaged};
use crate::services::runs::{Error, Result, Runs};
use crate::shells::commit_log::{Unit, WriterState};
use crate::shells::journal::plan;
use crate::shells::run_dir::dir::RunDir;
use crate::shells::store::Change;

use super::asks::no_room;
use super::commit::unknown;
use super::seat::{Answer, Leaving, Seat};
use super::{Handle, Manager, Message, handle};

/// Changes the files of a run that nobody else has, or learns why that cannot be.
type Work = Box<dyn FnOnce(Result<(&Runs, &RunDir)>) -> Answer + Send>;

/// A run that is to be mended as soon as it is closed.
pub(super) struct Mend {
    by: String,
    work: Work,
}

/// What a run is after its files were changed.
pub(super) struct Mended {
    answer: Answer,
    head: Head,
    change: Change,
}

impl Mend {
    /// Nothing is done.
    pub(super) fn refuse(self, error: Error) {
        (self.work)(Err(error))(Ok(()));
    }
}

impl Mended {
    /// The log did not take it: what became of the files is said, but not that it is durable.
    pub(super) fn refuse(self, error: Error) {
        (self.answer)(Err(error));
    }

    /// The log forgot what it held.
    pub(super) fn done(self) -> (Answer, Change) {
        (self.answer, self.change)
    }
}

impl Handle {
    /// Changes the files of a run for `by`; the daemon takes the run up again afterwards.
    pub async fn mend<T: Send + 'static>(
        &self,
        run: &RunId,
        by: &str,
        work: impl FnOnce(&Runs, &RunDir) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _permit = self.permit()?;
        let (reply, answer) = oneshot::channel();
        let work = move |place: Result<(&Runs, &RunDir)>| -> Answer {
            let done = place.and_then(|(runs, dir)| work(runs, dir));
            Box::new(move |durable| {
                // Whoever asked may be gone; what was done stays done.
                let _ = reply.send(done.and_then(|done| durable.map(|()| done)));
            })
        };
        let (run, mend) = (run.clone(), Mend { by: by.to_owned(), work: Box::new(work) });
        self.tell(move |manager| manager.mend(&run, mend))?;
        answer.await.unwrap_or_else(|_| Err(handle::gone()))
    }
}

impl Manager {
    /// Mends a run as soon as nobody has it.
    fn mend(&mut self, id: &RunId, mend: Mend) {
        if self.stopping || self.failed {
            return mend.refuse(handle::gone());
        }
        // While the log lags, lines of the run may still be on their way to its journal.
        if self.parts.committer.state() != WriterState::Healthy {
            return mend.refuse(no_room(&self.parts.committer));
        }
        let is_here = matches!(self.seats.get(id), Some(Seat::Here(_)));
        if is_here && !self.leave(id) {
            return mend.refuse(at_work(id));
        }
        match self.seats.get_mut(id) {
            None => self.begin_mend(id, Leaving::default(), mend),
            Some(Seat::Leaving(leaving)) if leaving.is_free() => leaving.mend = Some(mend),
            Some(_) => mend.refuse(at_work(id)),
        }
    }

    /// The run is closed: a worker changes its files.
    pub(super) fn begin_mend(&mut self, id: &RunId, leaving: Leaving, mend: Mend) {
        self.leaving += 1;
        self.seats.insert(
            id.clone(),
            Seat::Leaving(Leaving { returns: true, is_mending: true, ..leaving }),
        );
        let runs = Runs { by: mend.by, ..self.runs.clone() };
        let (view, inbox, id, work) =
            (self.view.clone(), self.inbox.clone(), id.clone(), mend.work);
        self.workers.run(move || {
            let after: Box<dyn FnOnce(&mut Self) + Send> = match view.run(&id) {
                Err(e) => {
                    let answer = work(Err(e.into()));
                    Box::new(move |manager| manager.unmended(&id, answer))
                }
                Ok(dir) => {
                    let answer = work(Ok((&runs, &dir)));
                    let (head, change) = standing(&dir);
                    let mended = Mended { answer, head, change };
                    Box::new(move |manager| manager.mended(&id, mended))
                }
            };
            // A manager that has ended needs no runs.
            let _ = inbox.send(Message::Look(after));
        });
    }

    /// There is no such run any more.
    fn unmended(&mut self, id: &RunId, answer: Answer) {
        answer(Ok(()));
        self.left(id);
    }

    /// The files are what they are now: what the log holds of the run counts no longer.
    fn mended(&mut self, id: &RunId, mended: Mended) {
        match self.seats.get_mut(id) {
            Some(Seat::Leaving(leaving)) => {
                let Head { seq, sum } = mended.head;
                leaving.mended = Some(mended);
                let entry = Entry::Rebase { run: id.clone(), seq, sum };
                self.outbox.push_back(Unit { entry, inflow: false });
                self.pump();
            }
            // The log failed meanwhile.
            _ => mended.refuse(unknown()),
        }
    }
}

/// Makes the journal durable as it stands, and says what the index is to know.
fn standing(dir: &RunDir) -> (Head, Change) {
    if let Err(e) = plan::sync(dir) {
        tracing::error!(run = %dir.id(), "the journal could not be synced: {e}");
    }
    let judged = judge(dir, &Reading::Locked);
    let update = match &judged.state {
        Some(state) if judged.is_sound() && judged.beside.is_empty() => Update::whole(state, false),
        _ => Update::damaged(dir.id().clone(), damaged(&judged.scan).trouble().what.clone()),
    };
    (judged.scan.head, Change::Put(Box::new(update)))
}

fn at_work(id: &RunId) -> Error {
    let what = format!("run {id} is at work");
    let next = format!("dormouse run pause {id}, or ask again in a second");
    Error::Conflict(Trouble::new("lock_busy", what).next(next))
}
