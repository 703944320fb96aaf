//! Refusals: why a deed about an effect is not done.
//!
//! May not know what was asked through which door. Invariant: a refused deed has changed nothing.

use std::fmt;

use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Epoch, Seq};

/// What keeps an effect from being started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// An operator paused the run.
    Pause,
    /// The engine holds the run.
    Hold,
    /// The run is being cancelled.
    Cancel,
    /// The delay after a failed attempt.
    Backoff,
    /// A limit of time has passed: its end is about to be recorded.
    Timeout,
    /// Another effect has its idempotency key.
    Key,
    /// A limit is used up.
    Limit,
}

impl Hold {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Hold => "hold",
            Self::Cancel => "cancel",
            Self::Backoff => "backoff",
            Self::Timeout => "timeout",
            Self::Key => "key",
            Self::Limit => "limit",
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "its run is paused",
            Self::Hold => "its run is held",
            Self::Cancel => "its run is being cancelled",
            Self::Backoff => "an attempt failed, and the next one waits",
            Self::Timeout => "its time is over",
            Self::Key => "another effect has its idempotency key",
            Self::Limit => "a limit is used up",
        })
    }
}

/// Why a deed about an effect is refused. The door gives each its code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The run never asked for it.
    #[error("effect {0} was never requested")]
    UnknownEffect(EffectId),
    /// Another outcome stands.
    #[error("effect {id} has ended as {status} at record {seq}, and this is another outcome")]
    Ended {
        /// The effect.
        id: EffectId,
        /// How it ended.
        status: &'static str,
        /// The record that ended it.
        seq: Seq,
    },
    /// Someone holds it.
    #[error("effect {id} is held by {worker} with epoch {epoch}")]
    Leased {
        /// The effect.
        id: EffectId,
        /// Who.
        worker: String,
        /// Under which number.
        epoch: Epoch,
    },
    /// Nobody knows whether it was executed: only who knows the present start may answer.
    #[error("nobody knows whether effect {id} was executed; an answer must name epoch {epoch}")]
    Uncertain {
        /// The effect.
        id: EffectId,
        /// The present start; 0 if there was none.
        epoch: Epoch,
    },
    /// Older than the present start.
    #[error("epoch {given} of effect {id} is stale: the current one is {current}")]
    StaleLease {
        /// The effect.
        id: EffectId,
        /// What was given.
        given: Epoch,
        /// What is current.
        current: Epoch,
    },
    /// Newer than any start.
    #[error("epoch {given} of effect {id} was never given out: the current one is {current}")]
    UnknownEpoch {
        /// The effect.
        id: EffectId,
        /// What was given.
        given: Epoch,
        /// What is current.
        current: Epoch,
    },
    /// That attempt is closed.
    #[error("attempt {epoch} of effect {id} is closed")]
    AttemptClosed {
        /// The effect.
        id: EffectId,
        /// The attempt's epoch.
        epoch: Epoch,
    },
    /// That attempt was reported before, and otherwise.
    #[error("attempt {epoch} of effect {id} was reported at record {seq}, and otherwise")]
    AlreadyPosted {
        /// The effect.
        id: EffectId,
        /// The attempt's epoch.
        epoch: Epoch,
        /// The record that closed it.
        seq: Seq,
    },
    /// Kept from starting, for now.
    #[error("effect {id} is not to be started now: {by}{}", until_text(*.until))]
    Held {
        /// The effect.
        id: EffectId,
        /// What keeps it.
        by: Hold,
        /// Until when, if time alone will let it go.
        until: Option<Timestamp>,
    },
    /// Nobody outside executes it.
    #[error("effect {id} is of kind {kind}: nobody outside executes it")]
    NotClaimable {
        /// The effect.
        id: EffectId,
        /// Its kind.
        kind: String,
    },
    /// It is not in a state that allows it.
    #[error("effect {id} is {status}: {why}")]
    WrongState {
        /// The effect.
        id: EffectId,
        /// Its state.
        status: &'static str,
        /// Why that does not fit.
        why: &'static str,
    },
    /// Not for posting.
    #[error("effect {id} is of kind {kind}: it is not posted; {instead}")]
    NotPostable {
        /// The effect.
        id: EffectId,
        /// Its kind.
        kind: String,
        /// What to do.
        instead: &'static str,
    },
    /// The poster means another effect.
    #[error("effect {id} has the invocation key {expected}, not {given}")]
    KeyMismatch {
        /// The effect.
        id: EffectId,
        /// Its key.
        expected: String,
        /// What was given.
        given: String,
    },
    /// The value is not what the effect takes.
    #[error("the value of effect {id} is not accepted: {}", why.join("; "))]
    ValueInvalid {
        /// The effect.
        id: EffectId,
        /// What is wrong.
        why: Vec<String>,
    },
    /// The run is over.
    #[error("the run has ended as {0}")]
    RunEnded(&'static str),
}

fn until_text(until: Option<Timestamp>) -> String {
    until.map_or_else(String::new, |at| format!(" until {at}"))
}
