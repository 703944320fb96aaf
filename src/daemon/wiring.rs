//! How a daemon is put together: root, log, index, hosts, manager.
//!
//! May not decide anything about a run. Invariant: nothing is served before the log is recovered
//! and the index knows what recovery found.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use crate::ground::id::{EffectName, RunId};
use crate::ground::limits::{FAILURES_MAX, INDEX_SCAN_ROWS_MAX};
use crate::machines::effect::life::EffectStatus;
use crate::machines::timer::Timers;
use crate::ports::telemetry::Metrics;
use crate::services::commit::{self, Committer};
use crate::services::executor::Registry;
use crate::services::executor::agents::book::Book;
use crate::services::executor::guard::Listeners;
use crate::services::indexer::rebuild::{self, rebuild, rebuild_live, reread, take_touched};
use crate::services::indexer::{Indexer, Need};
use crate::services::limits::LimitBook;
use crate::services::manager::{
    self, Handle, Inbox, InsideOptions, Keys, Mailbox, Options, Parts, Running,
};
use crate::services::runs::create::KnownCode;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::commit_log::log::Home;
use crate::shells::commit_log::recover::{self, Patience, Recovered};
use crate::shells::commit_log::{self, Committed, Settings, WriterState};
use crate::shells::host::pool::{Pool, PoolOptions};
use crate::shells::run_dir::owned::OwnedRoot;
use crate::shells::run_dir::root;
use crate::shells::store::{
    self, Batch, Change, Condition, EffectFilter, EffectRow, Index, LogSpan, Verdict,
};

use super::config::Config;
use super::descriptors::Shares;
use super::executors;
use super::metrics::Refresh;

/// Rows of the index that are read at a time.
const ROWS_AT_ONCE: usize = 10_000;

/// A daemon's parts, at work.
pub(super) struct Wired {
    pub(super) manager: Running,
    pub(super) committer: Committer,
    pub(super) root: Arc<OwnedRoot>,
    pub(super) indexer: Indexer,
    pub(super) index: JoinHandle<()>,
    pub(super) refresh: Vec<Refresh>,
    pub(super) mailbox: Mailbox,
    pub(super) executors: executors::Threads,
    pub(super) listeners: Listeners,
    pub(super) agents: Arc<Book>,
}

/// Puts a daemon together and lets it work.
pub(super) fn wire(runs: Runs, config: &Config) -> Result<Wired> {
    let shares = Shares::of_process()?;
    let options =
        root::Options { create: true, wait_ms: runs.lock_wait_ms, allow_fs: runs.allow_fs.clone() };
    let owned = OwnedRoot::open(&runs.disk, &runs.root, &options, &*runs.clock)
        .map_err(|e| served_already(e.into()))?;
    must_not_be_failing(&owned)?;
    let limits = LimitBook::open(Arc::clone(owned.meta()), config.limits.clone())?;
    let (mut index, condition) =
        Index::open(&*runs.disk, owned.meta().path()).map_err(|e| unusable(&e))?;
    let patience = Patience { threads: config.settle.threads, ..Patience::default() };
    let recovered = recover::recover(&owned, condition.applied(), &patience, &*runs.clock)?;
    say(&recovered);
    let mut awake = freshen(&runs, &mut index, &condition, &recovered)?;
    awake.extend(all(|after| index.runnable(after, ROWS_AT_ONCE)).map_err(|e| unusable(&e))?);
    awake.extend(all(|after| index.unheard(after, ROWS_AT_ONCE)).map_err(|e| unusable(&e))?);
    let listeners = Listeners::default();
    let (registry, agents) = executors::registry(&runs, config, &listeners)?;
    limits.limit_agents(&agents.agents().limits(), |_, _| ());
    awake.extend(left_inside(&index, &registry).map_err(|e| unusable(&e))?);
    let timers = timers_of(&index).map_err(|e| unusable(&e))?;
    let started = at_work(&index).map_err(|e| unusable(&e))?;
    let keys = keys_of(&index, &runs, config).map_err(|e| unusable(&e))?;
    let frame = Arc::new(AtomicU64::new(recovered.last_seq));
    let (indexer, index) = start_indexer(&runs, index, &frame)?;
    let inbox = Inbox::default();
    let owned = Arc::new(owned);
    let committer =
        start_log(&runs, &owned, settings(config, &shares), config, &indexer, &inbox, &frame)?;
    let pool = pool_options(&runs, config);
    let (mailbox, for_warden) = (inbox.mailbox(), inbox.mailbox());
    let taken = committer.clone();
    let make = move || {
        let pool = Pool::new(pool, Box::new(move |event| mailbox.host(event)));
        Ok(Parts { committer: taken, pool })
    };
    let (executors, runtime) = executors::Threads::start()?;
    let inside = InsideOptions { registry, runtime, drain_ms: config.drain_timeout_ms / 2 };
    let options = Options {
        inside,
        runs,
        limits: Arc::new(limits),
        loaded_max: loaded_max(config, &shares),
        loaded_bytes_max: config.runs.loaded_bytes_max,
        hosts_bytes_max: config.hosts.memory_bytes_max,
        awake,
        timers,
        indexer: indexer.clone(),
        known: KnownCode::default(),
        started,
        set_aside: aside(recovered),
        keys,
    };
    let manager = manager::start(inbox, options, make)?;
    let refresh = refreshers(&committer, &indexer, &manager.handle());
    let handle = manager.handle();
    agents.tell(Box::new(move |agents| handle.limit_agents(&agents.limits())));
    Ok(Wired {
        agents,
        listeners,
        manager,
        committer,
        root: owned,
        indexer,
        index,
        refresh,
        mailbox: for_warden,
        executors,
    })
}

