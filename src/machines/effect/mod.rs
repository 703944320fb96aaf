//! Effects: what each kind waits for, and what the runtime itself may answer. One file a kind.
//!
//! May not know hosts, files or commands. Invariant: what happens to an effect without anybody's
//! post is a function of its definition, the folded run and the time.

pub mod ask;
pub mod attempt;
pub mod backoff;
pub mod breakpoint;
pub mod claim;
pub mod decide;
pub mod echo;
pub mod failures;
pub mod hook;
pub mod key;
pub mod life;
pub mod policy;
pub mod post;
pub mod probe;
pub mod refusal;
pub mod run;
mod sense;
pub mod signal;
pub mod sleep;
pub mod standing;
pub mod task;

use serde::{Deserialize, Serialize};

use life::Effect;

use crate::codecs::event::{EffectResolved, ErrorInfo, Event, Status};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::Epoch;

/// The name of the error of an effect whose outcome nobody will ever know.
pub const UNCERTAIN_ERROR: &str = "UncertainEffectError";

/// What an open effect waits for besides a post.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Wait {
    /// A worker or an orchestrator; nothing else.
    Outside,
    /// A person.
    Breakpoint(breakpoint::Facts),
    /// A moment.
    Sleep {
        /// When it ends.
        target: Timestamp,
    },
    /// A signal.
    Signal(signal::Facts),
    /// The runtime's hook runner.
    Hook(hook::Facts),
    /// A child run.
    Run(run::Facts),
    /// Nobody: the answer is there.
    Echo(echo::Facts),
}

impl Wait {
    /// What an effect of this kind and definition waits for.
    #[must_use]
    pub fn of(kind: &str, def: Option<&Json>) -> Self {
        let def = def.map_or(serde_json::Value::Null, Json::to_value);
        match kind {
            "breakpoint" => Self::Breakpoint(breakpoint::Facts::of(&def)),
            "sleep" => sleep::target(&def).map_or(Self::Outside, |target| Self::Sleep { target }),
            // A definition that names no signal is somebody's own kind: it waits for a post.
            "signal" => match signal::Facts::of(&def) {
                facts if facts.name.is_empty() => Self::Outside,
                facts => Self::Signal(facts),
            },
            "hook" => Self::Hook(hook::Facts::of(&def)),
            "run" => run::Facts::of(&def).map_or(Self::Outside, Self::Run),
            "echo" => echo::Facts::of(&def).map_or(Self::Outside, Self::Echo),
            _ => Self::Outside,
        }
    }

    /// Where the definition of a kind keeps what the fold reads, and under which names.
    #[must_use]
    pub fn facts(kind: &str) -> Option<(&'static str, &'static [&'static str])> {
        Some(match kind {
            "breakpoint" => {
                let names: &[_] =
                    &["breakpointId", "checkpoint", "onTimeout", "expert", "strategy", "quorum"];
                ("breakpoint", names)
            }
            "sleep" => ("sleep", &["targetEpochMs"]),
            "signal" => ("signal", &["name", "correlationKey", "default"]),
            "hook" => ("hook", &["hookType", "type"]),
            "agent" => ("agent", &["name"]),
            "echo" => ("echo", &["answer"]),
            "run" => {
                let names: &[_] = &[
                    "process",
                    "processPath",
                    "exportName",
                    "processId",
                    "runId",
                    "onParentEnd",
                    "detached",
                    "subprocess",
                ];
                ("run", names)
            }
            _ => return None,
        })
    }

    /// Whether the runtime answers it as soon as it stands in the journal.
    #[must_use]
    pub fn is_immediate(&self, non_interactive: bool) -> bool {
        match self {
            Self::Breakpoint(facts) => facts.checkpoint || non_interactive,
            Self::Hook(_) | Self::Echo(_) => true,
            _ => false,
        }
    }

    /// When the runtime must look at it, given the end of the limits in its policy.
    #[must_use]
    pub fn due_at(&self, limit: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::Sleep { target } => Some(*target),
            Self::Breakpoint(facts) if !facts.acts_on_timeout() => None,
            Self::Run(_) => None,
            _ => limit,
        }
    }

    /// Whether it goes when the process has returned; tasks and child runs are waited for instead.
    #[must_use]
    pub const fn ends_with_process(&self) -> bool {
        matches!(self, Self::Sleep { .. } | Self::Signal(_) | Self::Breakpoint(_) | Self::Hook(_))
    }

    /// Whether it only waits: nobody executes it.
    #[must_use]
    pub const fn is_never_started(&self) -> bool {
        matches!(self, Self::Sleep { .. } | Self::Signal(_) | Self::Breakpoint(_))
    }

    /// Whether an orchestrator may post its outcome.
    #[must_use]
    pub const fn is_postable(&self) -> bool {
        matches!(self, Self::Outside | Self::Breakpoint(_) | Self::Sleep { .. })
    }
}

/// The event that answers `effect` with a value from inside the runtime.
pub(in crate::machines) fn resolve_ok(effect: &Effect, value: &Json, by: &str) -> Event {
    EffectResolved {
        value_digest: Some(Digest::of(value.as_str().as_bytes())),
        value: Some(value.clone()),
        ..resolution(effect, Status::Ok, by)
    }
    .into()
}

/// The event that answers `effect` with an error from inside the runtime.
pub(in crate::machines) fn resolve_error(effect: &Effect, error: ErrorInfo, by: &str) -> Event {
    EffectResolved { error: Some(error), ..resolution(effect, Status::Error, by) }.into()
}

/// An answer with nothing in it but who gave it and how it ended.
#[must_use]
pub fn resolution(effect: &Effect, status: Status, by: &str) -> EffectResolved {
    // Only an open start is answered; where none is, nobody claimed anything.
    let epoch = match effect.status {
        life::EffectStatus::Requested => Epoch(0),
        _ => effect.epoch,
    };
    EffectResolved::bare(effect.id, epoch, status, by)
}

/// An error with a name and a message.
#[must_use]
pub fn plain_error(name: &str, message: String) -> ErrorInfo {
    ErrorInfo { name: name.to_owned(), message, stack: None, data: None }
}

/// The text member `name` of a definition, wherever the kind keeps it: at the top or under
/// `section`.
fn text(def: &serde_json::Value, section: &str, name: &str) -> Option<String> {
    member(def, section, name)?.as_str().map(str::to_owned)
}

/// The member `name` of a definition: under `section`, else at the top.
fn member<'a>(
    def: &'a serde_json::Value,
    section: &str,
    name: &str,
) -> Option<&'a serde_json::Value> {
    def.get(section).and_then(|s| s.get(name)).or_else(|| def.get(name)).filter(|v| !v.is_null())
}
