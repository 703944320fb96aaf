//! Workflow documents and the expressions in them.

use std::sync::Arc;

use dormouse::codecs::event::ErrorInfo;
use dormouse::codecs::json::Json;
use dormouse::codecs::outline::Notation;
use dormouse::codecs::turn::Standing;
use dormouse::machines::workflow::expression::{Expression, Scope};
use dormouse::machines::workflow::graph;
use dormouse::machines::workflow::read::read;
use dormouse::machines::workflow::reference::{Reference, Root};
use dormouse::machines::workflow::rehearse::Rehearsal;
use dormouse::machines::workflow::snapshot::snapshot;
use serde_json::{Value, json};

use super::choice;

/// Outcomes that a played document is given at most: a loop may want more.
const TURNS_MAX: usize = 200;

/// A document has findings, or it is played to its end, within bounds.
pub fn workflow_document(data: &[u8]) {
    let (how, data) = choice(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    let notation = if how & 1 == 0 { Notation::Yaml } else { Notation::Json };
    let reading = read(text, notation);
    for finding in &reading.findings {
        let _ = finding.print("document", text);
    }
    if !reading.is_valid() {
        return assert!(!reading.findings.is_empty());
    }
    let flow = Arc::new(reading.workflow);
    let _ = (graph::text(&flow), graph::mermaid(&flow), graph::svg(&flow));
    let value = match how >> 1 & 3 {
        0 => json!({ "outputs": { "a": 1 }, "n": 2 }),
        1 => json!([1, "two", null]),
        2 => json!("text"),
        _ => json!(true),
    };
    let error = (how & 8 != 0).then(|| ErrorInfo {
        name: "E".into(),
        message: "no".into(),
        stack: None,
        data: None,
    });
    let Ok(mut played) = Rehearsal::begin(flow, None) else { return };
    for turn in 0..TURNS_MAX {
        let Some(ordinal) = played.open().map(|request| request.ordinal).next() else { break };
        let value = error.is_none().then(|| Json::of(&value));
        played.resolve(ordinal, value, error.clone());
        if how & 16 != 0 && turn == 1 {
            played.cancel();
        }
    }
    let _ = snapshot(&played.planner, &|_| Standing::default());
}

struct Fixed;

impl Scope for Fixed {
    fn get(&self, reference: &Reference) -> Option<Value> {
        (reference.print().len() % 3 != 0).then(|| json!({ "a": [1, 2.5, "x"], "b": null }))
    }

    fn root(&self, _: Root, tasks: &[String]) -> Value {
        json!({ "a": { "b": [1, 2, 3] }, "names": tasks, "n": 7 })
    }
}

/// An expression is refused, or has a value, or the reason why it has none.
pub fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(expression) = Expression::parse(text) else { return };
    assert_eq!(expression.text, text);
    let value = expression.value(&Fixed);
    let again = expression.value(&Fixed);
    assert_eq!(value, again, "it depends on what it is given alone");
    let _ = expression.holds(&Fixed);
}
