//! The manager as doors see it: asks that are answered when what they rest on is durable.
//!
//! May not touch a run itself. Invariant: an ask that was not taken in changes nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, mpsc};

use serde_json::Value;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::ground::id::{RunId, Seq};
use crate::ground::limits::ASKS_MAX;
use crate::services::indexer::Indexer;
use crate::services::limits::LimitBook;
use crate::services::runs::create::{KnownCode, NewRun};
use crate::services::runs::open::OpenRun;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::view::Look;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::run_dir::task_key::TaskKey;

use super::create::{Made, Origin, Prepared};
use super::seat::{Answer, Ask};
use super::slots::Slots;
use super::{Feed, Figures, Followers, Message};

/// Whether an ask brings new work in, or brings work to its end: when room on the disk runs out,
/// outcomes are still taken and inflow is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// New work: create, signal, assign.
    Inflow,
    /// Outcomes: results, decisions, cancel, pause, resume.
    Outcome,
    /// The same of this daemon's own executors: nobody waits until it is durable.
    Report,
}

/// Asks the manager. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Message>,
    followers: Followers,
    feed: Feed,
    runs: Runs,
    indexer: Indexer,
    known: KnownCode,
    slots: Slots,
    limits: Arc<LimitBook>,
    /// Asks that were not answered yet.
    asked: Arc<Semaphore>,
    /// Names that were given to those who wait for something to do.
    waiters: Arc<AtomicU64>,
    /// The key of task tokens, once it was needed.
    task_key: Arc<OnceLock<TaskKey>>,
    keys_kept_ms: u64,
}

impl Handle {
    pub(super) fn new(
        inbox: mpsc::Sender<Message>,
        (followers, feed): (Followers, Feed),
        runs: Runs,
        indexer: Indexer,
        known: KnownCode,
        (slots, limits): (Slots, Arc<LimitBook>),
        keys_kept_ms: u64,
    ) -> Self {
        let asked = Arc::new(Semaphore::new(ASKS_MAX));
        let (waiters, task_key) = (Arc::default(), Arc::default());
        Self {
            inbox,
            followers,
            feed,
            runs,
            indexer,
            known,
            slots,
            limits,
            asked,
            waiters,
            task_key,
            keys_kept_ms,
        }
    }

