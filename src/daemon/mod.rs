//! The daemon: one process that owns a runs root and lets its runs go on.
//!
//! Wires services together, says when they are ready, stops them in order. May not know doors.
//! Invariant: what it acknowledged is durable, however it ends.

pub mod logging;
pub mod metrics;
pub mod tracing_export;

use std::sync::Arc;

use crate::services::inbox::{self, Inbox};
use crate::services::manager::{self, Handle, Running};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use metrics::Exposition;
use tracing_export::{Exporter, Sending};

/// What a daemon does besides letting runs go on.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How the inbox is looked after.
    pub inbox: inbox::Options,
    /// The collector that gets traces, such as `http://127.0.0.1:4318`.
    pub otlp_endpoint: Option<String>,
}

/// A daemon that runs.
pub struct Daemon {
    manager: Running,
    inbox: Option<inbox::Running>,
    traces: Option<Sending>,
    exposition: Arc<Exposition>,
}

impl Daemon {
    /// Takes the root, recovers it, and begins to work.
    pub fn start(mut runs: Runs, options: Options) -> Result<Self> {
        runs.open_root(true)?;
        let metrics = Arc::clone(&runs.telemetry.metrics);
        let exposition = Exposition::new(Arc::clone(&metrics), &*runs.clock, Vec::new());
        let mut traces = None;
        if let Some(endpoint) = &options.otlp_endpoint {
            let (exporter, sending) = Exporter::start(endpoint, metrics)
                .map_err(|e| Error::Invalid(Trouble::new("usage", e.to_string())))?;
            runs.telemetry.tracer = Some(exporter);
            traces = Some(sending);
        }
        let manager = manager::start(runs)?;
        // The other doors stay open when somebody put something odd in the inbox's place.
        let inbox = Inbox::start(manager.handle(), options.inbox)
            .inspect_err(|e| tracing::error!(code = e.trouble().code, "there is no inbox"))
            .ok();
        Ok(Self { manager, inbox, traces, exposition: Arc::new(exposition) })
    }

    /// The numbers, for doors that show them.
    #[must_use]
    pub fn exposition(&self) -> Arc<Exposition> {
        Arc::clone(&self.exposition)
    }

    /// For doors.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.manager.handle()
    }

    /// Finishes what was begun, makes every run directory complete, and ends.
    pub fn stop(self) -> Result<()> {
        if let Some(inbox) = self.inbox {
            inbox.stop();
        }
        let stopped = self.manager.stop();
        if let Some(traces) = self.traces {
            traces.stop();
        }
        stopped
    }
}
