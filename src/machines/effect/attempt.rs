//! Attempt: what follows when an attempt brought no value.
//!
//! May not know who executed it, nor leases. Invariant: an attempt that may have done something
//! outside is followed by another only if its author said that this does no harm.

use serde_json::json;

use super::claim::is_the_daemons_name;
use super::life::{Effect, EffectStatus};
use super::refusal::{Hold, Refusal};
use super::standing::Standing;
use super::{UNCERTAIN_ERROR, backoff, plain_error, resolve_error, resolve_ok, task};
use crate::codecs::event::clip::{brief_error, clip_error, inline_or_marked};
use crate::codecs::event::{
    EffectAttemptFailed, EffectUncertain, ErrorInfo, Event, FailureClass, OnUncertain, RunPaused,
};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::id::Epoch;
use crate::ground::limits::{FAILURES_TOLD_MAX, RELEASES_MAX};
use crate::ground::sabotage::{self, Guard};

/// How an attempt ended that brought no value.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// It failed, and whoever says so knows what that means.
    Failed {
        /// What is known about the outside.
        class: FailureClass,
        /// What went wrong.
        error: ErrorInfo,
        /// Another attempt would not help.
        is_final: bool,
        /// The outside asked for this much patience.
        retry_after_ms: Option<u64>,
    },
    /// Nobody knows what it did: `worker_unsure`, `transport`, `executor_lost`, `daemon_stopped`.
    Unknown {
        /// Why nobody knows.
        cause: &'static str,
        /// What might help an operator.
        evidence: Option<Json>,
        /// What was seen of it.
        error: Option<ErrorInfo>,
    },
    /// Its holder gives it back.
    Released {
        /// Whether it was begun.
        began: bool,
        /// Why.
        reason: Option<String>,
    },
    /// Its holder never learned of it.
    Undelivered,
    /// Its holder has been silent for too long.
    Lapsed,
    /// Its time was over, and its holder did not say what became of it.
    TimedOut {
        /// The time of the whole effect, not only of the attempt.
        total: bool,
    },
}

/// Whether an epoch is the present one.
///
/// # Errors
/// It is older, or was never given out.
pub fn fence_epoch(effect: &Effect, given: Epoch) -> Result<(), Refusal> {
    let (id, current) = (effect.id, effect.epoch);
    if given < current && !sabotage::is_removed(Guard::NoFence) {
        return Err(Refusal::StaleLease { id, given, current });
    }
    if given > current {
        return Err(Refusal::UnknownEpoch { id, given, current });
    }
    Ok(())
}

/// Whether the holder of `epoch` still holds the effect.
///
/// # Errors
/// Another start was let in, the effect has ended, or the attempt is closed.
pub fn fence(effect: &Effect, epoch: Epoch) -> Result<(), Refusal> {
    fence_epoch(effect, epoch)?;
    let id = effect.id;
    if let Some(ended) = &effect.ended {
        return Err(Refusal::Ended { id, status: effect.status.name(), seq: ended.seq });
    }
    if effect.status == EffectStatus::Requested {
        return Err(Refusal::AttemptClosed { id, epoch });
    }
    Ok(())
}

/// Whether parts of an outcome may be brought by whoever names `epoch`, or claimed nothing.
///
/// # Errors
/// Their post would be refused, whatever it says.
pub fn may_bring(effect: &Effect, epoch: Option<Epoch>) -> Result<(), Refusal> {
    let (id, current) = (effect.id, effect.epoch);
    fence_epoch(effect, epoch.unwrap_or(current))?;
    if let Some(ended) = &effect.ended {
        return Err(Refusal::Ended { id, status: effect.status.name(), seq: ended.seq });
    }
    match (effect.status, epoch) {
        (EffectStatus::Started, None) => {
            let worker = effect.worker.clone().unwrap_or_default();
            Err(Refusal::Leased { id, worker, epoch: current })
        }
        (EffectStatus::Uncertain, None) => Err(Refusal::Uncertain { id, epoch: current }),
        // How that attempt ended nobody knows: its late value counts.
        (EffectStatus::Requested, Some(epoch))
            if epoch > Epoch(0) && effect.closed_as != Some(FailureClass::Unknown) =>
        {
            Err(Refusal::AttemptClosed { id, epoch })
        }
        _ => Ok(()),
    }
}

/// Whether the daemon itself has the present start of `effect`. Whatever the number that somebody
/// else names, only the daemon's own executors know.
#[must_use]
pub fn is_the_daemons(effect: &Effect) -> bool {
    effect.worker.as_deref().is_some_and(is_the_daemons_name)
}

/// Refuses a report by `by` about a start that the daemon itself has and is at.
///
/// # Errors
/// Somebody from outside speaks for the daemon.
pub fn is_its_holders(effect: &Effect, by: &str) -> Result<(), Refusal> {
    let is_own = by.starts_with("executor:") || by == "recovery" || by == "timer";
    if is_own || effect.status != EffectStatus::Started || !is_the_daemons(effect) {
        return Ok(());
    }
    let worker = effect.worker.clone().unwrap_or_default();
    Err(Refusal::Leased { id: effect.id, worker, epoch: effect.epoch })
}

