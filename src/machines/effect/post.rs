//! Posts: which outcomes that someone reports are accepted.
//!
//! May not know who posts nor through which door. Invariant: the first accepted outcome of an
//! effect stands; a repeat of it is told so, anything else is refused and changes nothing.

use serde_json::json;

use serde::{Deserialize, Serialize};

use super::attempt::{self, Report};
use super::life::{Effect, EffectStatus};
use super::refusal::Refusal;
use super::standing::Standing;
use super::{Wait, breakpoint, plain_error, resolution, task};
use crate::codecs::event::{EffectResolved, ErrorInfo, Event, FailureClass, Status};
use crate::codecs::json::{Json, Numbers, canonical};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, Seq};

/// How an attempt ended, in the poster's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PostStatus {
    /// With a value.
    Ok,
    /// With an error.
    Error,
    /// The poster does not know.
    Unknown,
}

/// What someone reports about an effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Post {
    /// The start that is answered; none: the poster claimed nothing.
    pub epoch: Option<Epoch>,
    /// How it ended.
    pub status: PostStatus,
    /// The value, for `ok`.
    pub value: Option<Json>,
    /// The error, for `error`.
    pub error: Option<ErrorInfo>,
    /// Whether another attempt may help; nothing: the policy knows.
    pub retryable: Option<bool>,
    /// Invocation key the poster believes in.
    pub invocation_key: Option<String>,
    /// Who.
    pub by: String,
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
    /// Append these: the attempt is closed, or nobody knows.
    Close(Vec<Event>),
    /// The same outcome stands already.
    Repeat {
        /// The record that holds it.
        seq: Seq,
    },
}

/// The digest under which two posts are the same: status, value and error, layout ignored.
#[must_use]
pub fn post_digest(status: PostStatus, value: Option<&Json>, error: Option<&ErrorInfo>) -> Digest {
    let whole = Json::of(&json!({ "status": status, "error": error }));
    let value = value.map_or(String::new(), |v| canonical(v, Numbers::AsWritten, None));
    let error = canonical(&whole, Numbers::AsWritten, None);
    Digest::of(format!("{error}\n{value}").as_bytes())
}

/// Judges a post about effect `id`. `schema` is the definition's output schema, if it has one.
///
/// # Errors
/// The refusal; nothing may be appended then.
pub fn judge(
    run: &Standing<'_>,
    effect: Option<&Effect>,
    id: EffectId,
    post: &Post,
    schema: Option<&serde_json::Value>,
    now: Timestamp,
) -> Result<Verdict, Refusal> {
    let effect = effect.ok_or(Refusal::UnknownEffect(id))?;
    if let Some(given) = post.invocation_key.as_ref().filter(|k| **k != effect.key) {
        let (expected, given) = (effect.key.clone(), given.clone());
        return Err(Refusal::KeyMismatch { id, expected, given });
    }
    let digest = post_digest(post.status, post.value.as_ref(), post.error.as_ref());
    if let Some(seq) = fence(run, effect, post, digest)? {
        return Ok(Verdict::Repeat { seq });
    }
    let claimed = effect.status != EffectStatus::Requested;
    match post.status {
        PostStatus::Ok => accept(effect, post, digest, schema),
        PostStatus::Error if !claimed => accept(effect, post, digest, schema),
        _ if !claimed => Err(Refusal::WrongState {
            id,
            status: effect.status.name(),
            why: "what nobody has started has no unknown outcome",
        }),
        PostStatus::Error => {
            let plain = || plain_error("Error", "Task reported failure".into());
            let report = Report::Failed {
                class: FailureClass::Reported,
                error: post.error.clone().unwrap_or_else(plain),
                is_final: post.retryable == Some(false),
                retry_after_ms: None,
            };
            Ok(Verdict::Close(closed(run, effect, &report, digest, post, now)))
        }
        PostStatus::Unknown if effect.status == EffectStatus::Uncertain => {
            Ok(Verdict::Repeat { seq: effect.seq })
        }
        PostStatus::Unknown => {
            let (cause, error) = ("worker_unsure", post.error.clone());
            let report = Report::Unknown { cause, evidence: None, error };
            Ok(Verdict::Close(closed(run, effect, &report, digest, post, now)))
        }
    }
}

