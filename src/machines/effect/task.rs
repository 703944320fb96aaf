//! Task: work that a worker or an orchestrator does (`ctx.task`, `ctx.orchestratorTask`).
//!
//! May not know how the work is done. Invariant: a shell task never throws; its failure is a value.

use serde_json::{Value, json};

use super::life::Effect;
use super::{plain_error, resolve_error, text};
use crate::codecs::event::{ErrorInfo, Event};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::limits::AGENT_NAME_BYTES_MAX;

/// The agent that the definition of an agent's task names.
#[must_use]
pub fn agent(kind: &str, def: Option<&Json>) -> Option<String> {
    let def = def.filter(|_| kind == "agent")?.to_value();
    text(&def, "agent", "name").filter(|name| name.len() <= AGENT_NAME_BYTES_MAX)
}

/// The end of a task that nobody began or finished within the limits of its policy.
#[must_use]
pub fn timed_out(effect: &Effect, now: Timestamp) -> Event {
    let total = effect.policy.total_timeout_ms.filter(|ms| {
        effect.requested_at.plus_millis(i64::try_from(*ms).unwrap_or(i64::MAX)) <= now
    });
    let (limit, millis) = match total {
        Some(ms) => ("deadline", ms),
        None => ("startTimeout", effect.policy.start_timeout_ms.unwrap_or_default()),
    };
    let error = ErrorInfo {
        data: Some(Json::of(&json!({ "timeoutMs": millis, "limit": limit }))),
        ..plain_error("TaskTimeoutError", format!("{limit} of {millis} ms has passed"))
    };
    resolve_error(effect, error, "timer")
}

/// What a shell task that was posted as an error resolves to: a value with `success: false`.
#[must_use]
pub fn shell_failure(error: &ErrorInfo) -> Json {
    let data = error.data.as_ref().map(Json::to_value);
    let source = data.as_ref().and_then(Value::as_object);
    let field = |name: &str| source.and_then(|d| d.get(name));
    let exit_code = field("exitCode").filter(|c| c.is_number()).cloned().unwrap_or(json!(1));
    let words = |name: &str| field(name).and_then(Value::as_str).map(str::to_owned);
    let message = words("error")
        .or_else(|| words("message"))
        .or_else(|| Some(error.message.clone()).filter(|m| !m.is_empty()))
        .unwrap_or_else(|| format!("Shell command exited with code {exit_code}"));
    Json::of(&json!({
        "success": false,
        "exitCode": exit_code,
        "stdout": words("stdout").unwrap_or_default(),
        "stderr": words("stderr").unwrap_or_default(),
        "error": message,
    }))
}

/// Checks a value against the subset of JSON Schema that definitions may use: `type`, `required`,
/// `properties`, `items`, `enum`. Returns what is wrong, most important first, at most ten.
#[must_use]
pub fn schema_errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    check(schema, value, "value", &mut errors);
    errors.truncate(10);
    errors
}

fn check(schema: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
    let Some(schema) = schema.as_object() else { return };
    if let Some(wanted) = schema.get("type").and_then(Value::as_str)
        && !has_type(value, wanted)
    {
        errors.push(format!("Expected {path} to be {wanted}, got {}", type_name(value)));
        return;
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        errors.push(format!("Expected {path} to be one of {}", Json::of(allowed).as_str()));
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        if value.as_object().is_some_and(|o| !o.contains_key(name)) {
            errors.push(format!("Expected {path}.{name} to be present"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, inner) in properties {
        if let Some(member) = value.get(name) {
            check(inner, member, &format!("{path}.{name}"), errors);
        }
    }
    if let (Some(inner), Some(items)) = (schema.get("items"), value.as_array()) {
        for (i, item) in items.iter().enumerate() {
            check(inner, item, &format!("{path}[{i}]"), errors);
        }
    }
}

fn has_type(value: &Value, wanted: &str) -> bool {
    match wanted {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => true,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_shell_task_is_a_value() {
        let error = ErrorInfo {
            data: Some(Json::of(&json!({ "exitCode": 3, "stderr": "no" }))),
            ..plain_error("Error", "outer".into())
        };
        let value = shell_failure(&error).to_value();
        assert_eq!(value["exitCode"], 3);
        assert_eq!(value["error"], "outer");
        let bare = shell_failure(&plain_error("Error", String::new())).to_value();
        assert_eq!(bare["error"], "Shell command exited with code 1");
    }

    #[test]
    fn schemas_name_what_is_wrong() {
        let schema = json!({
            "type": "object", "required": ["n"],
            "properties": { "n": { "type": "integer" }, "l": { "items": { "enum": [1, 2] } } },
        });
        let errors = |value: Value| schema_errors(&schema, &value);
        assert!(errors(json!({ "n": 1, "l": [1, 2] })).is_empty());
        assert_eq!(errors(json!({ "n": "1" })), ["Expected value.n to be integer, got string"]);
        assert_eq!(errors(json!({})), ["Expected value.n to be present"]);
        assert_eq!(errors(json!({ "n": 2, "l": [3] })), ["Expected value.l[0] to be one of [1,2]"]);
    }
}
