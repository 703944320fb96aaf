//! What doors ask about the code of runs: pinning, loading and replaying happen outside the
//! manager's thread, only the record is its own.
//!
//! May not know who asks. Invariant: what is pinned is what is recorded.

use std::path::PathBuf;

use crate::codecs::event::ProcessRef;
use crate::codecs::json::Json;
use crate::ground::id::{RunId, Seq};
use crate::services::runs::accept::{OnChange, OnRemoved, Plan};
use crate::services::runs::check::Checked;
use crate::services::runs::create::{Source, TriedCode};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::pin::PinnedGraph;

use super::{Flow, Handle, handle};

/// A process for a run.
#[derive(Debug)]
pub struct Assignment {
    /// Its code.
    pub source: Source,
    /// Its inputs.
    pub inputs: Option<Json>,
    /// Replace the process of an open run.
    pub force: bool,
    /// Why.
    pub reason: Option<String>,
}

impl Handle {
    /// Gives a run its process. Gives its directory, the process, and the one it had.
    pub async fn assign(
        &self,
        run: &RunId,
        by: &str,
        asked: Assignment,
    ) -> Result<(PathBuf, ProcessRef, Option<ProcessRef>)> {
        let Assignment { source, inputs, force, reason } = asked;
        let pinned = self.aside(move |runs| {
            let (graph, _) = runs.pin(&source)?;
            let process = graph.process_ref(source.process_id);
            Ok((graph, process))
        });
        let (graph, mut process) = pinned.await?;
        // The profile of a run never changes.
        let api = self.read(run, |look| Ok(look.state.process.as_ref().map(|p| p.api))).await?;
        process.api = api.unwrap_or(process.api);
        let code = self.tried(run, graph, process.clone()).await?;
        let act = move |open: &mut crate::services::runs::open::OpenRun| {
            let previous = open.assign(&code, inputs, force, reason)?;
            Ok((open.dir.path().to_owned(), process, previous))
        };
        self.deed(run, by, Flow::Inflow, act).await
    }

    /// Replays a run against its own code, or against `source`. Nothing is written.
    pub async fn check(&self, run: &RunId, source: Option<Source>) -> Result<Checked> {
        let run = run.clone();
        self.aside(move |runs| runs.check(run.as_str(), source.as_ref())).await
    }

    /// Works out what accepting `source` would mean. Nothing is written.
    pub async fn plan_accept(
        &self,
        run: &RunId,
        source: Source,
        on_change: OnChange,
        on_removed: Option<OnRemoved>,
    ) -> Result<(Plan, PinnedGraph)> {
        let run = run.clone();
        self.aside(move |runs| {
            let plan = runs.plan_accept(run.as_str(), &source, on_change, on_removed)?;
            Ok((plan, runs.pin(&source)?.0))
        })
        .await
    }

    /// Takes other code over, by a plan that is given back.
    pub async fn accept(
        &self,
        run: &RunId,
        by: &str,
        plan: Plan,
        graph: PinnedGraph,
        reason: Option<String>,
    ) -> Result<(Plan, (Seq, ProcessRef))> {
        let code = self.tried(run, graph, plan.checked.process.clone()).await?;
        self.deed(run, by, Flow::Outcome, move |open| {
            let done = open.accept(&code, &plan, reason)?;
            Ok((plan, done))
        })
        .await
    }

    /// Loads code once, in a host of its own.
    async fn tried(
        &self,
        run: &RunId,
        graph: PinnedGraph,
        process: ProcessRef,
    ) -> Result<TriedCode> {
        let run = run.clone();
        self.aside(move |runs| Ok(runs.try_code(graph, process, &run))).await
    }

    /// Does what takes long, and needs no run of its own, outside the manager's thread.
    pub async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Runs) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let runs = self.runs().clone();
        let done = tokio::task::spawn_blocking(move || work(&runs)).await;
        done.unwrap_or_else(|e| {
            let bug = || Error::Bug(Trouble::new("bug", "work aside panicked"));
            Err(if e.is_panic() { bug() } else { handle::gone() })
        })
    }
}
