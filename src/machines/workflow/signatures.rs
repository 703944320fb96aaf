//! Signatures: what those who do work of a kind say about its inputs and outputs.
//!
//! May not know who they are. Invariant: a signature only ever refuses a document before it runs;
//! no run depends on one.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::executors::is_ours;
use super::finding::{Finding, Findings, did_you_mean};
use super::model::{Body, Parameter, Source, Workflow};
use super::read::has_placeholder;
use super::values::Type;
use crate::codecs::outline::Place;
use crate::ground::limits::{WORKFLOW_PARAMETERS_MAX, WORKFLOW_SIGNATURES_MAX};

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// What it may hold.
    pub of_type: Type,
    /// Work does not begin without it.
    pub is_needed: bool,
    word: String,
}

/// The inputs and outputs of a kind of work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Signature {
    /// What it takes, and nothing else.
    pub inputs: BTreeMap<String, Slot>,
    /// What it brings.
    pub outputs: BTreeMap<String, Slot>,
}

/// Signatures by kind.
pub type Signatures = BTreeMap<String, Signature>;

/// Reads `{"KIND": {"inputs": {"NAME": "TYPE"}, "outputs": {…}}}`; a type with `?` behind it may be
/// left out.
///
/// # Errors
/// What is wrong, with its place.
pub fn read(value: &Value) -> Result<Signatures, String> {
    let kinds = value.as_object().ok_or("signatures are an object: kinds of work by name")?;
    if kinds.len() > WORKFLOW_SIGNATURES_MAX {
        return Err(format!("there are signatures for more than {WORKFLOW_SIGNATURES_MAX} kinds"));
    }
    let one = |(kind, signature): (&String, &Value)| {
        Ok((kind.clone(), signature_of(signature).map_err(|why| format!("{kind}: {why}"))?))
    };
    kinds.iter().map(one).collect()
}

fn signature_of(value: &Value) -> Result<Signature, String> {
    let members = value.as_object().ok_or("a signature is an object with inputs and outputs")?;
    if let Some(other) = members.keys().find(|name| !matches!(name.as_str(), "inputs" | "outputs"))
    {
        return Err(format!("a signature has inputs and outputs, and no {other:?}"));
    }
    let nothing = Map::new();
    let slots = |name: &str| -> Result<BTreeMap<String, Slot>, String> {
        let list = match members.get(name) {
            None => &nothing,
            Some(given) => given.as_object().ok_or_else(|| format!("{name} is an object"))?,
        };
        if list.len() > WORKFLOW_PARAMETERS_MAX {
            return Err(format!("there are more than {WORKFLOW_PARAMETERS_MAX} {name}"));
        }
        let one = |(slot, word): (&String, &Value)| {
            let known = word.as_str().and_then(slot_of);
            let slot_is = known.ok_or_else(|| format!("{name}.{slot}: {word} is not a type"))?;
            Ok((slot.clone(), slot_is))
        };
        list.iter().map(one).collect()
    };
    Ok(Signature { inputs: slots("inputs")?, outputs: slots("outputs")? })
}

fn slot_of(word: &str) -> Option<Slot> {
    let bare = word.strip_suffix('?').unwrap_or(word);
    let of_type = Type::of(bare);
    let is_known = super::fields::TYPES.contains(&bare);
    let is_needed = bare.len() == word.len();
    is_known.then(|| Slot { of_type, is_needed, word: word.to_owned() })
}

/// Signatures as they are written.
#[must_use]
pub fn print(signatures: &Signatures) -> Value {
    let slots = |slots: &BTreeMap<String, Slot>| -> Value {
        let words = slots.iter().map(|(name, slot)| (name.clone(), json!(slot.word)));
        Value::Object(words.collect())
    };
    let one = |(kind, signature): (&String, &Signature)| {
        let (inputs, outputs) = (slots(&signature.inputs), slots(&signature.outputs));
        (kind.clone(), json!({ "inputs": inputs, "outputs": outputs }))
    };
    Value::Object(signatures.iter().map(one).collect())
}

/// A place where work of a kind is asked for, and what it is given there besides.
struct Call<'a> {
    pointer: &'a str,
    given: &'a [Parameter],
}

