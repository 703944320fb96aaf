//! The commit log at work: one thread that writes, some that settle, one handle for everybody.
//!
//! May not know what is committed or who waits for it. Invariant: submitting never waits for the
//! disk; what became of each unit is told exactly once, in the order in which it came about.

mod herald;
mod pool;
mod tally;
mod writer;

use crate::codecs::format::log_entry::Entry;
use crate::ground::id::RunId;
use crate::ground::limits::{
    LOG_QUEUE_BYTES_MAX, LOG_QUEUE_RECORDS_MAX, LOG_UNSETTLED_BYTES_MAX, SETTLE_THREADS,
};
use crate::ports::telemetry::Metrics;
use crate::shells::commit_log::figures::Figures;
use crate::shells::commit_log::job::Done;
use crate::shells::commit_log::log::{Home, Log};
use crate::shells::commit_log::{Committed, Error, Settings, Unit, WriterState};
use std::collections::VecDeque;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Why a unit was not taken. Nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Too much waits already: try again soon.
    #[error("too many records wait for the commit log [W1]")]
    QueueFull,
    /// New work is not taken, or nothing is, for want of room.
    #[error("the disk is full [W4]")]
    DiskFull,
    /// Journals are too far behind: new work waits for them.
    #[error("too much is not settled")]
    UnsettledMax,
    /// The writer failed: this process is about to end.
    #[error("storage failed before [W4]")]
    Failed,
    /// The log is being stopped.
    #[error("the commit log is being stopped")]
    Stopping,
}

/// How much the service holds, beside the log's own settings.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sizes and times of the log.
    pub log: Settings,
    /// Threads that settle.
    pub threads: usize,
    /// Most records that wait.
    pub queue_records_max: usize,
    /// Most bytes that wait.
    pub queue_bytes_max: usize,
    /// Most bytes in segments that are not released.
    pub unsettled_bytes_max: u64,
    /// Where the log's work is counted.
    pub metrics: Arc<Metrics>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log: Settings::default(),
            threads: SETTLE_THREADS,
            queue_records_max: LOG_QUEUE_RECORDS_MAX,
            queue_bytes_max: LOG_QUEUE_BYTES_MAX,
            unsettled_bytes_max: LOG_UNSETTLED_BYTES_MAX,
            metrics: Arc::default(),
        }
    }
}

/// Is told what became of things, once for each batch, on the writer's thread: it must be quick.
pub type Tell = Box<dyn Fn(Vec<Committed>) + Send + Sync>;

/// What the writer is asked for beside commits.
#[derive(Debug)]
enum Request {
    EnsureMade(RunId),
    Settle(RunId),
    Applied(u64),
    /// Say when everybody was told of what was written before.
    Tell(Sender<()>),
    /// Settle everything and say so.
    Drain(Sender<Result<u64, Error>>),
    /// Go home.
    Finish,
}

/// What waits for the writer.
#[derive(Debug, Default)]
struct Inbox {
    units: VecDeque<Unit>,
    records: usize,
    bytes: usize,
    requests: Vec<Request>,
    done: Vec<Done>,
    /// A thread that does jobs ended in a panic.
    crashed: bool,
    /// No more units.
    closed: bool,
    state: WriterState,
    takes_outcomes: bool,
    figures: Figures,
}

struct Shared {
    inbox: Mutex<Inbox>,
    /// Something came for the writer.
    came: Condvar,
    options: Options,
    tell: Tell,
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type WriterThread = JoinHandle<Result<(), Error>>;

/// The handle of the commit log. Clones lead to the same log.
#[derive(Clone)]
pub struct Committer {
    shared: Arc<Shared>,
    writer: Arc<Mutex<Option<WriterThread>>>,
}

impl Committer {
    /// Starts the log of a root that was recovered, and its threads. `tell` hears of everything.
    pub fn start(home: Home, options: Options, tell: Tell) -> Result<Self, Error> {
        let log = Log::start(home, options.log.clone(), writer::now_ms())?;
        let inbox = Inbox { takes_outcomes: true, figures: log.figures(), ..Inbox::default() };
        let shared =
            Arc::new(Shared { inbox: Mutex::new(inbox), came: Condvar::new(), options, tell });
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("commit-log".into())
            .spawn(move || writer::run(&for_writer, log))
            .map_err(|e| Error::Failed(format!("no thread for the writer: {e}")))?;
        Ok(Self { shared, writer: Arc::new(Mutex::new(Some(writer))) })
    }

