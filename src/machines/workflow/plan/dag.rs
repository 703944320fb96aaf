//! Dags: tasks begin as soon as what they wait for is over.
//!
//! May not know what tasks do. Invariant: a task begins at most once, and only after all that it
//! depends on ended in a way that lets it go on.

use serde_json::Map;

use super::bind::{fallback, sourced, weight};
use super::seen::{Own, Seen};
use super::unit::{DagScope, Phase, Round, Scope, Tally};
use super::{Outcome, Planner};
use crate::machines::workflow::expression::Expression;
use crate::machines::workflow::model::{Conditions, Dag};
use crate::machines::workflow::values::misfit;

impl Planner {
    pub(super) fn open_dag(&mut self, id: usize, dag: &Dag) {
        let waits: Vec<usize> = dag.nodes.iter().map(|node| node.dependencies.len()).collect();
        let ready: Vec<usize> =
            (0..dag.nodes.len()).filter(|i| waits[*i] == 0 && dag.nodes[*i].is_live).collect();
        let children = vec![None; dag.nodes.len()];
        self.units[id].scope = Scope::Dag(DagScope { children, waits, ..DagScope::default() });
        for node in ready {
            self.open_node(id, dag, node);
        }
        self.close_dag_if_over(id);
    }

    fn open_node(&mut self, dag_unit: usize, dag: &Dag, i: usize) {
        let node = &dag.nodes[i];
        let path = format!("{}/{}", self.units[dag_unit].path, node.name);
        let unit = self.child(dag_unit, path, &node.name, node.template);
        let made = self.create(super::Unit { node: Some(i), ..unit });
        if let (Some(made), Scope::Dag(scope)) = (made, &mut self.units[dag_unit].scope) {
            scope.children[i] = Some(made);
            scope.live.insert(made);
        }
    }

    pub(super) fn dag_child_over(&mut self, id: usize, child: usize, dag: &Dag) {
        let Some(i) = self.units[child].node else { return };
        let phase = self.units[child].phase;
        let node = &dag.nodes[i];
        let satisfied = phase.satisfies(node.tolerance.unwrap_or(dag.tolerance));
        let mut ready = Vec::new();
        if let Scope::Dag(scope) = &mut self.units[id].scope {
            scope.tally.count(phase, satisfied);
            for dependent in dag.dependents[i].iter().filter(|_| satisfied) {
                self.looks.set(self.looks.get() + 1);
                scope.waits[*dependent] -= 1;
                if scope.waits[*dependent] == 0 && dag.nodes[*dependent].is_live {
                    ready.push(*dependent);
                }
            }
        }
        for node in ready {
            self.open_node(id, dag, node);
        }
        self.close_dag_if_over(id);
    }

    fn close_dag_if_over(&mut self, id: usize) {
        let unit = &self.units[id];
        let Scope::Dag(scope) = &unit.scope else { return };
        if !scope.live.is_empty() || unit.phase.is_terminal() {
            return;
        }
        let tally = scope.tally;
        let children: Vec<usize> = scope.children.iter().copied().flatten().collect();
        self.close_container(id, tally.phase(), &tally);
        for child in children {
            self.release(child);
        }
    }

    /// The outputs of something that is over, its conditions, its end.
    pub(super) fn close_container(&mut self, id: usize, base: Phase, tally: &Tally) {
        let flow = std::sync::Arc::clone(&self.flow);
        let template = &flow.templates[self.units[id].template];
        let mut outputs = std::mem::take(&mut self.units[id].outputs);
        let mut notes = Vec::new();
        let mut outcome = Outcome { phase: base, message: tally.message(), ..Outcome::default() };
        let seen = Seen::inside(self, id);
        let is_dag = matches!(self.units[id].scope, Scope::Dag(_));
        for output in &template.outputs {
            let sourced = match sourced(output, &seen, None).map(|v| v.filter(|v| !v.is_null())) {
                Ok(value) if is_dag => value,
                Ok(_) => outputs.shift_remove(&output.name),
                Err(why) => {
                    notes.push(format!("{}: {why}", output.name));
                    None
                }
            };
            let value = sourced.or_else(|| fallback(output, &seen));
            let Some(value) = value else {
                notes.push(format!("{} has no value", output.name));
                continue;
            };
            if let Some(why) = misfit(output.of_type, &output.choices, &value) {
                let why = format!("{} {why}", output.name);
                if !flow.is_lenient {
                    outcome = Outcome::fault("E-OUTPUT-TYPE", &why);
                    continue;
                }
                notes.push(why);
            }
            outputs.insert(output.name.clone(), value);
        }
        let exhausted = matches!(&self.units[id].scope, Scope::Loop(s) if s.is_exhausted);
        if exhausted && outcome.message.is_empty() {
            "the last permitted round was reached".clone_into(&mut outcome.message);
        }
        if base != Phase::Cancelled {
            // The conditions of a loop see its last round.
            let last = self.last_round(id);
            let round = last.as_ref().or(seen.round);
            let seen = Seen { is_exhausted: exhausted, round, ..seen };
            judge(&mut outcome, &outputs, &template.conditions, seen);
        }
        self.weigh(id, weight(&outputs));
        notes.append(&mut outcome.notes);
        let unit = &mut self.units[id];
        unit.outputs = outputs;
        for note in notes {
            unit.note(note);
        }
        self.finish(id, outcome.phase, None, outcome.message);
    }

    fn last_round(&self, id: usize) -> Option<Round> {
        let Scope::Loop(scope) = &self.units[id].scope else { return None };
        scope.last.and_then(|last| self.units[last].round.clone())
    }
}

/// What conditions make of an end.
pub(super) fn judge(
    outcome: &mut Outcome,
    outputs: &Map<String, serde_json::Value>,
    conditions: &Conditions,
    seen: Seen<'_>,
) {
    let asked: [(&Option<Expression>, i64); 3] =
        [(&conditions.succeeded, 0), (&conditions.failed, 2), (&conditions.error, 3)];
    let message = outcome.message.clone();
    let code = outcome.phase.code();
    let own = Own { phase: outcome.phase, code, message: &message, outputs };
    let seen = seen.with_own(own);
    for (condition, code) in asked {
        let Some(condition) = condition else { continue };
        match condition.holds(&seen) {
            Ok(false) => {}
            Ok(true) => {
                let Outcome { phase, code, .. } = Outcome::of_code(code, String::new());
                (outcome.phase, outcome.code) = (phase, code);
                return;
            }
            Err(why) if seen.planner.flow.is_lenient => {
                outcome.notes.push(format!("phaseConditions: {why}"));
            }
            Err(why) => {
                let Outcome { phase, code, message, .. } = Outcome::fault("E-COND", &why);
                (outcome.phase, outcome.code, outcome.message) = (phase, code, message);
                return;
            }
        }
    }
}
