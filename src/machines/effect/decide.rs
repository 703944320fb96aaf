//! Decide: what a person makes of an effect whose outcome nobody knows.
//!
//! May not know who may decide. Invariant: a decision names the present epoch and takes the place
//! of an outcome; nothing else lets an effect be executed again that may have been executed.

use super::attempt::fence_epoch;
use super::life::{Effect, EffectStatus};
use super::post::{PostStatus, post_digest};
use super::refusal::Refusal;
use super::resolution;
use super::standing::Standing;
use crate::codecs::event::clip::clip_error;
use crate::codecs::event::{
    Decided, Decides, EffectAttemptFailed, EffectResolved, EffectUncertain, ErrorInfo, Event,
    FailureClass, Status,
};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{Epoch, Seq};

/// What somebody decides.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What.
    pub what: Choice,
    /// The start that it is about; 0: there was none.
    pub epoch: Epoch,
    /// Why.
    pub reason: String,
    /// What it rests upon.
    pub evidence: Option<Json>,
    /// Its holder is declared lost first.
    pub force: bool,
}

/// The possible decisions.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// It may happen twice, or is known not to have happened: execute it again.
    Retry,
    /// It happened, and this is what the process is to see.
    Done(Json),
    /// It failed with this.
    Failed(ErrorInfo),
}

/// What becomes of a decision.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Append these.
    Append(Vec<Event>),
    /// The same stands already.
    Repeat {
        /// The record that holds it.
        seq: Seq,
    },
}

/// Judges a decision.
///
/// # Errors
/// The refusal; nothing may be appended then.
pub fn decide(
    run: &Standing<'_>,
    effect: &Effect,
    decision: &Decision,
    now: Timestamp,
    by: &str,
) -> Result<Outcome, Refusal> {
    let id = effect.id;
    fence_epoch(effect, decision.epoch)?;
    let digest = match &decision.what {
        Choice::Retry => None,
        Choice::Done(value) => Some(post_digest(PostStatus::Ok, Some(value), None)),
        Choice::Failed(error) => Some(post_digest(PostStatus::Error, None, Some(error))),
    };
    if let Some(ended) = &effect.ended {
        if digest.is_some() && ended.post_digest == digest {
            return Ok(Outcome::Repeat { seq: ended.seq });
        }
        return Err(Refusal::Ended { id, status: effect.status.name(), seq: ended.seq });
    }
    if let Some(end) = run.end {
        return Err(Refusal::RunEnded(end));
    }
    let refuse = |why| Err(Refusal::WrongState { id, status: effect.status.name(), why });
    let mut events = Vec::new();
    match effect.status {
        EffectStatus::Uncertain => {}
        EffectStatus::Started if decision.force => events.push(declared_lost(effect)),
        EffectStatus::Started => {
            return refuse("someone holds it; only force declares its holder lost");
        }
        _ => {
            return match effect.failures.last.last() {
                Some(last) if last.is_decided && digest.is_none() => {
                    Ok(Outcome::Repeat { seq: last.seq })
                }
                _ => refuse("there is nothing to decide"),
            };
        }
    }
    events.push(record(effect, decision, digest, now, by));
    Ok(Outcome::Append(events))
}

fn declared_lost(effect: &Effect) -> Event {
    let (effect_id, epoch) = (effect.id, effect.epoch);
    EffectUncertain { effect_id, epoch, cause: "declared_lost".into(), evidence: None }.into()
}

fn record(
    effect: &Effect,
    decision: &Decision,
    digest: Option<Digest>,
    now: Timestamp,
    by: &str,
) -> Event {
    let decided = |decides| {
        Some(Decided {
            decision: decides,
            reason: decision.reason.clone(),
            evidence: decision.evidence.clone(),
            by: by.to_owned(),
        })
    };
    match &decision.what {
        Choice::Retry => EffectAttemptFailed {
            effect_id: effect.id,
            epoch: effect.epoch,
            attempt: effect.attempts,
            class: FailureClass::Unknown,
            cause: "decided_retry".into(),
            error: None,
            post_digest: None,
            stdout: None,
            stderr: None,
            counted: true,
            next_attempt_at: now,
            decision: decided(Decides::Retry),
            by: by.to_owned(),
        }
        .into(),
        Choice::Done(value) => EffectResolved {
            value_digest: Some(Digest::of(value.as_str().as_bytes())),
            value: Some(value.clone()),
            post_digest: digest,
            decision: decided(Decides::Done),
            ..resolution(effect, Status::Ok, by)
        }
        .into(),
        Choice::Failed(error) => EffectResolved {
            error: Some(clip_error(error.clone())),
            post_digest: digest,
            decision: decided(Decides::Failed),
            ..resolution(effect, Status::Error, by)
        }
        .into(),
    }
}
