//! Breakpoint: an effect a person decides (`ctx.breakpoint`, `ctx.checkpoint`).
//!
//! May not know who that person is. Invariant: what reaches the process is an object with a boolean
//! `approved`; a refusal resolves, it never throws.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::life::Effect;
use super::{member, resolve_ok, text};
use crate::codecs::event::Event;
use crate::codecs::json::Json;

/// What the runtime needs to know of a breakpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Stable name for rules.
    pub breakpoint_id: Option<String>,
    /// `ctx.checkpoint`: approved at once.
    pub checkpoint: bool,
    /// `hold`, `reject`, `approve` or `escalate`.
    pub on_timeout: Option<String>,
    /// People or roles that were named.
    pub experts: Vec<String>,
    /// `single`, `first-response-wins`, `collect-all`, `quorum`.
    pub strategy: Option<String>,
    /// Approvals that a quorum needs.
    pub quorum: Option<u32>,
}

impl Facts {
    pub(super) fn of(def: &Value) -> Self {
        let strings = |name: &str| -> Vec<String> {
            match member(def, "breakpoint", name) {
                Some(Value::String(one)) => vec![one.clone()],
                Some(Value::Array(many)) => {
                    many.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                }
                _ => Vec::new(),
            }
        };
        let flag = member(def, "breakpoint", "checkpoint").and_then(Value::as_bool);
        let quorum = member(def, "breakpoint", "quorum").and_then(Value::as_u64);
        Self {
            breakpoint_id: text(def, "breakpoint", "breakpointId"),
            checkpoint: flag.unwrap_or(false),
            on_timeout: text(def, "breakpoint", "onTimeout"),
            experts: strings("expert"),
            strategy: text(def, "breakpoint", "strategy"),
            quorum: quorum.and_then(|n| u32::try_from(n).ok()),
        }
    }

    /// Whether a timeout does anything but mark it overdue.
    #[must_use]
    pub fn acts_on_timeout(&self) -> bool {
        matches!(self.on_timeout.as_deref(), Some("reject" | "approve"))
    }

    pub(in crate::machines) fn timed_out(&self, effect: &Effect) -> Event {
        let approved = self.on_timeout.as_deref() == Some("approve");
        let word = if approved { "Approved" } else { "Rejected" };
        let answer = json!({
            "approved": approved, "response": format!("{word} by timeout"),
            "respondedBy": "timeout",
        });
        resolve_ok(effect, &Json::of(&answer), "timer")
    }

    /// How many answers decide it, and from how many people at most one each: none when the first
    /// answer decides.
    #[must_use]
    pub fn answers_needed(&self) -> Option<Answers> {
        let experts = u32::try_from(self.experts.len()).unwrap_or(u32::MAX);
        match self.strategy.as_deref() {
            Some("collect-all") if experts > 1 => Some(Answers::All(experts)),
            Some("quorum") if experts > 1 || self.quorum.is_some() => {
                Some(Answers::Quorum(self.quorum.unwrap_or(experts / 2 + 1)))
            }
            _ => None,
        }
    }
}

/// What a breakpoint with several people waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// One from each of so many.
    All(u32),
    /// So many approvals.
    Quorum(u32),
}

/// The answer to a checkpoint, and to every breakpoint of a non-interactive run.
#[must_use]
pub fn approve_at_once(effect: &Effect) -> Event {
    let checkpoint = matches!(&effect.wait, super::Wait::Breakpoint(f) if f.checkpoint);
    let response = if checkpoint { "Checkpoint" } else { "Auto-approved (non-interactive mode)" };
    let answer = json!({ "approved": true, "response": response, "respondedBy": "auto" });
    let answer = if checkpoint { json!({ "approved": true }) } else { answer };
    resolve_ok(effect, &Json::of(&answer), "engine")
}

/// The answer shape of a posted value, with a remark when something had to be added.
///
/// # Errors
/// When the value is neither a boolean nor an object.
pub fn normalise(value: &Json) -> Result<(Json, Option<String>), String> {
    match value.to_value() {
        Value::Bool(approved) => Ok((Json::of(&json!({ "approved": approved })), None)),
        Value::Object(answer) if answer.get("approved").is_some_and(Value::is_boolean) => {
            Ok((value.clone(), None))
        }
        Value::Object(answer) => {
            // Spliced into the text, so that the rest stays as it was written.
            let text = value.as_str();
            let rest = text.trim_start_matches('{');
            let wrong = answer.contains_key("approved");
            let comma = if answer.is_empty() { "" } else { "," };
            let spliced = if wrong {
                let mut answer = answer;
                answer.insert("approved".into(), Value::Bool(false));
                Json::of(&answer)
            } else {
                let text = format!("{{\"approved\":false{comma}{rest}");
                serde_json::from_str(&text).map_err(|e| e.to_string())?
            };
            let warning = "the answer has no boolean `approved`: taken as approved:false";
            Ok((spliced, Some(warning.to_owned())))
        }
        _ => Err("a breakpoint is answered with true, false, or an object with `approved`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codecs::json::{Surrogates, gate};

    #[test]
    fn answers_take_the_documented_shape() {
        for (posted, fed, warned) in [
            ("true", r#"{"approved":true}"#, false),
            ("{\"approved\":false}", r#"{"approved":false}"#, false),
            ("{\"response\":1.10}", r#"{"approved":false,"response":1.10}"#, true),
            ("{}", r#"{"approved":false}"#, true),
            ("{\"approved\":\"yes\"}", r#"{"approved":false}"#, true),
        ] {
            let value = gate(posted.as_bytes(), 9, Surrogates::Paired).unwrap();
            let (answer, warning) = normalise(&value).unwrap();
            assert_eq!((answer.as_str(), warning.is_some()), (fed, warned), "{posted}");
        }
        for refused in ["\"no\"", "1", "null", "[true]"] {
            let value = gate(refused.as_bytes(), 9, Surrogates::Paired).unwrap();
            assert!(normalise(&value).is_err(), "{refused}");
        }
    }
}