    /// Hands over a unit. Never waits: what becomes of it is told later. One that is not taken
    /// comes back.
    pub fn submit(&self, unit: Unit) -> Result<(), Box<(Rejected, Unit)>> {
        let mut inbox = self.shared.inbox();
        let options = &self.shared.options;
        let records = inbox.records + unit.entry.records() as usize;
        let bytes = inbox.bytes + unit.entry.bytes_max();
        let rejected = if inbox.state == WriterState::Failed {
            Some(Rejected::Failed)
        } else if inbox.closed {
            Some(Rejected::Stopping)
        } else if inbox.state == WriterState::Full && (unit.inflow || !inbox.takes_outcomes) {
            Some(Rejected::DiskFull)
        } else if unit.inflow && inbox.figures.unsettled_bytes > options.unsettled_bytes_max {
            Some(Rejected::UnsettledMax)
        } else if records > options.queue_records_max || bytes > options.queue_bytes_max {
            Some(Rejected::QueueFull)
        } else {
            None
        };
        if let Some(rejected) = rejected {
            return Err(Box::new((rejected, unit)));
        }
        (inbox.records, inbox.bytes) = (records, bytes);
        inbox.units.push_back(unit);
        let first = inbox.units.len() == 1;
        drop(inbox);
        if first {
            self.shared.came.notify_one();
        }
        Ok(())
    }

    /// What is taken now.
    #[must_use]
    pub fn state(&self) -> WriterState {
        self.shared.inbox().state
    }

    /// Numbers, as of the last batch.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.shared.inbox().figures
    }

    /// Records that wait for a frame.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.shared.inbox().records as u64
    }

    fn ask(&self, request: Request) {
        self.shared.inbox().requests.push(request);
        self.shared.came.notify_one();
    }

    /// Wants a run's directory before others. [`Committed::Made`] follows.
    pub fn ensure_made(&self, run: RunId) {
        self.ask(Request::EnsureMade(run));
    }

    /// Wants a run settled soon: it has ended, or is to be copied. [`Committed::Settled`] follows,
    /// unless the log knows nothing of the run, which then is settled.
    pub fn settle(&self, run: RunId) {
        self.ask(Request::Settle(run));
    }

    /// Tells `heard`, once [`Tell`] has told of everything that journals show by now.
    pub fn after_news(&self, heard: Sender<()>) {
        self.ask(Request::Tell(heard));
    }

    /// The index holds all frames up to this one, marks included, durably.
    pub fn applied(&self, frame: u64) {
        self.ask(Request::Applied(frame));
    }

    /// Takes no more units, writes what waits and settles everything. Gives the last frame, which
    /// the index has to hold before [`Committer::stop`].
    pub fn drain(&self) -> Result<u64, Error> {
        self.shared.inbox().closed = true;
        let (tell, told) = std::sync::mpsc::channel();
        self.ask(Request::Drain(tell));
        told.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// Stops cleanly, or says why the root stays open: drains, then removes the log. The index
    /// must hold everything.
    pub fn stop(self) -> Result<(), Error> {
        let drained = self.drain();
        self.ask(Request::Finish);
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let finished = match thread.map(JoinHandle::join) {
            Some(Ok(finished)) => finished,
            Some(Err(_)) | None => Err(gone()),
        };
        drained.and(finished)
    }
}

fn gone() -> Error {
    Error::Failed("its thread is gone".into())
}

/// How much of the queue a unit takes.
fn weight(entry: &Entry) -> (usize, usize) {
    (entry.records() as usize, entry.bytes_max())
}
