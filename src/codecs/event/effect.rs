//! The data of events about one effect. Field order is the order on disk.
//!
//! May not know which of them is legal when. Invariant: an absent field is absent on disk, never
//! `null`; durations are milliseconds.

use super::{BlobRef, ErrorInfo, present};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, RunId, Seq};
use serde::{Deserialize, Serialize};

/// `EFFECT_REQUESTED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EffectRequested {
    /// Its name in this run.
    pub effect_id: EffectId,
    /// Invocation key: what replay matches.
    pub key: String,
    /// The key's name part: task id, or an intrinsic such as `@sleep`.
    pub name: String,
    /// The key's scope part; empty at the root.
    pub scope: String,
    /// The input of the turn that put it out.
    pub cause: Seq,
    /// Who can resolve it: `agent`, `shell`, `breakpoint`, `sleep`…
    pub kind: String,
    /// The task's id; absent for intrinsics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<String>,
    /// For display.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// For display.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// For filters and routing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// What the executor needs: the built definition.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub def: Option<Json>,
    /// The whole in a blob; `def` is then what the runtime itself reads of it, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub def_blob: Option<BlobRef>,
    /// Digest of the definition; drift is reported, never fatal.
    pub def_digest: Digest,
    /// The arguments of the call; absent if it had none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub args: Option<Json>,
    /// The same in a blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_blob: Option<BlobRef>,
    /// Digest of what identifies the call; replay compares it.
    pub args_digest: Digest,
    /// The rules under which it is executed, resolved and frozen.
    pub policy: Policy,
    /// Requested under `shield`: outlives a cancel request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cleanup: bool,
}

/// What happens to an effect whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUncertain {
    /// Waits for an operator.
    #[default]
    Hold,
    /// Repeated; only for idempotent effects.
    Retry,
    /// Rejected with `UncertainEffectError`.
    Error,
    /// A breakpoint's answer decides.
    Ask,
}

/// Repetition of failed attempts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all that may end in a reported failure.
    pub max_attempts: u32,
    /// Attempts in all that may fail before anything began.
    pub max_not_begun: u32,
    /// First delay.
    pub initial_ms: u64,
    /// Each further delay is this many times longer.
    pub factor: f64,
    /// Longest delay.
    pub max_ms: u64,
    /// Share of the delay that is taken off by chance, 0 to 1.
    pub jitter: f64,
    /// No attempt later than this after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_elapsed_ms: Option<u64>,
    /// Only errors of these names are retried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// Errors of these names are not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_on: Vec<String>,
    /// `fail`, or `pause` for `RUN_PAUSED`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_exhausted: Option<String>,
}

/// A question to the outside about an effect whose outcome nobody knows. It changes nothing there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Probe {
    /// By what it is asked.
    pub kind: ProbeKind,
    /// What is asked, as an effect of that kind has it.
    pub def: Json,
    /// How long after the outcome became unknown. Absent: by the kind of the effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
    /// How often, before it is left to the rest of the policy.
    pub max_attempts: u32,
}

/// By what a probe is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// A request.
    Http,
    /// A command.
    Shell,
    /// A tool.
    Mcp,
}

impl ProbeKind {
    /// The kind of effects that is executed alike.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Shell => "shell",
            Self::Mcp => "mcp",
        }
    }
}

/// The rules under which an effect is executed. Merged from call, definition and defaults when it
/// is requested; later changes of configuration never touch it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// May be executed again when the outcome is unknown.
    pub idempotent: bool,
    /// Absent: one attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Limit of one attempt, start to outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_timeout_ms: Option<u64>,
    /// Limit from ready to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_timeout_ms: Option<u64>,
    /// Limit from request to end, over all attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_timeout_ms: Option<u64>,
    /// What happens without an operator when the outcome is unknown.
    #[serde(default)]
    pub on_uncertain: OnUncertain,
    /// What is asked before that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// Explicit key; without it executors get `<runId>/<effectId>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Names whose concurrency is limited together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limit_keys: Vec<String>,
    /// 0 to 1000; higher first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// What a worker must offer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
}

/// `EFFECT_STARTED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EffectStarted {
    /// The effect.
    pub effect_id: EffectId,
    /// Fencing number of this start.
    pub epoch: Epoch,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Who; names that begin with `@` are the runtime's own.
    pub worker: String,
    /// How long silence is taken for life.
    pub ttl_ms: u64,
    /// The same over all attempts.
    pub idempotency_key: String,
    /// The claim that it was given to: the same worker asking again gets the same start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// What is acted upon, never a secret: the child run of a `run` effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Names of the limits under which it takes a place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<String>,
}

