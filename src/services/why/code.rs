//! The closed set of what can keep an open run from going on.
//!
//! May not know runs. Invariant: the order is that in which reasons are told: what a person must
//! mend, what goes on by itself, what others do, what only time does.

use serde::Serialize;

use crate::machines::replay::facts::Reason as Waker;

/// What keeps a run from going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Its journal cannot be read.
    Damaged,
    /// It could go on, and nothing lets it: a bug.
    LostWake,
    /// It is bare.
    NoProcess,
    /// Held: process and journal disagree.
    Diverged,
    /// Held: its process cannot be executed, or throws where it must not.
    ProcessError,
    /// Held: hosts died under it.
    HostFailed,
    /// Held: it hit a limit.
    Limit,
    /// An operator stopped it, or attempts ran out.
    Paused,
    /// It was asked to stop, and is not over.
    Cancelling,
    /// Its process has returned; what it left open is waited for.
    Draining,
    /// It can go on now.
    Runnable,
    /// Nobody knows whether an effect was executed.
    Uncertain,
    /// A person decides.
    WaitingPerson,
    /// The configuration does not let the effect start.
    HeldPolicy,
    /// A signal.
    WaitingSignal,
    /// A worker or an orchestrator.
    WaitingWorker,
    /// Another effect has the slot.
    HeldLimit,
    /// Another effect has the idempotency key.
    HeldKey,
    /// An attempt failed; the next one begins later.
    Backoff,
    /// Somebody is at it.
    Executing,
    /// A child run, whose own reasons follow.
    WaitingChild,
    /// A moment.
    WaitingTimer,
}

impl Code {
    /// All of them, in their order.
    pub const ALL: [Self; 22] = [
        Self::Damaged,
        Self::LostWake,
        Self::NoProcess,
        Self::Diverged,
        Self::ProcessError,
        Self::HostFailed,
        Self::Limit,
        Self::Paused,
        Self::Cancelling,
        Self::Draining,
        Self::Runnable,
        Self::Uncertain,
        Self::WaitingPerson,
        Self::HeldPolicy,
        Self::WaitingSignal,
        Self::WaitingWorker,
        Self::HeldLimit,
        Self::HeldKey,
        Self::Backoff,
        Self::Executing,
        Self::WaitingChild,
        Self::WaitingTimer,
    ];

    /// The word for it, as answers have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::LostWake => "lost_wake",
            Self::NoProcess => "no_process",
            Self::Diverged => "diverged",
            Self::ProcessError => "process_error",
            Self::HostFailed => "host_failed",
            Self::Limit => "limit",
            Self::Paused => "paused",
            Self::Cancelling => "cancelling",
            Self::Draining => "draining",
            Self::Runnable => "runnable",
            Self::Uncertain => "uncertain",
            Self::WaitingPerson => "waiting_person",
            Self::HeldPolicy => "held_policy",
            Self::WaitingSignal => "waiting_signal",
            Self::WaitingWorker => "waiting_worker",
            Self::HeldLimit => "held_limit",
            Self::HeldKey => "held_key",
            Self::Backoff => "backoff",
            Self::Executing => "executing",
            Self::WaitingChild => "waiting_child",
            Self::WaitingTimer => "waiting_timer",
        }
    }

    /// Who ends it.
    #[must_use]
    pub const fn waker(self) -> Waker {
        match self {
            Self::Runnable | Self::Cancelling => Waker::Runnable,
            Self::WaitingPerson => Waker::Person,
            Self::WaitingSignal => Waker::Signal,
            Self::WaitingChild => Waker::Child,
            Self::WaitingTimer | Self::Backoff => Waker::Timer,
            Self::WaitingWorker
            | Self::HeldLimit
            | Self::HeldKey
            | Self::Executing
            | Self::Draining => Waker::Outside,
            _ => Waker::Operator,
        }
    }

    /// Why a run is held, by the reason in its record.
    #[must_use]
    pub fn of_hold(reason: &str) -> Self {
        match reason {
            "diverged" => Self::Diverged,
            "process_error" => Self::ProcessError,
            limit if limit.starts_with("limit:") => Self::Limit,
            _ => Self::HostFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_is_closed_and_in_order() {
        assert!(Code::ALL.is_sorted());
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        }
    }
}
