//! The threads around the commit log: one that writes, some that settle.
//!
//! May not know what records mean. Invariant: one thread owns the log; whoever submits never waits,
//! and learns what became of it through one call a batch, in order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::ground::clock::monotonic_micros;
use crate::ground::id::RunId;
use crate::shells::commit_log::figures::Figures;
use crate::shells::commit_log::job::{Done, Job};
use crate::shells::commit_log::log::{Log, Step};
use crate::shells::commit_log::{Committed, Error, Unit, WriterState};

/// How much may wait for the log, and how many threads settle.
#[derive(Debug, Clone)]
pub struct Options {
    /// Most records that wait.
    pub queue_records_max: usize,
    /// Most bytes that wait.
    pub queue_bytes_max: usize,
    /// Most bytes that journals do not hold durably: beyond it new work waits.
    pub unsettled_bytes_max: u64,
    /// Threads that settle.
    pub settle_threads: usize,
}

/// Why a unit was not taken. It can be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// W1: too much waits already.
    QueueFull,
    /// New work, while too much is not settled.
    Unsettled,
}

/// Is told what happened: one call a batch.
pub type Told = Box<dyn Fn(Vec<Committed>) + Send>;
/// Is asked to make the index durable up to a frame, and to say so with
/// [`Committer::index_applied`].
pub type Flush = Box<dyn Fn(u64) + Send>;

enum Message {
    Unit(Unit),
    EnsureMade(RunId),
    IndexApplied(u64),
    Done(Done),
    Drain(Sender<Result<u64, String>>),
    Finish(Sender<Result<(), Error>>),
}

/// The handle. Clones reach the same log.
#[derive(Clone)]
pub struct Committer(Arc<Shared>);

struct Shared {
    messages: Sender<Message>,
    options: Options,
    records: AtomicUsize,
    bytes: AtomicUsize,
    unsettled_bytes: AtomicU64,
    state: AtomicU8,
    figures: Mutex<Figures>,
}

