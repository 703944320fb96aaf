//! One run: its journal, what its records name, and what stands in its directory.
//!
//! May not lock or write. Invariant: a run is judged by its journal alone; whatever else stands
//! there is compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::codecs::event::{Event, Record};
use crate::ground::digest::Digest;
use crate::ground::id::RunId;
use crate::ground::limits::QUARANTINE_BYTES_WARN;
use crate::machines::replay::state::RunState;
use crate::ports::disk::{self, Dir, FileKind};
use crate::services::repair::judge::{Judged, Reading, judge};
use crate::services::repair::remedy;
use crate::services::runs::Error;
use crate::services::runs::trouble::case_next;
use crate::shells::commit_log::overlay::Overlay;
use crate::shells::journal::scan::{Case, Finding, Verdict};
use crate::shells::run_dir::code;
use crate::shells::run_dir::dir::{RUN_LOCK, RunDir};
use crate::shells::run_dir::lock::{self, State};

use super::defect::{Defect, Flaw, Severity};
use super::derived;

/// What dormouse makes in the directory of a run.
const OURS: &[&str] = &[
    "run.json",
    "inputs.json",
    RUN_LOCK,
    "journal",
    "tasks",
    "state",
    "blobs",
    "process",
    "quarantine",
    "workspace",
];

/// What a check of one run found.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// What is wrong.
    pub(super) defects: Vec<Defect>,
    /// The fold of its journal, unless that is damaged.
    pub(super) state: Option<RunState>,
    /// Records that verify.
    pub(super) records: u64,
    /// Bytes that were read.
    pub(super) bytes: u64,
}

/// What is known about the root that a run stands in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    /// What the commit log holds beyond the journals.
    pub(super) log: &'a Overlay,
    /// Nobody owes the run a file: no daemon has it, and none died with it.
    pub(super) is_at_rest: bool,
}

/// Checks one run.
pub(super) fn check(dir: &RunDir, around: Around) -> Checked {
    let mut judged = judge(dir, &Reading::Over(around.log));
    let help = remedy(dir, &judged, dir.id().as_str());
    let records = judged.scan.records.iter().cloned().map(Arc::new).collect();
    let names = dir.dir().list().unwrap_or_default();
    let mut run = Run { dir, names, records, state: judged.state.take() };
    let mut checked = Checked { records: judged.scan.head.seq.0, ..Checked::default() };
    checked.bytes = judged.scan.segments.iter().map(|segment| segment.bytes).sum();
    let defects = &mut checked.defects;
    of_verdict(&judged, help.as_deref(), defects);
    let is_damaged = judged.scan.verdict() >= Verdict::Damaged;
    if !is_damaged {
        checked.bytes += run.blobs(defects);
        run.code(defects);
        if let Some(state) = run.state.as_ref().filter(|_| around.is_at_rest) {
            derived::check(dir, &run.records, state, defects);
        }
    }
    run.surroundings(defects);
    if around.is_at_rest {
        run.note(defects);
    }
    for defect in defects {
        defect.run_id = Some(dir.id().clone());
    }
    checked.state = run.state.take().filter(|_| !is_damaged);
    checked
}

/// What the verdict says of the journal and of what stands beside it.
fn of_verdict(judged: &Judged, help: Option<&str>, defects: &mut Vec<Defect>) {
    let found = |finding: &Finding| {
        let Finding { case, offset, why, .. } = finding.clone();
        let in_journal = case < Case::J50 && !finding.file.is_empty();
        let above = if in_journal { "journal/" } else { "" };
        Defect::of_case(case, format!("{above}{}", finding.file), offset, why)
    };
    let main = Some(&judged.scan.main).filter(|main| main.case != Case::J00);
    for wrong in main.into_iter().chain(&judged.beside) {
        let defect = found(wrong);
        defects.push(match help.filter(|_| defect.severity > Severity::Note) {
            Some(help) => defect.next(help),
            None => defect,
        });
    }
    let is_main = |note: &&Finding| **note == judged.scan.main;
    defects.extend(judged.scan.notes.iter().filter(|note| !is_main(note)).map(found));
}

struct Run<'a> {
    dir: &'a RunDir,
    /// What stands in it.
    names: Vec<String>,
    records: Vec<Arc<Record>>,
    state: Option<RunState>,
}

