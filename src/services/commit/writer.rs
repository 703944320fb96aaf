//! The thread that owns the log.
//!
//! May not decide what the log does, only when. Invariant: it waits for exactly four things: a
//! unit, a request, a finished job, the time that the log asks for.

use super::herald::Herald;
use super::pool::Pool;
use super::{Inbox, Request, Shared, tally, weight};
use crate::ground::clock;
use crate::shells::commit_log::job::Done;
use crate::shells::commit_log::log::{Log, Step};
use crate::shells::commit_log::{Committed, Error, Unit, WriterState};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Longest time without a look at the log.
const PAUSE_MS_MAX: u64 = 60_000;
/// How long settling everything may stand still before it is given up.
const DRAIN_PATIENCE_MS: u64 = 5_000;

/// Milliseconds on a clock that never goes backwards.
pub(super) fn now_ms() -> u64 {
    clock::monotonic_micros() / 1000
}

/// What the writer took out of the inbox.
#[derive(Default)]
struct Taken {
    requests: Vec<Request>,
    done: Vec<Done>,
    crashed: bool,
}

/// Somebody waits for everything to be settled.
struct Drain {
    tell: Sender<Result<u64, Error>>,
    unsettled: usize,
    since_ms: u64,
}

struct Writer {
    shared: Arc<Shared>,
    log: Log,
    pool: Pool,
    /// Units of the next batches, out of the inbox.
    queue: VecDeque<Unit>,
    running: usize,
    /// The front of the queue waits for a job.
    stuck: bool,
    drain: Option<Drain>,
    /// Everything is settled, and nothing will be written any more.
    drained: bool,
    finish: bool,
    herald: Herald,
}

/// Says that the writer has failed if its thread ends in a panic.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.inbox().state = WriterState::Failed;
            (self.0.tell)(vec![Committed::State(WriterState::Failed)]);
        }
    }
}

pub(super) fn run(shared: &Arc<Shared>, log: Log) -> Result<(), Error> {
    let _alarm = Alarm(shared);
    let pool = match Pool::start(shared) {
        Ok(pool) => pool,
        Err(e) => {
            shared.inbox().state = WriterState::Failed;
            (shared.tell)(vec![Committed::State(WriterState::Failed)]);
            return Err(Error::Failed(format!("no threads to settle with: {e}")));
        }
    };
    let mut writer = Writer {
        shared: Arc::clone(shared),
        log,
        pool,
        queue: VecDeque::new(),
        running: 0,
        stuck: false,
        drain: None,
        drained: false,
        finish: false,
        herald: Herald::default(),
    };
    while !writer.finish || writer.running > 0 {
        let taken = writer.wait();
        writer.turn(taken);
    }
    let Writer { log, pool, .. } = writer;
    drop(pool);
    log.finish()
}

impl Writer {
    /// Waits until there is something to do and takes it.
    fn wait(&mut self) -> Taken {
        let mut inbox = self.shared.inbox();
        loop {
            let news = !inbox.requests.is_empty() || !inbox.done.is_empty() || inbox.crashed;
            let waiting = !self.queue.is_empty() || !inbox.units.is_empty();
            let work = waiting && !self.stuck;
            let (now, wake) = (now_ms(), self.log.wake_at());
            if news || work || now >= wake {
                break;
            }
            let pause = Duration::from_millis((wake - now).min(PAUSE_MS_MAX));
            let waited = self.shared.came.wait_timeout(inbox, pause);
            inbox = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        if self.queue.is_empty() {
            refill(&mut self.queue, &mut inbox, self.shared.options.log.batch_records_max);
        }
        Taken {
            requests: std::mem::take(&mut inbox.requests),
            done: std::mem::take(&mut inbox.done),
            crashed: std::mem::take(&mut inbox.crashed),
        }
    }

    /// One round: results, requests, one batch, new jobs, news.
    fn turn(&mut self, taken: Taken) {
        if taken.crashed {
            self.log.give_up("a thread that settles ended in a panic");
            self.running = 0;
        }
        for done in taken.done {
            self.running = self.running.saturating_sub(1);
            self.stuck = false;
            self.log.done(done, now_ms());
        }
        for request in taken.requests {
            self.request(request);
        }
        if !self.stuck {
            let step = self.log.commit(&mut self.queue, now_ms());
            self.stuck = matches!(step, Step::NeedsSpare | Step::Crowded);
        }
        // Whoever drained has counted the frames: none may follow.
        if !self.drained {
            self.log.tick(now_ms());
        }
        let room = (2 * self.shared.options.threads).saturating_sub(self.running);
        for job in self.log.jobs(now_ms(), room) {
            self.running += 1;
            self.pool.run(job);
        }
        // Nothing runs that could free it, so whoever is in front is asked again.
        self.stuck &= self.running > 0;
        self.look_at_drain();
        self.publish();
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::EnsureMade(run) => self.log.ensure_made(&run),
            Request::Settle(run) => self.log.settle(&run),
            Request::Applied(frame) => self.log.index_applied(frame),
            Request::Tell(heard) => {
                // The news of each round are told at its end. Whoever asked may be gone.
                let _ = heard.send(());
            }
            Request::Drain(tell) => {
                let (unsettled, since_ms) = (usize::MAX, now_ms());
                self.drain = Some(Drain { tell, unsettled, since_ms });
            }
            Request::Finish => self.finish = true,
        }
    }

    /// Whether everything that was to be settled is, or cannot be.
    fn look_at_drain(&mut self) {
        let Some(mut drain) = self.drain.take() else { return };
        if let Some(why) = self.log.failure() {
            let _ = drain.tell.send(Err(Error::Failed(why.to_owned())));
            return;
        }
        let waiting = !self.queue.is_empty() || !self.shared.inbox().units.is_empty();
        let (now, unsettled) = (now_ms(), self.log.unsettled());
        if !waiting && unsettled == 0 && self.running == 0 {
            self.drained = true;
            let _ = drain.tell.send(Ok(self.log.figures().last_frame));
            return;
        }
        if waiting || unsettled < drain.unsettled {
            (drain.unsettled, drain.since_ms) = (unsettled, now);
            self.log.settle_all();
        } else if now.saturating_sub(drain.since_ms) > DRAIN_PATIENCE_MS {
            let _ = drain.tell.send(Err(Error::Unsettled(unsettled)));
            return;
        }
        self.drain = Some(drain);
    }

    fn publish(&mut self) {
        let (events, figures) = (self.log.events(), self.log.figures());
        {
            let mut inbox = self.shared.inbox();
            inbox.state = self.log.state();
            inbox.takes_outcomes = self.log.takes_outcomes();
            let before = std::mem::replace(&mut inbox.figures, figures);
            tally::count(&self.shared.options.metrics, &before, &figures);
        }
        self.herald.tell(self.log.remarks(), now_ms());
        if !events.is_empty() {
            (self.shared.tell)(events);
        }
    }
}

/// Moves units from the inbox, as many as a batch may have.
fn refill(queue: &mut VecDeque<Unit>, inbox: &mut Inbox, records_max: usize) {
    let mut taken = 0;
    while taken < records_max {
        let Some(unit) = inbox.units.pop_front() else { return };
        let (records, bytes) = weight(&unit.entry);
        inbox.records -= records;
        inbox.bytes -= bytes;
        taken += records.max(1);
        queue.push_back(unit);
    }
}