impl Committer {
    /// Starts the threads.
    pub fn start(log: Log, options: Options, told: Told, flush: Flush) -> std::io::Result<Self> {
        let (messages, received) = mpsc::channel();
        let (jobs, work) = mpsc::channel::<Job>();
        let work = Arc::new(Mutex::new(work));
        for n in 0..options.settle_threads.max(1) {
            let (work, done) = (Arc::clone(&work), messages.clone());
            std::thread::Builder::new()
                .name(format!("settle-{n}"))
                .spawn(move || settle(&work, &done))?;
        }
        let shared = Arc::new(Shared {
            messages,
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            unsettled_bytes: AtomicU64::new(0),
            state: AtomicU8::new(0),
            figures: Mutex::new(log.figures()),
            options,
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            log,
            queue: VecDeque::new(),
            sizes: VecDeque::new(),
            jobs,
            running: 0,
            told,
            flush,
            flushed_segments: 0,
            draining: None,
        };
        std::thread::Builder::new().name("log".into()).spawn(move || writer.work(&received))?;
        Ok(Self(shared))
    }

    /// Gives a unit; never waits.
    pub fn submit(&self, unit: Unit) -> Result<(), (Rejected, Unit)> {
        let shared = &self.0;
        let (records, bytes) = size(&unit);
        let unsettled = shared.unsettled_bytes.load(Ordering::Relaxed);
        if unit.inflow && unsettled > shared.options.unsettled_bytes_max {
            return Err((Rejected::Unsettled, unit));
        }
        let before = shared.records.fetch_add(records, Ordering::AcqRel);
        let bytes_before = shared.bytes.fetch_add(bytes, Ordering::AcqRel);
        // One unit always fits, however long it is.
        let full = before > 0
            && (before + records > shared.options.queue_records_max
                || bytes_before + bytes > shared.options.queue_bytes_max);
        if full {
            shared.give_back(records, bytes);
            return Err((Rejected::QueueFull, unit));
        }
        // Without a thread there is nobody left to be told.
        let _ = shared.messages.send(Message::Unit(unit));
        Ok(())
    }

    /// What the writer takes.
    #[must_use]
    pub fn state(&self) -> WriterState {
        match self.0.state.load(Ordering::Acquire) {
            0 => WriterState::Healthy,
            1 => WriterState::Full,
            _ => WriterState::Failed,
        }
    }

    /// Numbers.
    #[must_use]
    pub fn figures(&self) -> Figures {
        *self.0.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that wait for the log.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.records.load(Ordering::Relaxed)
    }

    /// Asks that a run's directory is made before others.
    pub fn ensure_made(&self, run: RunId) {
        let _ = self.0.messages.send(Message::EnsureMade(run));
    }

    /// The index holds everything up to `frame`, durably.
    pub fn index_applied(&self, frame: u64) {
        let _ = self.0.messages.send(Message::IndexApplied(frame));
    }

    /// Waits until every journal is durable by itself. Gives the last frame: what the index has to
    /// hold before [`Committer::finish`].
    pub fn drain(&self) -> Result<u64, String> {
        let (reply, answer) = mpsc::channel();
        let _ = self.0.messages.send(Message::Drain(reply));
        answer.recv().unwrap_or_else(|_| Err("the log's thread has ended".to_owned()))
    }

    /// Ends with no segment left.
    pub fn finish(&self) -> Result<(), Error> {
        let (reply, answer) = mpsc::channel();
        let _ = self.0.messages.send(Message::Finish(reply));
        let gone = || Error::Failed("the log's thread has ended".to_owned());
        answer.recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Shared {
    fn give_back(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

fn size(unit: &Unit) -> (usize, usize) {
    (unit.entry.records() as usize, unit.entry.bytes_max())
}

fn settle(work: &Mutex<Receiver<Job>>, done: &Sender<Message>) {
    loop {
        let job = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if done.send(Message::Done(job.run())).is_err() {
            return;
        }
    }
}

/// The thread that owns the log.
struct Writer {
    shared: Arc<Shared>,
    log: Log,
    queue: VecDeque<Unit>,
    /// Records and bytes of each unit in the queue.
    sizes: VecDeque<(usize, usize)>,
    jobs: Sender<Job>,
    running: usize,
    told: Told,
    flush: Flush,
    /// Segments that were begun when the index was last asked to be durable.
    flushed_segments: u64,
    draining: Option<Sender<Result<u64, String>>>,
}

impl Writer {
    fn work(mut self, messages: &Receiver<Message>) {
        let mut step = Step::Empty;
        loop {
            let waits = self.queue.is_empty() || matches!(step, Step::NeedsSpare | Step::Crowded);
            let first = if waits { self.next(messages) } else { messages.try_recv().ok() };
            let mut taken = first;
            while let Some(message) = taken {
                if let Message::Finish(reply) = message {
                    // Whoever asked waits for it.
                    let _ = reply.send(self.log.finish());
                    return;
                }
                self.take(message);
                taken = messages.try_recv().ok();
            }
            let now = now_ms();
            if self.draining.is_none() {
                self.log.tick(now);
            }
            step = self.commit(now);
            self.give_jobs(now);
            self.tell();
            self.ask_index();
            self.answer_drain();
        }
    }

    /// Waits for a message, or until the log has something to do by itself.
    fn next(&self, messages: &Receiver<Message>) -> Option<Message> {
        let wait = self.log.wake_at().saturating_sub(now_ms()).clamp(1, 60_000);
        match messages.recv_timeout(Duration::from_millis(wait)) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Unit(unit) => {
                self.sizes.push_back(size(&unit));
                self.queue.push_back(unit);
            }
            Message::EnsureMade(run) => self.log.ensure_made(&run),
            Message::IndexApplied(frame) => self.log.index_applied(frame),
            Message::Done(done) => {
                self.running -= 1;
                self.log.done(done, now_ms());
            }
            Message::Drain(reply) => {
                self.log.settle_all();
                self.draining = Some(reply);
            }
            Message::Finish(_) => {}
        }
    }

    fn commit(&mut self, now: u64) -> Step {
        if self.queue.is_empty() {
            return Step::Empty;
        }
        let step = self.log.commit(&mut self.queue, now);
        while self.sizes.len() > self.queue.len() {
            let (records, bytes) = self.sizes.pop_front().unwrap_or_default();
            self.shared.give_back(records, bytes);
        }
        step
    }

    fn give_jobs(&mut self, now: u64) {
        let room = self.shared.options.settle_threads.saturating_sub(self.running);
        if room == 0 {
            return;
        }
        for job in self.log.jobs(now, room) {
            self.running += 1;
            // The threads end only with this sender.
            let _ = self.jobs.send(job);
        }
    }

    /// Tells what happened.
    fn tell(&mut self) {
        let events = self.log.events();
        if events.is_empty() {
            return;
        }
        let figures = self.log.figures();
        self.shared.unsettled_bytes.store(figures.unsettled_bytes, Ordering::Relaxed);
        *self.shared.figures.lock().unwrap_or_else(PoisonError::into_inner) = figures;
        let state = match self.log.state() {
            WriterState::Healthy => 0,
            WriterState::Full => 1,
            WriterState::Failed => 2,
        };
        self.shared.state.store(state, Ordering::Release);
        if let Some(why) = self.log.failure().filter(|_| state == 2) {
            tracing::error!(code = "storage_failed", "the commit log failed: {why}");
        }
        (self.told)(events);
    }

    /// A segment was closed: it can go once the index is durable beyond it.
    fn ask_index(&mut self) {
        let figures = self.log.figures();
        if figures.segments > self.flushed_segments.max(1) {
            self.flushed_segments = figures.segments;
            (self.flush)(figures.last_frame);
        }
    }

    fn answer_drain(&mut self) {
        let failed = self.log.failure().map(str::to_owned);
        let quiet = self.queue.is_empty() && self.running == 0 && self.log.unsettled() == 0;
        if (quiet || failed.is_some())
            && let Some(reply) = self.draining.take()
        {
            // Whoever asked waits for it; time does nothing to the log in between.
            let _ = reply.send(failed.map_or_else(|| Ok(self.log.figures().last_frame), Err));
        }
    }
}

/// Milliseconds of a clock that never steps back.
fn now_ms() -> u64 {
    monotonic_micros() / 1000
}
