//! Executors: workers that live in the daemon. One file each.
//!
//! An executor acts on the outside for one attempt and says what came of it. May not know journals,
//! epochs' rules or retries: those are the run's. Invariant: an executor says that nothing began,
//! or how it ended, only when it knows; whatever else happens is unknown.

pub mod agents;
pub mod echo;
pub mod guard;
pub mod http;
pub mod mcp;
pub mod probe;
pub mod redact;
pub mod secrets;
pub mod shell;
mod stop;
pub mod template;

pub use stop::{Stop, StopWhy, Stopper};

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::codecs::event::{ErrorInfo, FailureClass};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Epoch, RunId};
use crate::services::runs::inside::Inside;
use crate::services::runs::post::Output;
use crate::shells::run_dir::dir::RunDir;

/// What an executor works on: one started attempt of an effect. Its start is durable.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The run.
    pub run_id: RunId,
    /// The effect.
    pub effect_id: EffectId,
    /// Its kind.
    pub kind: String,
    /// The fencing number of this start.
    pub epoch: Epoch,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Whether a reported failure of it would end the effect.
    pub is_last: bool,
    /// What the process asked for.
    pub definition: Value,
    /// The arguments of the call, if it had any.
    pub args: Option<Value>,
    /// The same over all attempts.
    pub idempotency_key: String,
    /// When the attempt is stopped, for the outside to know; `timeout_ms` rules.
    pub deadline: Option<Timestamp>,
    /// How long it may take. Whoever runs the executor stops it when that has passed.
    pub timeout_ms: Option<u64>,
    /// The run's directory, for what the attempt prints.
    pub dir: RunDir,
    /// Where the run's process stands, if it said so.
    pub cwd: Option<String>,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
}

/// What came of an attempt.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A value.
    Ok {
        /// The value.
        value: Json,
        /// What it printed.
        stdout: Option<Output>,
        /// What it printed as errors.
        stderr: Option<Output>,
    },
    /// It is known that it failed.
    Failed {
        /// [`FailureClass::NotBegun`] or [`FailureClass::Reported`].
        class: FailureClass,
        /// How.
        error: ErrorInfo,
        /// Another attempt would end the same.
        is_final: bool,
        /// No attempt before this time has passed: the other side's wish.
        retry_after_ms: Option<u64>,
    },
    /// Somebody outside has taken it over under the lease of its start, and posts its outcome.
    HandedOver,
    /// It began or may have begun, and nobody knows how it ended.
    Unknown {
        /// Why, in a word: `transport`, `executor_lost`, `daemon_stopped`…
        cause: &'static str,
        /// What might help an operator.
        evidence: Option<Json>,
    },
}

impl Outcome {
    /// A value, and nothing printed.
    #[must_use]
    pub const fn ok(value: Json) -> Self {
        Self::Ok { value, stdout: None, stderr: None }
    }

    /// A failure that another attempt may mend.
    #[must_use]
    pub const fn failed(class: FailureClass, error: ErrorInfo) -> Self {
        Self::Failed { class, error, is_final: false, retry_after_ms: None }
    }
}

/// An attempt at work.
pub type Working = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Somebody outside who takes an attempt over: its start has a lease in that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heir {
    /// As it stands in the record of the start.
    pub worker: String,
    /// How long its silence is to be taken for life.
    pub ttl_ms: u64,
}

/// Why an effect is not started.
#[derive(Debug, Clone, PartialEq)]
pub enum Bar {
    /// Configuration keeps it from starting: it waits.
    Held {
        /// Why, in a sentence.
        why: String,
        /// The line of configuration that would let it start.
        allow: String,
    },
    /// It can never start, however things are configured.
    Never(ErrorInfo),
    /// Nobody here does it: it waits for somebody outside.
    Elsewhere,
}

/// A worker in the daemon, for one kind of effects.
pub trait Executor: Send + Sync {
    /// The kind.
    fn kind(&self) -> &str;

    /// Whether an effect of this definition may start under today's configuration. Asked before
    /// each start on the manager's thread: it must not wait for anything but a local disk.
    fn may_run(&self, definition: &Value, cwd: Option<&str>) -> Result<(), Bar>;

    /// The agents whose tasks it executes, if it leaves those of others to whoever works outside;
    /// none: all of the kind.
    fn agents(&self) -> Option<BTreeSet<String>> {
        None
    }

    /// Options of an effect that its author left open, in an author's words. Asked before the
    /// record of the request, and frozen there.
    fn options(&self, _definition: &Json) -> Option<Map<String, Value>> {
        None
    }

    /// A limit's key that each such effect has, whatever its author says.
    fn limit_key(&self, _definition: &Json) -> Option<String> {
        None
    }

    /// Who takes over what is begun here; nobody if it also ends here.
    fn heir(&self, _definition: &Value) -> Option<Heir> {
        None
    }

    /// How long an attempt may take whose author said nothing about it.
    fn timeout_ms(&self, _definition: &Value) -> Option<u64> {
        None
    }

    /// What is acted upon, for the record of the start: a program, an origin. Never a secret.
    fn target(&self, _definition: &Value) -> Option<String> {
        None
    }

    /// Executes an attempt. When it is asked to stop it ends soon and says what it knows; whoever
    /// does not is dropped, and counts as lost.
    fn run(&self, attempt: Attempt, stop: Stop) -> Working;

    /// Takes up an attempt that an earlier daemon began; nothing if it cannot know about it.
    fn resume(&self, _attempt: &Attempt, _stop: &Stop) -> Option<Working> {
        None
    }

    /// Whether such an attempt goes on when the daemon stops, to be taken up by the next.
    fn outlives(&self, _definition: &Value) -> bool {
        false
    }
}

/// The executors of a daemon, by kind. A kind that is not here is done outside.
#[derive(Clone, Default)]
pub struct Registry {
    on: Kinds,
    off: Kinds,
}

type Kinds = Arc<BTreeMap<String, Arc<dyn Executor>>>;

impl Registry {
    /// Of these executors; the first of a kind counts.
    #[must_use]
    pub fn of(executors: Vec<Arc<dyn Executor>>) -> Self {
        Self { on: by_kind(executors), off: Kinds::default() }
    }

    /// With executors that start nothing, and take up what they began when they were on.
    #[must_use]
    pub fn and_off(self, executors: Vec<Arc<dyn Executor>>) -> Self {
        Self { off: by_kind(executors), ..self }
    }

    /// The executor of a kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Executor>> {
        self.on.get(kind)
    }

    /// The executor that may know of attempts which an earlier daemon began.
    #[must_use]
    pub fn left_by(&self, kind: &str) -> Option<&Arc<dyn Executor>> {
        self.on.get(kind).or_else(|| self.off.get(kind))
    }

    /// The kinds whose effects are started here.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.on.keys().map(String::as_str)
    }
}

impl Inside for Registry {
    fn executes(&self, kind: &str, definition: &Value, cwd: Option<&str>) -> bool {
        self.get(kind).is_some_and(|executor| executor.may_run(definition, cwd).is_ok())
    }

    fn timeout_ms(&self, kind: &str, definition: &Value) -> Option<u64> {
        self.get(kind)?.timeout_ms(definition)
    }
}

fn by_kind(executors: Vec<Arc<dyn Executor>>) -> Kinds {
    let mut kinds = BTreeMap::new();
    for executor in executors {
        kinds.entry(executor.kind().to_owned()).or_insert(executor);
    }
    Arc::new(kinds)
}