/// The records that close the open start of `effect`; none if it stays as uncertain as it is.
#[must_use]
pub fn close(
    run: &Standing<'_>,
    effect: &Effect,
    report: &Report,
    now: Timestamp,
    by: &str,
) -> Vec<Event> {
    let closing = Closing { run, effect, now, by };
    match report {
        Report::Failed { class: FailureClass::Unknown, error, .. } => {
            closing.unknown("transport", None, Some(error))
        }
        Report::Failed { class, error, is_final, retry_after_ms } => {
            closing.failed(*class, error, *is_final, *retry_after_ms)
        }
        Report::Unknown { cause, evidence, error } => {
            closing.unknown(cause, evidence.as_ref(), error.as_ref())
        }
        Report::Released { began: true, reason } => {
            let error = reason.clone().map(|reason| plain_error("Released", reason));
            closing.unknown("worker_unsure", None, error.as_ref())
        }
        Report::Released { began: false, reason } => closing.given_back("released", reason.clone()),
        Report::Undelivered => closing.given_back("undelivered", None),
        Report::Lapsed => closing.unknown("lease_expired", None, None),
        Report::TimedOut { total } => {
            let limit = if *total { "deadline" } else { "timeout" };
            let evidence = Json::of(&json!({ "limit": limit }));
            closing.unknown("attempt_timeout", Some(&evidence), None)
        }
    }
}

/// The records that follow when the outside was asked as often as the policy says and did not say
/// what became of `effect`; none if it is left to an operator.
#[must_use]
pub fn unanswered(run: &Standing<'_>, effect: &Effect, now: Timestamp, by: &str) -> Option<Event> {
    let cause = effect.uncertain_cause.as_deref().unwrap_or_default();
    match effect.policy.on_uncertain {
        OnUncertain::Error => Some(never_known(effect, cause, by)),
        OnUncertain::Retry => Closing { run, effect, now, by }.again(cause, None),
        OnUncertain::Hold | OnUncertain::Ask => None,
    }
}

/// The end of an effect whose outcome nobody will ever know.
pub(in crate::machines) fn never_known(effect: &Effect, cause: &str, by: &str) -> Event {
    let what = format!("nobody knows whether effect {} was executed ({cause})", effect.id);
    let data = json!({ "outcome": "unknown", "cause": cause, "epoch": effect.epoch });
    let data = Some(Json::of(&data));
    resolve_error(effect, ErrorInfo { data, ..plain_error(UNCERTAIN_ERROR, what) }, by)
}

/// What comes after a failed attempt.
enum Next {
    /// Another one, at this time.
    At(Timestamp),
    /// Nothing: all attempts are used up.
    Exhausted,
    /// Nothing: another one would not help, or is not wanted.
    Never,
}

/// One attempt about to be closed.
struct Closing<'a> {
    run: &'a Standing<'a>,
    effect: &'a Effect,
    now: Timestamp,
    by: &'a str,
}