impl Run<'_> {
    /// D10, D11: gives the bytes of the blobs that records name.
    fn blobs(&self, defects: &mut Vec<Defect>) -> u64 {
        let blobs = self.records.iter().flat_map(|record| record.event.blobs());
        let named: BTreeMap<Digest, u64> = blobs.map(|blob| (blob.digest, blob.bytes)).collect();
        for name in self.dir.list_relative("blobs").unwrap_or_default() {
            let file = format!("blobs/{name}");
            match format!("b3:{name}").parse::<Digest>() {
                _ if disk::is_temporary(&name) => defects.push(left_over(file)),
                Ok(digest) if named.contains_key(&digest) => {}
                Ok(_) => {
                    let why = "it was stored, and what should have named it was never written";
                    defects.push(Defect::of(Flaw::D10, file, why));
                }
                Err(_) => {
                    defects.push(Defect::of(Flaw::D11, file, "dormouse did not put it there"));
                }
            }
        }
        named.values().sum()
    }

    /// D18.
    fn code(&self, defects: &mut Vec<Defect>) {
        let assigned = self.records.iter().filter_map(|record| match &record.event {
            Event::RunCreated(created) => created.process.as_ref(),
            Event::ProcessAssigned(assigned) => Some(&assigned.process),
            _ => None,
        });
        let named: BTreeSet<String> =
            assigned.flat_map(|process| code::places(&process.digest)).collect();
        for name in &self.names {
            if is_code(name) && !named.contains(name) {
                let why = "left by a change of code that was not carried out";
                defects.push(Defect::of(Flaw::D18, name, why));
            }
        }
    }

    /// D12, D14, D16, D17: what stands in the directory.
    fn surroundings(&self, defects: &mut Vec<Defect>) {
        for name in &self.names {
            if disk::is_temporary(name) {
                defects.push(left_over(name.clone()));
            } else if !OURS.contains(&name.as_str()) && !is_code(name) {
                defects.push(Defect::of(Flaw::D12, name, "dormouse did not put it there"));
            }
        }
        let mut left = ENTRIES_MAX;
        let mut set_aside = 0;
        for name in ["blobs", "process", "quarantine", "state", "tasks"] {
            let Ok(dir) = self.dir.dir().open_dir(name) else { continue };
            let bytes = self.open_to_others(&dir, name, &mut left, defects);
            if name == "quarantine" {
                set_aside = bytes;
            }
        }
        if set_aside > QUARANTINE_BYTES_WARN {
            let why = format!("{set_aside} bytes; nothing removes them by itself");
            defects.push(Defect::of(Flaw::D16, "quarantine", why));
        }
    }

    /// D17 below a directory: the first of each; gives the bytes of its files.
    fn open_to_others(
        &self,
        dir: &Arc<dyn Dir>,
        path: &str,
        left: &mut u32,
        defects: &mut Vec<Defect>,
    ) -> u64 {
        let mut bytes = 0;
        let mut is_said = false;
        for name in dir.list().unwrap_or_default() {
            let Some(rest) = left.checked_sub(1) else { return bytes };
            *left = rest;
            let Ok(stat) = dir.stat(&name) else { continue };
            let file = format!("{path}/{name}");
            let is_open = stat.kind != FileKind::Symlink && stat.mode & 0o022 != 0;
            if is_open && !std::mem::replace(&mut is_said, true) {
                let fix = format!("chmod -R go-w {}", self.dir.path().join(path).display());
                defects.push(Defect::of(Flaw::D17, &file, "its mode lets others write").next(fix));
            }
            if disk::is_temporary(&name) && path != "blobs" {
                defects.push(left_over(file.clone()));
            }
            bytes += stat.bytes;
            if stat.kind == FileKind::Dir
                && let Ok(inner) = dir.open_dir(&name)
            {
                bytes += self.open_to_others(&inner, &file, left, defects);
            }
        }
        bytes
    }

    /// D15.
    fn note(&self, defects: &mut Vec<Defect>) {
        let note = lock::read_note(&**self.dir.dir(), RUN_LOCK);
        if let Some(note) = note.filter(|note| note.state == State::Open) {
            let why = format!("{}; the next writer looks twice", note.describe());
            defects.push(Defect::of(Flaw::D15, RUN_LOCK, why));
        }
    }
}

/// Files and folders of one run that are looked at: more are somebody's joke.
const ENTRIES_MAX: u32 = 1_000_000;

fn is_code(name: &str) -> bool {
    name == "process" || name.strip_prefix("process-").is_some_and(|rest| rest.len() == 16)
}

fn left_over(file: String) -> Defect {
    Defect::of(Flaw::D14, file, "somebody died while writing a file; it may be removed")
}

/// A run whose directory cannot even be opened.
pub(super) fn unread(id: &RunId, error: &Error) -> Checked {
    let case = if error.trouble().code == "J61" { Case::J61 } else { Case::J60 };
    let defect = Defect::of_case(case, String::new(), 0, error.to_string());
    let defects = vec![defect.next(case_next(case)).in_run(id)];
    Checked { defects, ..Checked::default() }
}