/// What follows from a reported failure, with the digest under which its repeat is known.
fn closed(
    run: &Standing<'_>,
    effect: &Effect,
    report: &Report,
    digest: Digest,
    post: &Post,
    now: Timestamp,
) -> Vec<Event> {
    let mut events = attempt::close(run, effect, report, now, &post.by);
    for event in &mut events {
        match event {
            Event::EffectAttemptFailed(failed) => failed.post_digest = Some(digest),
            // An end that nobody posted is none of the poster's.
            Event::EffectResolved(done) if post.status == PostStatus::Error => {
                done.post_digest = Some(digest);
            }
            _ => {}
        }
    }
    events
}

/// The table of which epochs may answer. `Some(seq)`: the same outcome stands at `seq`.
fn fence(
    run: &Standing<'_>,
    effect: &Effect,
    post: &Post,
    digest: Digest,
) -> Result<Option<Seq>, Refusal> {
    let (id, current, epoch) = (effect.id, effect.epoch, post.epoch);
    attempt::fence_epoch(effect, epoch.unwrap_or(current))?;
    if let Some(ended) = &effect.ended {
        if ended.post_digest == Some(digest) {
            return Ok(Some(ended.seq));
        }
        return Err(Refusal::Ended { id, status: effect.status.name(), seq: ended.seq });
    }
    if let Some(end) = run.end {
        return Err(Refusal::RunEnded(end));
    }
    let instead = match &effect.wait {
        Wait::Signal(_) => Some("send it with `dormouse run signal`"),
        Wait::Run(_) => Some("its child run decides; see `dormouse run show`"),
        wait if !wait.is_postable() => Some("the runtime answers it"),
        _ if run.is_inside && epoch.is_none() && effect.status == EffectStatus::Requested => {
            Some("the daemon executes it; give it up with `dormouse task cancel`")
        }
        _ => None,
    };
    if let Some(instead) = instead {
        return Err(Refusal::NotPostable { id, kind: effect.kind.clone(), instead });
    }
    attempt::is_its_holders(effect, &post.by)?;
    match (effect.status, epoch) {
        (EffectStatus::Started, None) => {
            let worker = effect.worker.clone().unwrap_or_default();
            Err(Refusal::Leased { id, worker, epoch: current })
        }
        (EffectStatus::Uncertain, None) => Err(Refusal::Uncertain { id, epoch: current }),
        (EffectStatus::Requested, Some(epoch)) if epoch > Epoch(0) => {
            late(effect, epoch, post.status, digest)
        }
        _ => Ok(None),
    }
}

/// A post to an attempt that is closed: a value counts if nobody knew how the attempt ended.
fn late(
    effect: &Effect,
    epoch: Epoch,
    status: PostStatus,
    digest: Digest,
) -> Result<Option<Seq>, Refusal> {
    let id = effect.id;
    match (effect.closed_as, effect.failures.last.last()) {
        (Some(FailureClass::Unknown), _) if status == PostStatus::Ok => Ok(None),
        (Some(FailureClass::Reported), Some(last)) if last.post_digest == Some(digest) => {
            Ok(Some(last.seq))
        }
        (Some(FailureClass::Reported), Some(last)) => {
            Err(Refusal::AlreadyPosted { id, epoch, seq: last.seq })
        }
        _ => Err(Refusal::AttemptClosed { id, epoch }),
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
    let failed = post.status == PostStatus::Error;
    let mut status = if failed { Status::Error } else { Status::Ok };
    let (mut value, mut error) = (post.value.clone(), post.error.clone());
    let shell_failed = effect.kind == "shell" && failed;
    if shell_failed {
        let reported = error.take().unwrap_or_else(|| plain_error("Error", String::new()));
        value = Some(task::shell_failure(&reported));
        status = Status::Ok;
    }
    if let (Wait::Breakpoint(_), Some(posted)) = (&effect.wait, &value) {
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
