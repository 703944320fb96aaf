//! Derived files of a run: task files, state for people, the state cache, logs.
//!
//! May not be relied upon. Invariant: a failure to write one of them changes nothing about the run.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::codecs::event::{Event, Payload, Record};
use crate::codecs::json::Json;
use crate::codecs::turn::{LogLine, TurnInput};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Seq};
use crate::machines::replay::state::RunState;
use crate::shells::run_dir::dir::{FORMAT_VERSION, RunDir, RunJson, pretty};

use super::open::{OpenRun, SeenRun, value_of};
use super::{Runs, view};

/// After a record is durable: the files of its effect, for whoever works on it.
pub(super) fn after_append(run: &OpenRun, record: &Arc<Record>) {
    let files =
        Files { dir: run.dir.clone(), records: files_of(run, std::slice::from_ref(record)) };
    files.write();
}

/// Files that follow from records, to be written by whoever has the time.
pub struct Files {
    dir: RunDir,
    records: Vec<Arc<Record>>,
}

impl OpenRun {
    /// The files that follow from the records after `seq`: of effects that wait for somebody
    /// outside, and of those that have stopped to since.
    #[must_use]
    pub fn files_since(&self, seq: Seq) -> Files {
        let from = usize::try_from(seq.0).unwrap_or(usize::MAX).min(self.records().len());
        let state = self.state();
        let wanted = files_of(self, &self.records()[from..]).into_iter().filter(|record| {
            let effect = record.event.effect_id().and_then(|id| state.effect(id));
            match (&record.event, effect) {
                // Nobody needs the definition of what is over.
                (Event::EffectRequested(_), Some(effect)) => effect.status.is_open(),
                (Event::EffectResolved(_), Some(effect)) => effect.requested_seq <= seq,
                _ => true,
            }
        });
        Files { dir: self.dir.clone(), records: wanted.collect() }
    }
}

/// The records that have files.
fn files_of(run: &OpenRun, records: &[Arc<Record>]) -> Vec<Arc<Record>> {
    let outside = |id| run.state().effect(id).is_some_and(|e| e.wait.is_postable());
    let wanted = |record: &&Arc<Record>| match &record.event {
        Event::EffectRequested(asked) => outside(asked.effect_id),
        Event::EffectResolved(_) | Event::ProcessAssigned(_) => true,
        _ => false,
    };
    records.iter().filter(wanted).cloned().collect()
}

impl Files {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Writes them. Best effort by definition: a full disk here must not fail what is durable.
    pub fn write(&self) {
        for record in &self.records {
            let _ = self.write_one(record);
        }
    }

    fn write_one(&self, record: &Record) -> super::Result<()> {
        for file in task_files(&self.dir, record)? {
            self.dir.write_task_file(file.effect, file.name, &file.bytes)?;
        }
        if let Event::ProcessAssigned(assigned) = &record.event
            && let Some(json) = self.dir.run_json()
        {
            let process = Some(assigned.process.clone());
            self.dir.write_run_json(&RunJson { process, ..json })?;
        }
        Ok(())
    }
}

/// A file in the folder of a task.
pub struct TaskFile {
    /// The task.
    pub effect: EffectId,
    /// Its name.
    pub name: &'static str,
    /// What it has to say.
    pub bytes: Vec<u8>,
}

/// The files that follow from a record. A value that cannot be had is not written as if it were
/// null: then there are none.
pub fn task_files(dir: &RunDir, record: &Record) -> super::Result<Vec<TaskFile>> {
    let load = |p: Option<Payload>| p.map(|p| value_of(dir, &p)).transpose();
    match &record.event {
        Event::EffectRequested(asked) => {
            let args = load(Payload::join(asked.args.as_ref(), asked.args_blob.as_ref()))?;
            let def = load(Payload::join(asked.def.as_ref(), asked.def_blob.as_ref()))?;
            let task = json!({
                "effectId": asked.effect_id, "invocationKey": asked.key, "kind": asked.kind,
                "taskId": asked.task_id, "title": asked.title, "label": asked.label,
                "labels": asked.labels, "requestedAt": record.at, "definition": def,
                "args": args,
            });
            let inputs = line(&args.unwrap_or_else(Json::null)).into_bytes();
            let effect = asked.effect_id;
            Ok(vec![
                TaskFile { effect, name: "inputs.json", bytes: inputs },
                TaskFile { effect, name: "task.json", bytes: pretty(&task) },
            ])
        }
        Event::EffectResolved(done) => {
            let value = load(Payload::join(done.value.as_ref(), done.value_blob.as_ref()))?;
            let result = json!({
                "effectId": done.effect_id, "status": done.status, "value": value,
                "error": done.error, "recordedAt": record.at, "by": done.by,
            });
            let (effect, bytes) = (done.effect_id, pretty(&result));
            Ok(vec![TaskFile { effect, name: "result.json", bytes }])
        }
        _ => Ok(Vec::new()),
    }
}

