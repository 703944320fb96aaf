//! Built-in kinds of work: the inputs that they know, and how executors call them.
//!
//! May not know executors. Invariant: an input that a built-in kind does not know is refused in the
//! document, and never handed to its executor.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::finding::{Findings, did_you_mean};
use super::model::{Body, Parameter, Template, Workflow};
use crate::codecs::outline::Place;

/// Our word for an input, and the executor's.
type Input = (&'static str, &'static str);

const SHELL: &[Input] = &[
    ("command", "command"),
    ("argv", "argv"),
    ("args", "args"),
    ("cwd", "cwd"),
    ("env", "env"),
    ("stdin", "stdin"),
    ("output", "output"),
    ("expected-exit-codes", "expectedExitCodes"),
];

const HTTP: &[Input] = &[
    ("method", "method"),
    ("url", "url"),
    ("query", "query"),
    ("headers", "headers"),
    ("json", "json"),
    ("form", "form"),
    ("body", "body"),
    ("body-template", "bodyTemplate"),
    ("connect-timeout", "connectTimeout"),
    ("expect-status", "expectStatus"),
    ("not-begun-status", "notBegunStatus"),
    ("response", "response"),
    ("max-bytes", "maxResponseBytes"),
    ("follow-redirects", "follow"),
];

const MCP: &[Input] = &[("server", "server"), ("tool", "tool"), ("arguments", "arguments")];
const SLEEP: &[Input] = &[("duration", "duration"), ("until", "until")];
const SIGNAL: &[Input] = &[("name", "name"), ("correlation-key", "correlationKey")];

/// The inputs of a kind that knows them all; nothing for kinds that take anything.
fn inputs_of(kind: &str) -> Option<&'static [Input]> {
    match kind {
        "shell" => Some(SHELL),
        "http" => Some(HTTP),
        "mcp" => Some(MCP),
        "sleep" => Some(SLEEP),
        "signal" => Some(SIGNAL),
        _ => None,
    }
}

/// Whether a kind of work is done by the runtime itself.
pub(super) fn is_ours(kind: &str) -> bool {
    matches!(kind, "breakpoint" | "approval" | "await" | "echo") || inputs_of(kind).is_some()
}

/// `exitCode` → `exit-code`: the inputs and outputs of built-in kinds are written like that.
pub(super) fn kebab(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out.trim_start_matches('-').to_owned()
}

/// Inputs under the names that the executor of a kind knows. What else is there, such as the item
/// of a round, is not for it.
pub(super) fn renamed(kind: &str, inputs: &Map<String, Value>) -> Map<String, Value> {
    let known = inputs_of(kind).unwrap_or(&[]).iter();
    let given = known.filter_map(|(ours, theirs)| Some((*theirs, inputs.get(*ours)?)));
    given.map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

/// Checks what built-in kinds are given.
pub(super) fn check(flow: &Workflow, places: &HashMap<String, Place>, findings: &mut Findings) {
    for template in &flow.templates {
        let Some(task) = template.task() else { continue };
        let at = places.get(&template.pointer).copied().unwrap_or_default();
        if matches!(task.kind.as_str(), "run" | "hook") {
            let what = format!("work of kind {:?} is not for documents", task.kind);
            findings.add("E-UNSUPPORTED", &template.pointer, at, what);
        }
        if is_ours(&task.kind) && !task.resources.is_empty() {
            let what = format!("work of kind {:?} is not held back for resources", task.kind);
            findings.add("W-RESOURCES", &template.pointer, at, what);
        }
    }
    let mut told = |template: &Template, pointer: &str, name: &str| {
        let kind = template.task().map_or("", |task| task.kind.as_str());
        let Some(known) = inputs_of(kind) else { return };
        if known.iter().any(|(ours, _)| *ours == name) {
            return;
        }
        let at = places.get(pointer).copied().unwrap_or(Place { line: 1, column: 1 });
        let what = format!("work of kind {kind:?} has no input {name:?}");
        let hint = did_you_mean(name, known.iter().map(|(ours, _)| *ours));
        findings.add("E-EXECUTOR-SCHEMA", pointer, at, what).hint(hint);
    };
    let names = |list: &[Parameter]| -> Vec<String> {
        list.iter().map(|parameter| parameter.name.clone()).collect()
    };
    for template in &flow.templates {
        let config = template.task().into_iter().flat_map(|task| task.config.keys().cloned());
        for name in config.chain(names(&template.inputs)) {
            told(template, &template.pointer, &name);
        }
        match &template.body {
            Body::Task(_) => {}
            Body::Dag(dag) => {
                for node in &dag.nodes {
                    for name in names(&node.arguments) {
                        told(&flow.templates[node.template], &node.pointer, &name);
                    }
                }
            }
            Body::Loop(l) => {
                for name in names(&l.arguments) {
                    told(&flow.templates[l.body], &template.pointer, &name);
                }
            }
        }
    }
}
