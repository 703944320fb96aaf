//! One reason why a run does not go on, as answers have it.
//!
//! May not read a run. Invariant: a reason has a sentence and at least one command.

use serde::Serialize;

use super::code::Code;
use crate::codecs::event::FailureClass;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Epoch, RunId};
use crate::machines::effect::failures;

/// Why a run does not go on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// What sort of reason it is.
    pub code: Code,
    /// The run it is about: the one that was asked for, or a child run it waits for.
    pub run_id: RunId,
    /// In words.
    pub what: String,
    /// The effect it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect_id: Option<EffectId>,
    /// Its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Who is at it, or has what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// The effect's last start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// Until when its lease runs; only a daemon knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<Timestamp>,
    /// Attempts so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// How the last of them failed, newest first, at most three.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub last_failures: Vec<Failure>,
    /// When time will do something about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
    /// Workers that asked for its kind in the last minute; only a daemon knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers_seen: Option<usize>,
    /// The child run that it waits for; its own reasons follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child_run_id: Option<RunId>,
    /// Commands that end it.
    pub unblock: Vec<String>,
    /// Only perhaps a reason: it is told last.
    #[serde(skip)]
    pub is_guess: bool,
}

impl Reason {
    /// A reason about a whole run.
    #[must_use]
    pub fn of_run(code: Code, run_id: &RunId, what: String, unblock: Vec<String>) -> Self {
        Self {
            code,
            run_id: run_id.clone(),
            what,
            effect_id: None,
            kind: None,
            since: None,
            held_by: None,
            epoch: None,
            lease_until: None,
            attempts: None,
            last_failures: Vec::new(),
            next_at: None,
            workers_seen: None,
            child_run_id: None,
            unblock,
            is_guess: false,
        }
    }
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The start that was closed.
    pub epoch: Epoch,
    /// What is known of the outside.
    pub class: FailureClass,
    /// Why it was closed.
    pub cause: String,
    /// What was reported: name and message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl From<&failures::Failure> for Failure {
    fn from(failure: &failures::Failure) -> Self {
        let error = failure.error.as_ref().map(|e| format!("{}: {}", e.name, e.message));
        let (class, cause) = (failure.class, failure.cause.clone());
        Self { epoch: failure.epoch, class, cause, error, at: failure.at }
    }
}
