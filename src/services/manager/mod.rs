//! The run manager: the one owner of every run of a root while a daemon serves it.
//!
//! One thread owns the runs; doors talk to it through a [`Handle`], which can be cloned and sent
//! anywhere. It never waits for a disk, a host or a client: what takes time is done elsewhere and
//! comes back as a [`Message`]. May not know doors. Invariant: an answer leaves only after
//! everything that it rests on is durable.

mod arrive;
mod asks;
mod attend;
mod audited;
mod children;
mod claims;
mod code;
mod commit;
mod create;
mod crew;
mod custody;
mod desk;
mod dispatch;
mod feed;
mod gate;
mod handle;
mod keys;
mod leases;
mod leave;
pub mod limits;
mod mend;
mod play;
mod probes;
mod seat;
mod shelf;
mod slots;
mod tally;
mod waiting;
mod why;
mod workers;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::ground::clock::{Timestamp, monotonic_micros};
use crate::ground::digest::hex;
use crate::ground::id::{RunId, Seq};
use crate::machines::lease::Leases;
use crate::machines::timer::Timers;
use crate::shells::commit_log::{Committed, Unit, WriterState};
use crate::shells::host::pool::{HostEvent, InstanceId, Pool, PoolFigures};
use crate::shells::run_dir::root::RootView;
use crate::shells::store::EffectRow;

use super::commit::Committer;
use super::executor::Registry;
use super::indexer::Indexer;
use super::limits::LimitBook;
use super::runs::create::KnownCode;
use super::runs::open::OpenRun;
use super::runs::trouble::Trouble;
use super::runs::{Error, Result, Runs};

pub use code::Assignment;
pub use create::Made;
pub use crew::Seen;
pub use feed::{Feed, Note, Told};
pub use gate::Keys;
pub use handle::{Flow, Handle};
pub use leases::{Held, Renewed, Sign};
pub use probes::{Probed, Wish};
pub use waiting::Wanted;

use claims::Claims;
use create::Prepared;
use crew::Crew;
use desk::Desk;
use gate::Gate;
use probes::Probes;
use seat::{Ask, Seat};
use shelf::Shelf;
use slots::Slots;
use workers::Workers;

/// Until a run is opened again that could not go on because storage failed.
const RETRY_MS: i64 = 10_000;
/// Longest time between two looks at clocks, hosts and seats.
const TICK_MS: u64 = 250;
/// Units that may wait for the log before runs stop making more.
const OUTBOX_MAX: usize = 4_096;
/// How long to wait before a host is tried again that could not be started.
const HOST_RETRY_MS: i64 = 1_000;
/// Shortest time between two looks at hosts.
const WATCH_MICROS: u64 = 10_000;
/// How long lines of a turn may wait for what the turn adds, so that both go in one batch.
const GATHER_MICROS: u64 = 300;
/// The same for outcomes of this daemon's own executors, for which nobody waits: an effect in a
/// sequence then costs one sync. Longer would only make a crash forget more of what is known.
const GATHER_REPORTS_MICROS: u64 = 10_000;

/// What arrives at the manager.
enum Message {
    /// Somebody wants something of a run.
    Ask(RunId, Ask),
    /// A run is to be created; everything that takes time is done.
    Create(Box<Prepared>),
    /// Batches became durable, directories were made, the writer changed its state.
    Committed(Vec<Committed>),
    /// A host said something, or died.
    Host(HostEvent),
    /// A run was opened, or could not be.
    Arrived(RunId, Box<Result<OpenRun>>),
    /// A run was closed.
    Left(RunId),
    /// Something about the manager itself.
    Look(Box<dyn FnOnce(&mut Manager) + Send>),
    /// Finish what was begun and end.
    Stop,
}

/// Followers of runs by run: each sees the newest durable record.
type Followers = Arc<Mutex<HashMap<RunId, watch::Sender<Seq>>>>;

