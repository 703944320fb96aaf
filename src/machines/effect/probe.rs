//! Probe: a question to the outside about an effect whose outcome nobody knows, and what follows
//! from its answer.
//!
//! May not ask anything. Invariant: an answer changes something only if it says what happened;
//! whatever cannot be understood says nothing.

use std::collections::BTreeMap;

use serde_json::Value;

use super::backoff;
use super::claim::is_the_daemons_name;
use super::life::{Effect, EffectStatus};
use super::policy::millis;
use super::standing::Standing;
use super::{member, plain_error, resolve_error, resolve_ok};
use crate::codecs::event::clip::clip_error;
use crate::codecs::event::{EffectAttemptFailed, ErrorInfo, Event, FailureClass, Probe, ProbeKind};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::limits::{
    PROBE_AFTER_MS_DEFAULT, PROBE_ATTEMPTS_DEFAULT, PROBE_ATTEMPTS_MAX, PROBE_BYTES_MAX,
    PROBE_STATUSES_MAX,
};

/// Who acts when an answer is recorded.
pub const BY: &str = "probe";
/// What an author may say of a probe.
const MEMBERS: [&str; 4] = ["kind", "def", "after", "maxAttempts"];
/// The member of a request's definition with the statuses that mean that it did not happen.
const NOT_DONE_STATUS: &str = "notDoneStatus";

/// Reads what an author says of a probe.
///
/// # Errors
/// A sentence that names the member and what is allowed.
pub fn read(given: &Value) -> Result<Probe, String> {
    let Some(members) = given.as_object() else {
        return Err(format!("probe is an object with kind and def, not {given}"));
    };
    if let Some(unknown) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        let known = MEMBERS.join(", ");
        return Err(format!("probe.{unknown} is not known; there are {known}"));
    }
    let member = |name: &str| members.get(name).filter(|v| !v.is_null());
    let kind = match member("kind").and_then(Value::as_str) {
        Some("http") => ProbeKind::Http,
        Some("shell") => ProbeKind::Shell,
        Some("mcp") => ProbeKind::Mcp,
        _ => return Err("probe.kind is http, shell or mcp".to_owned()),
    };
    let def = member("def").ok_or("probe.def is missing")?;
    well_formed(kind, def)?;
    let bytes = def.to_string().len();
    if bytes > PROBE_BYTES_MAX {
        return Err(format!("probe.def has {bytes} bytes, at most {PROBE_BYTES_MAX}"));
    }
    let most = PROBE_ATTEMPTS_MAX;
    let count = |v: &Value| {
        let n = v.as_u64().and_then(|n| u32::try_from(n).ok());
        n.filter(|n| (1..=most).contains(n))
            .ok_or_else(|| format!("probe.maxAttempts is a whole number from 1 to {most}, not {v}"))
    };
    Ok(Probe {
        kind,
        def: Json::of(def),
        after_ms: member("after").map(|v| millis("probe.after", v)).transpose()?,
        max_attempts: member("maxAttempts").map_or(Ok(PROBE_ATTEMPTS_DEFAULT), count)?,
    })
}

/// Whether a definition says what every one of its kind must say.
fn well_formed(kind: ProbeKind, def: &Value) -> Result<(), String> {
    if !def.is_object() {
        return Err(format!("probe.def is an object, not {def}"));
    }
    let has = |name: &str| member(def, kind.name(), name).is_some();
    let is_whole = match kind {
        ProbeKind::Http => has("url"),
        ProbeKind::Shell => has("argv") || has("command"),
        ProbeKind::Mcp => has("server") && has("tool"),
    };
    if !is_whole {
        return Err(match kind {
            ProbeKind::Http => "probe.def has no url",
            ProbeKind::Shell => "probe.def has no argv",
            ProbeKind::Mcp => "probe.def names no server and tool",
        }
        .to_owned());
    }
    let statuses = member(def, kind.name(), NOT_DONE_STATUS);
    let is_status = |v: &Value| v.as_u64().is_some_and(|n| (100..600).contains(&n));
    match statuses {
        None => Ok(()),
        Some(Value::Array(all)) if all.len() <= PROBE_STATUSES_MAX && all.iter().all(is_status) => {
            Ok(())
        }
        Some(other) => {
            let most = PROBE_STATUSES_MAX;
            Err(format!("{NOT_DONE_STATUS} is a list of at most {most} statuses, not {other}"))
        }
    }
}

/// The statuses of an answer that mean that it did not happen.
#[must_use]
pub fn not_done_statuses(def: &Value) -> Vec<u64> {
    let listed = member(def, "http", NOT_DONE_STATUS).and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// What the outside says.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It happened, and this is its value.
    Done(Json),
    /// It did not happen.
    NotDone,
    /// It happened, and failed.
    Failed(ErrorInfo),
    /// Nothing that helps; why.
    Unsure(String),
}

