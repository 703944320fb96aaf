//! The thread that owns the index, and the handle by which everybody else reaches it.
//!
//! May not know where changes come from, nor how journals are read: its owner does both. Invariant:
//! giving a change never waits; what cannot be taken in makes the index incomplete, never wrong.

pub mod rebuild;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::ground::id::RunId;
use crate::ground::limits::{INDEX_QUEUE_CHANGES_MAX, INDEX_QUEUE_QUERIES_MAX};
use crate::ports::telemetry::Metrics;
use crate::shells::store::{self, Batch, Index};
use worker::{Message, Worker};

/// Why a query was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The index is being made anew: ask later.
    #[error("the index is being rebuilt")]
    Rebuilding,
    /// Too many wait already: ask later.
    #[error("too many queries wait for the index")]
    Busy,
    /// The daemon is stopping.
    #[error("the index is closed")]
    Stopped,
}

/// What the owner is asked to do. It is asked on the index's own thread, and must not wait there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Read all journals: the index is empty, and live changes alone do not fill it. Answered by
    /// [`Indexer::rebuilt`] with this number.
    Rebuild(u64),
    /// Read these runs: a change built on more than the index had.
    Reread(Vec<RunId>),
    /// Tell somebody: the disk does not let the index be made anew. It is tried again.
    Alarm(String),
}

/// The handle. Clones reach the same index.
#[derive(Clone)]
pub struct Indexer {
    messages: Sender<Message>,
    load: Arc<Load>,
}

/// What waits.
#[derive(Debug, Default)]
struct Load {
    changes: AtomicUsize,
    queries: AtomicUsize,
    overflowed: AtomicBool,
}

/// A query's answer, when it is there.
pub type Answer<T> = oneshot::Receiver<Result<T, Unavailable>>;

impl Indexer {
    /// Starts the thread. `owner` does what the index needs; transactions are counted in `metrics`.
    pub fn start(
        index: Index,
        metrics: Arc<Metrics>,
        owner: impl Fn(Need) + Send + 'static,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (messages, received) = mpsc::channel();
        let load = Arc::new(Load::default());
        let worker = Worker::new(index, received, Arc::clone(&load), metrics, Box::new(owner));
        let thread = std::thread::Builder::new().name("index".into()).spawn(|| worker.work())?;
        Ok((Self { messages, load }, thread))
    }

    /// Gives changes; never waits. Batches come in the order of their frames.
    pub fn apply(&self, batch: Batch) {
        let count = batch.changes.len();
        let before = self.load.changes.fetch_add(count, Ordering::AcqRel);
        if before + count > INDEX_QUEUE_CHANGES_MAX {
            self.load.changes.fetch_sub(count, Ordering::AcqRel);
            self.load.overflowed.store(true, Ordering::Release);
            // Nothing in it: it only wakes the thread.
            let _ = self.messages.send(Message::Apply(Batch::default()));
            return;
        }
        // Without a thread there is nobody to be told, and nothing to keep.
        let _ = self.messages.send(Message::Apply(batch));
    }

    /// Changes that were given and are not taken in yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.load.changes.load(Ordering::Acquire) as u64
    }

    /// How full the queue of changes is, 0 to 1: whoever makes changes faster than they are taken
    /// in should slow down.
    #[must_use]
    pub fn pressure(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let share =
            self.load.changes.load(Ordering::Acquire) as f64 / INDEX_QUEUE_CHANGES_MAX as f64;
        share
    }

    /// Asks something, after all changes that were given before. Keep it short: everybody waits.
    pub fn query<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Index) -> store::Result<T> + Send + 'static,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        self.query_then(ask, move |result| {
            // Whoever asked may be gone.
            let _ = reply.send(result);
        });
        answer
    }

    /// The same for whoever is told in another way. Nobody is told after the index has closed.
    pub fn query_then<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Index) -> store::Result<T> + Send + 'static,
        tell: impl FnOnce(Result<T, Unavailable>) + Send + 'static,
    ) {
        let mut tell = Some(tell);
        let mut send = move |result| {
            if let Some(tell) = tell.take() {
                tell(result);
            }
        };
        if self.load.queries.fetch_add(1, Ordering::AcqRel) >= INDEX_QUEUE_QUERIES_MAX {
            self.load.queries.fetch_sub(1, Ordering::AcqRel);
            return send(Err(Unavailable::Busy));
        }
        let asked = Message::Query(Box::new(move |index| match index.map(ask) {
            Some(Ok(value)) => {
                send(Ok(value));
                Ok(())
            }
            Some(Err(error)) => {
                send(Err(Unavailable::Rebuilding));
                Err(error)
            }
            None => {
                send(Err(Unavailable::Rebuilding));
                Ok(())
            }
        }));
        // When the thread is gone, whoever waits sees that `tell` was dropped with the message.
        let _ = self.messages.send(asked);
    }

    /// Asks and waits. Not for async code.
    pub fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Index) -> store::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        self.query(ask).blocking_recv().unwrap_or(Err(Unavailable::Stopped))
    }

    /// Answers when the index contains frame `frame`, is complete, and is durable in its file: then
    /// the log may be released up to there. Waits through a rebuild.
    #[must_use]
    pub fn flush(&self, frame: u64) -> Answer<()> {
        let (reply, answer) = oneshot::channel();
        let _ = self.messages.send(Message::Flush { frame, reply });
        answer
    }

    /// Answers when all changes that were given before are taken in, complete or not. Runs that
    /// still have to be read again are named again.
    #[must_use]
    pub fn settled(&self) -> Answer<()> {
        let (reply, answer) = oneshot::channel();
        let _ = self.messages.send(Message::Settled(reply));
        answer
    }

    /// All journals were read for [`Need::Rebuild`] number `ticket`. A later rebuild makes it void.
    pub fn rebuilt(&self, ticket: u64) {
        let _ = self.messages.send(Message::Rebuilt(ticket));
    }

    /// Makes the index anew, as if it had failed.
    pub fn renew(&self) {
        let _ = self.messages.send(Message::Renew);
    }

    /// Takes in what was given before, closes the index cleanly, ends the thread.
    pub fn stop(&self) {
        let _ = self.messages.send(Message::Stop);
    }
}
