//! Kinds of work: the definition that an executor gets, from the inputs of a task.
//!
//! May not know executors. Invariant: the same kind and inputs give the same definition.

use serde_json::{Map, Value, json};

use super::echo;
use crate::ground::clock::Timestamp;
use crate::machines::effect::policy::millis;
use crate::machines::workflow::executors::renamed;

/// What is asked for.
pub(super) struct Asked {
    /// Kind of the effect.
    pub(super) kind: String,
    /// Definition of the effect.
    pub(super) definition: Value,
}

/// Whether a kind waits for a person or a message, so that its work never begins.
pub(super) fn waits(kind: &str) -> bool {
    matches!(kind, "breakpoint" | "approval" | "await" | "signal")
}

/// The definition of work. `path` names it; then come the run's clock and the attempts so far.
///
/// # Errors
/// What is wrong with the inputs.
pub(super) fn ask(
    kind: &str,
    inputs: &Map<String, Value>,
    path: &str,
    (now, retries): (i64, u32),
) -> Result<Asked, String> {
    let of = |kind: &str, definition| Ok(Asked { kind: kind.to_owned(), definition });
    match kind {
        "breakpoint" | "approval" | "await" => of("breakpoint", breakpoint(inputs, path)),
        "sleep" => {
            let target = wake_at(inputs, now)?;
            of("sleep", sleep(path, target))
        }
        "signal" => {
            let name = inputs.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
            let name = name.ok_or("a signal needs the input \"name\"")?;
            let mut signal = json!({ "name": name });
            if let Some(key) = inputs.get("correlation-key") {
                signal["correlationKey"] = key.clone();
            }
            of("signal", json!({ "kind": "signal", "title": path, "signal": signal }))
        }
        "echo" => {
            let answer = echo::answer(inputs, retries)?;
            of(kind, json!({ "kind": kind, "title": path, "echo": { "answer": answer } }))
        }
        "run" | "hook" => Err(format!("work of kind {kind:?} is not for documents yet")),
        "shell" => {
            // Members beside `shell` mean that a failure is one.
            let mut definition = renamed(kind, inputs);
            definition.insert("kind".into(), kind.into());
            definition.insert("title".into(), path.into());
            definition.insert("onExit".into(), "error".into());
            of(kind, Value::Object(definition))
        }
        "http" | "mcp" => {
            of(kind, json!({ "kind": kind, "title": path, kind: renamed(kind, inputs) }))
        }
        // The name and the prompt of an agent stand where its executor looks for them.
        "agent" => {
            of(kind, json!({ "kind": kind, "title": path, "agent": inputs, "inputs": inputs }))
        }
        _ => of(kind, json!({ "kind": kind, "title": path, "inputs": inputs })),
    }
}

/// A timer.
pub(super) fn sleep(title: &str, target_ms: i64) -> Value {
    let iso = Timestamp::from_micros(target_ms.saturating_mul(1_000)).to_string();
    json!({
        "kind": "sleep", "title": title, "sleep": { "targetEpochMs": target_ms, "iso": iso },
    })
}

fn wake_at(inputs: &Map<String, Value>, now: i64) -> Result<i64, String> {
    match (inputs.get("duration"), inputs.get("until")) {
        (Some(duration), None) => {
            let span = millis("duration", duration)?;
            Ok((now / 1_000).saturating_add(i64::try_from(span).unwrap_or(i64::MAX)))
        }
        (None, Some(Value::String(until))) => {
            let at: jiff::Timestamp =
                until.parse().map_err(|_| format!("until: {until:?} is not a moment"))?;
            Ok(at.as_millisecond())
        }
        _ => Err("a sleep needs one of the inputs \"duration\" and \"until\"".to_owned()),
    }
}

pub(super) fn breakpoint(inputs: &Map<String, Value>, path: &str) -> Value {
    let text = |name: &str| inputs.get(name).and_then(Value::as_str);
    let title = text("title").or_else(|| text("message")).unwrap_or(path);
    json!({
        "kind": "breakpoint", "title": title,
        "breakpoint": { "breakpointId": path, "label": title, "payload": inputs },
    })
}
