//! What the manager counts of its own work.
//!
//! May not change a run. Invariant: no number is looked at by the manager itself, and none costs
//! more than the work that it is about.

use crate::ground::clock::Stopwatch;
use crate::ground::id::RunId;
use crate::machines::replay::engine::{Rest, TurnPlan};
use crate::ports::telemetry::Metrics;

use super::Manager;
use super::seat::Here;

impl Manager {
    /// Shows how much there is, and what became of hosts since this was last said.
    pub(super) fn tally(&mut self) {
        let metrics = &self.runs.telemetry.metrics;
        metrics.runs_loaded.set((self.seats.len() - self.outside) as u64);
        metrics.runs_warm.set(self.instances.len() as u64);
        metrics.timers_armed.set(self.timers.len() as u64);
        metrics.claims_waiting.set(self.claims.book.len() as u64);
        metrics.leases.set(self.leases.len() as u64);
        for (state, count) in self.gate.counts() {
            metrics.ledger_rows.with([state]).set(*count);
        }
        let now = self.parts.pool.figures();
        metrics.host_children.set(now.children as u64);
        metrics.host_instances.set(now.instances as u64);
        metrics.host_memory.set(self.parts.pool.bytes());
        metrics.hosts_spawned.add(now.spawned - self.hosts.spawned);
        for (why, count) in &now.killed {
            let before = self.hosts.killed.get(why).copied().unwrap_or_default();
            if *count > before {
                metrics.hosts_killed.with([why]).add(count - before);
            }
        }
        self.hosts = now;
    }

    /// Something lets a run go on.
    pub(super) fn count_wake(&self, reason: &str) {
        self.runs.telemetry.metrics.wakes.with([reason]).one();
    }

    /// A run is set aside under this case, or can be read again.
    pub(super) fn set_aside(&mut self, id: &RunId, case: Option<&str>) {
        let metrics = &self.runs.telemetry.metrics;
        let before = match case {
            Some(case) => self.aside.insert(id.clone(), case.to_owned()),
            None => self.aside.remove(id),
        };
        if before.as_deref() == case {
            return;
        }
        if let Some(before) = before {
            metrics.runs_set_aside.with([&before]).shift(-1);
        }
        if let Some(case) = case {
            metrics.runs_set_aside.with([case]).shift(1);
        }
    }
}

impl Here {
    /// An instance is being started: it gets there by replay, unless the run is new.
    pub(super) fn begin_replay(&mut self) {
        self.replaying = (self.run.records().len() > 1).then(Stopwatch::start);
    }

    /// A turn comes next: the first that is not in the journal ends the replay.
    pub(super) fn replay_turn(&mut self, plan: &TurnPlan, metrics: &Metrics) {
        if plan.live_after && plan.journaled_outputs == 0 {
            self.end_replay("ok", metrics);
        }
    }

    /// The run rests: its replay is over at the latest.
    pub(super) fn replay_rest(&mut self, rest: &Rest, metrics: &Metrics) {
        let held = self.run.state().held.as_ref();
        let result = match (rest, held.map(|held| held.reason.as_str())) {
            (Rest::Held, Some("diverged")) => "diverged",
            (Rest::Held, _) => "failed",
            _ => "ok",
        };
        self.end_replay(result, metrics);
    }

    /// What was being replayed is done, or will not be.
    pub(super) fn end_replay(&mut self, result: &str, metrics: &Metrics) {
        if let Some(watch) = self.replaying.take() {
            metrics.replays.with([result]).one();
            metrics.replay.observe(watch.seconds());
        }
    }
}
