//! One run: its journal, what its records name, and what stands in its directory.
//!
//! May not lock or write. Invariant: a run is judged by its journal alone; whatever else stands
//! there is compared with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::codecs::event::{BlobRef, Event, Record};
use crate::ground::digest::Digest;
use crate::ground::id::RunId;
use crate::ground::limits::QUARANTINE_BYTES_WARN;
use crate::machines::replay::state::{IllegalEvent, RunState, fold};
use crate::ports::disk::{self, Dir, FileKind};
use crate::services::runs::Error;
use crate::services::runs::create::load_process;
use crate::services::runs::trouble::case_next;
use crate::shells::commit_log::overlay::Overlay;
use crate::shells::journal::plan::plan;
use crate::shells::journal::reader;
use crate::shells::journal::scan::{Case, Finding, Scan, Verdict};
use crate::shells::run_dir::blob;
use crate::shells::run_dir::code;
use crate::shells::run_dir::dir::{RUN_LOCK, RunDir};
use crate::shells::run_dir::lock::{self, State};

use super::defect::{Defect, Flaw};
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
    let (scan, state) = judge(dir, around.log);
    let mut run = Run { dir, records: scan.records.iter().cloned().map(Arc::new).collect(), state };
    let mut checked = Checked { records: scan.head.seq.0, ..Checked::default() };
    checked.bytes = scan.segments.iter().map(|segment| segment.bytes).sum();
    run.of_scan(&scan, &mut checked.defects);
    let defects = &mut checked.defects;
    if scan.verdict() < Verdict::Damaged {
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
    checked.state = run.state.take().filter(|_| scan.verdict() < Verdict::Damaged);
    checked
}

/// Reads and folds; a record that the fold refuses is damage as well (J24).
fn judge(dir: &RunDir, log: &Overlay) -> (Scan, Option<RunState>) {
    let scan = reader::read_over(dir, None, log);
    match fold(&scan.records) {
        Ok(state) => (scan, state),
        Err(IllegalEvent { seq, event_type, why }) => {
            let why = format!("record {seq}, {event_type}: {why}");
            (scan.refused_by_fold(seq, why), None)
        }
    }
}

struct Run<'a> {
    dir: &'a RunDir,
    records: Vec<Arc<Record>>,
    state: Option<RunState>,
}

impl Run<'_> {
    fn of_scan(&self, scan: &Scan, defects: &mut Vec<Defect>) {
        let mended = format!("dormouse run repair-journal {}", self.dir.id());
        let has_plan = plan(scan).is_some();
        let found = |finding: &Finding| {
            let in_journal = !matches!(finding.case, Case::J60 | Case::J61 | Case::J62);
            let file = match finding.file.as_str() {
                "" => String::new(),
                file if in_journal => format!("journal/{file}"),
                file => file.to_owned(),
            };
            Defect::of_case(finding.case, file, finding.offset, finding.why.clone())
        };
        if scan.main.case != Case::J00 {
            let next = if has_plan { mended.clone() } else { case_next(scan.main.case).to_owned() };
            defects.push(found(&scan.main).next(next));
        }
        defects.extend(scan.notes.iter().map(found));
    }

    /// J50, J51, D10, D11: gives the bytes that were read.
    fn blobs(&self, defects: &mut Vec<Defect>) -> u64 {
        let mut named: BTreeSet<Digest> = BTreeSet::new();
        let mut bytes = 0;
        for blob in self.records.iter().flat_map(|record| record.event.blobs()) {
            if named.insert(blob.digest) {
                bytes += blob.bytes;
                defects.extend(self.blob(blob));
            }
        }
        for name in self.dir.list_relative("blobs").unwrap_or_default() {
            let file = format!("blobs/{name}");
            match format!("b3:{name}").parse::<Digest>() {
                _ if disk::is_temporary(&name) => defects.push(left_over(file)),
                Ok(digest) if named.contains(&digest) => {}
                Ok(_) => {
                    let why = "it was stored, and what should have named it was never written";
                    defects.push(Defect::of(Flaw::D10, file, why));
                }
                Err(_) => {
                    defects.push(Defect::of(Flaw::D11, file, "dormouse did not put it there"));
                }
            }
        }
        bytes
    }

    fn blob(&self, blob: &BlobRef) -> Option<Defect> {
        let error = self.dir.get_blob(blob).err()?;
        let case = if let blob::Error::Differs(_) = error { Case::J51 } else { Case::J50 };
        let file = format!("blobs/{}", blob.digest.hex());
        Some(Defect::of_case(case, file, 0, error.to_string()).next(case_next(case)))
    }

    /// J52, D18.
    fn code(&self, defects: &mut Vec<Defect>) {
        let Some(process) = self.state.as_ref().and_then(|state| state.process.as_ref()) else {
            return;
        };
        if let Err(error) = load_process(self.dir, process) {
            let defect = Defect::of_case(Case::J52, "process".into(), 0, error.to_string());
            defects.push(defect.next(case_next(Case::J52)));
        }
        let assigned = self.records.iter().filter_map(|record| match &record.event {
            Event::RunCreated(created) => created.process.as_ref(),
            Event::ProcessAssigned(assigned) => Some(&assigned.process),
            _ => None,
        });
        let named: BTreeSet<String> =
            assigned.flat_map(|process| code::places(&process.digest)).collect();
        for name in self.dir.dir().list().unwrap_or_default() {
            if is_code(&name) && !named.contains(&name) {
                let why = "left by a change of code that was not carried out";
                defects.push(Defect::of(Flaw::D18, name, why));
            }
        }
    }

    /// D12, D14, D16, D17: what stands in the directory.
    fn surroundings(&self, defects: &mut Vec<Defect>) {
        for name in self.dir.dir().list().unwrap_or_default() {
            if disk::is_temporary(&name) {
                defects.push(left_over(name));
            } else if !OURS.contains(&name.as_str()) && !is_code(&name) {
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
