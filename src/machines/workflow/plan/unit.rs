//! Task runs: one execution of a template at one place of the document.
//!
//! May not decide what happens to them. Invariant: a phase that is terminal is the last one.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::ground::limits::WORKFLOW_NOTES_MAX;
use crate::machines::workflow::model::Tolerance;

/// How far a task run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum Phase {
    /// It is there, and nothing was asked for yet.
    #[default]
    Created,
    /// Its work was asked for.
    Ready,
    /// Something in it goes on.
    Running,
    /// It waits for a person or a signal.
    Suspended,
    /// It brought what was wanted.
    Succeeded,
    /// The work was done, and says no.
    Failed,
    /// The work could not be done.
    Error,
    /// It was not wanted.
    Skipped,
    /// It took too long.
    Timeout,
    /// The run was cancelled.
    Cancelled,
}

impl Phase {
    /// Whether nothing follows.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Created | Self::Ready | Self::Running | Self::Suspended)
    }

    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::Suspended => "Suspended",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Error => "Error",
            Self::Skipped => "Skipped",
            Self::Timeout => "Timeout",
            Self::Cancelled => "Cancelled",
        }
    }

    /// The code that an executor would have given.
    #[must_use]
    pub const fn code(self) -> Option<i64> {
        match self {
            Self::Succeeded => Some(0),
            Self::Failed => Some(2),
            Self::Error => Some(3),
            Self::Timeout => Some(4),
            _ => None,
        }
    }

    /// Whether those that wait for it may go on.
    #[must_use]
    pub const fn satisfies(self, tolerance: Tolerance) -> bool {
        match self {
            Self::Succeeded | Self::Skipped => true,
            Self::Failed => tolerance.failed,
            Self::Error => tolerance.error,
            Self::Timeout => tolerance.timeout,
            _ => false,
        }
    }
}

/// One task run.
#[derive(Debug, Default)]
pub(in crate::machines::workflow) struct Unit {
    /// Where it stands: names from the entry down.
    pub(in crate::machines::workflow) path: String,
    /// The node's name, or the body's, or the entry's.
    pub(in crate::machines::workflow) name: String,
    pub(in crate::machines::workflow) template: usize,
    pub(in crate::machines::workflow) parent: Option<usize>,
    /// Its node in the dag above.
    pub(in crate::machines::workflow) node: Option<usize>,
    /// Its round in the loop above.
    pub(in crate::machines::workflow) round: Option<Round>,
    pub(in crate::machines::workflow) depth: usize,
    pub(in crate::machines::workflow) phase: Phase,
    pub(in crate::machines::workflow) code: Option<i64>,
    pub(in crate::machines::workflow) message: String,
    pub(in crate::machines::workflow) inputs: Map<String, Value>,
    pub(in crate::machines::workflow) outputs: Map<String, Value>,
    /// Attempts that were repeated.
    pub(in crate::machines::workflow) retries: u32,
    /// The effect that it waits for.
    pub(in crate::machines::workflow) effect: Option<u32>,
    /// The last effect that it ever had.
    pub(in crate::machines::workflow) last_effect: Option<u32>,
    /// The timer that ends it.
    pub(in crate::machines::workflow) deadline: Option<u32>,
    /// The timer that answers it.
    pub(super) wake: Option<u32>,
    /// How often it waited for an answer in the middle of its work.
    pub(super) suspensions: u32,
    /// When its last attempt was asked for.
    pub(super) asked_micros: i64,
    pub(in crate::machines::workflow) created_micros: i64,
    pub(in crate::machines::workflow) started_micros: Option<i64>,
    pub(in crate::machines::workflow) finished_micros: Option<i64>,
    pub(in crate::machines::workflow) notes: Vec<String>,
    pub(in crate::machines::workflow) scope: Scope,
    /// What its values weigh.
    pub(in crate::machines::workflow) bytes: usize,
}

impl Unit {
    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < WORKFLOW_NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// Which round of a loop something is.
#[derive(Debug, Clone, Default)]
pub(in crate::machines::workflow) struct Round {
    pub(in crate::machines::workflow) index: usize,
    pub(in crate::machines::workflow) item: Option<Value>,
}

/// What is inside a task run.
#[derive(Debug, Default)]
pub(in crate::machines::workflow) enum Scope {
    /// Work, or nothing yet.
    #[default]
    Leaf,
    Dag(DagScope),
    Loop(LoopScope),
}

/// The inside of a dag.
#[derive(Debug, Default)]
pub(in crate::machines::workflow) struct DagScope {
    /// Task runs by node.
    pub(in crate::machines::workflow) children: Vec<Option<usize>>,
    /// Dependencies that each node still waits for.
    pub(super) waits: Vec<usize>,
    pub(super) live: BTreeSet<usize>,
    pub(super) tally: Tally,
}

/// The inside of a loop.
#[derive(Debug, Default)]
pub(in crate::machines::workflow) struct LoopScope {
    pub(super) items: Vec<Value>,
    /// Rounds in all; nothing while only the condition knows.
    pub(super) total: Option<usize>,
    /// The next round.
    pub(super) next: usize,
    pub(super) live: BTreeSet<usize>,
    pub(super) tally: Tally,
    /// Outputs of rounds that are over, by index.
    pub(super) results: Vec<Option<Map<String, Value>>>,
    pub(super) last: Option<usize>,
    pub(super) last_phase: Phase,
    pub(super) has_failed: bool,
    pub(super) is_exhausted: bool,
    /// Rounds as they were made.
    pub(in crate::machines::workflow) children: Vec<usize>,
}

/// How the parts of something ended.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::machines::workflow) struct Tally {
    pub(super) failed: usize,
    pub(super) errors: usize,
    pub(super) cancelled: usize,
    pub(super) tolerated: usize,
}

impl Tally {
    pub(super) fn count(&mut self, phase: Phase, is_tolerated: bool) {
        match phase {
            Phase::Succeeded | Phase::Skipped => {}
            _ if is_tolerated => self.tolerated += 1,
            Phase::Failed => self.failed += 1,
            Phase::Cancelled => self.cancelled += 1,
            _ => self.errors += 1,
        }
    }

    pub(super) const fn phase(&self) -> Phase {
        match self {
            Self { cancelled: 1.., .. } => Phase::Cancelled,
            Self { errors: 1.., .. } => Phase::Error,
            Self { failed: 1.., .. } => Phase::Failed,
            _ => Phase::Succeeded,
        }
    }

    pub(super) fn message(&self) -> String {
        let parts = [
            (self.failed, "failed"),
            (self.errors, "in error"),
            (self.cancelled, "cancelled"),
            (self.tolerated, "tolerated"),
        ];
        let parts = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
        parts.collect::<Vec<_>>().join(", ")
    }
}
