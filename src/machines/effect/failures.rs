//! Failures: the attempts of one effect that came to nothing.
//!
//! May not know what follows from them. Invariant: counts hold all of them, the list the last few,
//! so that an effect that is tried a thousand times stays small.

use serde::{Deserialize, Serialize};

use crate::codecs::event::clip::brief_error;
use crate::codecs::event::{Decides, EffectAttemptFailed, ErrorInfo, FailureClass, Record};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{Epoch, Seq};
use crate::ground::limits::FAILURES_TOLD_MAX;

/// All failed attempts of one effect.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Failures {
    /// Ended in failure, and someone who knows said so.
    pub reported: u32,
    /// Nothing outside happened.
    pub not_begun: u32,
    /// May have happened.
    pub unknown: u32,
    /// Given back before they were begun; these do not count as attempts.
    pub released: u32,
    /// How often somebody decided that it is tried again.
    pub decided: u32,
    /// The last of them, oldest first.
    pub last: Vec<Failure>,
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The record that closed it.
    pub seq: Seq,
    /// When.
    pub at: Timestamp,
    /// Its epoch.
    pub epoch: Epoch,
    /// Which attempt it was.
    pub attempt: u32,
    /// What is known about it.
    pub class: FailureClass,
    /// Why it was closed.
    pub cause: String,
    /// Name and message of what was reported.
    pub error: Option<ErrorInfo>,
    /// Digest of the post that reported it.
    pub post_digest: Option<Digest>,
    /// Somebody decided that it is tried again.
    pub is_decided: bool,
}

impl Failures {
    /// Attempts that began, or may have.
    #[must_use]
    pub const fn began(&self) -> u32 {
        self.reported.saturating_add(self.unknown)
    }

    /// Attempts that count.
    #[must_use]
    pub const fn counted(&self) -> u32 {
        self.began().saturating_add(self.not_begun)
    }

    pub(super) fn note(&mut self, record: &Record, failed: &EffectAttemptFailed) {
        let count = match failed.class {
            _ if !failed.counted => &mut self.released,
            FailureClass::Reported => &mut self.reported,
            FailureClass::NotBegun => &mut self.not_begun,
            FailureClass::Unknown => &mut self.unknown,
        };
        *count = count.saturating_add(1);
        let is_decided = failed.decision.as_ref().is_some_and(|d| d.decision == Decides::Retry);
        self.decided = self.decided.saturating_add(u32::from(is_decided));
        if self.last.len() >= FAILURES_TOLD_MAX {
            self.last.remove(0);
        }
        self.last.push(Failure {
            seq: record.seq,
            at: record.at,
            epoch: failed.epoch,
            attempt: failed.attempt,
            class: failed.class,
            cause: failed.cause.clone(),
            error: failed.error.as_ref().map(brief_error),
            post_digest: failed.post_digest,
            is_decided,
        });
    }
}
