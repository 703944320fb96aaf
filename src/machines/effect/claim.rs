//! Claim: who wants to execute an effect, and whether they may.
//!
//! May not know what a worker offers nor how many are at work: that is for whoever offers effects.
//! Invariant: an effect has at most one open start, and each start has a higher epoch than all
//! before it.

use super::Wait;
use super::life::{Effect, EffectStatus};
use super::refusal::{Hold, Refusal};
use super::standing::Standing;
use crate::codecs::event::EffectStarted;
use crate::ground::clock::Timestamp;
use crate::ground::id::Epoch;
use crate::ground::sabotage::{self, Guard};

/// What somebody who wants to execute an effect says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who; see [`is_the_daemons_name`].
    pub worker: String,
    /// How long its silence is to be taken for life.
    pub ttl_ms: u64,
    /// Repeated under the same id, the claim gets the same start.
    pub claim_id: Option<String>,
    /// What is acted upon, never a secret.
    pub target: Option<String>,
    /// Names of the limits under which it takes a place.
    pub slots: Vec<String>,
}

/// Whether a worker's name is one of the daemon's own, which nobody outside may bear.
#[must_use]
pub fn is_the_daemons_name(worker: &str) -> bool {
    worker.starts_with('@')
}

/// What becomes of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claimed {
    /// Append this; execute when it is durable.
    Start(Box<EffectStarted>),
    /// The same claim has started it already.
    Again,
}

/// Judges a claim.
///
/// # Errors
/// The refusal; nothing may be appended then.
pub fn claim(
    run: &Standing<'_>,
    effect: &Effect,
    claim: &Claim,
    now: Timestamp,
) -> Result<Claimed, Refusal> {
    let id = effect.id;
    if let Some(ended) = &effect.ended {
        return Err(Refusal::Ended { id, status: effect.status.name(), seq: ended.seq });
    }
    if let Some(end) = run.end {
        return Err(Refusal::RunEnded(end));
    }
    let is_executed = match &effect.wait {
        Wait::Outside => true,
        Wait::Run(_) => is_the_daemons_name(&claim.worker),
        _ => false,
    };
    if !is_executed {
        return Err(Refusal::NotClaimable { id, kind: effect.kind.clone() });
    }
    match effect.status {
        EffectStatus::Started if is_repeat(effect, claim) => return Ok(Claimed::Again),
        EffectStatus::Started => {
            let worker = effect.worker.clone().unwrap_or_default();
            return Err(Refusal::Leased { id, worker, epoch: effect.epoch });
        }
        // The claim came twice, and what it started is over: its sender wants no other start.
        EffectStatus::Requested if is_repeat(effect, claim) => {
            return Err(Refusal::AttemptClosed { id, epoch: effect.epoch });
        }
        EffectStatus::Uncertain => return Err(Refusal::Uncertain { id, epoch: effect.epoch }),
        _ if run.suspects.contains(&id) => {
            return Err(Refusal::Uncertain { id, epoch: effect.epoch });
        }
        _ => {}
    }
    if let Some((by, until)) = hold(run, effect, now) {
        return Err(Refusal::Held { id, by, until });
    }
    Ok(Claimed::Start(Box::new(EffectStarted {
        effect_id: id,
        epoch: next_epoch(run, effect),
        attempt: effect.attempts.saturating_add(1),
        worker: claim.worker.clone(),
        ttl_ms: claim.ttl_ms,
        idempotency_key: effect.idempotency_key(run.run),
        claim: claim.claim_id.clone(),
        target: claim.target.clone(),
        slots: claim.slots.clone(),
    })))
}

/// Higher than every epoch that was ever given out for the effect.
fn next_epoch(run: &Standing<'_>, effect: &Effect) -> Epoch {
    if sabotage::is_removed(Guard::VolatileEpoch) {
        return Epoch(1);
    }
    effect.epoch.max(run.epoch_floor).next()
}

fn is_repeat(effect: &Effect, claim: &Claim) -> bool {
    claim.claim_id.is_some()
        && effect.claim == claim.claim_id
        && effect.worker.as_ref() == Some(&claim.worker)
}

/// What keeps a requested effect from being started, and until when.
fn hold(run: &Standing<'_>, effect: &Effect, now: Timestamp) -> Option<(Hold, Option<Timestamp>)> {
    if run.gives_up(effect) {
        return Some((Hold::Cancel, None));
    }
    if let Some(by) = run.stopped {
        return Some((by, None));
    }
    if effect.due_at().is_some_and(|due| due <= now) {
        return Some((Hold::Timeout, None));
    }
    // Only a delay holds: a clock that was set back is no reason to wait for it.
    effect.delayed_until().filter(|until| *until > now).map(|until| (Hold::Backoff, Some(until)))
}
