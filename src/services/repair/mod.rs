//! Repair: judging a journal, showing what would mend it, mending it.
//!
//! Uses the floors up to the shells and no daemon. May not decide that a loss is acceptable: the
//! operator says so. Invariant: nothing changes before the plan was shown; what is taken out is
//! kept.

pub mod undo;

use serde_json::{Value, json};

use crate::codecs::event::{Head, Record};
use crate::machines::replay::automatic;
use crate::machines::replay::state::{IllegalEvent, RunState, fold};
use crate::services::runs::create::load_process;
use crate::services::runs::trouble::{Trouble, case_next, damaged};
use crate::services::runs::{Error, Result, Runs};
use crate::shells::journal::plan::{self, Edit, Plan};
use crate::shells::journal::scan::{Case, Finding, Scan, Verdict};
use crate::shells::journal::{reader, writer};
use crate::shells::run_dir::blob;
use crate::shells::run_dir::dir::RunDir;

/// What stands in a journal and what would mend it.
#[derive(Debug)]
pub struct Outlook {
    /// The run directory.
    pub dir: String,
    /// Label of the case, such as `J11`.
    pub case: String,
    /// In words.
    pub why: String,
    /// Nothing needs mending.
    pub is_sound: bool,
    /// Label of the plan, if there is one.
    pub plan: Option<&'static str>,
    /// What it would do, in words.
    pub steps: Vec<String>,
    /// What it would lose.
    pub lost: Option<Value>,
    /// How many records that is, if known; 0 when nothing is lost.
    pub lost_records: Option<u64>,
    /// Records that stay.
    pub kept_records: u64,
    /// Files of the journal.
    pub files: usize,
}

/// How much an operator is ready to lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    None,
    /// Exactly so many records.
    Records(u64),
    /// Whatever is gone.
    Unknown,
}

/// What a repair did.
#[derive(Debug)]
pub struct Mended {
    /// What stood there before.
    pub outlook: Outlook,
    /// Where the journal ends now.
    pub head: Head,
    /// Directory with what was set aside.
    pub kept_in: String,
    /// Files in it that this repair made.
    pub quarantined: Vec<String>,
}

/// What `journal verify` says.
#[derive(Debug)]
pub struct Verified {
    /// `clean`, `torn`, `damaged` or `refused`.
    pub verdict: &'static str,
    /// The scan.
    pub scan: Scan,
    /// The fold of what verified.
    pub state: Option<RunState>,
    /// What helps; nothing when the journal is clean.
    pub next: Option<String>,
}

impl Runs {
    /// Judges the journal of a run. Nothing is written.
    pub fn verify(&self, reference: &str) -> Result<Verified> {
        let dir = self.find(reference)?;
        let (mut scan, state) = judge(&dir);
        let mends = plan::plan(&scan).is_some();
        if let Some(found) = state.as_ref().and_then(|s| beside(&dir, &scan, s)) {
            scan.main = found;
        }
        let verdict = match scan.verdict() {
            Verdict::Ok | Verdict::Note => "clean",
            Verdict::Torn => "torn",
            Verdict::Damaged => "damaged",
            Verdict::Refuse => "refused",
        };
        let next = match (verdict, mends) {
            ("clean", _) => None,
            (_, true) => Some(format!("dormouse run repair-journal {reference}")),
            _ => Some(case_next(scan.main.case).replace("RUN", reference)),
        };
        Ok(Verified { verdict, scan, state, next })
    }

    /// What would mend the journal of a run. Nothing is written.
    pub fn repair_outlook(&self, reference: &str) -> Result<Outlook> {
        let dir = self.find(reference)?;
        let (scan, _) = judge(&dir);
        Ok(outlook(&dir, &scan, plan::plan(&scan).as_ref()))
    }

    /// Mends the journal of a run.
    pub fn repair(&self, reference: &str, loss: Loss, why: Option<String>) -> Result<Mended> {
        let dir = self.find(reference)?;
        let _root = self.guard(&dir)?;
        let lock = dir.lock(self.lock_wait_ms, &*self.clock)?;
        let (scan, _) = judge(&dir);
        let Some(plan) = plan::plan(&scan) else {
            if scan.verdict() >= Verdict::Damaged {
                return Err(damaged(&scan).and_next("put the files back from a copy of the run"));
            }
            let trouble = Trouble::new("nothing_to_mend", "the journal needs no repair");
            return Err(Error::Conflict(trouble));
        };
        let before = outlook(&dir, &scan, Some(&plan));
        permit(&before, loss)?;
        let kept = dir.list_relative("quarantine").unwrap_or_default();
        let copy = undo::keep(&dir, scan.main.case.label(), self.clock.now())?;
        let head = if plan.lost.is_none() && scan.verdict() < Verdict::Damaged {
            self.mend_tail(&dir, lock)?
        } else {
            self.mend_loss(&dir, lock, &scan, &plan, why)?
        };
        copy.describe(&dir, head)?;
        let mut quarantined = dir.list_relative("quarantine").unwrap_or_default();
        quarantined.retain(|name| !kept.contains(name) && !name.ends_with("-before"));
        let kept_in = dir.path().join("quarantine").display().to_string();
        Ok(Mended { outlook: before, head, kept_in, quarantined })
    }

