//! The manager as an auditor sees it: rows of the index, once all news have reached them, and which
//! runs move.
//!
//! May not judge. Invariant: what is asked here is not for async code: it waits.

use std::sync::mpsc;

use crate::ground::id::RunId;
use crate::machines::replay::facts::Update;
use crate::services::audit::{Audited, Error, Finding, Rows};
use crate::services::indexer::Unavailable;
use crate::shells::store::Batch;

use super::seat::Seat;
use super::{Handle, Manager};

impl Rows for Handle {
    fn after(
        &mut self,
        after: Option<&RunId>,
        all: bool,
        limit: usize,
    ) -> Result<Vec<RunId>, Error> {
        let after = after.cloned();
        let rows = self.indexer().ask(move |index| index.runs_after(after.as_ref(), all, limit))?;
        Ok(rows.into_iter().map(|run| run.run_id).collect())
    }

    fn whole(&mut self, run: &RunId) -> Result<Option<Update>, Error> {
        let run = run.clone();
        Ok(self.indexer().ask(move |index| index.whole(&run))?)
    }

    /// News go from the log to the manager, and from there to the index.
    fn settle(&mut self) -> Result<(), Error> {
        let (heard, told) = mpsc::channel();
        let passed_on = self.see(move |manager| manager.parts.committer.after_news(heard));
        passed_on.map_err(|_| Unavailable::Stopped)?;
        told.recv().map_err(|_| Unavailable::Stopped)?;
        let passed_on = self.see(|_| ()).map_err(|_| Unavailable::Stopped)?;
        passed_on.blocking_recv().map_err(|_| Unavailable::Stopped)?;
        Ok(self.indexer().settled().blocking_recv().unwrap_or(Err(Unavailable::Stopped))?)
    }

    fn is_moving(&mut self, run: &RunId) -> Result<bool, Error> {
        let run = run.clone();
        let moving = self.see(move |manager| manager.is_moving(&run));
        let moving = moving.map_err(|_| Unavailable::Stopped)?;
        Ok(moving.blocking_recv().map_err(|_| Unavailable::Stopped)?)
    }
}

impl Manager {
    /// Whether a run is being opened, worked for or closed, or may be about to.
    fn is_moving(&self, run: &RunId) -> bool {
        match self.seats.get(run) {
            Some(Seat::Here(here)) => !here.is_quiet() || here.rest.is_none(),
            Some(_) => true,
            None => !self.queue.is_empty(),
        }
    }
}

impl Handle {
    /// Mends, counts and says what an audit found, and wakes the runs it is about.
    pub fn heal(&self, audited: Audited) {
        let metrics = &self.runs().telemetry.metrics;
        metrics.wake_audit_checked.add(audited.looked as u64);
        for Finding { run, what } in &audited.findings {
            tracing::error!(%run, code = "lost_wake", "the index was wrong: {what}");
            metrics.wake_audit_findings.with([what.name()]).one();
            self.wake(run);
        }
        if !audited.mending.is_empty() {
            metrics.wake_audit_healed.add(audited.mending.len() as u64);
            self.indexer().apply(Batch { frame: 0, changes: audited.mending });
        }
    }
}