/// What somebody decided about an effect whose outcome nobody knew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decided {
    /// What.
    pub decision: Decides,
    /// Why.
    pub reason: String,
    /// What it rests upon.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Json>,
    /// Who.
    pub by: String,
}

/// The kinds of decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decides {
    /// It may be executed once more.
    Retry,
    /// It was done; this is its value.
    Done,
    /// It failed; this is its error.
    Failed,
}

/// The outcome of another effect with the same idempotency key, taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReusedFrom {
    /// The other effect's run.
    pub run_id: RunId,
    /// The other effect.
    pub effect_id: EffectId,
    /// The record of its outcome.
    pub seq: Seq,
    /// Digest of its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_digest: Option<Digest>,
}

/// What is known about an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Nothing outside happened.
    NotBegun,
    /// It ended in failure, and someone who knows said so.
    Reported,
    /// It may have happened.
    Unknown,
}

/// `EFFECT_ATTEMPT_FAILED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EffectAttemptFailed {
    /// The effect.
    pub effect_id: EffectId,
    /// The start that is closed.
    pub epoch: Epoch,
    /// Which attempt it was.
    pub attempt: u32,
    /// What is known about it.
    pub class: FailureClass,
    /// Why it is closed.
    pub cause: String,
    /// What was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// Digest of the post that reported it: an equal one is a repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_digest: Option<Digest>,
    /// Run-relative file with what it printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// Run-relative file with what it printed as errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// Whether it counts towards the attempts.
    pub counted: bool,
    /// When the next attempt may begin.
    pub next_attempt_at: Timestamp,
    /// The decision that closed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decided>,
    /// Who closed it.
    pub by: String,
}

/// `EFFECT_UNCERTAIN`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EffectUncertain {
    /// The effect.
    pub effect_id: EffectId,
    /// The start whose outcome is unknown; 0 if it never started.
    pub epoch: Epoch,
    /// Why nobody knows.
    pub cause: String,
    /// What might help an operator.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Json>,
}

/// How an effect ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// With a value.
    Ok,
    /// With an error.
    Error,
}

/// `EFFECT_RESOLVED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EffectResolved {
    /// The effect.
    pub effect_id: EffectId,
    /// The start it answers; 0 if posted without a claim.
    pub epoch: Epoch,
    /// How it ended.
    pub status: Status,
    /// The value as it was posted, minus layout.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// The same in a blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_blob: Option<BlobRef>,
    /// BLAKE3 of the value's stored bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_digest: Option<Digest>,
    /// The error, for status `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// Digest of the post as it came, layout aside: an equal one is a repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_digest: Option<Digest>,
    /// Run-relative file with what it printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// Run-relative file with what it printed as errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<String>,
    /// When the work began, in the poster's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended, in the poster's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    /// The decision that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decided>,
    /// Whose outcome this is, if another effect had the same idempotency key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused_from: Option<ReusedFrom>,
    /// The signal that it consumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal_seq: Option<Seq>,
    /// Whatever the poster gave along.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// Who.
    pub by: String,
}

impl EffectResolved {
    /// An answer with nothing in it but who gave it and how it ended.
    #[must_use]
    pub fn bare(effect_id: EffectId, epoch: Epoch, status: Status, by: &str) -> Self {
        Self {
            effect_id,
            epoch,
            status,
            value: None,
            value_blob: None,
            value_digest: None,
            error: None,
            post_digest: None,
            stdout: None,
            stderr: None,
            started_at: None,
            finished_at: None,
            decision: None,
            reused_from: None,
            signal_seq: None,
            metadata: None,
            by: by.to_owned(),
        }
    }
}

/// What is known about an effect that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelOutcome {
    /// Nothing outside happened.
    NotBegun,
    /// Something may have happened.
    Unknown,
    /// Its holder reported that it stopped.
    Reported,
}

/// `EFFECT_CANCELLED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EffectCancelled {
    /// The effect.
    pub effect_id: EffectId,
    /// The last start; 0 if there was none.
    pub epoch: Epoch,
    /// What is known about it.
    pub outcome: CancelOutcome,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}
