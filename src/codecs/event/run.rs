//! The data of events about a run. Field order is the order on disk.
//!
//! May not know which of them is legal when. Invariant: an absent field is absent on disk, never
//! `null`.

use super::{BlobRef, present};
use crate::codecs::json::Json;
use crate::codecs::trace::TraceContext;
use crate::ground::clock::Timestamp;
use crate::ground::digest::{Digest, Sum};
use crate::ground::id::{EffectId, Epoch, RunId, Seq};
use serde::{Deserialize, Serialize};

/// Which rules of the process API apply: fixed when the run is created, by what its modules import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Imports `dormouse`, or nothing.
    Dormouse,
    /// Imports `@a5c-ai/babysitter-sdk`.
    Babysitter,
    /// A workflow document.
    Workflow,
}

/// The pinned program of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessRef {
    /// The name people gave it; the entry file's stem if they gave none.
    pub process_id: String,
    /// Path of the entry module below the process root.
    pub entry: String,
    /// The export to call; absent: `process`, then `default`, then `default.process`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_name: Option<String>,
    /// The profile.
    pub api: Profile,
    /// Digest over all pinned files (`process/process.lock.json`).
    pub digest: Digest,
}

/// The effect of another run that a child run belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParentRef {
    /// The parent.
    pub run_id: RunId,
    /// Its effect of kind `run`.
    pub effect_id: EffectId,
    /// How many runs stand above this one.
    pub depth: u32,
}

/// The key under which a run was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IdempotencyRef {
    /// What the client sent.
    pub key: String,
    /// Digest of what the client asked for: a repeat must ask for the same.
    pub digest: Digest,
}

/// The schedule that a run belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleRef {
    /// Where its name belongs.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The time that the run is for.
    pub scheduled_at: Timestamp,
}

/// `RUN_CREATED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunCreated {
    /// The run's id: also the root of the hash chain.
    pub run_id: RunId,
    /// Absent in a bare run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessRef>,
    /// Input value; with `inputsBlob` absent too, the process gets `{}`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Json>,
    /// Input value in a blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs_blob: Option<BlobRef>,
    /// Set in a child run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
    /// Set when a schedule made the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleRef>,
    /// Set when the client sent a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<IdempotencyRef>,
    /// 1.
    pub generation: u32,
    /// Words for finding it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Where the command was given: `ctx.repoRoot`, working directory of executors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Breakpoints are answered at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub non_interactive: bool,
    /// The system and the processor that a workflow document sees: `linux/amd64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Where in a trace whoever asked stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceContext>,
    /// Who asked.
    pub by: String,
}

/// What an operator accepted when the code of an open run was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Accepted {
    /// Digest of the code before.
    pub old_digest: Digest,
    /// Digest of the code after.
    pub new_digest: Digest,
    /// Digest of the reconciliation that was shown.
    pub plan_digest: Digest,
    /// What was decided for calls that differ.
    pub decisions: Vec<Decision>,
}

/// One decision of an accept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decision {
    /// Invocation key of the call.
    pub key: String,
    /// The effect it had.
    pub effect_id: EffectId,
    /// What becomes of it.
    pub action: DecisionAction,
}

/// What becomes of a recorded call that the new code makes differently or no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionAction {
    /// The recorded outcome stands although the arguments changed.
    Keep,
    /// The recorded effect is superseded; the call is requested anew.
    Redo,
    /// The pending effect is cancelled: the new code does not ask for it.
    Cancel,
    /// The pending effect is drained: the new code does not ask for it.
    Drain,
}

/// `PROCESS_ASSIGNED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProcessAssigned {
    /// The code from here on.
    pub process: ProcessRef,
    /// The code before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<ProcessRef>,
    /// Given without a reconciliation: the past is checked strictly against the new code.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Given with a reconciliation: the past is replayed by key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Accepted>,
    /// Inputs for a run that was created without.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Json>,
    /// The same in a blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs_blob: Option<BlobRef>,
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who.
    pub by: String,
}

/// `VALUE_OBSERVED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValueObserved {
    /// Invocation key, `@patch:<id>#0`.
    pub key: String,
    /// `patch`.
    pub op: ObservedOp,
    /// What was observed.
    pub value: Json,
    /// The input of the turn that put it out.
    pub cause: Seq,
}

/// What kind of value a process observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObservedOp {
    /// `ctx.patched(id)` or `ctx.deprecatePatch(id)` was reached live.
    Patch,
}

/// `SIGNAL_RECEIVED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignalReceived {
    /// The same id is accepted once.
    pub signal_id: String,
    /// What a wait names.
    pub name: String,
    /// What a wait may name besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_key: Option<String>,
    /// What the waiting call resolves with.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub payload: Option<Json>,
    /// The same in a blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_blob: Option<BlobRef>,
    /// Digest of the payload's bytes.
    pub digest: Digest,
    /// Who sent it.
    pub by: String,
}

/// `RUN_PAUSED`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunPaused {
    /// `operator`, `attempts_exhausted`, or `imported`.
    pub reason: String,
    /// The effect whose attempts ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect_id: Option<EffectId>,
    /// Who.
    pub by: String,
}

