//! Probes: an executor asked what became of an effect, and what its outcome says about that.
//!
//! May not know what follows from an answer. Invariant: only the answer itself is believed; an
//! executor that failed, or an outcome of another shape, says nothing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Outcome;
use crate::codecs::event::{Probe, ProbeKind};
use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::limits::JSON_DEPTH_MAX;
use crate::machines::effect::probe::{Answer, not_done_statuses};

/// The definition that an executor of the probe's kind gets.
#[must_use]
pub fn definition(probe: &Probe) -> Value {
    let mut def = probe.def.to_value();
    if probe.kind != ProbeKind::Http {
        return def;
    }
    let mut expected = vec![json!(200)];
    expected.extend(not_done_statuses(&def).into_iter().map(Value::from));
    let inner = match def.get("http") {
        Some(Value::Object(_)) => &mut def["http"],
        _ => &mut def,
    };
    if let Some(members) = inner.as_object_mut() {
        members.remove("notDoneStatus");
        members.insert("expectStatus".to_owned(), Value::Array(expected));
        // An answer that cannot be read says nothing, and is no failure of anything.
        members.insert("response".to_owned(), json!("auto"));
    }
    def
}

/// What an outcome says about the effect that was asked about.
#[must_use]
pub fn answer(probe: &Probe, outcome: &Outcome) -> Answer {
    let value = match outcome {
        Outcome::Ok { value, .. } => value,
        Outcome::Failed { error, .. } => {
            return Answer::Unsure(format!("{}: {}", error.name, error.message));
        }
        Outcome::Unknown { cause, .. } => return Answer::Unsure(format!("no answer: {cause}")),
    };
    let Ok(members) = value.read::<BTreeMap<String, Json>>() else {
        return Answer::Unsure("the outcome has no members".to_owned());
    };
    match probe.kind {
        ProbeKind::Http => of_response(probe, &members),
        ProbeKind::Shell => of_command(&members),
        ProbeKind::Mcp => of_tool(&members),
    }
}

type Members = BTreeMap<String, Json>;

fn of_response(probe: &Probe, response: &Members) -> Answer {
    let status = response.get("status").and_then(|v| v.read::<u64>().ok());
    if status.is_some_and(|status| not_done_statuses(&probe.def.to_value()).contains(&status)) {
        return Answer::NotDone;
    }
    let Some(body) = response.get("body").filter(|_| status == Some(200)) else {
        return Answer::Unsure("the response has no body to read".to_owned());
    };
    // What is not called JSON may be JSON all the same.
    body.read::<String>().map_or_else(|_| Answer::of(body), |text| of_text(&text))
}

fn of_command(exit: &Members) -> Answer {
    let code = exit.get("exitCode").and_then(|v| v.read::<i64>().ok());
    let printed = exit.get("stdout").and_then(|v| v.read::<String>().ok());
    match (code, printed) {
        (Some(0), Some(printed)) => of_text(&printed),
        (Some(0), None) | (None, _) => Answer::Unsure("the command printed nothing".to_owned()),
        (Some(code), _) => Answer::Unsure(format!("the command exited with code {code}")),
    }
}

fn of_tool(result: &Members) -> Answer {
    if let Some(structured) = result.get("structured") {
        return Answer::of(structured);
    }
    let parts = result.get("content").and_then(|v| v.read::<Vec<Value>>().ok());
    let texts = parts.iter().flatten().filter_map(|part| part.get("text")?.as_str());
    of_text(&texts.collect::<String>())
}

fn of_text(text: &str) -> Answer {
    let read = gate(text.trim().as_bytes(), JSON_DEPTH_MAX, Surrogates::Paired);
    match read {
        Ok(json) => Answer::of(&json),
        Err(e) => Answer::Unsure(format!("the answer is no JSON: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codecs::event::FailureClass;
    use crate::machines::effect::plain_error;
    use crate::machines::effect::probe::read;

    fn said(kind: &str, def: &Value, value: &Value) -> &'static str {
        let probe = read(&json!({ "kind": kind, "def": def })).unwrap();
        answer(&probe, &Outcome::ok(Json::of(value))).name()
    }

    #[test]
    fn a_response_answers_by_its_body_or_its_status() {
        let def = json!({ "http": { "url": "http://a", "notDoneStatus": [404] } });
        let http = |value: Value| said("http", &def, &value);
        assert_eq!(http(json!({ "status": 200, "body": { "state": "not_done" } })), "not_done");
        let text = r#" {"state":"done","value":1} "#;
        assert_eq!(http(json!({ "status": 200, "body": text })), "done");
        assert_eq!(http(json!({ "status": 404, "body": "<p>no such page</p>" })), "not_done");
        assert_eq!(http(json!({ "status": 200, "body": "<p>sign in</p>" })), "unsure");
        assert_eq!(http(json!({ "status": 410, "body": { "state": "not_done" } })), "unsure");
        assert_eq!(http(json!({ "status": 200 })), "unsure");
        let probe = read(&json!({ "kind": "http", "def": def })).unwrap();
        let asked = json!({ "url": "http://a", "expectStatus": [200, 404], "response": "auto" });
        assert_eq!(definition(&probe), json!({ "http": asked }));
    }

    #[test]
    fn a_command_answers_by_what_it_prints_when_all_went_well() {
        let def = json!({ "argv": ["x"] });
        let shell = |value: Value| said("shell", &def, &value);
        let failed = r#"{"state":"failed","error":"no"}"#;
        assert_eq!(shell(json!({ "exitCode": 0, "stdout": failed })), "failed");
        assert_eq!(shell(json!({ "exitCode": 1, "stdout": failed })), "unsure");
        assert_eq!(shell(json!({ "exitCode": 0, "stdout": "" })), "unsure");
        assert_eq!(shell(json!({ "state": "done", "value": 1 })), "unsure");
    }

    #[test]
    fn a_tool_answers_with_members_or_text() {
        let def = json!({ "server": "s", "tool": "t" });
        let tool = |value: Value| said("mcp", &def, &value);
        assert_eq!(tool(json!({ "structured": { "state": "not_done" } })), "not_done");
        let text = json!([{ "type": "text", "text": r#"{"state":"not_done"}"# }]);
        assert_eq!(tool(json!({ "content": text })), "not_done");
        assert_eq!(tool(json!({ "content": [] })), "unsure");
        let probe = read(&json!({ "kind": "mcp", "def": def })).unwrap();
        let error = plain_error("McpUnreachable", "gone".into());
        let failed = Outcome::failed(FailureClass::NotBegun, error);
        assert_eq!(answer(&probe, &failed), Answer::Unsure("McpUnreachable: gone".into()));
    }
}