/// The runs that recovery set aside, each with its case.
fn aside(recovered: Recovered) -> Vec<(RunId, String)> {
    recovered.set_aside.into_iter().map(|(run, case, _)| (run, case.to_string())).collect()
}

/// How many runs may be in memory: what is configured, as far as there are descriptors for it.
fn loaded_max(config: &Config, shares: &Shares) -> usize {
    let (fit, asked) = (shares.runs, config.runs.loaded_max);
    if fit < asked {
        tracing::warn!("{fit} runs are held in memory at most: raise `ulimit -n` for more");
    }
    asked.min(fit)
}

/// Whoever holds the root is most likely another daemon: it says so itself.
fn served_already(error: Error) -> Error {
    match error {
        Error::Conflict(trouble) if trouble.code == "lock_busy" => {
            let next = vec!["dormouse status".to_owned()];
            Error::Conflict(Trouble { next, ..trouble })
        }
        other => other,
    }
}

/// Refuses a root that one daemon after the other could not write.
fn must_not_be_failing(root: &OwnedRoot) -> Result<()> {
    let failures = root.failures_before();
    if failures < FAILURES_MAX {
        return Ok(());
    }
    let what = format!("the last {failures} daemons of this root could not write");
    let next = "look at the disk, then `dormouse root resume`";
    Err(Error::Storage { trouble: Trouble::new("root_failing", what).next(next), unknown: false })
}

pub(super) fn unusable(error: &store::Error) -> Error {
    let trouble = Trouble::new("index_unusable", error.to_string());
    let next = "see that .dormouse/ may be written and has room; the index itself may be deleted";
    Error::Storage { trouble: trouble.next(next), unknown: false }
}

/// Brings the index up to what journals say that it may not know. Gives the runs that were written
/// since, which may have something to do.
pub(super) fn freshen(
    runs: &Runs,
    index: &mut Index,
    condition: &Condition,
    recovered: &Recovered,
) -> Result<Vec<RunId>> {
    let span = LogSpan { first: recovered.first_seq, last: recovered.last_seq };
    let of_no_use = match condition {
        Condition::Usable { applied } => store::judge(*applied, span) == Verdict::Rebuild,
        Condition::Fresh | Condition::Rebuild(_) => true,
    };
    if of_no_use {
        tracing::info!("the index is made anew from the journals");
        rebuild(runs, index, recovered.last_seq, &mut |_, _| {}).map_err(not_rebuilt)?;
        // Their marks have had their day.
        take_touched(runs, index).map_err(not_rebuilt)?;
        return Ok(Vec::new());
    }
    let mut seen = Vec::new();
    let written: Vec<RunId> = recovered.runs.iter().map(|(run, _)| run.clone()).collect();
    for run in &written {
        seen.push((run.clone(), index.head(run).map_err(|e| unusable(&e))?));
    }
    let changes = reread(runs, seen)?;
    index.apply(&Batch { frame: recovered.last_seq, changes }).map_err(|e| unusable(&e))?;
    take_touched(runs, index).map_err(not_rebuilt)?;
    read_missed(runs, index)?;
    Ok(written)
}