impl Closing<'_> {
    fn failed(
        &self,
        class: FailureClass,
        error: &ErrorInfo,
        is_final: bool,
        asked_ms: Option<u64>,
    ) -> Vec<Event> {
        let error = clip_error(error.clone());
        let cause = if class == FailureClass::NotBegun { "not_begun" } else { "reported" };
        let next = if is_final || !self.allows(class, &error.name) {
            Next::Never
        } else {
            self.next(class, asked_ms)
        };
        let is_patient =
            self.effect.policy.retry_or_once().on_exhausted.as_deref() == Some("pause");
        match next {
            Next::At(at) => vec![self.attempt_failed(class, cause, Some(error), at)],
            Next::Exhausted if is_patient => {
                let failed = self.attempt_failed(class, cause, Some(error), self.now);
                // A run that is paused already will be let go by the same deed.
                let paused = (self.run.stopped != Some(Hold::Pause)).then(|| {
                    let reason = "attempts_exhausted".to_owned();
                    let effect_id = Some(self.effect.id);
                    RunPaused { reason, effect_id, by: self.by.to_owned() }.into()
                });
                [failed].into_iter().chain(paused).collect()
            }
            _ => vec![self.given_up(class, error, matches!(next, Next::Exhausted))],
        }
    }

    fn unknown(
        &self,
        cause: &str,
        evidence: Option<&Json>,
        error: Option<&ErrorInfo>,
    ) -> Vec<Event> {
        let effect = self.effect;
        if effect.status == EffectStatus::Uncertain {
            return Vec::new();
        }
        let policy = &effect.policy;
        // Whoever can be asked is asked before anything is done again.
        let again = policy.probe.is_none().then(|| self.again(cause, error)).flatten();
        if let Some(again) = again {
            return vec![again];
        }
        let seen = || error.map(|error| Json::of(&json!({ "error": brief_error(error) })));
        let uncertain = EffectUncertain {
            effect_id: effect.id,
            epoch: effect.epoch,
            cause: cause.to_owned(),
            evidence: evidence.cloned().or_else(seen).map(inline_or_marked),
        };
        let mut events = vec![uncertain.into()];
        let is_over = effect.deadline().is_some_and(|at| at <= self.now);
        if policy.gives_up_at_once() || is_over {
            events.push(never_known(effect, cause, self.by));
        }
        events
    }

    /// The next attempt at what does no harm when it is done twice.
    fn again(&self, cause: &str, error: Option<&ErrorInfo>) -> Option<Event> {
        let policy = &self.effect.policy;
        if sabotage::is_removed(Guard::RegrantStarted) {
            return Some(self.attempt_failed(FailureClass::Unknown, cause, None, self.now));
        }
        if !policy.idempotent || policy.on_uncertain != OnUncertain::Retry {
            return None;
        }
        let Next::At(at) = self.next(FailureClass::Unknown, None) else { return None };
        let error = error.cloned().map(clip_error);
        Some(self.attempt_failed(FailureClass::Unknown, cause, error, at))
    }

    /// Nothing was begun, and that is nobody's failure.
    fn given_back(&self, cause: &str, reason: Option<String>) -> Vec<Event> {
        let error = reason.map(|reason| clip_error(plain_error("Released", reason)));
        if self.effect.failures.released >= RELEASES_MAX {
            let what = format!("given back {RELEASES_MAX} times before it was begun");
            return vec![resolve_error(
                self.effect,
                plain_error("ReleasedTooOften", what),
                self.by,
            )];
        }
        let failed = self.attempt_failed(FailureClass::NotBegun, cause, error, self.now);
        match failed {
            Event::EffectAttemptFailed(failed) => {
                vec![EffectAttemptFailed { counted: false, ..failed }.into()]
            }
            other => vec![other],
        }
    }

    /// Whether the author lets errors of this name be retried. What never began always may.
    fn allows(&self, class: FailureClass, name: &str) -> bool {
        let retry = self.effect.policy.retry_or_once();
        let is_in = |names: &[String]| names.iter().any(|n| n == name);
        class == FailureClass::NotBegun
            || (retry.on.is_empty() || is_in(&retry.on)) && !is_in(&retry.not_on)
    }

    fn next(&self, class: FailureClass, asked_ms: Option<u64>) -> Next {
        let effect = self.effect;
        if self.run.gives_up(effect) || effect.deadline().is_some_and(|at| at <= self.now) {
            return Next::Never;
        }
        let retry = effect.policy.retry_or_once();
        let (used, budget) = match class {
            FailureClass::NotBegun => (effect.failures.not_begun, retry.max_not_begun),
            _ => (effect.failures.began(), retry.max_attempts),
        };
        if used.saturating_add(1) >= budget.saturating_mul(effect.grants + 1) {
            return Next::Exhausted;
        }
        let k = effect.failures.counted().saturating_add(1);
        let delay = backoff::delay_ms(retry, self.run.run, effect.id, k, asked_ms);
        let at = self.now.later_by(delay);
        let first = effect.first_started_at.unwrap_or(self.now);
        let last = retry.max_elapsed_ms.map(|ms| first.later_by(ms));
        if last.is_some_and(|last| at > last) { Next::Exhausted } else { Next::At(at) }
    }

    fn attempt_failed(
        &self,
        class: FailureClass,
        cause: &str,
        error: Option<ErrorInfo>,
        next_attempt_at: Timestamp,
    ) -> Event {
        EffectAttemptFailed {
            effect_id: self.effect.id,
            epoch: self.effect.epoch,
            attempt: self.effect.attempts,
            class,
            cause: cause.to_owned(),
            error,
            post_digest: None,
            stdout: None,
            stderr: None,
            counted: true,
            next_attempt_at,
            decision: None,
            by: self.by.to_owned(),
        }
        .into()
    }

    /// The end of an effect whose last attempt failed.
    fn given_up(&self, class: FailureClass, error: ErrorInfo, is_exhausted: bool) -> Event {
        let effect = self.effect;
        if effect.kind == "shell" && class == FailureClass::Reported {
            return resolve_ok(effect, &task::shell_failure(&error), self.by);
        }
        let count = effect.failures.counted();
        // The only attempt of an effect says all there is to say.
        if count == 0 {
            return resolve_error(effect, error, self.by);
        }
        let last = json!({
            "epoch": effect.epoch, "class": class, "at": self.now, "error": brief_error(&error),
        });
        let skipped = (effect.failures.last.len() + 1).saturating_sub(FAILURES_TOLD_MAX);
        let before = effect.failures.last.iter().skip(skipped).map(|failure| {
            json!({
                "epoch": failure.epoch, "class": failure.class, "at": failure.at,
                "cause": failure.cause, "error": failure.error,
            })
        });
        let attempts: Vec<_> = before.chain([last]).collect();
        let data = Some(Json::of(&json!({ "attempts": attempts })));
        if !is_exhausted {
            let data = error.data.clone().or(data);
            return resolve_error(effect, ErrorInfo { data, ..error }, self.by);
        }
        let what = format!("{} attempts failed; the last: {}", count + 1, error.message);
        let exhausted = ErrorInfo { data, ..plain_error("AttemptsExhausted", what) };
        resolve_error(effect, clip_error(exhausted), self.by)
    }
}
