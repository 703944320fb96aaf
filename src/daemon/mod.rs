//! The daemon: one process that owns a runs root and lets its runs go on.
//!
//! Wires services together, says when they are ready, stops them in order. May not know doors.
//! Invariant: what it acknowledged is durable, however it ends.

pub mod alone;
pub mod config;
pub mod descriptors;
pub mod doctor;
pub mod logging;
pub mod metrics;
pub mod tracing_export;

mod auditor;
mod executors;
mod warden;
mod wiring;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::services::commit::Committer;
use crate::services::executor::agents::book::Book;
use crate::services::executor::guard::Listeners;
use crate::services::inbox::{self, Inbox};
use crate::services::indexer::Indexer;
use crate::services::manager::{Handle, Running};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::services::schedules::{self, Schedules};
use crate::shells::run_dir::owned::OwnedRoot;
use crate::shells::store::Batch;
use auditor::Auditor;
use config::Config;
use metrics::Exposition;
use tracing_export::{Exporter, Sending};
use warden::Warden;

/// A daemon that runs.
pub struct Daemon {
    manager: Running,
    committer: Committer,
    /// Held until the end.
    root: Arc<OwnedRoot>,
    indexer: Indexer,
    index: JoinHandle<()>,
    auditor: Auditor,
    warden: Warden,
    inbox: Option<inbox::Running>,
    schedules: schedules::Running,
    /// Where effects are executed.
    executors: executors::Threads,
    listeners: Listeners,
    agents: Arc<Book>,
    traces: Option<Sending>,
    exposition: Arc<Exposition>,
}

impl Daemon {
    /// Takes the root alone, recovers it, and begins to work.
    pub fn start(runs: &Runs, config: &Config) -> Result<Self> {
        let mut runs = runs.clone();
        runs.limits.heap_bytes_max = config.hosts.heap_bytes_max;
        runs.limits.turn_cpu_max_ms = config.hosts.turn_cpu_max_ms;
        let traces = trace(&mut runs, config)?;
        let wired = wiring::wire(runs.clone(), config)?;
        let auditor = Auditor::start(wired.manager.handle(), config.audit_rate)?;
        let warden = Warden::start(Arc::clone(&wired.root), wired.mailbox)?;
        let inbox = letters(wired.manager.handle(), config);
        let schedules = Schedules::start(wired.manager.handle())?;
        let metrics = Arc::clone(&runs.telemetry.metrics);
        let exposition = Exposition::new(metrics, &*runs.clock, wired.refresh);
        Ok(Self {
            manager: wired.manager,
            committer: wired.committer,
            root: wired.root,
            indexer: wired.indexer,
            index: wired.index,
            auditor,
            warden,
            inbox,
            schedules,
            executors: wired.executors,
            listeners: wired.listeners,
            agents: wired.agents,
            traces,
            exposition: Arc::new(exposition),
        })
    }

    /// The numbers, for doors that show them.
    #[must_use]
    pub fn exposition(&self) -> Arc<Exposition> {
        Arc::clone(&self.exposition)
    }

    /// A door is open at this address: no request of ours goes there.
    pub fn listens_at(&self, address: SocketAddr) {
        self.listeners.add(address);
    }

    /// The agents that it asks.
    #[must_use]
    pub fn agents(&self) -> Arc<Book> {
        Arc::clone(&self.agents)
    }

    /// What makes runs begin by themselves.
    #[must_use]
    pub fn schedules(&self) -> Schedules {
        self.schedules.schedules()
    }

    /// For doors.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.manager.handle()
    }

    /// Comes when nothing can be served any more; the process is to end, and the next start
    /// recovers. To be taken once.
    pub fn failure(&mut self) -> oneshot::Receiver<Error> {
        self.manager.failure()
    }

    /// Writes down that this daemon could not write, for the next one.
    pub fn failure_note(&self) -> impl FnOnce() + Send + use<> {
        let (root, clock) = (Arc::downgrade(&self.root), Arc::clone(&self.handle().runs().clock));
        move || {
            if let Some(root) = root.upgrade() {
                let _ = root.note_failure(clock.now());
            }
        }
    }

    /// Finishes what was begun, makes every run directory complete, and ends.
    pub fn stop(self) -> Result<()> {
        if let Some(inbox) = self.inbox {
            inbox.stop();
        }
        self.schedules.stop();
        self.auditor.stop();
        self.warden.stop();
        let stopped = self.manager.stop();
        // What is still at work there goes on without this daemon, or has been given up.
        drop(self.executors);
        let stopped = stopped.and_then(|()| rest(self.committer, &self.indexer));
        self.indexer.stop();
        // A panic of the index thread costs the index, which is made anew.
        let _ = self.index.join();
        if stopped.is_ok() {
            self.root.note_failures(0);
        }
        // Whoever comes next may have the root.
        drop(self.root);
        if let Some(traces) = self.traces {
            traces.stop();
        }
        stopped
    }
}

/// Makes every run directory complete by itself and leaves no segment of the log.
fn rest(committer: Committer, indexer: &Indexer) -> Result<()> {
    let failed = |what: String| {
        let trouble = Trouble::new("storage_failed", what);
        let next = "nothing acknowledged is lost: the next start recovers";
        Error::Storage { trouble: trouble.next(next), unknown: false }
    };
    let frame = committer.drain().map_err(|e| failed(e.to_string()))?;
    // Every change was given before: whatever frames follow hold none.
    indexer.apply(Batch { frame, changes: Vec::new() });
    match indexer.flush(frame).blocking_recv() {
        Ok(Ok(())) => committer.applied(frame),
        _ => return Err(failed("the index could not be made durable".to_owned())),
    }
    committer.stop().map_err(|e| failed(e.to_string()))
}

/// Sends traces, if somebody wants them.
fn trace(runs: &mut Runs, config: &Config) -> Result<Option<Sending>> {
    let Some(endpoint) = &config.telemetry.otlp_endpoint else { return Ok(None) };
    let metrics = Arc::clone(&runs.telemetry.metrics);
    let (exporter, sending) = Exporter::start(endpoint, metrics).map_err(|e| {
        let what = format!("telemetry.otlp_endpoint: {e}");
        let next = "give an address such as http://127.0.0.1:4318";
        Error::Invalid(Trouble::new("usage", what).next(next))
    })?;
    runs.telemetry.tracer = Some(exporter);
    Ok(Some(sending))
}

/// Looks after the inbox. The other doors stay open when somebody put something odd in its place.
fn letters(handle: Handle, config: &Config) -> Option<inbox::Running> {
    if !config.inbox.enabled {
        return None;
    }
    let options = inbox::Options {
        scan_every_ms: config.inbox.scan_every_ms,
        file_bytes_max: config.http.body_bytes_max as u64,
        ..inbox::Options::default()
    };
    Inbox::start(handle, options)
        .inspect_err(|e| tracing::error!(code = e.trouble().code, "there is no inbox"))
        .ok()
}
