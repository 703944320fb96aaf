//! Outcomes: what a resolution of an effect means for the task run that asked for it.
//!
//! May not decide what follows. Invariant: every resolution means a phase.

use serde_json::{Map, Value};

use super::kinds::waits;
use super::unit::Phase;
use crate::codecs::event::ErrorInfo;
use crate::machines::effect::UNCERTAIN_ERROR;
use crate::machines::workflow::executors::{is_ours, kebab};
use crate::machines::workflow::model::Template;
use crate::machines::workflow::values::misfit;

/// Code of work that waits for an answer.
pub(super) const SUSPENDED: i64 = 1;
/// Code of work that was done and says no.
pub(super) const FAILED: i64 = 2;
/// Code of work that could not be done.
const ERROR: i64 = 3;
/// Code of work that took too long.
const TIMEOUT: i64 = 4;

/// What came of an attempt.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    pub(super) phase: Phase,
    pub(super) code: i64,
    pub(super) message: String,
    pub(super) outputs: Map<String, Value>,
    /// Nobody knows what it did.
    pub(super) is_unknown: bool,
    pub(super) notes: Vec<String>,
}

impl Outcome {
    pub(super) fn of_code(code: i64, message: String) -> Self {
        let (phase, code) = match code {
            0 => (Phase::Succeeded, 0),
            SUSPENDED => (Phase::Suspended, SUSPENDED),
            FAILED => (Phase::Failed, FAILED),
            TIMEOUT => (Phase::Timeout, TIMEOUT),
            _ => (Phase::Error, ERROR),
        };
        Self { phase, code, message, ..Self::default() }
    }

    pub(super) fn fault(code: &str, why: &str) -> Self {
        Self::of_code(ERROR, format!("{code}: {why}"))
    }
}

/// What a value means.
pub(super) fn of_value(
    value: &Value,
    template: &Template,
    inputs: &Map<String, Value>,
    is_lenient: bool,
) -> Outcome {
    let kind = template.task().map_or("", |task| task.kind.as_str());
    if let Some((code, message, outputs)) = report(value) {
        return declared(
            Outcome { outputs, ..Outcome::of_code(code, message) },
            template,
            is_lenient,
        );
    }
    let mut outcome = Outcome::of_code(0, String::new());
    outcome.outputs = members(value, template, kind);
    let rejected = waits(kind) && value.get("approved") == Some(&Value::Bool(false));
    if rejected && inputs.get("on-reject").and_then(Value::as_str) == Some("fail") {
        let feedback = value.get("feedback").or_else(|| value.get("response"));
        let why = feedback.and_then(Value::as_str).unwrap_or("rejected");
        outcome = Outcome { outputs: outcome.outputs, ..Outcome::of_code(FAILED, why.to_owned()) };
    }
    // A command that failed may be posted as a value.
    if kind == "shell" && value.get("success") == Some(&Value::Bool(false)) {
        let why = value.get("error").and_then(Value::as_str).unwrap_or("the command failed");
        outcome = Outcome { outputs: outcome.outputs, ..Outcome::of_code(FAILED, why.to_owned()) };
    }
    declared(outcome, template, is_lenient)
}

/// What an error means.
pub(super) fn of_error(error: &ErrorInfo, template: &Template, is_lenient: bool) -> Outcome {
    let data = error.data.as_ref().map(crate::codecs::json::Json::to_value).unwrap_or_default();
    let limit = data.get("cause").and_then(Value::as_str) == Some("attempt_timeout");
    let status = data.get("status").and_then(Value::as_i64);
    let code = match (data.get("code").and_then(Value::as_i64), error.name.as_str()) {
        (Some(code @ 2..=4), _) => code,
        (_, "TaskTimeoutError" | "SignalTimeoutError") => TIMEOUT,
        (_, UNCERTAIN_ERROR) if limit => TIMEOUT,
        (_, "ShellExit" | "McpToolError") => FAILED,
        _ if status.is_some_and(|status| (400..500).contains(&status)) => FAILED,
        _ => ERROR,
    };
    let outputs = match report(&data) {
        Some((_, _, outputs)) => outputs,
        None if data.is_object() => {
            members(&data, template, template.task().map_or("", |task| task.kind.as_str()))
        }
        None => Map::new(),
    };
    let mut outcome = Outcome::of_code(code, error.message.clone());
    if error.name == UNCERTAIN_ERROR {
        outcome.is_unknown = true;
        outcome.notes.push("outcome: unknown".to_owned());
    }
    declared(Outcome { outputs, ..outcome }, template, is_lenient)
}

/// `{code, message, parameters: [{name, value}]}`.
fn report(value: &Value) -> Option<(i64, String, Map<String, Value>)> {
    let list = value.get("parameters")?.as_array()?;
    let code = match value.get("code") {
        None | Some(Value::Null) => 0,
        Some(code) => code.as_i64()?,
    };
    let message = value.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut outputs = Map::new();
    for parameter in list {
        let name = parameter.get("name")?.as_str()?;
        outputs.insert(name.to_owned(), parameter.get("value").cloned().unwrap_or_default());
    }
    Some((code, message, outputs))
}

/// A value as outputs: the members of an object, else the only output there is.
fn members(value: &Value, template: &Template, kind: &str) -> Map<String, Value> {
    let Some(members) = value.as_object() else {
        if value.is_null() {
            return Map::new();
        }
        let name = match &template.outputs[..] {
            [only] => only.name.as_str(),
            _ => "value",
        };
        return Map::from_iter([(name.to_owned(), value.clone())]);
    };
    let name = |name: &str| if is_ours(kind) { kebab(name) } else { name.to_owned() };
    members.iter().map(|(k, v)| (name(k), v.clone())).collect()
}

/// Keeps what is declared, adds defaults, checks types.
fn declared(mut outcome: Outcome, template: &Template, is_lenient: bool) -> Outcome {
    if template.outputs.is_empty() {
        return outcome;
    }
    let mut given = std::mem::take(&mut outcome.outputs);
    for output in &template.outputs {
        let value = given.shift_remove(&output.name).filter(|value| !value.is_null());
        let Some(value) = value.or_else(|| output.default.clone()) else { continue };
        if outcome.phase == Phase::Succeeded
            && let Some(why) = misfit(output.of_type, &output.choices, &value)
        {
            let why = format!("{} {why}", output.name);
            let mut notes = std::mem::take(&mut outcome.notes);
            if !is_lenient {
                return Outcome { notes, ..Outcome::fault("E-OUTPUT-TYPE", &why) };
            }
            notes.push(why);
            outcome.notes = notes;
        }
        outcome.outputs.insert(output.name.clone(), value);
    }
    if !given.is_empty() {
        let names: Vec<&str> = given.keys().take(10).map(String::as_str).collect();
        outcome.notes.push(format!("not declared, not shown: {}", names.join(", ")));
    }
    outcome
}
