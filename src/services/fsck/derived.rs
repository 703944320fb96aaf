//! Files of a run that follow from its journal, compared with it.
//!
//! May not judge a journal. Invariant: nothing here is damage: `run rebuild-state` makes all of it
//! again.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::codecs::event::Record;
use crate::ground::id::{EffectId, Seq};
use crate::ground::limits::VALUE_BYTES_MAX;
use crate::machines::replay::state::RunState;
use crate::ports::disk;
use crate::services::runs::derived::{inputs, run_json, task_files};
use crate::services::runs::open::value_of;
use crate::shells::run_dir::dir::{RunDir, pretty};

use super::defect::{Defect, Flaw, Severity};

/// Longest file that is compared: a value, twice, with its layout.
const FILE_BYTES_MAX: u64 = 4 * VALUE_BYTES_MAX as u64;

/// Compares what is derived with what it is derived from.
pub(super) fn check(
    dir: &RunDir,
    records: &[Arc<Record>],
    state: &RunState,
    defects: &mut Vec<Defect>,
) {
    let from = defects.len();
    of_run_json(dir, state, defects);
    of_inputs(dir, records, defects);
    of_tasks(dir, records, state, defects);
    of_cache(dir, records, state, defects);
    let rebuild = format!("dormouse run rebuild-state {}", dir.id());
    for defect in &mut defects[from..] {
        if defect.severity == Severity::Mendable {
            defect.next.push(rebuild.clone());
        }
    }
}

/// D01, D02.
fn of_run_json(dir: &RunDir, state: &RunState, defects: &mut Vec<Defect>) {
    match dir.run_json() {
        None => defects.push(Defect::of(Flaw::D01, "run.json", "")),
        Some(found) if found != run_json(state) => {
            let [found, wanted] =
                [found, run_json(state)].map(|json| serde_json::to_value(json).unwrap_or_default());
            let members = found.as_object().into_iter().chain(wanted.as_object()).flatten();
            let other: BTreeSet<&str> = members
                .filter(|(name, _)| found.get(name) != wanted.get(name))
                .map(|(name, _)| name.as_str())
                .collect();
            let other: Vec<&str> = other.into_iter().collect();
            let why = format!("other: {}", other.join(", "));
            defects.push(Defect::of(Flaw::D02, "run.json", why));
        }
        // A member under another name is passed over by whoever reads it.
        Some(found) if differs(dir, "run.json", &pretty(&found)).is_some() => {
            let why = "it says the same, but dormouse did not write it so";
            defects.push(Defect::of(Flaw::D02, "run.json", why));
        }
        Some(_) => {}
    }
}

/// D03.
fn of_inputs(dir: &RunDir, records: &[Arc<Record>], defects: &mut Vec<Defect>) {
    let Some(payload) = inputs(records) else { return };
    // A blob that cannot be had is a defect of its own.
    let Ok(wanted) = value_of(dir, &payload) else { return };
    let wanted = format!("{}\n", wanted.as_str());
    if let Some(why) = differs(dir, "inputs.json", wanted.as_bytes()) {
        defects.push(Defect::of(Flaw::D03, "inputs.json", why));
    }
}

/// D04, D09: files of tasks that are open must be there; of others, those that are there must be
/// right.
fn of_tasks(dir: &RunDir, records: &[Arc<Record>], state: &RunState, defects: &mut Vec<Defect>) {
    let known: BTreeSet<String> = state.effects.keys().map(EffectId::to_string).collect();
    let folders: BTreeSet<String> =
        dir.list_relative("tasks").unwrap_or_default().into_iter().collect();
    for record in records {
        let Some(effect) = record.event.effect_id().and_then(|id| state.effect(id)) else {
            continue;
        };
        let is_owed = effect.status.is_open() && effect.wait.is_postable();
        let has_folder = folders.contains(&effect.id.to_string());
        if !is_owed && !has_folder {
            continue;
        }
        for file in task_files(dir, record).unwrap_or_default() {
            let path = format!("tasks/{}/{}", file.effect, file.name);
            match differs(dir, &path, &file.bytes) {
                Some(Differs::Missing) if !is_owed => {}
                Some(why) => defects.push(Defect::of(Flaw::D04, path, why)),
                None => {}
            }
        }
    }
    for folder in folders.difference(&known) {
        let why = "the journal never asked for it";
        defects.push(Defect::of(Flaw::D09, format!("tasks/{folder}"), why));
    }
}

/// D05 to D08.
fn of_cache(dir: &RunDir, records: &[Arc<Record>], state: &RunState, defects: &mut Vec<Defect>) {
    let has = |name: &str| dir.read_relative(&format!("state/{name}"), FILE_BYTES_MAX).ok();
    if let Some(bytes) = has("state.json")
        && serde_json::from_slice::<serde_json::Value>(&bytes).is_err()
    {
        defects.push(Defect::of(Flaw::D07, "state/state.json", "it is no JSON"));
    }
    let file = "state/cache.mpk";
    let Some(cache) = dir.read_cache() else {
        if has("cache.mpk").is_some() {
            defects.push(Defect::of(Flaw::D05, file, "it is not whole, or of another version"));
        }
        return;
    };
    let there = |seq: Seq| usize::try_from(seq.0).ok()?.checked_sub(1).and_then(|i| records.get(i));
    match there(cache.head.seq) {
        Some(record) if record.sum != cache.head.sum => {
            let why = format!("it was made of another record {}", cache.head.seq);
            defects.push(Defect::of(Flaw::D06, file, why));
        }
        Some(_) if cache.head.seq < state.head.seq => {
            let why = format!("it stands at record {} of {}", cache.head.seq, state.head.seq);
            defects.push(Defect::of(Flaw::D08, file, why));
        }
        Some(_) => {
            let cached: Result<RunState, _> = rmp_serde::from_slice(&cache.bytes);
            if cached.is_ok_and(|cached| cached != *state) {
                let why = "folding the journal gives another state";
                defects.push(Defect::of(Flaw::D06, file, why));
            }
        }
        // A cache that is ahead is a witness: the journal is judged by it.
        None => {}
    }
}

/// How a file is not what it should be.
enum Differs {
    Missing,
    Other,
    Unreadable(disk::Error),
}

impl From<Differs> for String {
    fn from(differs: Differs) -> Self {
        match differs {
            Differs::Missing => "it is missing".into(),
            Differs::Other => "it says something else".into(),
            Differs::Unreadable(e) => e.to_string(),
        }
    }
}

fn differs(dir: &RunDir, path: &str, wanted: &[u8]) -> Option<Differs> {
    match dir.read_relative(path, FILE_BYTES_MAX) {
        Ok(found) if found == wanted => None,
        Ok(_) => Some(Differs::Other),
        Err(e) if e.is_not_found() => Some(Differs::Missing),
        Err(e) => Some(Differs::Unreadable(e)),
    }
}
