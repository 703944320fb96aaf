//! The index's thread.
//!
//! May not read journals. Invariant: messages are taken in order; changes that wait together become
//! one transaction; after any failure of the file it is made anew at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use tokio::sync::oneshot;

use super::{Load, Need, Unavailable};
use crate::ground::clock::Stopwatch;
use crate::ground::limits::{INDEX_BATCH_CHANGES_MAX, INDEX_SCAN_ROWS_MAX};
use crate::ports::telemetry::Metrics;
use crate::shells::store::{self, Batch, Index};

/// Runs that are named in one [`Need::Reread`].
const REREADS_AT_ONCE: usize = 256;

type Reply = oneshot::Sender<Result<(), Unavailable>>;
type Query = Box<dyn FnOnce(Option<&Index>) -> store::Result<()> + Send>;

/// What the thread is sent.
pub(super) enum Message {
    Apply(Batch),
    /// Gets nothing while the index is not complete.
    Query(Query),
    Flush {
        frame: u64,
        reply: Reply,
    },
    Settled(Reply),
    Rebuilt(u64),
    Renew,
    Stop,
}

pub(super) struct Worker {
    index: Index,
    messages: Receiver<Message>,
    load: Arc<Load>,
    metrics: Arc<Metrics>,
    owner: Box<dyn Fn(Need) + Send>,
    ticket: u64,
    /// The file could not be made anew.
    broken: bool,
    flushes: Vec<(u64, Reply)>,
}

impl Worker {
    pub(super) fn new(
        index: Index,
        messages: Receiver<Message>,
        load: Arc<Load>,
        metrics: Arc<Metrics>,
        owner: Box<dyn Fn(Need) + Send>,
    ) -> Self {
        let flushes = Vec::new();
        Self { index, messages, load, metrics, owner, ticket: 0, broken: false, flushes }
    }

    pub(super) fn work(mut self) {
        if self.index.is_complete() {
            self.name_rereads();
        } else {
            self.ask_for_rebuild();
        }
        let mut kept = None;
        while let Some(message) = kept.take().or_else(|| self.messages.recv().ok()) {
            match message {
                Message::Apply(batch) => kept = self.apply(batch),
                Message::Query(query) => self.query(query),
                Message::Flush { frame, reply } => self.flushes.push((frame, reply)),
                Message::Settled(reply) => self.settled(reply),
                Message::Rebuilt(ticket) => self.rebuilt(ticket),
                Message::Renew => self.renew(),
                Message::Stop => break,
            }
            if self.load.overflowed.swap(false, Ordering::AcqRel) {
                self.renew();
            }
            self.answer_flushes();
        }
        for (_, reply) in self.flushes {
            let _ = reply.send(Err(Unavailable::Stopped));
        }
        // A file that was not closed cleanly is checked when it is opened.
        let _ = self.index.close();
    }

    /// Applies a batch and those that wait behind it. Gives the first message that is none.
    fn apply(&mut self, first: Batch) -> Option<Message> {
        let mut count = first.changes.len();
        let mut batches = vec![first];
        let mut other = None;
        while count < INDEX_BATCH_CHANGES_MAX {
            match self.messages.try_recv() {
                Ok(Message::Apply(batch)) => {
                    count += batch.changes.len();
                    batches.push(batch);
                }
                Ok(message) => {
                    other = Some(message);
                    break;
                }
                Err(_) => break,
            }
        }
        if self.broken {
            self.renew();
        }
        let watch = Stopwatch::start();
        let applied = if self.broken { Ok(()) } else { self.index.apply_all(&batches) };
        self.metrics.index_transaction.observe(watch.seconds());
        self.load.changes.fetch_sub(count, Ordering::AcqRel);
        match applied {
            Ok(()) if self.index.has_missed() && self.index.is_complete() => self.name_rereads(),
            Ok(()) => {}
            Err(_) => self.renew(),
        }
        other
    }

    fn query(&mut self, query: Query) {
        let readable = self.index.is_complete() && !self.broken;
        let answered = query(readable.then_some(&self.index));
        self.load.queries.fetch_sub(1, Ordering::AcqRel);
        if answered.is_err() {
            self.renew();
        }
    }

    /// Everything before has arrived. What is still missing was read too early, or never.
    fn settled(&mut self, reply: Reply) {
        if self.index.is_complete() && !self.broken {
            self.name_rereads();
        }
        let _ = reply.send(Ok(()));
    }

    fn rebuilt(&mut self, ticket: u64) {
        if ticket != self.ticket || self.broken {
            return;
        }
        match self.index.set_complete(true) {
            Ok(()) => self.name_rereads(),
            Err(_) => self.renew(),
        }
    }

    /// X4: whatever was wrong, an empty file is right, and journals have everything.
    fn renew(&mut self) {
        match self.index.reset() {
            Ok(()) => {
                self.broken = false;
                self.ask_for_rebuild();
            }
            Err(error) => {
                self.broken = true;
                (self.owner)(Need::Alarm(error.to_string()));
            }
        }
    }

    fn ask_for_rebuild(&mut self) {
        self.ticket += 1;
        (self.owner)(Need::Rebuild(self.ticket));
    }

    fn name_rereads(&mut self) {
        match self.index.rereads(INDEX_SCAN_ROWS_MAX) {
            Ok(runs) => {
                for some in runs.chunks(REREADS_AT_ONCE) {
                    let runs = some.iter().map(|(run, _)| run.clone()).collect();
                    (self.owner)(Need::Reread(runs));
                }
            }
            Err(_) => self.renew(),
        }
    }

    fn answer_flushes(&mut self) {
        let applied = self.index.applied();
        let ready = |(frame, _): &(u64, Reply)| *frame <= applied;
        if self.broken || !self.index.is_complete() || !self.flushes.iter().any(ready) {
            return;
        }
        if self.index.checkpoint_full().is_err() {
            return self.renew();
        }
        let (ready, waiting) = std::mem::take(&mut self.flushes).into_iter().partition(ready);
        self.flushes = waiting;
        let ready: Vec<(u64, Reply)> = ready;
        for (_, reply) in ready {
            let _ = reply.send(Ok(()));
        }
    }
}
