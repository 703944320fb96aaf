//! Repair: judging a run, showing what would mend it, mending it.
//!
//! Uses the floors up to the shells and no daemon. May not decide that a loss is acceptable: the
//! operator says so. Invariant: nothing changes before the plan was shown; what is taken out is
//! kept.

mod found;
pub(in crate::services) mod judge;
mod prospect;
pub mod undo;

use std::path::PathBuf;

use serde_json::Value;

use crate::codecs::event::{Head, Record};
use crate::ground::id::EffectId;
use crate::machines::replay::automatic;
use crate::machines::replay::state::{RunState, fold};
use crate::services::runs::trouble::{Trouble, case_next, damaged};
use crate::services::runs::{Error, Result, Runs};
use crate::shells::journal::plan::{Label, Plan};
use crate::shells::journal::scan::{Scan, Verdict};
use crate::shells::journal::writer;
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::lock::Held;

use found::Copy;
use judge::{Judged, Reading, judge};
use prospect::Prospect;

/// What stands in a run and what would mend it.
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
    /// The journal before and after: lines that go (`-`) and that come (`+`).
    pub changes: Vec<String>,
    /// The state that results.
    pub state: Option<&'static str>,
    /// Effects whose outcome nobody will know.
    pub uncertain: Vec<EffectId>,
    /// Where what is put back was found.
    pub sources: Vec<String>,
    /// What is missing beside the journal and no plan puts back.
    pub lacking: Vec<String>,
    /// What it would lose.
    pub lost: Option<Value>,
    /// How many records that is, if known; 0 when nothing is lost.
    pub lost_records: Option<u64>,
    /// Records that stay or come back.
    pub kept_records: u64,
    /// Files of the journal.
    pub files: usize,
    /// What helps where no plan does.
    pub next: Option<String>,
}

/// How much an operator is ready to lose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    #[default]
    None,
    /// Exactly so many records.
    Records(u64),
    /// Whatever is gone.
    Unknown,
}

/// What an operator orders.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// What may be lost.
    pub loss: Loss,
    /// Why, for the journal.
    pub why: Option<String>,
    /// A copy of the run to take from what is missing.
    pub from: Option<PathBuf>,
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
        let judged = judge(&dir, &Reading::Shared);
        let next = remedy(&dir, &judged, reference);
        let main = judged.main().clone();
        let Judged { mut scan, state, .. } = judged;
        scan.main = main;
        let verdict = match scan.verdict() {
            Verdict::Ok | Verdict::Note => "clean",
            Verdict::Torn => "torn",
            Verdict::Damaged => "damaged",
            Verdict::Refuse => "refused",
        };
        let next = next.filter(|_| verdict != "clean");
        Ok(Verified { verdict, scan, state, next })
    }

    /// What would mend a run. Nothing is written.
    pub fn repair_outlook(&self, reference: &str, order: &Order) -> Result<Outlook> {
        let dir = self.find(reference)?;
        let copy = self.given(&dir, order)?;
        let judged = judge(&dir, &Reading::Shared);
        let prospect = Prospect::of(&dir, &judged, copy.as_ref(), &self.by)?;
        outlook(&dir, &judged, &prospect, copy.as_ref())
    }

    /// Mends a run.
    pub fn repair(&self, reference: &str, order: &Order) -> Result<Mended> {
        let dir = self.find(reference)?;
        let _root = self.guard(&dir)?;
        self.repair_held(&dir, order)
    }

    /// The same for whoever holds the root that the run stands in.
    pub fn repair_held(&self, dir: &RunDir, order: &Order) -> Result<Mended> {
        let lock = dir.lock(self.lock_wait_ms, &*self.clock)?;
        let copy = self.given(dir, order)?;
        let judged = judge(dir, &Reading::Locked);
        let prospect = Prospect::of(dir, &judged, copy.as_ref(), &self.by)?;
        let before = outlook(dir, &judged, &prospect, copy.as_ref())?;
        let Some(plan) = &prospect.plan else {
            return Err(if before.is_sound {
                Error::Conflict(Trouble::new("nothing_to_mend", "the run needs no repair"))
            } else {
                damaged(&judged.scan).and_next(before.next.unwrap_or_default())
            });
        };
        permit(&before, order.loss)?;
        let kept = dir.list_relative("quarantine").unwrap_or_default();
        let puts = prospect.puts.iter().map(|put| put.path.clone()).collect();
        let kept_copy = undo::keep(dir, plan.case.label(), self.clock.now(), puts)?;
        for put in &prospect.puts {
            put.put(dir, copy.as_ref())?;
        }
        let head = if plan.lost.is_none() && plan.label <= Label::P3 {
            self.mend_tail(dir, lock)?
        } else {
            self.mend_journal(dir, lock, &judged.scan, plan, &prospect.records, order.why.clone())?
        };
        kept_copy.describe(dir, head)?;
        prove(dir, head)?;
        let mut quarantined = dir.list_relative("quarantine").unwrap_or_default();
        quarantined.retain(|name| !kept.contains(name) && !name.ends_with(undo::BEFORE));
        let kept_in = dir.path().join("quarantine").display().to_string();
        Ok(Mended { outlook: before, head, kept_in, quarantined })
    }

    fn given(&self, dir: &RunDir, order: &Order) -> Result<Option<Copy>> {
        order.from.as_ref().map(|path| self.copy_of(dir, path)).transpose()
    }

    /// Nothing acknowledged is lost: opening for writing mends it, and says so in a record.
    fn mend_tail(&self, dir: &RunDir, lock: Held) -> Result<Head> {
        let mut opened = writer::open(dir, lock, &*self.clock, None)?;
        opened.writer.begin(self.clock.now())?;
        let head = opened.writer.head();
        opened.writer.close()?;
        Ok(head)
    }

    /// Records go or come back. What was open may have been started in a lost part: it becomes
    /// uncertain.
    fn mend_journal(
        &self,
        dir: &RunDir,
        lock: Held,
        scan: &Scan,
        plan: &Plan,
        kept: &[Record],
        why: Option<String>,
    ) -> Result<Head> {
        let (mut writer, record) =
            writer::repair(dir, lock, &*self.clock, scan, plan, &self.by, why)?;
        let mut records = kept.to_vec();
        records.push(record);
        let state = fold(&records)?.ok_or_else(nothing_left)?;
        let suspects = state.suspects.iter().filter_map(|id| state.effect(*id));
        for event in suspects.filter(|_| state.is_open()).map(automatic::uncertain) {
            writer.append(writer.head().seq, self.clock.now(), &event)?;
        }
        let head = writer.head();
        writer.close()?;
        Ok(head)
    }
}