/// What `run.json` has to say of a run.
#[must_use]
pub fn run_json(state: &RunState) -> RunJson {
    RunJson {
        run_id: state.run_id.clone(),
        format_version: FORMAT_VERSION,
        created_at: state.created_at,
        process: state.process.clone(),
        parent: state.parent.clone(),
        cwd: state.cwd.clone(),
        tags: state.tags.clone(),
        non_interactive: state.non_interactive,
        forked_from: state.origin.as_ref().map(|origin| origin.from.clone()),
    }
}

/// The inputs that a run has by now; nothing for one that was never given any.
#[must_use]
pub fn inputs(records: &[Arc<Record>]) -> Option<Payload> {
    records.iter().rev().find_map(|record| match &record.event {
        Event::RunCreated(e) => Payload::join(e.inputs.as_ref(), e.inputs_blob.as_ref()),
        Event::ProcessAssigned(e) => Payload::join(e.inputs.as_ref(), e.inputs_blob.as_ref()),
        _ => None,
    })
}

fn line(json: &Json) -> String {
    format!("{}\n", json.as_str())
}

/// When a command is done with a run: the summary for people and the cache for programs.
pub(super) fn at_close(run: &OpenRun) {
    let _ = write_state(run);
}

impl Runs {
    /// Makes everything derived anew: `run.json`, `inputs.json`, `state/`, `tasks/`.
    pub fn rebuild_state(&self, reference: &str) -> super::Result<SeenRun> {
        let run = self.open(reference)?;
        let dir = run.dir.clone();
        let rebuilt = run.rebuild();
        run.close_after(rebuilt)?;
        self.look_dir(dir)
    }
}

impl OpenRun {
    /// Makes everything derived anew: `run.json`, `inputs.json`, `state/`, `tasks/`.
    pub fn rebuild(&self) -> super::Result<()> {
        self.dir.forget_state()?;
        for record in self.records() {
            after_append(self, record);
        }
        self.dir.write_run_json(&run_json(self.state()))?;
        if let Some(inputs) = inputs(self.records()) {
            self.dir.write_inputs(&self.value(&inputs)?)?;
        }
        write_state(self)
    }
}

/// Writes `state/`.
pub(super) fn write_state(run: &OpenRun) -> super::Result<()> {
    run.dir.write_state(&pretty(&state_json(run)))?;
    let bytes = rmp_serde::to_vec_named(run.state()).unwrap_or_default();
    run.dir.write_cache(run.state().head, &bytes)?;
    Ok(())
}

fn state_json(run: &OpenRun) -> Value {
    let state = run.state();
    json!({
        "runId": state.run_id, "state": view::state_name(state),
        "nativeState": view::native_state(state), "generation": state.generation,
        "head": state.head, "lastAt": state.last_at, "pendingByKind": view::pending_by_kind(state),
        "pending": state.open_effects().map(|e| json!({
            "effectId": e.id, "invocationKey": e.key, "kind": e.kind, "status": e.status.name(),
            "requestedAt": e.requested_at,
        })).collect::<Vec<_>>(),
        "wakeAt": run.wake_at(),
    })
}

/// Appends what a process logged in one live turn.
pub(super) fn keep_logs(dir: &RunDir, turn: &TurnInput, logs: &[LogLine]) {
    let at = Timestamp::from_micros(turn.clock_micros);
    let lines: Vec<Json> = logs
        .iter()
        .map(|log| {
            let mut value = serde_json::to_value(log).unwrap_or_default();
            value["at"] = json!(at);
            Json::of(&value)
        })
        .collect();
    let _ = dir.append_logs(Seq(turn.seq), &lines);
}

/// The report of a divergence, beside the state, where the record's digest points to.
pub(super) fn divergence(run: &OpenRun) {
    if let Some(found) = run.engine().divergence() {
        let text = pretty(&view::divergence_report(&run.dir, run.state(), found));
        let _ = run.dir.put_relative("state/divergence.json", &text);
    }
}