/// With what a manager works.
pub struct Options {
    /// Where the runs are.
    pub runs: Runs,
    /// Most runs that are held in memory at once.
    pub loaded_max: usize,
    /// Most records in memory, in bytes of their journals.
    pub loaded_bytes_max: u64,
    /// Memory for process instances.
    pub hosts_bytes_max: u64,
    /// Runs that have something to do: those that the last daemon left, and those it died with.
    pub awake: Vec<RunId>,
    /// What time will wake.
    pub timers: Timers,
    /// Keeps the index.
    pub indexer: Indexer,
    /// Code that need not be tried and stored again.
    pub known: KnownCode,
    /// Effects that somebody is at, and those of which nobody knows whether they were executed.
    pub started: Vec<EffectRow>,
    /// How many effects may be at work, and start.
    pub limits: Arc<LimitBook>,
    /// Runs that recovery set aside, and why.
    pub set_aside: Vec<(RunId, String)>,
    /// Explicit idempotency keys.
    pub keys: Keys,
    /// Effects that are executed in this daemon.
    pub inside: InsideOptions,
}

/// How effects are executed in this daemon.
pub struct InsideOptions {
    /// By whom.
    pub registry: Registry,
    /// Where.
    pub runtime: tokio::runtime::Handle,
    /// How long attempts may go on when the daemon stops, before they are told to end.
    pub drain_ms: u64,
}

/// What a manager works through.
pub struct Parts {
    /// Makes records durable.
    pub committer: Committer,
    /// Runs processes.
    pub pool: Pool,
}

/// The thread's own state.
struct Manager {
    runs: Runs,
    view: RootView,
    parts: Parts,
    indexer: Indexer,
    workers: Workers,
    known: KnownCode,
    shelf: Shelf,
    inbox: mpsc::Sender<Message>,
    followers: Followers,
    feed: Feed,
    limits: Limits,
    seats: HashMap<RunId, Seat>,
    instances: HashMap<InstanceId, RunId>,
    timers: Timers,
    /// Runs at rest, least recently used first.
    idle: BTreeMap<u64, RunId>,
    /// Instances of runs at rest, least recently used first.
    warm: BTreeMap<u64, RunId>,
    /// Runs whose lines wait for what their turn adds, and since when.
    gathering: BTreeSet<(u64, RunId)>,
    /// Lines that the log has not taken yet.
    outbox: VecDeque<Unit>,
    /// Runs that wait for room for an instance.
    starved: VecDeque<RunId>,
    /// Runs that wait for a seat.
    queue: VecDeque<RunId>,
    arriving: usize,
    /// Seats of runs that nobody opens yet.
    outside: usize,
    /// Seats of runs that are being closed.
    leaving: usize,
    /// Runs at rest whose child runs are not, and somebody waits for both.
    with_children: BTreeSet<RunId>,
    loaded_bytes: u64,
    /// Counts uses, to tell which was longer ago.
    uses: u64,
    /// The last batch of the log that is known.
    frame: u64,
    /// Runs that came to rest and may lack files for people.
    unfiled: VecDeque<RunId>,
    /// When those were last looked at.
    filed_micros: u64,
    /// When hosts were last looked at.
    watched_micros: u64,
    leases: Leases,
    /// When leases were last looked at.
    ticked_ms: u64,
    /// Runs outside that have called off what somebody is at.
    restless: HashSet<RunId>,
    claims: Claims,
    crew: Crew,
    /// Runs whose journal is damaged, and the case.
    aside: HashMap<RunId, String>,
    /// What was last said about hosts.
    hosts: PoolFigures,
    /// Effects that are executed here.
    desk: Desk,
    /// Lets effects start.
    gate: Gate,
    /// Questions to the outside about effects whose outcome nobody knows.
    probes: Probes,
    /// Whoever waits for the log to say something of a run as a whole.
    logging: HashMap<RunId, oneshot::Sender<Result<()>>>,
    runtime: tokio::runtime::Handle,
    /// How long attempts may go on, and when they are told to end.
    drain_ms: u64,
    drain_at_micros: Option<u64>,
    stopping: bool,
    failed: bool,
}

/// How much may be in memory.
#[derive(Debug, Clone, Copy)]
struct Limits {
    loaded: usize,
    loaded_bytes: u64,
    hosts_bytes: u64,
}

/// Numbers of a manager, and of the log below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// What the log takes.
    pub writer: WriterState,
    /// Runs in memory.
    pub loaded: usize,
    /// Of these, runs at rest whose process is kept.
    pub warm: usize,
    /// Runs that wait for a place in memory or for an instance.
    pub queued: usize,
    /// Runs that time will wake.
    pub timers: usize,
    /// The last durable frame of the log.
    pub frame: u64,
    /// Records that were made durable since the daemon began.
    pub records: u64,
}