/// `RUN_HELD`. Which of the optional fields are set depends on the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunHeld {
    /// `diverged`, `process_error`, `limit:<name>`, `host_failed`.
    pub reason: String,
    /// Class of the divergence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Input of the turn that could not be finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<Seq>,
    /// Digest of the divergence report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report_digest: Option<Digest>,
    /// What the process threw, or what became of the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// `engine`.
    pub by: String,
}

/// `RUN_RESUMED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunResumed {
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A new value inside the outcome of one effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patch: Option<Patch>,
    /// Who.
    pub by: String,
}

/// Another value for what an effect resolved to; the recorded outcome stays in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Patch {
    /// The effect.
    pub effect_id: EffectId,
    /// Dot-separated keys inside its value.
    pub path: String,
    /// The whole value after patching.
    pub value: Json,
}

/// `RUN_CANCEL_REQUESTED`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunCancelRequested {
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// No time for clean-up effects.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub now: bool,
    /// Who.
    pub by: String,
}

/// `RUN_CONTINUED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunContinued {
    /// The new generation.
    pub generation: u32,
    /// Its program.
    pub process: ProcessRef,
    /// Its inputs.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Json>,
    /// The same in a blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs_blob: Option<BlobRef>,
    /// `ctx.carried` of the new generation.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub carry: Option<Json>,
    /// The input of the turn that put it out.
    pub cause: Seq,
}

/// An operator ended the run, not its process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seal {
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}

/// `RUN_COMPLETED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunCompleted {
    /// What the process returned; `null` under a seal.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// The same in a blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_blob: Option<BlobRef>,
    /// Digest of the output's canonical text; replay must arrive at the same.
    pub output_digest: Digest,
    /// Rejections that nobody handled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Set when an operator ended the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// The input of the turn that put it out; absent under a seal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Seq>,
}

/// An error as it crosses boundaries: what was thrown, posted or recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ErrorInfo {
    /// Class name, such as `TaskError`.
    pub name: String,
    /// One line for people.
    pub message: String,
    /// Module paths relative to the process root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack: Option<String>,
    /// Whatever else it carried.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub data: Option<Json>,
}

/// `RUN_FAILED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunFailed {
    /// What the process threw.
    pub error: ErrorInfo,
    /// The last effect that was fed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_effect: Option<EffectId>,
    /// Rejections that nobody handled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Set when an operator ended the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seal: Option<Seal>,
    /// The input of the turn that put it out; absent under a seal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Seq>,
}

/// `RUN_HALTED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunHalted {
    /// Why: the process's word or the operator's.
    pub reason: String,
    /// What the process gave along.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub payload: Option<Json>,
    /// The input of the turn that put it out; absent when an operator halted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Seq>,
    /// Who: `process` or an operator.
    pub by: String,
}

/// `RUN_CANCELLED`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunCancelled {
    /// The reason of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the process threw on its way out, if it was anything else than the cancellation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorInfo>,
    /// `engine`.
    pub by: String,
}

/// Where a chain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Head {
    /// The last record; 0 in an empty journal.
    pub seq: Seq,
    /// Its sum; the genesis in an empty journal.
    pub sum: Sum,
}

/// Bytes that a repair took out of a file, and where they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Removed {
    /// File, relative to the run directory.
    pub file: String,
    /// Where the bytes stood.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Their digest.
    pub digest: Digest,
    /// The file in `quarantine/` that holds them.
    pub kept_as: String,
}

/// Records that a repair could not keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lost {
    /// First place that is gone.
    pub first_seq: Seq,
    /// Last place known to have existed, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seq: Option<Seq>,
    /// How many, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// `JOURNAL_REPAIRED`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JournalRepaired {
    /// Label of the opening table, such as `J11`.
    pub case: String,
    /// Label of the plan, such as `P3`.
    pub plan: String,
    /// Who.
    pub by: String,
    /// Why, in the operator's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Version of dormouse that did it.
    pub version: String,
    /// What was set aside.
    pub removed: Vec<Removed>,
    /// The head before: what was verified.
    pub old_head: Head,
    /// The head after, without this record.
    pub new_head: Head,
    /// Records that are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
    /// Where what was put back had been found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// No epoch below this may be given again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch_floor: Option<Epoch>,
    /// Effects up to this ordinal may have been started before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspect_upto: Option<u32>,
}

/// Where a fork left the run that it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ForkedFrom {
    /// The other run.
    pub run_id: RunId,
    /// The last record that both share.
    pub seq: Seq,
    /// Its sum in the other run's journal.
    pub sum: Sum,
}

/// Another value for what an effect resolved to before a fork; the recorded outcome stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Edit {
    /// The effect.
    pub effect_id: EffectId,
    /// Its value from here on.
    pub value: Json,
}

/// `RUN_FORKED_FROM`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunForkedFrom {
    /// The run's id from here on: also the root of the whole chain.
    pub run_id: RunId,
    /// What it shares with whom.
    pub forked_from: ForkedFrom,
    /// Open effects that are executed whatever the other run did with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rerun: Vec<EffectId>,
    /// Outcomes that the process sees otherwise than they are recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
    /// Who.
    pub by: String,
}

/// `OPERATOR_NOTE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorNote {
    /// The remark.
    pub text: String,
    /// Who.
    pub by: String,
}
