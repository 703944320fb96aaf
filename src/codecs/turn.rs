//! What a runtime and a process host say to each other, as values.
//!
//! May not know journals, pipes, nor how a host executes code. Invariant: an instance depends on
//! nothing but what [`Start`] and the turns carry.
//!
//! The talk with one instance: [`ToHost::Start`] → [`FromHost::Started`] or
//! [`FromHost::LoadFailed`]; then, one at a time, [`ToHost::Turn`] → [`FromHost::Turn`].
//! [`FromHost::Limit`] may stand for any answer and ends the instance, as [`ToHost::Drop`] does. A
//! host holds many instances and answers each [`Message`] by one [`Answer`], strictly in order.
//! Closing the pipe ends the host.

use crate::codecs::event::{ErrorInfo, Profile};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// Runtime → host: something said to one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message<T = ToHost> {
    /// Its number in this host.
    pub instance: u64,
    /// What is said; borrowed on its way out.
    pub say: T,
}

/// What is said to an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToHost {
    /// Load the code; always first, once.
    Start(Box<Start>),
    /// Run one turn.
    Turn(TurnInput),
    /// Show where a workflow document stands.
    Show(Vec<Standing>),
    /// Forget the instance and free its memory.
    Drop,
}

/// Host → runtime: the answer to the oldest message that has none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The instance that the message was for.
    pub instance: u64,
    /// What it said; nothing when there is no such instance, or no more after this message.
    pub said: Option<FromHost>,
    /// Heap of the instance; 0 when it is gone.
    pub heap_bytes: u64,
    /// Heap of instances that are gone but could not be taken down.
    pub left_bytes: u64,
    /// CPU time that the host has used up to here.
    pub cpu_micros: u64,
}

/// One module of the pinned graph, as pinned: TypeScript is stripped by the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Path below the process root, `/` between parts.
    pub path: String,
    /// The text.
    pub source: String,
    /// What its relative import specifiers resolved to when it was pinned: (specifier, path).
    pub imports: Vec<(String, String)>,
}

/// An effect that is known from before, for a replay by key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownEffect {
    /// Its invocation key.
    pub key: String,
    /// Its number.
    pub ordinal: u32,
}

/// What the journal knows of an effect, and the instance that asked for it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Standing {
    /// Its number.
    pub ordinal: u32,
    /// Somebody works on it.
    pub is_started: bool,
    /// Nobody knows what became of it.
    pub is_uncertain: bool,
    /// Starts so far.
    pub attempts: u32,
}

/// Limits that the host enforces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLimits {
    /// Heap of the instance.
    pub heap_bytes_max: u64,
    /// Native stack of the instance.
    pub stack_bytes_max: u64,
    /// CPU time of one turn.
    pub turn_cpu_max_ms: u64,
    /// CPU time of loading.
    pub load_cpu_max_ms: u64,
    /// Outputs of one turn.
    pub turn_outputs_max: u32,
    /// Effects open at once.
    pub open_effects_max: u32,
    /// Size of one value as JSON.
    pub value_bytes_max: u64,
}

/// Everything an instance may depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The run.
    pub run_id: String,
    /// The run whose id seeds randomness: this one, in a fork its first ancestor.
    pub seed_run_id: String,
    /// Generation, from 1.
    pub generation: u32,
    /// Absolute path of the run directory.
    pub run_dir: String,
    /// `ctx.repoRoot`.
    pub cwd: Option<String>,
    /// `ctx.processId`.
    pub process_id: String,
    /// Which rules apply.
    pub profile: Profile,
    /// Path of the entry module.
    pub entry: String,
    /// The export to call; none: `process`, `default`, `default.process`.
    pub export_name: Option<String>,
    /// All pinned modules.
    pub modules: Vec<Module>,
    /// Inputs; none: `{}`.
    pub inputs: Option<Json>,
    /// `ctx.carried`.
    pub carried: Option<Json>,
    /// The time that a schedule made the run for.
    pub scheduled_at: Option<Timestamp>,
    /// The run clock while top-level code runs, microseconds since 1970.
    pub clock_micros: i64,
    /// Number of the next effect.
    pub next_ordinal: u32,
    /// It will be shown: a workflow document forgets nothing.
    pub is_shown: bool,
    /// The system and the processor that a workflow document sees: `linux/amd64`.
    pub system: Option<String>,
    /// Effects from before an accepted change of code: a call with such a key binds to it instead
    /// of asking anew, for as long as the instance lives. Its [`Request`] carries the old number.
    pub known: Vec<KnownEffect>,
    /// Patch ids that were marked before an accepted change of code: they answer true.
    pub known_marks: Vec<String>,
    /// The limits.
    pub limits: HostLimits,
}

/// What one turn applies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Feed {
    /// Call the process function.
    RunStarted,
    /// Settle the promise of one effect.
    Resolved {
        /// The effect.
        ordinal: u32,
        /// The value, when it ended well.
        value: Option<Json>,
        /// The error, when it did not.
        error: Option<ErrorInfo>,
        /// How many attempts were made.
        attempts: u32,
    },
    /// Reject the promise of one effect.
    Cancelled {
        /// The effect.
        ordinal: u32,
        /// Why.
        reason: String,
    },
    /// Raise the cancellation flag and reject all unshielded pending promises.
    CancelRequested {
        /// Why.
        reason: Option<String>,
    },
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnInput {
    /// Place of the input event.
    pub seq: u64,
    /// The run clock, microseconds since 1970: the input event's time.
    pub clock_micros: i64,
    /// What happens.
    pub feed: Feed,
    /// How many outputs of this turn are journaled already.
    pub journaled_outputs: u32,
    /// Which of those are patch marks: (index among the outputs, patch id).
    pub journaled_marks: Vec<(u32, String)>,
    /// Whether outputs beyond the journaled ones are new, or would be a divergence: a patch mark
    /// that is reached when this is false and is not journaled answers false.
    pub live_after: bool,
    /// This turn replays what was recorded under other code (see [`Start::known`]): a patch mark
    /// that is not known answers false and puts nothing out.
    pub by_key: bool,
    /// Do not collect log lines.
    pub quiet: bool,
}

