//! Where a job stands, as a function of its folded run and the time.
//!
//! May not know what a daemon's memory knows. Invariant: the same journal at the same time gives
//! the same word.

use serde::Serialize;

use crate::ground::clock::Timestamp;
use crate::ground::id::EffectId;
use crate::ground::limits::COMPAT_WAITING_MS;
use crate::machines::effect::Wait;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::replay::facts::wake_after;
use crate::machines::replay::state::{End, RunState};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// Nothing was begun: it waits for whoever executes.
    Pending,
    /// Somebody is at it, or the process is.
    Running,
    /// The next attempt begins when a delay is over.
    Retrying,
    /// Time alone wakes it soon.
    Waiting,
    /// It waits for somebody, or for long.
    Parked,
    /// It ended with an output.
    Completed,
    /// It ended without.
    Failed,
    /// It was stopped.
    Cancelled,
}

impl Status {
    /// The status of that word.
    pub(super) fn named(word: &str) -> Option<Self> {
        use Status::{Cancelled, Completed, Failed, Parked, Pending, Retrying, Running, Waiting};
        let all = [Pending, Running, Retrying, Waiting, Parked, Completed, Failed, Cancelled];
        all.into_iter().find(|status| status.word() == word)
    }

    /// The word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The states of the index that runs of this status are in.
    pub(super) fn index_states(self) -> Vec<String> {
        let states: &[&str] = match self {
            Self::Completed => &["completed"],
            Self::Failed => &["failed", "halted"],
            Self::Cancelled => &["cancelled"],
            _ => &["created", "waiting", "held"],
        };
        states.iter().map(|state| (*state).to_owned()).collect()
    }

    /// Where a run stands.
    pub(super) fn of(state: &RunState, now: Timestamp) -> Self {
        if let Some((end, _)) = state.end {
            return match end {
                End::Completed => Self::Completed,
                End::Failed | End::Halted => Self::Failed,
                End::Cancelled => Self::Cancelled,
            };
        }
        let any = |is: &dyn Fn(&Effect) -> bool| state.open_effects().any(is);
        if any(&|e| e.status == EffectStatus::Started && !matches!(e.wait, Wait::Run(_))) {
            return Self::Running;
        }
        if stopped(state).is_some() {
            return Self::Parked;
        }
        if state.open.is_empty() {
            let has_begun = state.outputs_count > 0 || state.generation > 1;
            return if has_begun { Self::Running } else { Self::Pending };
        }
        let is_delayed = |e: &Effect| e.delayed_until().is_some_and(|until| until > now);
        if any(&|e| waits_outside(e) && !is_delayed(e)) {
            return Self::Pending;
        }
        let wake = wake_after(state, now);
        if any(&|e| waits_outside(e) && wake.is_none_or(|at| e.delayed_until() <= Some(at))) {
            return Self::Retrying;
        }
        match wake {
            Some(at) if at <= now.plus_millis(COMPAT_WAITING_MS) => Self::Waiting,
            _ => Self::Parked,
        }
    }
}

/// Why nothing of a run goes on, if that is so.
fn stopped(state: &RunState) -> Option<&str> {
    match (&state.held, &state.paused, &state.process) {
        (Some(held), ..) => Some(&held.reason),
        (None, Some(_), _) => Some("paused"),
        (None, None, None) => Some("no_process"),
        _ => None,
    }
}

fn waits_outside(effect: &Effect) -> bool {
    effect.status == EffectStatus::Requested && matches!(effect.wait, Wait::Outside)
}

/// What a job waits for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Waited {
    /// Why, in a word.
    pub(super) reason: String,
    /// The effect, if it is one.
    pub(super) node: Option<EffectId>,
}

impl Waited {
    /// What a run waits for, if it waits or is parked.
    pub(super) fn of(state: &RunState, status: Status) -> Option<Self> {
        if !matches!(status, Status::Waiting | Status::Parked) {
            return None;
        }
        if let Some(reason) = stopped(state) {
            return Some(Self { reason: reason.to_owned(), node: None });
        }
        let timer = state.timers.first().map(|(_, id)| *id);
        if let (Status::Waiting, Some(node)) = (status, timer) {
            return Some(Self { reason: "timer".to_owned(), node: Some(node) });
        }
        let worst = state.open_effects().min_by_key(|effect| rank(effect).0)?;
        Some(Self { reason: rank(worst).1.to_owned(), node: Some(worst.id) })
    }
}

/// What people must know first, and its word.
fn rank(effect: &Effect) -> (u8, &'static str) {
    match (effect.status, &effect.wait) {
        (EffectStatus::Uncertain, _) => (0, "uncertain"),
        (_, Wait::Breakpoint(_)) => (1, "approval"),
        (_, Wait::Signal(_)) => (2, "signal"),
        (_, Wait::Outside) => (3, "worker"),
        (_, Wait::Run(_)) => (4, "child"),
        (_, Wait::Sleep { .. } | Wait::Hook(_) | Wait::Echo(_)) => (5, "timer"),
    }
}