/// Checks the work of a document against what is known of its kinds.
pub(super) fn check(
    flow: &Workflow,
    places: &HashMap<String, Place>,
    signatures: &Signatures,
    findings: &mut Findings,
) {
    if signatures.is_empty() {
        return;
    }
    let mut calls: HashMap<usize, Vec<Call<'_>>> = HashMap::new();
    for template in &flow.templates {
        let pointer = template.pointer.as_str();
        match &template.body {
            Body::Task(_) => {}
            Body::Dag(dag) => {
                for node in &dag.nodes {
                    let call = Call { pointer: &node.pointer, given: &node.arguments };
                    calls.entry(node.template).or_default().push(call);
                }
            }
            Body::Loop(l) => {
                calls.entry(l.body).or_default().push(Call { pointer, given: &l.arguments });
            }
        }
    }
    if let Some(entry) = flow.templates.get(flow.entry) {
        calls.entry(flow.entry).or_default().push(Call { pointer: &entry.pointer, given: &[] });
    }
    for (i, template) in flow.templates.iter().enumerate() {
        let Some(task) = template.task().filter(|task| !is_ours(&task.kind)) else { continue };
        let Some(signature) = signatures.get(&task.kind) else { continue };
        let findings = &mut *findings;
        let mut judge = Judge { kind: &task.kind, signature, places, findings };
        for (name, value) in &task.config {
            judge.value(&template.pointer, name, value);
        }
        judge.parameters(&template.pointer, &template.inputs);
        judge.outputs(&template.pointer, &template.outputs);
        for call in calls.get(&i).map(Vec::as_slice).unwrap_or_default() {
            judge.parameters(call.pointer, call.given);
            let lists = [&template.inputs[..], call.given];
            let is_given = |name: &String| {
                task.config.contains_key(name)
                    || lists.iter().any(|list| list.iter().any(|p| p.name == *name))
            };
            for (name, slot) in &signature.inputs {
                if slot.is_needed && !is_given(name) {
                    judge.tell(call.pointer, &format!("needs the input {name:?}"));
                }
            }
        }
    }
}

/// One kind of work, and what is wrong with how it is asked for.
struct Judge<'a> {
    kind: &'a str,
    signature: &'a Signature,
    places: &'a HashMap<String, Place>,
    findings: &'a mut Findings,
}

impl Judge<'_> {
    fn tell(&mut self, pointer: &str, why: &str) -> &mut Finding {
        let at = self.places.get(pointer).copied().unwrap_or(Place { line: 1, column: 1 });
        let what = format!("work of kind {:?} {why}", self.kind);
        self.findings.add("E-EXECUTOR-SCHEMA", pointer, at, what)
    }

    /// The type of an input; nothing, and a finding, where there is none.
    fn input(&mut self, pointer: &str, name: &str) -> Option<Type> {
        let known = &self.signature.inputs;
        if let Some(slot) = known.get(name) {
            return Some(slot.of_type);
        }
        let hint = did_you_mean(name, known.keys().map(String::as_str));
        self.tell(pointer, &format!("has no input {name:?}")).hint(hint);
        None
    }

    fn value(&mut self, pointer: &str, name: &str, value: &Value) {
        let Some(of_type) = self.input(pointer, name) else { return };
        if !has_placeholder(value) && !of_type.admits(value) {
            self.tell(pointer, &format!("takes {name:?} as {}", of_type.name()));
        }
    }

    fn parameters(&mut self, pointer: &str, list: &[Parameter]) {
        for parameter in list {
            let name = &parameter.name;
            let Some(of_type) = self.input(pointer, name) else { continue };
            if !of_type.meets(parameter.of_type) {
                let (theirs, ours) = (of_type.name(), parameter.of_type.name());
                self.tell(pointer, &format!("takes {name:?} as {theirs}, not {ours}"));
            }
            if let Source::Value(value) = &parameter.source {
                self.value(pointer, name, value);
            }
        }
    }

    fn outputs(&mut self, pointer: &str, list: &[Parameter]) {
        for output in list {
            let name = &output.name;
            let known = &self.signature.outputs;
            match known.get(name) {
                Some(slot) if slot.of_type.meets(output.of_type) => {}
                Some(slot) => {
                    let (theirs, ours) = (slot.of_type.name(), output.of_type.name());
                    let why = format!("brings {name:?} as {theirs}, not {ours}");
                    self.tell(pointer, &why);
                }
                None => {
                    let hint = did_you_mean(name, known.keys().map(String::as_str));
                    self.tell(pointer, &format!("has no output {name:?}")).hint(hint);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_printed_the_same() {
        let given = json!({ "deploy": {
            "inputs": { "dry-run": "bool?", "target": "string" }, "outputs": { "url": "string" },
        } });
        let signatures = read(&given).unwrap();
        assert!(signatures["deploy"].inputs["target"].is_needed);
        assert!(!signatures["deploy"].inputs["dry-run"].is_needed);
        assert_eq!(print(&signatures), given);
        for wrong in [
            json!([]),
            json!({ "a": 1 }),
            json!({ "a": { "input": {} } }),
            json!({ "a": { "inputs": { "x": "text" } } }),
            json!({ "a": { "inputs": { "x": 1 } } }),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }
}
