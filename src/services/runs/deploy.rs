//! Checking a deploy: every open run of a process is replayed with the code that is to come.
//!
//! May not write, lock or accept anything. Invariant: a run is told apart by the same replay that
//! `run check` does; one that cannot be read is named and stops no other.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::codecs::event::ProcessRef;
use crate::ground::id::RunId;
use crate::shells::commit_log::overlay::{Overlay, overlay};
use crate::shells::pin::PinnedGraph;
use crate::shells::run_dir::root::RootView;

use super::accept::{OnChange, decide};
use super::create::Source;
use super::each::each;
use super::hosts::KeptHosts;
use super::open::{SeenRun, look_over};
use super::replay::{FirstDivergence, Problem};
use super::trouble::Trouble;
use super::{Error, Result, Runs};

/// How an open run fares under new code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Its journal is reproduced.
    Strict,
    /// It is not, but `run accept` takes the code over without a question.
    Accept,
    /// It cannot be read.
    Damaged,
    /// A limit or a host came in the way.
    Held,
    /// A recorded call has other arguments or another kind: somebody has to decide.
    Diverges,
}

impl Fate {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Accept => "accept",
            Self::Damaged => "damaged",
            Self::Held => "held",
            Self::Diverges => "diverges",
        }
    }
}

/// What was found of one run.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The run.
    pub run_id: RunId,
    /// How it fares.
    pub fate: Fate,
    /// Where it does not reproduce its journal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_divergence: Option<FirstDivergence>,
    /// Why it could not be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// What a check of a deploy found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deploy {
    /// The new code.
    pub process: ProcessRef,
    /// How many runs fare how.
    pub fates: BTreeMap<Fate, usize>,
    /// Open runs of the process that were replayed, and runs that could not be read.
    pub runs: Vec<Found>,
    /// How long it took.
    pub millis: u64,
}

impl Runs {
    /// Replays all open runs of a process with `source`, on all processors. `progress` hears of
    /// runs looked at and runs in all.
    pub fn check_deploy(
        &self,
        source: &Source,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Deploy> {
        let began = self.clock.now();
        let (graph, _) = self.pin(source)?;
        let process = graph.process_ref(source.process_id.clone());
        // Code that does not even load fares the same with every run.
        self.try_loading(&graph, &process, &self.fresh_id())?;
        let view = self.view_root()?;
        let log = view.meta().map(|meta| overlay(&**meta)).unwrap_or_default();
        let mut ids = view.run_ids()?;
        ids.retain(|id| !log.is_gone(id));
        let unmade: Vec<RunId> = log.born().filter(|id| !ids.contains(id)).cloned().collect();
        ids.extend(unmade);
        let work = Work { runs: self, view, log, graph, process_id: &process.process_id };
        let mut runs = work.all(ids, progress);
        runs.sort_by(|a, b| a.run_id.cmp(&b.run_id));
        let mut fates = BTreeMap::new();
        for found in &runs {
            *fates.entry(found.fate).or_default() += 1;
        }
        let micros = self.clock.now().micros() - began.micros();
        let millis = u64::try_from(micros / 1000).unwrap_or(0);
        Ok(Deploy { process, fates, runs, millis })
    }
}

/// What every processor works with.
struct Work<'a> {
    runs: &'a Runs,
    view: RootView,
    log: Overlay,
    graph: PinnedGraph,
    process_id: &'a str,
}

impl Work<'_> {
    fn all(&self, ids: Vec<RunId>, progress: &(dyn Fn(usize, usize) + Sync)) -> Vec<Found> {
        // A thread keeps one host for all its runs.
        let looker = || {
            let hosts = Arc::new(KeptHosts::new(Arc::clone(&self.runs.hosts)));
            let runs = Runs { hosts, ..self.runs.clone() };
            move |id: RunId| self.one(&runs, id)
        };
        let mut all = Vec::new();
        each(ids, looker, |found| all.extend(found), progress);
        all
    }

    /// Nothing for a run that the deploy does not concern.
    fn one(&self, runs: &Runs, run_id: RunId) -> Option<Found> {
        let seen = self.view.run(&run_id).map_err(Error::from);
        let judged = match seen.and_then(|dir| look_over(dir, &self.log)) {
            Ok(seen) if !self.concerns(&seen) => return None,
            Ok(seen) => self.judge(runs, &seen),
            Err(error) => Err(error),
        };
        // A run that is not there was deleted while this ran, or is not made yet.
        let judged = match judged {
            Err(Error::NotFound(_)) => Err(runs.or_unmade(run_id.as_str())?),
            other => other,
        };
        let (fate, first_divergence, problem) = match judged {
            Ok((fate, first)) => (fate, first, None),
            Err(Error::Damaged(trouble)) => (Fate::Damaged, None, Some(Problem::from(&trouble))),
            Err(error) => (Fate::Held, None, Some(Problem::from(error.trouble()))),
        };
        Some(Found { run_id, fate, first_divergence, problem })
    }

    fn concerns(&self, seen: &SeenRun) -> bool {
        let process = seen.state.process.as_ref();
        seen.state.is_open() && process.is_some_and(|p| p.process_id == self.process_id)
    }

    fn judge(&self, runs: &Runs, seen: &SeenRun) -> Result<(Fate, Option<FirstDivergence>)> {
        let checked = runs.check_seen(seen, Some(&self.graph), None)?;
        if let Some(reason) = &checked.held {
            let what = format!("the new code cannot replay the journal: {reason}");
            return Err(Error::Refused(Trouble::new("accept_failed", what)));
        }
        let Some(found) = &checked.divergence else { return Ok((Fate::Strict, None)) };
        let first = FirstDivergence::of(&seen.records, found);
        let decided = decide(seen, &checked.lines, OnChange::Fail, None);
        Ok((if decided.is_ok() { Fate::Accept } else { Fate::Diverges }, Some(first)))
    }
}