impl TurnInput {
    /// A turn of which nothing is in the journal yet, whose logs nobody wants.
    #[must_use]
    pub const fn live(seq: u64, clock_micros: i64, feed: Feed) -> Self {
        Self {
            seq,
            clock_micros,
            feed,
            journaled_outputs: 0,
            journaled_marks: Vec::new(),
            live_after: true,
            by_key: false,
            quiet: true,
        }
    }
}

/// What an instance says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromHost {
    /// Loaded; the entry's export is a function.
    Started {
        /// Things worth telling, such as a task id defined twice.
        warnings: Vec<String>,
        /// What top-level code logged.
        logs: Vec<LogLine>,
    },
    /// Could not be loaded.
    LoadFailed(LoadFailure),
    /// One turn's result.
    Turn(TurnDone),
    /// Where a workflow document stands.
    Shown(Json),
    /// A limit was hit; the turn is discarded and the instance is gone.
    Limit {
        /// `memory` or `cpu`.
        name: String,
        /// For people.
        detail: String,
    },
}

/// Why code could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadFailure {
    /// `E_EXPORT_NOT_FOUND`, `E_EXPORT_NOT_FUNCTION`, `E_TS_SYNTAX`, `E_MODULE_ERROR`…
    pub code: String,
    /// For people; names module, line and what to do.
    pub message: String,
    /// Where the code threw, if it did.
    pub stack: Option<String>,
}

/// Everything one turn put out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct TurnDone {
    /// In call order; at most one end, and it is last.
    pub outputs: Vec<Output>,
    /// Effects that the process gave up: (effect, reason). Leave no record of their own.
    pub cancels: Vec<(u32, String)>,
    /// What was logged, unless quiet.
    pub logs: Vec<LogLine>,
    /// Rejections without a handler, compatibility notes.
    pub warnings: Vec<String>,
    /// Files that `taskCtx.createBlobRef` made.
    pub blobs: Vec<TaskBlob>,
    /// Thread CPU time of the turn.
    pub cpu_micros: u64,
}

/// One output of a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// An effect was requested.
    Request(Box<Request>),
    /// A patch mark was reached live: `ctx.patched(id)`.
    Mark {
        /// Invocation key, `@patch:<id>#0`.
        key: String,
        /// The id.
        id: String,
    },
    /// The process returned.
    Completed {
        /// What it returned, `null` for nothing.
        output: Json,
    },
    /// The process threw.
    Failed {
        /// What it threw.
        error: ErrorInfo,
    },
    /// The process halted the run.
    Halted {
        /// Why.
        reason: String,
        /// What it gave along.
        payload: Option<Json>,
    },
    /// The process asked to go on as a new generation.
    Continued {
        /// Inputs of the next generation; none: the same again.
        inputs: Option<Json>,
        /// Another entry, `path#export`.
        entry: Option<String>,
        /// `ctx.carried` of the next generation.
        carry: Option<Json>,
    },
}

/// A requested effect, as the host saw it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its number in the run.
    pub ordinal: u32,
    /// Invocation key.
    pub key: String,
    /// The key's name part.
    pub name: String,
    /// The key's scope part; empty at the root.
    pub scope: String,
    /// `agent`, `shell`, `breakpoint`, `sleep`, `signal`, `orchestrator_task`, `hook`, `run`, …
    pub kind: String,
    /// For tasks.
    pub task_id: Option<String>,
    /// For display.
    pub title: Option<String>,
    /// For display.
    pub label: Option<String>,
    /// Trimmed, unique, sorted.
    pub labels: Vec<String>,
    /// The built definition.
    pub def: Json,
    /// `b3:` digest of its canonical text with the effect id replaced by `${EFFECT}`.
    pub def_digest: String,
    /// The arguments; none if the call had none.
    pub args: Option<Json>,
    /// `b3:` digest of the canonical text of what identifies the call.
    pub args_digest: String,
    /// Invocation options merged with the definition's `policy`, in the author's words (process
    /// API §2.6) and author's units: an object with any of `timeout`, `startTimeout`, `deadline`,
    /// `retry`, `idempotent`, `idempotencyKey`, `onUncertain`, `priority`, `limitKeys`,
    /// `executorLabels`.
    pub options: Option<Json>,
    /// Requested under `shield`: outlives a cancel request.
    pub cleanup: bool,
    /// Where the call stands, `file:line:column`, when the host knows.
    pub site: Option<String>,
}

/// One line of the run's log stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogLine {
    /// Place inside the turn, from 0.
    pub n: u32,
    /// `debug`, `info`, `warn`, `error`.
    pub level: String,
    /// First argument of a two-argument `ctx.log`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The text.
    pub message: String,
    /// Structured rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Json>,
}

/// A file for a task, made while its definition was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskBlob {
    /// Path below the run directory: `tasks/<effectId>/blobs/<name>-<hex>.<ext>`.
    pub path: String,
    /// The content.
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
}