/// A manager that runs.
pub struct Running {
    handle: Handle,
    thread: JoinHandle<Result<()>>,
    inbox: mpsc::Sender<Message>,
    failure: oneshot::Receiver<Error>,
}

/// Where the parts of a manager send what happens.
#[derive(Clone)]
pub struct Mailbox(mpsc::Sender<Message>);

impl Mailbox {
    /// Batches became durable.
    pub fn committed(&self, events: Vec<Committed>) {
        // A manager that has ended needs no news.
        let _ = self.0.send(Message::Committed(events));
    }

    /// A host said something.
    pub fn host(&self, event: HostEvent) {
        let _ = self.0.send(Message::Host(event));
    }
}

/// The manager's inbox, made first, because its parts send to it.
pub struct Inbox {
    sender: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
}

impl Default for Inbox {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel();
        Self { sender, receiver }
    }
}

impl Inbox {
    /// For the parts.
    #[must_use]
    pub fn mailbox(&self) -> Mailbox {
        Mailbox(self.sender.clone())
    }
}

/// Starts the manager of a root. `make` makes its parts on the manager's own thread, which outlives
/// the hosts that it starts.
pub fn start(
    inbox: Inbox,
    options: Options,
    make: impl FnOnce() -> Result<Parts> + Send + 'static,
) -> Result<Running> {
    let Inbox { sender, receiver } = inbox;
    let (followers, feed) =
        (Followers::default(), Feed::new(hex(&options.runs.disk.random()[..6])));
    let (ready, started) = mpsc::sync_channel(1);
    let (to_self, theirs) = (sender.clone(), (Arc::clone(&followers), feed.clone()));
    let (runs, indexer) = (options.runs.clone(), options.indexer.clone());
    let known = options.known.clone();
    let (alarm, failure) = oneshot::channel();
    let set_aside = options.set_aside.clone();
    runs.telemetry.metrics.wakes.with(["start"]).add(options.awake.len() as u64);
    let limits = Arc::clone(&options.limits);
    let (clock, metrics) = (Arc::clone(&runs.clock), Arc::clone(&runs.telemetry.metrics));
    let slots = Slots::new(limits.all(), &options.started, clock, metrics);
    let its = slots.clone();
    let keys_kept_ms = options.keys.kept_ms;
    let run = move || {
        let mut alarm = Alarm(Some(alarm));
        let manager = make().and_then(|parts| Manager::new(options, parts, to_self, theirs, its));
        match manager {
            Err(e) => {
                let _ = ready.send(Err(e));
                Ok(())
            }
            Ok(mut manager) => {
                for (run, case) in set_aside {
                    manager.set_aside(&run, Some(&case));
                }
                let _ = ready.send(Ok(()));
                let served = manager.serve(&receiver);
                if manager.failed {
                    alarm.sound(storage_failed());
                }
                served
            }
        }
    };
    let spawned = std::thread::Builder::new().name("manager".into()).spawn(run);
    let thread = spawned.map_err(|e| bug(&format!("the manager could not be started: {e}")))?;
    started.recv().unwrap_or_else(|_| Err(bug("the manager ended before it began")))?;
    let seen = (followers, feed);
    let handle =
        Handle::new(sender.clone(), seen, runs, indexer, known, (slots, limits), keys_kept_ms);
    Ok(Running { handle, thread, inbox: sender, failure })
}

impl Running {
    /// For doors.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Comes when the manager ends because it has to; to be taken once.
    pub fn failure(&mut self) -> oneshot::Receiver<Error> {
        std::mem::replace(&mut self.failure, oneshot::channel().1)
    }

    /// Finishes what was begun, makes every run directory complete, and ends.
    pub fn stop(self) -> Result<()> {
        // A manager that has ended already has nothing left to finish.
        let _ = self.inbox.send(Message::Stop);
        self.thread.join().unwrap_or_else(|_| Err(bug("the manager panicked")))
    }
}

/// Tells whoever serves that the manager is gone, and why; also if its thread ends in a panic.
struct Alarm(Option<oneshot::Sender<Error>>);

