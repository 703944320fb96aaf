//! What a repair would do to a run, before anything is done.
//!
//! May not write. Invariant: what is shown is what is executed: both come from the same prospect.

use serde_json::{Value, json};

use crate::codecs::event::{Event, Lost, Record};
use crate::codecs::format::line;
use crate::ground::id::{EffectId, Seq};
use crate::machines::replay::state::RunState;
use crate::services::runs::Result;
use crate::services::runs::view;
use crate::shells::journal::plan::{self, Done, Edit, Label, Plan};
use crate::shells::journal::reader;
use crate::shells::journal::scan::{Scan, Verdict};
use crate::shells::run_dir::dir::RunDir;

use super::found::{Continued, Copy, Lines, Put, missing};
use super::judge::{Judged, beside};

/// Lines of a difference that are shown.
const CHANGES_SHOWN_MAX: usize = 50;

/// What would be done.
pub(super) struct Prospect {
    /// To the journal; nothing when no plan mends it, or nothing has to be done.
    pub(super) plan: Option<Plan>,
    /// Files that are put back beside it.
    pub(super) puts: Vec<Put>,
    /// What is missing beside it and was not found.
    pub(super) lacking: Vec<String>,
    /// The records that will stand there, without those of the repair.
    pub(super) records: Vec<Record>,
    /// Where records were found that are put back.
    continued: Option<Continued>,
    /// The run when it is done.
    pub(super) after: Option<RunState>,
}

impl Prospect {
    /// Finds out what can be done for a run.
    pub(super) fn of(dir: &RunDir, judged: &Judged, copy: Option<&Copy>, by: &str) -> Result<Self> {
        let scan = &judged.scan;
        let (mut plan, mut continued) = (plan::plan(scan), None);
        let is_torn = scan.verdict() == Verdict::Torn && copy.is_some();
        if scan.verdict() == Verdict::Damaged || is_torn {
            let lines = Lines::of(dir, scan.head.seq, copy)?;
            let found = lines.go_on(judged);
            if found.records.len() > scan.records.len() {
                plan = Some(restoring(scan, &found, lines.own_last()));
                continued = Some(found);
            }
        }
        let (records, state) = match &continued {
            Some(found) => (found.records.clone(), found.state.clone()),
            None => (kept(scan, plan.as_ref()), judged.state.clone()),
        };
        let (mut puts, mut lacking) = (Vec::new(), Vec::new());
        if scan.verdict() < Verdict::Refuse && state.is_some() {
            let beside = if judged.is_sound() {
                judged.beside.clone()
            } else {
                beside(dir, &records, state.as_ref())
            };
            (puts, lacking) = missing(dir, copy, &beside, &records, state.as_ref());
        }
        if !puts.is_empty() && judged.is_sound() && !records.is_empty() {
            plan = plan.or_else(|| Some(plan::unchanged(scan)));
        }
        let mut prospect = Self { plan, puts, lacking, records, continued, after: state };
        prospect.name_case(judged);
        prospect.note_sources(copy);
        prospect.foresee(by);
        Ok(prospect)
    }

    /// A sound journal is mended for the sake of what is missing beside it.
    fn name_case(&mut self, judged: &Judged) {
        let Some(plan) = self.plan.as_mut().filter(|_| judged.is_sound()) else { return };
        if !self.puts.is_empty() {
            plan.label = Label::P6;
            plan.case = judged.main().case;
        }
    }

    fn note_sources(&mut self, copy: Option<&Copy>) {
        let Some(plan) = &mut self.plan else { return };
        plan.sources = self.continued.as_ref().map(Continued::sources).unwrap_or_default();
        for put in &self.puts {
            let source = put.source(copy);
            if !plan.sources.contains(&source) {
                plan.sources.push(source);
            }
        }
    }

    /// Folds the record of the repair, as it will be, into the state.
    fn foresee(&mut self, by: &str) {
        let (Some(plan), Some(state)) = (&self.plan, &mut self.after) else { return };
        if plan.lost.is_some() {
            let event: Event = plan::record(plan, &Done::default(), by, None).into();
            let (seq, at, sum) = (plan.head.seq.next(), plan.last_at, plan.head.sum);
            // A repair is legal everywhere.
            let _ = state.apply(&Record { seq, at, event, sum });
        }
    }

    /// Effects whose outcome nobody will know any more.
    pub(super) fn uncertain(&self) -> Vec<EffectId> {
        let loses = self.plan.as_ref().is_some_and(|plan| plan.lost.is_some());
        let state = self.after.as_ref().filter(|state| loses && state.is_open());
        state.map(|state| state.suspects.iter().copied().collect()).unwrap_or_default()
    }