impl Answer {
    /// Reads an answer.
    #[must_use]
    pub fn of(json: &Json) -> Self {
        let unsure = |why: &str| Self::Unsure(why.to_owned());
        // Members as text, so that the value inside keeps its numbers as written.
        let Ok(members) = json.read::<BTreeMap<String, Json>>() else {
            return unsure("the answer is no object");
        };
        let state = members.get("state").and_then(|v| v.read::<String>().ok());
        match (state.as_deref(), members.get("value"), members.get("error")) {
            (Some("done"), Some(value), _) => Self::Done(value.clone()),
            (Some("done"), None, _) => unsure("done, and no value"),
            (Some("not_done"), ..) => Self::NotDone,
            (Some("failed"), _, Some(error)) => {
                error_of(error).map_or_else(|| unsure("failed, and no error"), Self::Failed)
            }
            (Some("failed"), ..) => unsure("failed, and no error"),
            (Some("unsure"), ..) => unsure("it does not know either"),
            _ => unsure("the answer has no state"),
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::NotDone => "not_done",
            Self::Failed(_) => "failed",
            Self::Unsure(_) => "unsure",
        }
    }

    /// Whether it says what happened.
    #[must_use]
    pub const fn is_conclusive(&self) -> bool {
        !matches!(self, Self::Unsure(_))
    }
}

/// An error as others write it: a text, or an object with at least a message.
fn error_of(error: &Json) -> Option<ErrorInfo> {
    if let Ok(message) = error.read::<String>() {
        return Some(plain_error("TaskError", message));
    }
    let members = error.read::<BTreeMap<String, Json>>().ok()?;
    let text = |name: &str| members.get(name).and_then(|v| v.read::<String>().ok());
    Some(ErrorInfo {
        name: text("name").unwrap_or_else(|| "TaskError".to_owned()),
        message: text("message")?,
        stack: text("stack"),
        data: members.get("data").cloned(),
    })
}

/// When the outside is asked first about an effect whose outcome nobody knows; nothing where nobody
/// is to be asked. Whoever was silent may still be at work: the daemon's journal can keep it out,
/// the outside cannot.
#[must_use]
pub fn asks_at(effect: &Effect) -> Option<Timestamp> {
    let probe =
        effect.policy.probe.as_ref().filter(|_| effect.status == EffectStatus::Uncertain)?;
    Some(effect.uncertain_at?.later_by(patience_ms(probe, effect)))
}

/// How long whoever was silent is given, before the outside is asked.
#[must_use]
pub fn patience_ms(probe: &Probe, effect: &Effect) -> u64 {
    let is_outside = effect.worker.as_deref().is_some_and(|worker| !is_the_daemons_name(worker));
    let by_kind = match effect.kind.as_str() {
        _ if is_outside => effect.ttl_ms,
        // Nothing of a command is left when its outcome is given up.
        "shell" => 0,
        _ => PROBE_AFTER_MS_DEFAULT,
    };
    probe.after_ms.unwrap_or(by_kind)
}

/// How long after the `k`-th question without an answer the next one is asked.
#[must_use]
pub fn pause_ms(run: &Standing<'_>, effect: &Effect, k: u32) -> u64 {
    backoff::delay_ms(effect.policy.retry_or_once(), run.run, effect.id, k, None)
}

/// The records that follow from an answer; none where it says nothing, or where it did not happen
/// so often that another attempt would not help.
#[must_use]
pub fn answered(
    run: &Standing<'_>,
    effect: &Effect,
    answer: &Answer,
    now: Timestamp,
) -> Vec<Event> {
    match answer {
        Answer::Unsure(_) => Vec::new(),
        Answer::Done(value) => vec![resolve_ok(effect, value, BY)],
        Answer::Failed(error) => vec![resolve_error(effect, clip_error(error.clone()), BY)],
        Answer::NotDone if effect.failures.unknown >= effect.not_begun_budget() => Vec::new(),
        Answer::NotDone => {
            let k = effect.failures.counted().saturating_add(1);
            let failed = EffectAttemptFailed {
                effect_id: effect.id,
                epoch: effect.epoch,
                attempt: effect.attempts,
                class: FailureClass::Unknown,
                cause: "probe_not_done".to_owned(),
                error: None,
                post_digest: None,
                stdout: None,
                stderr: None,
                counted: true,
                next_attempt_at: now.later_by(pause_ms(run, effect, k)),
                decision: None,
                by: BY.to_owned(),
            };
            vec![failed.into()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Answer {
        Answer::of(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn an_answer_is_one_of_four() {
        let done = answer(r#"{"state":"done","value":{"n":1.50},"more":1}"#);
        let Answer::Done(value) = done else { panic!("{done:?}") };
        assert_eq!(value.as_str(), r#"{"n":1.50}"#);
        assert!(matches!(answer(r#"{"state":"done","value":null}"#), Answer::Done(_)));
        assert_eq!(answer(r#"{"state":"not_done"}"#), Answer::NotDone);
        let failed = answer(r#"{"state":"failed","error":{"name":"Full","message":"m"}}"#);
        assert_eq!(failed, Answer::Failed(plain_error("Full", "m".into())));
        let failed = answer(r#"{"state":"failed","error":"no"}"#);
        assert_eq!(failed, Answer::Failed(plain_error("TaskError", "no".into())));
    }

    #[test]
    fn whatever_else_is_said_says_nothing() {
        for text in [
            "null",
            "[]",
            "\"done\"",
            "{}",
            r#"{"state":"done"}"#,
            r#"{"state":"DONE","value":1}"#,
            r#"{"state":["done"],"value":1}"#,
            r#"{"state":"failed"}"#,
            r#"{"state":"failed","error":{"name":"x"}}"#,
            r#"{"state":"failed","error":7}"#,
            r#"{"state":"unsure","value":1}"#,
        ] {
            let answer = answer(text);
            assert!(!answer.is_conclusive(), "{text}: {answer:?}");
        }
    }
}