impl Alarm {
    fn sound(&mut self, why: Error) {
        if let Some(alarm) = self.0.take() {
            // Whoever does not listen is ending already.
            let _ = alarm.send(why);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.sound(bug("the manager panicked"));
        }
    }
}

fn storage_failed() -> Error {
    let trouble = Trouble::new("storage_failed", "storage failed: nothing can be written any more");
    let next = "nothing acknowledged is lost: the next start recovers";
    Error::Storage { trouble: trouble.next(next), unknown: false }
}

fn bug(what: &str) -> Error {
    Error::Bug(Trouble::new("bug", what))
}

impl Manager {
    fn new(
        options: Options,
        parts: Parts,
        inbox: mpsc::Sender<Message>,
        (followers, feed): (Followers, Feed),
        slots: Slots,
    ) -> Result<Self> {
        let limits = Limits {
            loaded: options.loaded_max,
            loaded_bytes: options.loaded_bytes_max,
            hosts_bytes: options.hosts_bytes_max,
        };
        let ticked_ms = options.runs.clock.passed_millis();
        let mark = u64::from_le_bytes(*options.runs.disk.random().first_chunk().unwrap_or(&[0; 8]));
        let worker = format!("{}{mark:016x}", dispatch::WORKERS_NAME);
        let inside = options.inside;
        let mut manager = Self {
            desk: Desk::new(inside.registry, worker),
            gate: Gate::new(options.keys, slots),
            probes: Probes::default(),
            runtime: inside.runtime,
            drain_ms: inside.drain_ms,
            drain_at_micros: None,
            view: options.runs.view_root()?,
            runs: options.runs,
            parts,
            indexer: options.indexer,
            workers: Workers::start()?,
            known: options.known,
            shelf: Shelf::default(),
            inbox,
            followers,
            feed,
            limits,
            seats: HashMap::new(),
            instances: HashMap::new(),
            timers: options.timers,
            idle: BTreeMap::new(),
            warm: BTreeMap::new(),
            gathering: BTreeSet::new(),
            outbox: VecDeque::new(),
            starved: VecDeque::new(),
            queue: options.awake.into(),
            arriving: 0,
            outside: 0,
            leaving: 0,
            logging: HashMap::new(),
            with_children: BTreeSet::new(),
            loaded_bytes: 0,
            uses: 0,
            frame: 0,
            unfiled: VecDeque::new(),
            filed_micros: 0,
            watched_micros: 0,
            leases: Leases::default(),
            ticked_ms,
            restless: HashSet::new(),
            claims: Claims::default(),
            crew: Crew::default(),
            aside: HashMap::new(),
            hosts: PoolFigures::default(),
            stopping: false,
            failed: false,
        };
        manager.grant_anew(options.started);
        Ok(manager)
    }