    /// The state that results, in one word.
    pub(super) fn state(&self) -> Option<&'static str> {
        self.after.as_ref().map(view::state_name)
    }

    /// What would be done, step by step.
    pub(super) fn steps(&self, copy: Option<&Copy>) -> Vec<String> {
        let edits = self.plan.iter().flat_map(|plan| plan.edits.iter().map(describe));
        let puts =
            self.puts.iter().map(|put| format!("put {} back from {}", put.path, put.source(copy)));
        edits.chain(puts).collect()
    }

    /// The journal before and after, line by line: what goes, what comes.
    pub(super) fn changes(&self, dir: &RunDir) -> Result<Vec<String>> {
        let Some(plan) = &self.plan else { return Ok(Vec::new()) };
        let mut changes = Vec::new();
        if plan.edits.iter().any(|edit| !matches!(edit, Edit::Complete { .. })) {
            for line in reader::lines_of(&**dir.dir())? {
                changes.extend(self.goes(&line).map(|text| format!("- {text}")));
            }
        }
        for record in self.records.iter().filter(|record| record.seq > plan.old_head.seq) {
            let from = self.continued.as_ref().and_then(|found| found.source(record.seq));
            let text = one(record.seq, record.event.name());
            changes.extend(from.map(|from| format!("+ {text}  (from {from})")));
        }
        let omitted = changes.len().saturating_sub(CHANGES_SHOWN_MAX);
        changes.truncate(CHANGES_SHOWN_MAX);
        if omitted > 0 {
            changes.push(format!("… and {omitted} lines more"));
        }
        let mut seq = plan.head.seq;
        if plan.label > Label::P2 {
            seq = seq.next();
            changes.push(format!("+ {}", one(seq, "JOURNAL_REPAIRED")));
        }
        for effect in self.uncertain() {
            seq = seq.next();
            changes.push(format!("+ {}  {effect}", one(seq, "EFFECT_UNCERTAIN")));
        }
        Ok(changes)
    }

    /// What a line of the journal is, if it will stand there no longer.
    fn goes(&self, line: &[u8]) -> Option<String> {
        let parsed = line::split(line).and_then(|(body, sum)| {
            let envelope = line::envelope(std::str::from_utf8(body).ok()?).ok()?;
            Some((envelope.seq, envelope.event_type, sum))
        });
        let Some((seq, event_type, sum)) = parsed else {
            return Some(format!("{} bytes that are no record", line.len()));
        };
        let at = usize::try_from(seq.0).ok()?.checked_sub(1);
        let stays = at.and_then(|at| self.records.get(at)).is_some_and(|record| record.sum == sum);
        (!stays).then(|| one(seq, event_type))
    }
}

fn one(seq: Seq, event_type: &str) -> String {
    format!("{seq:>6}  {event_type}")
}

/// The plan that puts records back which were found, and what is lost all the same.
fn restoring(scan: &Scan, found: &Continued, own_last: Option<Seq>) -> Plan {
    let plan = plan::restore(scan, &found.records, None);
    let head = plan.head.seq;
    let told = own_last.max(scan.claimed);
    let known = told.max(Some(scan.witness)).filter(|seq| *seq > scan.head.seq);
    let first_seq = head.next();
    let lost = match known {
        // Nothing says how many there were.
        None => Some(Lost { first_seq, last_seq: None, count: None }),
        Some(seq) if seq > head => {
            let count = told.filter(|told| *told == seq).map(|told| told.0 - head.0);
            Some(Lost { first_seq, last_seq: Some(seq), count })
        }
        Some(_) => None,
    };
    Plan { lost, ..plan }
}

fn kept(scan: &Scan, plan: Option<&Plan>) -> Vec<Record> {
    let head = plan.map_or(scan.head.seq, |plan| plan.head.seq);
    scan.records.iter().filter(|record| record.seq <= head).cloned().collect()
}

/// What a loss means, for programs.
pub(super) fn lost(plan: Option<&Plan>) -> Option<Value> {
    plan.and_then(|plan| plan.lost.as_ref()).map(|lost| json!(lost))
}

fn describe(edit: &Edit) -> String {
    let aside = "go to quarantine/";
    match edit {
        Edit::Remove { file } => format!("remove journal/{file}: it holds nothing"),
        Edit::Cut { file, offset: 0, bytes } => {
            format!("remove journal/{file}; its {bytes} bytes {aside}")
        }
        Edit::Cut { file, offset, bytes } => {
            format!("cut journal/{file} at byte {offset}; its last {bytes} bytes {aside}")
        }
        Edit::Complete { file } => format!("add the missing line feed to journal/{file}"),
        Edit::Restore { file, bytes: 0, content, .. } => {
            format!("write journal/{file}, {} bytes", content.len())
        }
        Edit::Restore { file, offset, bytes, content } => format!(
            "write journal/{file} anew from byte {offset}, {} bytes in all; {bytes} bytes {aside}",
            content.len()
        ),
    }
}
