//! Reasons in sentences.
//!
//! May not decide what is a reason. Invariant: what an author wrote cannot reach a terminal as a
//! control character.

use super::code::Code;
use super::memory::{Asks, Hold, Probing};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, EffectName};
use crate::ground::limits::CLEANUP_TIMEOUT_MS;
use crate::machines::effect::Wait;
use crate::machines::effect::life::Effect;
use crate::machines::limits::Bucket;
use crate::machines::replay::state::CancelRequest;

/// What keeps an effect from its end.
pub(super) fn of_effect(
    code: Code,
    effect: &Effect,
    (hold, probing): (Option<&Hold>, Option<Probing>),
    workers_seen: Option<usize>,
) -> String {
    let title = effect.title.as_deref().or(effect.label.as_deref());
    let (name, kind) = (named(effect.id, title), &effect.kind);
    let worker = effect.worker.as_deref().unwrap_or("somebody");
    match code {
        Code::LostWake => format!("{name} is overdue, and nothing lets the run go on"),
        Code::Runnable => format!("{name} ends as soon as the run goes on"),
        Code::Uncertain => {
            let cause = effect.uncertain_cause.as_deref().unwrap_or("no cause");
            let what = what_then(effect, probing);
            format!("nobody knows whether {name} was executed ({cause}): {what}")
        }
        Code::WaitingPerson => format!("{name} waits for a person"),
        Code::WaitingSignal => match &effect.wait {
            Wait::Signal(facts) => format!("{name} waits for the signal {:?}", facts.name),
            _ => format!("{name} waits for a signal"),
        },
        Code::Backoff => format!("the next attempt at {name} is not due yet"),
        Code::Executing => format!("{worker} is at {name}"),
        Code::WaitingChild => match &effect.target {
            Some(child) => format!("{name} waits for its child run {child}"),
            None => format!("{name} waits for its child run"),
        },
        Code::WaitingTimer => match &effect.wait {
            Wait::Sleep { target } => format!("{name} sleeps until {target}"),
            _ => format!("{name} waits for its time"),
        },
        Code::HeldLimit | Code::HeldKey | Code::HeldPolicy => match hold {
            Some(Hold::Limit { limit, bucket, holder, until }) => {
                of_limit(&name, (limit, bucket), holder.as_ref(), until.is_some())
            }
            Some(Hold::Key { key, .. }) => {
                format!("{name} waits for another effect with its key {key:?}")
            }
            Some(Hold::Policy { why, allow }) => {
                format!("{name} may not be executed: {why}; this would allow it: {allow}")
            }
            None => format!("{name} is kept from starting"),
        },
        _ => format!("{name} waits for a worker of kind {kind}{}", workers(workers_seen)),
    }
}

/// What a limit keeps an effect from.
fn of_limit(
    name: &str,
    (limit, bucket): (&Bucket, &Bucket),
    holder: Option<&EffectName>,
    is_rate: bool,
) -> String {
    let of = if limit == bucket { String::new() } else { format!(" for {:?}", bucket.name) };
    match holder {
        Some(holder) => {
            format!("{name} waits for a slot of the limit {limit}{of}; {holder} has one")
        }
        None if is_rate => format!("{name} waits for the rate of the limit {limit}{of}"),
        None => format!("{name} waits: the limit {limit} lets nothing start"),
    }
}

/// What is done about an effect whose outcome nobody knows.
fn what_then(effect: &Effect, probing: Option<Probing>) -> String {
    let asked = |count| match count {
        0 => String::new(),
        1 => "; it was asked once, and did not know".to_owned(),
        count => format!("; it was asked {count} times, and did not know"),
    };
    match (probing, &effect.policy.probe) {
        (Some(Probing { asked: count, next: Asks::At(at) }), _) => {
            format!("the outside is asked at {at}{}", asked(count))
        }
        (Some(Probing { next: Asks::Now, .. }), _) => "the outside is being asked".to_owned(),
        (Some(Probing { asked: count, next: Asks::Never }), _) => {
            format!("find out, and decide{}", asked(count))
        }
        (None, Some(_)) => "a daemon would ask the outside; find out, or decide".to_owned(),
        (None, None) => "find out, and decide".to_owned(),
    }
}

/// How many workers there are, as loudly as it deserves.
fn workers(seen: Option<usize>) -> String {
    match seen {
        Some(0) => ", and NOBODY asked for that kind in the last 60 s".to_owned(),
        Some(1) => "; one asked for that kind in the last 60 s".to_owned(),
        Some(count) => format!("; {count} asked for that kind in the last 60 s"),
        None => "; only a daemon would know whether there is one".to_owned(),
    }
}

/// The reason of a held run in a sentence.
pub(super) fn of_hold(reason: &str) -> String {
    match reason {
        "diverged" => "its process asked for something else than its journal says".to_owned(),
        "process_error" => "its process cannot be executed".to_owned(),
        "host_failed" => "process hosts failed under it".to_owned(),
        other => match other.strip_prefix("limit:") {
            Some(limit) => format!("it hit the limit of {limit}"),
            None => other.to_owned(),
        },
    }
}

/// What a run that is being cancelled still waits for.
pub(super) fn of_cancel(cancel: &CancelRequest, now: Timestamp) -> String {
    if cancel.is_over(now) {
        return "it was asked to stop; there is no more time to clean up".to_owned();
    }
    let until = cancel.at.plus_millis(CLEANUP_TIMEOUT_MS);
    format!("it was asked to stop, and may clean up until {until}")
}

/// How a person reads of an effect: its id and what its author called it, made safe to print.
fn named(id: EffectId, title: Option<&str>) -> String {
    const TITLE_CHARS_MAX: usize = 60;
    match title {
        Some(title) => {
            let short: String = title.chars().take(TITLE_CHARS_MAX).collect();
            format!("{id} {short:?}")
        }
        None => id.to_string(),
    }
}