/// Reads runs of which the index has missed something: who holds a key is known before anybody is
/// started.
fn read_missed(runs: &Runs, index: &mut Index) -> Result<()> {
    let missed = index.rereads(INDEX_SCAN_ROWS_MAX).map_err(|e| unusable(&e))?;
    let heads = missed.into_iter().map(|(run, _)| Ok((run.clone(), index.head(&run)?)));
    let seen = heads.collect::<store::Result<_>>().map_err(|e| unusable(&e))?;
    let changes = reread(runs, seen)?;
    index.apply(&Batch { frame: 0, changes }).map_err(|e| unusable(&e))
}

/// Says what recovery found.
fn say(recovered: &Recovered) {
    for note in &recovered.notes {
        tracing::warn!(code = %note.label, "recovery: {}", note.why);
    }
    for (run, case, why) in &recovered.set_aside {
        tracing::error!(%run, code = %case, "recovery set the run aside: {why}");
    }
}

/// Begins a segment and starts the threads around the log.
fn start_log(
    runs: &Runs,
    owned: &Arc<OwnedRoot>,
    log: Settings,
    config: &Config,
    indexer: &Indexer,
    inbox: &Inbox,
    frame: &Arc<AtomicU64>,
) -> Result<Committer> {
    let home = Home {
        root: owned.view().clone(),
        meta: Arc::clone(owned.meta()),
        file: Arc::clone(owned.file()),
        clock: Arc::clone(&runs.clock),
    };
    let options = commit::Options {
        log,
        threads: config.settle.threads,
        queue_records_max: usize_of(config.log.queue_records_max),
        queue_bytes_max: usize_of(config.log.queue_bytes_max),
        unsettled_bytes_max: config.log.unsettled_bytes_max,
        metrics: Arc::clone(&runs.telemetry.metrics),
    };
    let slot: Arc<OnceLock<Committer>> = Arc::default();
    let news = News {
        mailbox: inbox.mailbox(),
        frame: Arc::clone(frame),
        committer: Arc::clone(&slot),
        indexer: indexer.clone(),
        flushed: AtomicU64::new(1),
    };
    let tell = Box::new(move |events| news.pass_on(events));
    let committer = Committer::start(home, options, tell).map_err(|e| no_log(&e))?;
    // Set once, here.
    let _ = slot.set(committer.clone());
    Ok(committer)
}

/// Passes on what the log tells.
struct News {
    mailbox: Mailbox,
    /// The last durable frame.
    frame: Arc<AtomicU64>,
    committer: Arc<OnceLock<Committer>>,
    indexer: Indexer,
    /// Segments that were begun when the index was last asked to be durable.
    flushed: AtomicU64,
}

impl News {
    fn pass_on(&self, events: Vec<Committed>) {
        for event in &events {
            if let Committed::Durable { frame, .. } | Committed::Mark { frame } = event {
                self.frame.fetch_max(*frame, Ordering::AcqRel);
            }
        }
        self.mailbox.committed(events);
        self.ask_index();
    }

    /// A segment was closed: it can go once the index is durable beyond it.
    fn ask_index(&self) {
        let Some(committer) = self.committer.get() else { return };
        let figures = committer.figures();
        if self.flushed.swap(figures.segments, Ordering::AcqRel) >= figures.segments {
            return;
        }
        let (frame, committer) = (figures.last_frame, committer.clone());
        let answer = self.indexer.flush(frame);
        // The log's own thread must not wait for the index.
        std::thread::spawn(move || {
            if let Ok(Ok(())) = answer.blocking_recv() {
                committer.applied(frame);
            }
        });
    }
}