    /// Nothing acknowledged is lost: opening for writing mends it, and says so in a record.
    fn mend_tail(&self, dir: &RunDir, lock: crate::shells::run_dir::lock::Held) -> Result<Head> {
        let mut opened = writer::open(dir, lock, &*self.clock, None)?;
        opened.writer.begin(self.clock.now())?;
        let head = opened.writer.head();
        opened.writer.close()?;
        Ok(head)
    }

    /// Records go. What was open may have been started in the lost part: it becomes uncertain.
    fn mend_loss(
        &self,
        dir: &RunDir,
        lock: crate::shells::run_dir::lock::Held,
        scan: &Scan,
        plan: &Plan,
        why: Option<String>,
    ) -> Result<Head> {
        let (mut writer, record) =
            writer::repair(dir, lock, &*self.clock, scan, plan, &self.by, why)?;
        let mut records: Vec<Record> = scan.records.clone();
        records.retain(|r| r.seq <= plan.head.seq);
        records.push(record);
        let state = folded(&records)?;
        let suspects = state.suspects.iter().filter_map(|id| state.effect(*id));
        for event in suspects.filter(|_| state.is_open()).map(automatic::uncertain) {
            writer.append(writer.head().seq, self.clock.now(), &event)?;
        }
        let head = writer.head();
        writer.close()?;
        Ok(head)
    }
}

/// Reads and folds; a record that the fold refuses is damage as well (J24).
fn judge(dir: &RunDir) -> (Scan, Option<RunState>) {
    let scan = reader::read(dir, None);
    match fold(&scan.records) {
        Ok(state) => (scan, state),
        Err(IllegalEvent { seq, event_type, why }) => {
            let scan = scan.refused_by_fold(seq, format!("record {seq}, {event_type}: {why}"));
            let state = fold(&scan.records).ok().flatten();
            (scan, state)
        }
    }
}

/// What is wrong beside a sound journal: a blob or the pinned code is missing or differs. The run
/// is set aside until it is put back; no repair of the journal helps.
fn beside(dir: &RunDir, scan: &Scan, state: &RunState) -> Option<Finding> {
    if scan.verdict() > Verdict::Note {
        return None;
    }
    let finding = |case, file: String, why| Some(Finding { case, file, offset: 0, why });
    for blob in scan.records.iter().flat_map(|record| record.event.blobs()) {
        let file = format!("blobs/{}", blob.digest.hex());
        match dir.get_blob(blob) {
            Ok(_) => {}
            Err(e @ blob::Error::Differs(_)) => return finding(Case::J51, file, e.to_string()),
            Err(e) => return finding(Case::J50, file, e.to_string()),
        }
    }
    let process = state.process.as_ref()?;
    let error = load_process(dir, process).err()?;
    finding(Case::J52, "process".to_owned(), error.to_string())
}

fn folded(records: &[Record]) -> Result<RunState> {
    fold(records)?.ok_or_else(|| Error::Bug(Trouble::new("bug", "nothing is left of the journal")))
}

fn permit(outlook: &Outlook, loss: Loss) -> Result<()> {
    let fits = match (&outlook.lost, outlook.lost_records, loss) {
        (None, _, _) | (Some(_), _, Loss::Unknown) => true,
        (Some(_), Some(count), Loss::Records(accepted)) => accepted == count,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let count = outlook.lost_records.map_or("unknown".to_owned(), |n| n.to_string());
    let what = format!("the plan loses records ({count}), and that was not accepted");
    let trouble = Trouble::new("loss_not_accepted", what);
    Err(Error::Refused(trouble.next(format!("give --accept-loss {count}"))))
}

fn outlook(dir: &RunDir, scan: &Scan, plan: Option<&Plan>) -> Outlook {
    let case = scan.main.case;
    let why = if scan.main.why.is_empty() {
        case.title().to_owned()
    } else {
        format!("{}: {}", case.title(), scan.main.why)
    };
    let lost = plan.and_then(|p| p.lost.as_ref());
    Outlook {
        dir: dir.path().display().to_string(),
        case: case.label().to_owned(),
        why,
        is_sound: scan.verdict() <= Verdict::Note,
        plan: plan.map(|p| p.label.as_str()),
        steps: plan.map(|p| p.edits.iter().map(describe).collect()).unwrap_or_default(),
        lost: lost.map(|l| json!(l)),
        lost_records: lost.map_or(Some(0), |l| l.count),
        kept_records: plan.map_or(scan.head.seq.0, |p| p.head.seq.0),
        files: scan.segments.len(),
    }
}

fn describe(edit: &Edit) -> String {
    match edit {
        Edit::Remove { file } => format!("remove journal/{file}: it holds nothing"),
        Edit::Cut { file, offset, bytes } => {
            format!("cut journal/{file} at byte {offset}; its last {bytes} bytes go to quarantine/")
        }
        Edit::Complete { file } => format!("add the missing line feed to journal/{file}"),
    }
}