    /// Takes messages until it is told to stop.
    fn serve(&mut self, messages: &mpsc::Receiver<Message>) -> Result<()> {
        self.seat_queued();
        loop {
            let wait = match self.gathering.first() {
                None => Duration::from_millis(self.nap_ms()),
                Some((until, _)) => Duration::from_micros(until.saturating_sub(monotonic_micros())),
            };
            match messages.recv_timeout(wait) {
                Ok(message) => self.take(message),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => self.stopping = true,
            }
            self.tick();
            if self.failed || (self.stopping && self.is_quiet()) {
                break;
            }
        }
        self.finish()
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Ask(run, ask) => self.ask(run, ask),
            Message::Create(prepared) => self.create(*prepared),
            Message::Committed(events) => self.committed(events),
            Message::Host(event) => self.heard(event),
            Message::Arrived(run, opened) => self.arrived(&run, *opened),
            Message::Left(run) => self.left(&run),
            Message::Look(look) => look(self),
            Message::Stop => self.stop(),
        }
    }

    /// Takes nothing more in. Runs that nobody has begun to open stay where they are.
    fn stop(&mut self) {
        self.stopping = true;
        self.refuse_claims();
        self.drain_at_micros = Some(monotonic_micros().saturating_add(self.drain_ms * 1000));
        let unbegun = |seat: &mut Seat| matches!(seat, Seat::Coming(coming) if !coming.begun);
        let left: Vec<Seat> =
            self.seats.extract_if(|_, seat| unbegun(seat)).map(|(_, seat)| seat).collect();
        self.outside -= left.len();
        for seat in left {
            if let Seat::Coming(coming) = seat {
                for ask in coming.asks {
                    ask.refuse(handle::gone());
                }
            }
        }
    }

    /// Lets runs go on that waited for room, until one waits again. Whoever has an instance and
    /// waits for the log is at rest, where its instance makes room for others.
    fn feed_starved(&mut self) {
        if !self.parts.pool.has_room() {
            return;
        }
        for _ in 0..self.starved.len() {
            let Some(run) = self.starved.pop_front() else { return };
            let before = self.starved.len();
            self.wake(&run);
            if self.starved.len() > before {
                return;
            }
        }
    }

    /// How long nothing has to be looked at.
    fn nap_ms(&self) -> u64 {
        let lapse = self.leases.next_ms();
        let lapse = lapse.map_or(TICK_MS, |at| at.saturating_sub(self.runs.clock.passed_millis()));
        let slots = self.gate.slots.next_ms();
        let slots = slots.map(|at| at.saturating_sub(self.runs.clock.passed_millis()));
        let lapse = slots.map_or(lapse, |slots| lapse.min(slots));
        let Some(next) = self.timers.next().into_iter().chain(self.claims.next()).min() else {
            return lapse.clamp(1, TICK_MS);
        };
        let left = next.micros().saturating_sub(self.runs.clock.now().micros()).div_euclid(1000);
        u64::try_from(left + 1).unwrap_or(0).min(lapse).clamp(1, TICK_MS)
    }

    /// What time alone brings: due timers, late hosts, seats that are needed elsewhere.
    fn tick(&mut self) {
        let now = self.runs.clock.now();
        let micros = monotonic_micros();
        if micros.saturating_sub(self.watched_micros) > WATCH_MICROS {
            self.watched_micros = micros;
            self.parts.pool.tick(micros);
        }
        self.hand_over_gathered(micros);
        if micros.saturating_sub(self.filed_micros) > TICK_MS * 1000 {
            self.filed_micros = micros;
            self.file();
            self.tally();
        }
        while !self.stopping
            && let Some((run, _)) = self.timers.pop_due(now)
        {
            self.count_wake("timer");
            self.wake(&run);
        }
        self.tick_leases();
        self.serve_claims();
        if self.drain_at_micros.is_some_and(|at| at <= micros) {
            self.drain_at_micros = None;
            self.desk.drain();
        }
        self.wake_for_slots();
        self.wake_for_keys();
        self.make_room();
        self.feed_starved();
        self.seat_queued();
    }

    /// Lets a run go on, opening it first if need be.
    fn wake(&mut self, run: &RunId) {
        match self.seats.get_mut(run) {
            Some(Seat::Here(_)) => self.play(run),
            Some(Seat::Coming(coming)) => coming.plays = true,
            Some(Seat::Leaving(leaving)) => leaving.returns = true,
            None => {
                self.queue.push_back(run.clone());
                self.seat_queued();
            }
        }
    }

    /// Whether everything that was begun is done.
    fn is_quiet(&self) -> bool {
        self.outbox.is_empty()
            && self.claims.book.is_quiet()
            && !self.desk.is_busy()
            && self.seats.values().all(|seat| matches!(seat, Seat::Here(here) if here.is_quiet()))
    }

    /// Lets all runs go, and settles the log.
    fn finish(&mut self) -> Result<()> {
        self.tally();
        for (_, seat) in self.seats.drain() {
            if let Seat::Here(here) = seat
                && !self.failed
            {
                here.run.close()?;
            }
        }
        Ok(())
    }

    /// Tells followers how far a run's durable journal goes.
    fn publish(&self, run: &RunId, head: Seq) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(follower) = followers.get(run) {
            // Nobody listens any more: forget it.
            if follower.send(head).is_err() {
                followers.remove(run);
            }
        }
    }

    fn figures(&self) -> Figures {
        let log = self.parts.committer.figures();
        Figures {
            writer: self.parts.committer.state(),
            loaded: self.seats.len(),
            warm: self.warm.len(),
            queued: self.queue.len() + self.starved.len(),
            timers: self.timers.len(),
            frame: self.frame.max(log.last_frame),
            records: log.records,
        }
    }

    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn now(&self) -> Timestamp {
        self.runs.clock.now()
    }
}