fn settings(config: &Config, shares: &Shares) -> Settings {
    Settings {
        segment_bytes: config.log.segment_bytes,
        batch_bytes_max: usize_of(config.log.batch_bytes_max),
        batch_records_max: usize_of(config.log.batch_records_max),
        reserve_bytes: config.log.reserve_bytes,
        free_bytes_min: config.disk_free_bytes_min,
        mark_after_ms: config.log.mark_after_ms,
        idle_rotate_ms: config.log.idle_rotate_ms,
        settle_idle_ms: config.settle.idle_ms,
        settle_age_max_ms: config.settle.max_age_ms,
        settle_jobs_max: config.settle.threads.saturating_sub(2).max(1),
        open_files_max: shares.journals,
    }
}

fn usize_of(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn no_log(error: &commit_log::Error) -> Error {
    let trouble = Trouble::new("storage_failed", format!("the commit log: {error}"));
    Error::Storage {
        trouble: trouble.next("see that .dormouse/ may be written and has room"),
        unknown: false,
    }
}

pub(super) fn not_rebuilt(error: rebuild::Error) -> Error {
    match error {
        rebuild::Error::Runs(e) => e,
        rebuild::Error::Index(e) => unusable(&e),
    }
}

/// All pages of a list of runs.
fn all(page: impl Fn(Option<&RunId>) -> store::Result<Vec<RunId>>) -> store::Result<Vec<RunId>> {
    let mut all: Vec<RunId> = Vec::new();
    loop {
        let page = page(all.last())?;
        let last = page.len() < ROWS_AT_ONCE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

/// Runs with effects that an earlier daemon executed, or that this one is to execute.
fn left_inside(index: &Index, registry: &Registry) -> store::Result<Vec<RunId>> {
    let mut runs = all(|after| index.begun_by_daemons(after, ROWS_AT_ONCE))?;
    for kind in registry.kinds() {
        runs.extend(all(|after| index.requested_of(kind, after, ROWS_AT_ONCE))?);
    }
    Ok(runs)
}

fn timers_of(index: &Index) -> store::Result<Timers> {
    let (mut timers, mut after) = (Timers::default(), None);
    loop {
        let page = index.timers(after.as_ref(), None, ROWS_AT_ONCE)?;
        for timer in &page {
            timers.set(&timer.run_id, Some(timer.at));
        }
        if page.len() < ROWS_AT_ONCE {
            return Ok(timers);
        }
        after = page.into_iter().next_back();
    }
}

/// Everything that somebody is at.
fn started(index: &Index) -> store::Result<Vec<EffectRow>> {
    let mut all: Vec<EffectRow> = Vec::new();
    loop {
        let last = all.last().map(|row| EffectName::of(&row.run_id, row.facts.effect_id));
        let page = index.started(last.as_ref(), ROWS_AT_ONCE)?;
        let is_last = page.len() < ROWS_AT_ONCE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// What effects with explicit idempotency keys say about these, far enough back.
fn keys_of(index: &Index, runs: &Runs, config: &Config) -> store::Result<Keys> {
    let kept_ms = config.ledger_key_ttl_ms;
    let since = runs.clock.now().earlier_by(kept_ms);
    let mut keys = Keys { known: Vec::new(), kept_ms };
    loop {
        let page = index.live_keys(since, keys.known.last(), ROWS_AT_ONCE)?;
        let is_last = page.len() < ROWS_AT_ONCE;
        keys.known.extend(page);
        if is_last {
            return Ok(keys);
        }
    }
}

/// Everything that somebody is at, or may have been.
fn at_work(index: &Index) -> store::Result<Vec<EffectRow>> {
    let mut all = started(index)?;
    all.extend(uncertain(index)?);
    Ok(all)
}

/// Everything of which nobody knows whether it was executed.
fn uncertain(index: &Index) -> store::Result<Vec<EffectRow>> {
    let status = Some(EffectStatus::Uncertain);
    let filter = EffectFilter { status, ..EffectFilter::default() };
    let (mut all, mut place) = (Vec::new(), None);
    loop {
        let page = index.effects(&filter, ROWS_AT_ONCE, place.as_ref())?;
        all.extend(page.rows);
        if page.next.is_none() {
            return Ok(all);
        }
        place = page.next;
    }
}

fn start_indexer(
    runs: &Runs,
    index: Index,
    frame: &Arc<AtomicU64>,
) -> Result<(Indexer, JoinHandle<()>)> {
    let slot: Arc<OnceLock<Indexer>> = Arc::default();
    let metrics = Arc::clone(&runs.telemetry.metrics);
    let (theirs, runs, frame) = (Arc::clone(&slot), runs.clone(), Arc::clone(frame));
    let owner = move |need: Need| {
        let (slot, runs, frame) = (Arc::clone(&theirs), runs.clone(), Arc::clone(&frame));
        // The index's own thread must not wait for journals to be read.
        std::thread::spawn(move || {
            if let Some(indexer) = slot.get() {
                help(&runs, indexer, &frame, need);
            }
        });
    };
    let (indexer, thread) = Indexer::start(index, metrics, owner).map_err(|e| {
        Error::Bug(Trouble::new("bug", format!("the index could not be started: {e}")))
    })?;
    // Set once, here.
    let _ = slot.set(indexer.clone());
    Ok((indexer, thread))
}

/// Reads journals for an index that needs them.
fn help(runs: &Runs, indexer: &Indexer, frame: &AtomicU64, need: Need) {
    let done = match need {
        Need::Rebuild(ticket) => {
            runs.telemetry.metrics.index_rebuilds.one();
            tracing::warn!(code = "index_rebuilding", "the index is made anew from the journals");
            let frame = frame.load(Ordering::Acquire);
            rebuild_live(runs, indexer, ticket, frame, &mut |_, _| {}).map_err(not_rebuilt)
        }
        Need::Reread(ids) => runs.view_root().map(|root| {
            let whole = ids.iter().filter_map(|id| rebuild::read(&root, id));
            let changes = whole.map(|journaled| Change::Put(Box::new(journaled.update)));
            indexer.apply(Batch { frame: 0, changes: changes.collect() });
        }),
        Need::Alarm(why) => {
            tracing::error!(code = "index_unusable", "the index cannot be made anew: {why}");
            Ok(())
        }
    };
    if let Err(e) = done {
        tracing::error!(code = e.trouble().code, "the index lacks journals: {e}");
    }
}

fn pool_options(runs: &Runs, config: &Config) -> PoolOptions {
    PoolOptions {
        exe: runs.hosts.program().to_owned(),
        children: config.hosts.children,
        memory_bytes_max: config.hosts.memory_bytes_max,
        wall_max_ms: runs.turn_wall_max_ms,
    }
}

/// What the writer's states are called.
const STATES: &[(&str, WriterState)] = &[
    ("healthy", WriterState::Healthy),
    ("full", WriterState::Full),
    ("failed", WriterState::Failed),
];

/// Figures that are read when somebody asks for them.
fn refreshers(committer: &Committer, indexer: &Indexer, handle: &Handle) -> Vec<Refresh> {
    let (committer, indexer, handle) = (committer.clone(), indexer.clone(), handle.clone());
    vec![
        Box::new(move |metrics: &Metrics| {
            let figures = committer.figures();
            metrics.commit_log_unsettled.set(figures.unsettled_bytes);
            metrics.commit_log_segments.set(figures.segments - figures.released);
            metrics.commit_log_lagging.set(figures.lagging);
            metrics.commit_log_queue.set(committer.waiting());
            let state = committer.state();
            for (name, its) in STATES {
                metrics.writer_state.with([name]).set(u64::from(state == *its));
            }
        }),
        Box::new(move |metrics: &Metrics| {
            metrics.index_lag.set(indexer.waiting());
            let Ok(counts) = indexer.ask(|index| Ok(index.counts().clone())) else { return };
            for (state, count) in &counts.runs {
                metrics.runs.with([state.as_str()]).set(*count);
            }
        }),
        Box::new(move |metrics: &Metrics| handle.gauge_limits(metrics)),
    ]
}