/// Reads and folds what stands there now, from the device.
fn prove(dir: &RunDir, head: Head) -> Result<()> {
    let judged = judge(dir, &Reading::Locked);
    if judged.is_sound() && judged.scan.head == head && judged.state.is_some() {
        return Ok(());
    }
    let next = format!("dormouse repair undo {}", dir.id());
    Err(damaged(&judged.scan).and_next(next))
}

fn nothing_left() -> Error {
    Error::Bug(Trouble::new("bug", "nothing is left of the journal"))
}

/// The command that helps a run, if its journal or what stands beside it is damaged.
pub(in crate::services) fn remedy(dir: &RunDir, judged: &Judged, name: &str) -> Option<String> {
    if judged.is_sound() && judged.beside.is_empty() {
        return None;
    }
    if Prospect::of(dir, judged, None, "").is_ok_and(|prospect| prospect.plan.is_some()) {
        return Some(format!("dormouse run repair-journal {name}"));
    }
    Some(case_next(judged.main().case).replace("RUN", name))
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

fn outlook(
    dir: &RunDir,
    judged: &Judged,
    prospect: &Prospect,
    copy: Option<&Copy>,
) -> Result<Outlook> {
    let (scan, plan) = (&judged.scan, prospect.plan.as_ref());
    let main = judged.main();
    let why = if main.why.is_empty() {
        main.case.title().to_owned()
    } else {
        format!("{}: {}", main.case.title(), main.why)
    };
    let lost = plan.and_then(|p| p.lost.as_ref());
    let is_sound = judged.is_sound() && judged.beside.is_empty();
    let next = remedy(dir, judged, dir.id().as_str()).filter(|_| plan.is_none());
    Ok(Outlook {
        dir: dir.path().display().to_string(),
        case: main.case.label().to_owned(),
        why,
        is_sound,
        plan: plan.map(|p| p.label.as_str()),
        steps: prospect.steps(copy),
        changes: prospect.changes(dir)?,
        state: prospect.state(),
        uncertain: prospect.uncertain(),
        sources: plan.map(|p| p.sources.clone()).unwrap_or_default(),
        lacking: prospect.lacking.clone(),
        lost: prospect::lost(plan),
        lost_records: lost.map_or(Some(0), |l| l.count),
        kept_records: plan.map_or(scan.head.seq.0, |p| p.head.seq.0),
        files: scan.segments.len(),
        next,
    })
}
