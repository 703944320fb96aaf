//! Workflow documents of runs: what is wrong with them is said before anything is created.
//!
//! May not run them. Invariant: a document with an error, or inputs that do not fit it, make no
//! run.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::create::load_process;
use super::drive::Stage;
use super::dry::loaded;
use super::open::SeenRun;
use super::trouble::Trouble;
use super::{Error, Result, Runs};
use crate::codecs::event::Profile;
use crate::codecs::json::Json;
use crate::codecs::outline::Notation;
use crate::codecs::turn::Start;
use crate::ground::id::EffectId;
use crate::machines::effect::life::EffectStatus;
use crate::machines::replay::engine::{Action, Input};
use crate::machines::replay::state::RunState;
use crate::machines::workflow::finding::Finding;
use crate::machines::workflow::plan::{Begin, Planner, arguments};
use crate::machines::workflow::read::{Reading, read};
use crate::machines::workflow::snapshot::{Known, snapshot};
use crate::shells::pin::PinnedGraph;

/// Checks the document of a process, if it is one, and the inputs for it. Gives its warnings.
pub(super) fn check(graph: &PinnedGraph, inputs: Option<&Json>) -> Result<Vec<String>> {
    if graph.api != Profile::Workflow {
        return Ok(Vec::new());
    }
    let (reading, text) = document(graph)?;
    let entry = &graph.entry;
    let told = |finding: &Finding| finding.print(entry, &text);
    if !reading.is_valid() {
        let errors: Vec<String> =
            reading.findings.iter().filter(|finding| finding.is_error()).map(told).collect();
        let what = format!("the workflow document cannot be run\n{}", errors.join("\n\n"));
        let trouble = Trouble::new("workflow_invalid", what)
            .next(format!("dormouse workflow validate {entry}"))
            .fact("findings", json!(reading.findings));
        return Err(Error::Refused(trouble));
    }
    let given = inputs.map(Json::to_value);
    arguments(&reading.workflow, given.as_ref()).map_err(|errors| {
        let what = format!("the inputs do not fit the workflow document: {}", errors.join("; "));
        let errors: Vec<Value> = errors.into_iter().map(Value::from).collect();
        Error::Refused(Trouble::new("workflow_inputs", what).fact("errors", errors))
    })?;
    Ok(reading.findings.iter().map(told).collect())
}

/// The document of a pinned process, and its text.
pub(super) fn document(graph: &PinnedGraph) -> Result<(Reading, String)> {
    let file = graph.file(&graph.entry);
    let text = file.map(|file| String::from_utf8_lossy(&file.bytes).into_owned());
    let (Some(text), Some(notation)) = (text, Notation::of(&graph.entry)) else {
        let what = format!("{:?} is no workflow document", graph.entry);
        return Err(Error::Refused(Trouble::new("workflow_invalid", what)));
    };
    Ok((read(&text, notation), text))
}

impl Runs {
    /// Where a run of a workflow document stands, task run by task run: its journal is replayed by
    /// a planner that forgets nothing.
    pub fn snapshot(&self, seen: &SeenRun) -> Result<Value> {
        let process = seen.state.process.clone().filter(|p| p.api == Profile::Workflow);
        let Some(process) = process else {
            let what = format!("run {} is not of a workflow document", seen.dir.id());
            let trouble = Trouble::new("not_a_workflow", what);
            return Err(Error::Refused(
                trouble.next(format!("dormouse run show {}", seen.dir.id())),
            ));
        };
        let graph = load_process(&seen.dir, &process)?;
        let flow = Arc::new(document(&graph)?.0.workflow);
        let stage = Stage::new(self, &seen.dir, None, false);
        let mut engine = loaded(&seen.records)?;
        let mut planner = None;
        let mut input = Input::Poll;
        loop {
            let action =
                engine.handle(self.clock.now(), std::mem::replace(&mut input, Input::Poll))?;
            match (action, &mut planner) {
                (Some(Action::Start(plan)), _) => {
                    let start = stage.start(&plan, &graph, &process)?;
                    planner = Some(begin(&flow, start)?);
                    input = Input::Started;
                }
                (Some(Action::Turn(plan)), Some(planner)) => {
                    input = Input::Turned(planner.turn(&stage.turn(&plan)?));
                }
                (None, _) => {}
                (Some(_), _) => break,
            }
        }
        let Some(planner) = planner else {
            let what = format!("run {} has not begun", seen.dir.id());
            return Err(Error::Refused(Trouble::new("not_a_workflow", what)));
        };
        let mut value = snapshot(&planner, &|ordinal| known(&seen.state, ordinal));
        value["x-dormouse"]["journalHead"] = seen.state.head.seq.0.into();
        value["x-dormouse"]["strictness"] = "strict".into();
        value["x-dormouse"]["diverged"] = engine.divergence().is_some().into();
        Ok(value)
    }
}

/// A planner that forgets nothing.
fn begin(flow: &Arc<crate::machines::workflow::model::Workflow>, start: Start) -> Result<Planner> {
    let known: HashMap<String, u32> =
        start.known.into_iter().map(|known| (known.key, known.ordinal)).collect();
    Planner::new(Begin {
        flow: Arc::clone(flow),
        run_id: start.run_id,
        run_dir: start.run_dir,
        created_micros: start.clock_micros,
        inputs: start.inputs.as_ref().map(Json::to_value),
        next_ordinal: start.next_ordinal,
        known,
        keeps: true,
    })
    .map_err(|errors| Error::Refused(Trouble::new("workflow_inputs", errors.join("; "))))
}

/// What the journal knows of an effect.
fn known(state: &RunState, ordinal: u32) -> Known {
    let Some(effect) = state.effect(EffectId::new(ordinal)) else { return Known::default() };
    Known {
        is_started: effect.status == EffectStatus::Started,
        is_uncertain: effect.status == EffectStatus::Uncertain,
        attempts: effect.attempts,
    }
}
