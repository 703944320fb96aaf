//! A snapshot: where a run of a document stands, task run by task run.
//!
//! May not know records. Invariant: a snapshot shows every task run once, in the order in which
//! they were made.

use serde_json::{Map, Value, json};

use super::model::{Body, Parameter};
use super::plan::Planner;
use super::plan::unit::{Phase, Scope, Unit};
use super::span;
use crate::codecs::turn::Standing;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::EffectId;

/// The snapshot of a run. `known` looks effects up.
#[must_use]
pub fn snapshot(planner: &Planner, known: &dyn Fn(u32) -> Standing) -> Value {
    let (over, all) = planner.progress();
    let phases = phases(planner, known);
    let running = phases.contains(&Phase::Running) || phases.contains(&Phase::Suspended);
    let (status, message) = match planner.end() {
        Some((phase, message)) => (phase.word(), message),
        None if all == 0 => (Phase::Created.word(), ""),
        None if running => (Phase::Running.word(), ""),
        None => (Phase::Ready.word(), ""),
    };
    let tasks: Vec<Value> = planner
        .units
        .iter()
        .zip(&phases)
        .map(|(unit, phase)| task(planner, unit, *phase, known))
        .collect();
    let hooks = planner.hooked.iter().map(|hook| {
        let effect = hook.effect.map(|n| EffectId::new(n).to_string());
        let (key, over, problem) = (&hook.key, hook.is_over, &hook.problem);
        json!({ "key": key, "effectId": effect, "over": over, "problem": problem })
    });
    let hooks: Vec<Value> = hooks.collect();
    let parked: Vec<&str> = planner
        .units
        .iter()
        .zip(&phases)
        .filter(|(unit, phase)| {
            let uncertain = unit.effect.is_some_and(|n| known(n).is_uncertain);
            **phase == Phase::Suspended && matches!(unit.scope, Scope::Leaf) || uncertain
        })
        .map(|(unit, _)| unit.path.as_str())
        .collect();
    let flow = &planner.flow;
    let declared = flow.templates.get(flow.entry).map_or(&[][..], |entry| &entry.outputs);
    json!({
        "runID": planner.run_id,
        "workflow": { "name": flow.name, "namespace": flow.namespace },
        "status": status,
        "message": message,
        "progress": if all == 0 { String::new() } else { format!("{over}/{all}") },
        "createdAt": time(planner.created_micros),
        "outputs": { "phase": status, "parameters": parameters(&planner.run_outputs(), declared) },
        "tasks": tasks,
        "x-dormouse": {
            "strictness": if flow.is_lenient { "lenient" } else { "strict" },
            "parked": parked, "hooks": hooks, "notReached": not_reached(planner),
        },
    })
}

/// The phases of all task runs, with what only the journal knows.
fn phases(planner: &Planner, known: &dyn Fn(u32) -> Standing) -> Vec<Phase> {
    let shown = |unit: &Unit| match unit.phase {
        Phase::Ready if unit.effect.is_some_and(|n| known(n).is_started) => Phase::Running,
        phase => phase,
    };
    planner.units.iter().map(shown).collect()
}

fn task(planner: &Planner, unit: &Unit, phase: Phase, known: &dyn Fn(u32) -> Standing) -> Value {
    let template = &planner.flow.templates[unit.template];
    let parent = unit.parent.map(|parent| &planner.units[parent]);
    let scope = match (parent, &unit.round) {
        (Some(parent), Some(round)) => format!("{}.loop[{}]/", parent.name, round.index),
        (Some(parent), None) => format!("{}/", parent.name),
        (None, _) => String::new(),
    };
    let effect = unit.last_effect.map(|n| EffectId::new(n).to_string());
    let attempts = unit
        .last_effect
        .map_or(0, |n| known(n).attempts)
        .max(u32::from(unit.started_micros.is_some()));
    let outputs = phase.is_terminal().then(|| {
        let parameters = parameters(&unit.outputs, &template.outputs);
        json!({ "phase": phase.word(), "code": unit.code, "parameters": parameters })
    });
    json!({
        "runID": task_run_id(planner, &unit.path),
        "workflowRunID": planner.run_id,
        "parentRunID": parent.map_or(String::new(), |parent| task_run_id(planner, &parent.path)),
        "depth": unit.depth,
        "scope": scope,
        "taskName": unit.name,
        "templateName": template.name,
        "templateType": template.body.word(),
        "createdAt": time(unit.created_micros),
        "status": phase.word(),
        "message": unit.message,
        "inputs": { "parameters": parameters(&unit.inputs, &template.inputs) },
        "outputs": outputs,
        "metrics": unit.finished_micros.map(|at| metrics(unit, at)),
        "retryCount": unit.retries,
        "x-dormouse": {
            "path": unit.path, "effectId": effect, "attempt": attempts, "notes": unit.notes,
        },
    })
}

fn metrics(unit: &Unit, finished: i64) -> Value {
    let began = unit.started_micros;
    let took = u64::try_from((finished - began.unwrap_or(finished)).max(0) / 1_000).unwrap_or(0);
    json!({
        "startedAt": began.map(time), "finishedAt": time(finished),
        "duration": span::print(took), "retries": unit.retries,
    })
}

fn time(micros: i64) -> String {
    Timestamp::from_micros(micros).to_string()
}

/// The name of a task run in other tools: a function of run and path.
fn task_run_id(planner: &Planner, path: &str) -> String {
    let digest = Digest::of(format!("{}\0{path}", planner.run_id).as_bytes());
    format!("tr-{}", &digest.hex()[..20])
}

/// Values as a list, each with the author's word for its type.
fn parameters(values: &Map<String, Value>, declared: &[Parameter]) -> Value {
    let one = |(name, value): (&String, &Value)| {
        let word = declared.iter().find(|p| p.name == *name).and_then(|p| p.word.as_deref());
        json!({ "name": name, "type": word.unwrap_or(""), "value": value })
    };
    values.iter().map(one).collect()
}

/// Tasks that will never begin, of dags that are over.
fn not_reached(planner: &Planner) -> Vec<String> {
    let mut out = Vec::new();
    for unit in planner.units.iter().filter(|unit| unit.phase.is_terminal()) {
        let Body::Dag(dag) = &planner.flow.templates[unit.template].body else { continue };
        let Scope::Dag(scope) = &unit.scope else { continue };
        let missing = scope.children.iter().zip(&dag.nodes).filter(|(child, _)| child.is_none());
        out.extend(missing.map(|(_, node)| format!("{}/{}", unit.path, node.name)));
    }
    out
}
