//! Posts: which outcomes that someone reports are accepted.
//!
//! May not know who posts nor through which door. Invariant: the first accepted outcome of an
//! effect stands; a repeat of it is told so, anything else is refused and changes nothing.

use serde_json::json;

use super::life::{Effect, EffectStatus};
use super::{breakpoint, resolution, task};
use crate::codecs::event::{EffectResolved, ErrorInfo, Status};
use crate::codecs::json::{Json, Numbers, canonical};
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, Seq};

/// What someone reports about an effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Post {
    /// The start that is answered; none: the poster claimed nothing.
    pub epoch: Option<Epoch>,
    /// How it ended.
    pub status: Status,
    /// The value, for `ok`.
    pub value: Option<Json>,
    /// The error, for `error`.
    pub error: Option<ErrorInfo>,
    /// Invocation key the poster believes in.
    pub invocation_key: Option<String>,
    /// Who.
    pub by: String,
}

/// Why a post is not accepted. The door gives each its code.
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

/// What becomes of a post.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Append this.
    Accept {
        /// The record's data; its value is still inline.
        resolved: Box<EffectResolved>,
        /// Things the poster should know.
        warnings: Vec<String>,
        /// A shell task's error was turned into a value.
        normalised_shell_failure: bool,
    },
    /// The same outcome stands already.
    Repeat {
        /// The record that holds it.
        seq: Seq,
    },
}

/// The digest under which two posts are the same: status, value and error, layout ignored.
#[must_use]
pub fn post_digest(status: Status, value: Option<&Json>, error: Option<&ErrorInfo>) -> Digest {
    let whole = Json::of(&json!({ "status": status, "error": error }));
    let value = value.map_or(String::new(), |v| canonical(v, Numbers::AsWritten, None));
    let error = canonical(&whole, Numbers::AsWritten, None);
    Digest::of(format!("{error}\n{value}").as_bytes())
}

/// Judges a post about effect `id` of a run that has ended as `run_end`, if it has. `schema` is the
/// definition's output schema, if it has one.
///
/// # Errors
/// The refusal; nothing may be appended then.
pub fn judge(
    effect: Option<&Effect>,
    id: EffectId,
    run_end: Option<&'static str>,
    post: &Post,
    schema: Option<&serde_json::Value>,
) -> Result<Verdict, Refusal> {
    let effect = effect.ok_or(Refusal::UnknownEffect(id))?;
    if let Some(given) = post.invocation_key.as_ref().filter(|k| **k != effect.key) {
        let (expected, given) = (effect.key.clone(), given.clone());
        return Err(Refusal::KeyMismatch { id, expected, given });
    }
    let digest = post_digest(post.status, post.value.as_ref(), post.error.as_ref());
    if let Some(seq) = fence(run_end, effect, post.epoch, digest)? {
        return Ok(Verdict::Repeat { seq });
    }
    accept(effect, post, digest, schema)
}

/// The table of which epochs may answer. `Some(seq)`: the same outcome stands at `seq`.
fn fence(
    run_end: Option<&'static str>,
    effect: &Effect,
    epoch: Option<Epoch>,
    digest: Digest,
) -> Result<Option<Seq>, Refusal> {
    let (id, current) = (effect.id, effect.epoch);
    if let Some(given) = epoch.filter(|given| *given < current) {
        return Err(Refusal::StaleLease { id, given, current });
    }
    if let Some(given) = epoch.filter(|given| *given > current) {
        return Err(Refusal::UnknownEpoch { id, given, current });
    }
    if let Some(ended) = &effect.ended {
        if ended.post_digest == Some(digest) {
            return Ok(Some(ended.seq));
        }
        return Err(Refusal::Ended { id, status: effect.status.name(), seq: ended.seq });
    }
    if let Some(end) = run_end {
        return Err(Refusal::RunEnded(end));
    }
    if !effect.wait.is_postable() {
        let instead = match effect.kind.as_str() {
            "signal" => "send it with `dormouse run signal`",
            "run" => "its child run decides; see `dormouse run show`",
            _ => "the runtime answers it",
        };
        return Err(Refusal::NotPostable { id, kind: effect.kind.clone(), instead });
    }
    match (effect.status, epoch) {
        (EffectStatus::Started, None) => {
            let worker = effect.worker.clone().unwrap_or_default();
            Err(Refusal::Leased { id, worker, epoch: current })
        }
        (EffectStatus::Uncertain, None) => Err(Refusal::Uncertain { id, epoch: current }),
        (EffectStatus::Requested, Some(epoch)) if effect.is_closed_by_report() => {
            Err(Refusal::AttemptClosed { id, epoch })
        }
        _ => Ok(None),
    }
}

fn accept(
    effect: &Effect,
    post: &Post,
    digest: Digest,
    schema: Option<&serde_json::Value>,
) -> Result<Verdict, Refusal> {
    let invalid = |why: Vec<String>| Refusal::ValueInvalid { id: effect.id, why };
    let mut warnings = Vec::new();
    let (mut status, mut value, mut error) = (post.status, post.value.clone(), post.error.clone());
    let shell_failed = effect.kind == "shell" && status == Status::Error;
    if shell_failed {
        let reported = error.take().unwrap_or_else(|| super::plain_error("Error", String::new()));
        value = Some(task::shell_failure(&reported));
        status = Status::Ok;
    }
    if let (super::Wait::Breakpoint(_), Some(posted)) = (&effect.wait, &value) {
        let (answer, warning) = breakpoint::normalise(posted).map_err(|why| invalid(vec![why]))?;
        value = Some(answer);
        warnings.extend(warning);
    }
    if let (Some(schema), Some(value), false) = (schema, &value, shell_failed) {
        let errors = task::schema_errors(schema, &value.to_value());
        if !errors.is_empty() {
            return Err(invalid(errors));
        }
    }
    let resolved = EffectResolved {
        epoch: post.epoch.unwrap_or_default(),
        value_digest: value.as_ref().map(|v| Digest::of(v.as_str().as_bytes())),
        value,
        error,
        post_digest: Some(digest),
        ..resolution(effect, status, &post.by)
    };
    Ok(Verdict::Accept {
        resolved: Box::new(resolved),
        warnings,
        normalised_shell_failure: shell_failed,
    })
}