    /// Creates a run for `by`, such as `client:ci`; it exists durably when this answers.
    pub async fn create(&self, new: NewRun, by: &str) -> Result<Made> {
        let _permit = self.permit()?;
        let (by, known) = (by.to_owned(), self.known.clone());
        let run = self.aside(move |runs| Runs { by, ..runs.clone() }.prepare(&new, &known)).await?;
        let (reply, answer) = oneshot::channel();
        let origin = Origin::Client(Box::new(move |made| {
            // Whoever asked may be gone; what was done stays done.
            let _ = reply.send(made);
        }));
        self.send(Message::Create(Box::new(Prepared { run, origin })))?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Does something to a run for `by`, such as `client:ci`: whatever `act` appended is durable
    /// when this answers, and the run goes on afterwards. `act` must not wait for anything.
    pub async fn deed<T: Send + 'static>(
        &self,
        run: &RunId,
        by: &str,
        flow: Flow,
        act: impl FnOnce(&mut OpenRun) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _permit = self.permit()?;
        let (reply, answer) = oneshot::channel();
        let act = move |run: Result<&mut OpenRun>| -> Answer {
            let done = run.and_then(act);
            Box::new(move |durable| {
                let _ = reply.send(done.and_then(|done| durable.map(|()| done)));
            })
        };
        let ask = Ask::Deed { by: by.to_owned(), flow, act: Box::new(act) };
        self.send(Message::Ask(run.clone(), ask))?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Looks at a run: what `look` sees is durable when this answers.
    pub async fn read<T: Send + 'static>(
        &self,
        run: &RunId,
        look: impl FnOnce(Look<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let _permit = self.permit()?;
        let (reply, answer) = oneshot::channel();
        let act = move |seen: Result<Look<'_>>| -> Answer {
            let seen = seen.and_then(look);
            Box::new(move |durable| {
                let _ = reply.send(seen.and_then(|seen| durable.map(|()| seen)));
            })
        };
        self.send(Message::Ask(run.clone(), Ask::Look(Box::new(act))))?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Lets a run go on, waits until it rests, and gives its report.
    pub async fn iterate(&self, run: &RunId) -> Result<Value> {
        let (reply, answer) = oneshot::channel();
        let rester = move |report| {
            let _ = reply.send(report);
        };
        self.send(Message::Ask(run.clone(), Ask::Rest(Box::new(rester))))?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// The run that `reference` means: its id, or the beginning of one id only.
    pub async fn find(&self, reference: &str) -> Result<RunId> {
        let known = match reference.parse::<RunId>() {
            Ok(id) => {
                // Its directory may still be being made.
                let known = id.clone();
                self.look(move |manager| manager.seats.contains_key(&known)).await?.then_some(id)
            }
            Err(_) => None,
        };
        if let Some(id) = known {
            return Ok(id);
        }
        let reference = reference.to_owned();
        self.aside(move |runs| Ok(runs.find(&reference)?.id().clone())).await
    }

    /// What `see` says of the manager, as of now.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        see: impl FnOnce(&super::Manager) -> T + Send + 'static,
    ) -> Result<T> {
        self.see(see)?.await.map_err(|_| gone())
    }

    /// The same, for whoever waits in another way.
    pub(super) fn see<T: Send + 'static>(
        &self,
        see: impl FnOnce(&super::Manager) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>> {
        let (reply, answer) = oneshot::channel();
        let look = move |manager: &mut super::Manager| {
            let _ = reply.send(see(manager));
        };
        self.send(Message::Look(Box::new(look)))?;
        Ok(answer)
    }

    /// What the manager has to do with, as of now.
    pub async fn figures(&self) -> Result<Figures> {
        self.look(super::Manager::figures).await
    }

    /// Lets a run go on that the index had forgotten.
    pub fn wake(&self, run: &RunId) {
        let run = run.clone();
        // A manager that is gone wakes nobody, and the next one looks for itself.
        let _ = self.send(Message::Look(Box::new(move |manager| {
            manager.count_wake("audit");
            manager.wake(&run);
        })));
    }

    /// Shows how far the durable journal of a run goes, from now on.
    #[must_use]
    pub fn follow(&self, run: &RunId) -> watch::Receiver<Seq> {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.entry(run.clone()).or_insert_with(|| watch::Sender::new(Seq(0))).subscribe()
    }

    /// What becomes durable, over all runs.
    #[must_use]
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// The runs service, for what only looks: its root, its clock, lists.
    #[must_use]
    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// How long idempotency keys count after the end of their effects.
    #[must_use]
    pub const fn keys_kept_ms(&self) -> u64 {
        self.keys_kept_ms
    }

    /// The index.
    #[must_use]
    pub fn indexer(&self) -> &Indexer {
        &self.indexer
    }

    /// What is at work, and what may be.
    pub(super) const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// What was set.
    pub(super) fn limit_book(&self) -> &LimitBook {
        &self.limits
    }

    /// The key of this root's task tokens; made at first need.
    pub async fn task_key(&self) -> Result<TaskKey> {
        if let Some(key) = self.task_key.get() {
            return Ok(key.clone());
        }
        let key = self.aside(|runs| Ok(TaskKey::open(&*runs.disk, &runs.root)?)).await?;
        Ok(self.task_key.get_or_init(|| key).clone())
    }

    pub(super) fn permit(&self) -> Result<tokio::sync::OwnedSemaphorePermit> {
        Arc::clone(&self.asked).try_acquire_owned().map_err(|_| {
            let what = format!("{ASKS_MAX} requests are under way already");
            Error::Refused(Trouble::new("overloaded", what).next("ask again in a second"))
        })
    }

    /// Has the manager do something, without waiting for it.
    pub(super) fn tell(
        &self,
        deed: impl FnOnce(&mut super::Manager) + Send + 'static,
    ) -> Result<()> {
        self.send(Message::Look(Box::new(deed)))
    }

    /// A name for somebody who waits.
    pub(super) fn next_waiter(&self) -> u64 {
        self.waiters.fetch_add(1, Ordering::Relaxed)
    }

    fn send(&self, message: Message) -> Result<()> {
        self.inbox.send(message).map_err(|_| gone())
    }
}

pub(super) fn gone() -> Error {
    let trouble = Trouble::new("shutting_down", "the daemon is stopping; nothing was written");
    Error::Storage { trouble: trouble.next("ask again when it runs"), unknown: false }
}
