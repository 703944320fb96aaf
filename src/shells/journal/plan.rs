//! Repair: what would be done to a journal as plain data, and doing it.
//!
//! May not decide whether a loss is acceptable, nor judge bytes. Invariant: every byte that leaves
//! the journal is durable in `quarantine/` before, and files change only by being replaced.

use super::reader::read_segment;
use super::scan::{Case, Scan, Segment, Verdict};
use crate::codecs::event::{Head, JournalRepaired, Lost, Removed};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, Seq};
use crate::ports::disk::{self, Atomic, Dir, Open};
use crate::shells::run_dir::dir::RunDir;
use std::rc::Rc;

/// Which of the published plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// Remove empty or temporary files of ours. Loses nothing.
    P1,
    /// Complete the last line. Loses nothing.
    P2,
    /// Set an unacknowledged tail aside. Loses nothing acknowledged.
    P3,
    /// Cut at the last verified record, keep the rest in quarantine. Loses records.
    P5,
}

impl Label {
    /// The label as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P3 => "P3",
            Self::P5 => "P5",
        }
    }
}

/// One thing to do to a file in `journal/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Remove a file that holds nothing.
    Remove {
        /// The file.
        file: String,
    },
    /// Keep `bytes` bytes at `offset` in quarantine; then the file ends at `offset`, or is removed
    /// when that leaves nothing.
    Cut {
        /// The file.
        file: String,
        /// Where it will end.
        offset: u64,
        /// How many bytes are set aside.
        bytes: u64,
    },
    /// Append the missing line feed.
    Complete {
        /// The file.
        file: String,
    },
}

/// What a repair would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Which plan.
    pub label: Label,
    /// Why.
    pub case: Case,
    /// In this order.
    pub steps: Vec<Step>,
    /// The head that is kept.
    pub head: Head,
    /// Records that go, when they were or may have been acknowledged.
    pub lost: Option<Lost>,
}

/// The plan for what a scan found; nothing when there is nothing to do, or nothing that can be done
/// with this directory alone (a missing journal, another run's journal, read errors).
#[must_use]
pub fn plan(scan: &Scan) -> Option<Plan> {
    let case = scan.main.case;
    let label = match (scan.verdict(), case) {
        (Verdict::Ok | Verdict::Refuse, _)
        | (_, Case::J02 | Case::J22 | Case::J26 | Case::J33Equal | Case::J50 | Case::J51) => {
            return None;
        }
        (_, Case::J03 | Case::J34) => Label::P1,
        (_, Case::J10) => Label::P2,
        (Verdict::Torn, _) => Label::P3,
        _ => Label::P5,
    };
    let mut steps = Vec::new();
    for note in scan.notes.iter().filter(|note| note.case == Case::J34) {
        steps.push(Step::Remove { file: note.file.clone() });
    }
    // From the end, so that a repair that dies halfway leaves a verified prefix and a shorter rest.
    for segment in scan.segments.iter().rev() {
        steps.extend(step(segment, scan));
    }
    Some(Plan { label, case, steps, head: scan.head, lost: lost(scan, label) })
}

fn step(segment: &Segment, scan: &Scan) -> Option<Step> {
    let file = segment.name.clone();
    if segment.blank {
        return Some(Step::Remove { file });
    }
    if segment.verified < segment.bytes {
        let bytes = segment.bytes - segment.verified;
        return Some(Step::Cut { file, offset: segment.verified, bytes });
    }
    (scan.lacks_feed && scan.segments.last() == Some(segment)).then_some(Step::Complete { file })
}

fn lost(scan: &Scan, label: Label) -> Option<Lost> {
    if label != Label::P5 {
        return None;
    }
    let last_seq = scan.claimed.max(Some(scan.witness)).filter(|last| *last > scan.head.seq);
    if last_seq.is_none() && scan.lacks_feed {
        return None;
    }
    let first_seq = scan.head.seq.next();
    // Lines that can be read give the number; a witness alone gives only "at least".
    let known = scan.claimed.filter(|claimed| Some(*claimed) == last_seq);
    Some(Lost { first_seq, last_seq, count: known.map(|last| last.0 - scan.head.seq.0) })
}

/// Why a repair did not happen, or not wholly. It can be repeated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal is not the one that the plan was made for.
    #[error("{0} has changed since the plan was made")]
    Changed(String),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

/// Does what the plan says. The caller holds the run's lock and appends the record, or hands it to
/// the writer.
pub fn apply(run: &RunDir, plan: &Plan, scan: &Scan, now: Timestamp) -> Result<Done, Error> {
    let journal = run.dir().open_dir("journal")?;
    let mut done = Done { removed: Vec::new(), seen: seen(run, scan)? };
    for step in &plan.steps {
        match step {
            Step::Remove { file } => {
                disk::optional(journal.unlink(file))?;
            }
            Step::Complete { file } => {
                let mut bytes = read_segment(&*journal, file, Open::Truth)?;
                bytes.push(b'\n');
                disk::write_atomic(&*journal, file, &bytes, Atomic::DURABLE)?;
            }
            Step::Cut { file, offset, bytes } => {
                let all = read_segment(&*journal, file, Open::Truth)?;
                if all.len() as u64 != offset + bytes {
                    return Err(Error::Changed(file.clone()));
                }
                let (kept, gone) = all.split_at(usize::try_from(*offset).unwrap_or(0));
                done.seen.look_into(gone);
                let removed = set_aside(run, plan.case, file, *offset, gone, now)?;
                done.removed.push(removed);
                if kept.is_empty() {
                    journal.unlink(file)?;
                } else {
                    disk::write_atomic(&*journal, file, kept, Atomic::DURABLE)?;
                }
            }
        }
    }
    journal.sync()?;
    Ok(done)
}

/// Writes bytes into the run's quarantine, durably.
fn set_aside(
    run: &RunDir,
    case: Case,
    file: &str,
    offset: u64,
    bytes: &[u8],
    now: Timestamp,
) -> Result<Removed, Error> {
    let stamp: String = now.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let base = format!("{stamp}-{case}-{file}@{offset}+{}", bytes.len());
    let quarantine = run.dir().ensure_durable_dir("quarantine")?;
    let mut name = format!("{base}.bin");
    let mut n = 1;
    loop {
        match disk::write_atomic(&*quarantine, &name, bytes, Atomic::NEW) {
            // Two repairs in one microsecond, or one that died: neither may hide the other.
            Err(e) if e.is_exists() => n += 1,
            Err(e) => return Err(e.into()),
            Ok(()) => break,
        }
        name = format!("{base}-{n}.bin");
    }
    Ok(Removed {
        file: format!("journal/{file}"),
        offset,
        bytes: bytes.len() as u64,
        digest: Digest::of(bytes),
        kept_as: format!("quarantine/{name}"),
    })
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What was set aside.
    pub removed: Vec<Removed>,
    /// The highest numbers that were seen anywhere.
    pub seen: Seen,
}

/// The highest epoch and effect that the run is known to have given out, kept or removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Fencing number.
    pub epoch: Epoch,
    /// Ordinal of an effect.
    pub ordinal: u32,
}

impl Seen {
    /// Looks for numbers in bytes that may be torn: by name, not by structure.
    fn look_into(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for rest in text.split("\"epoch\":").skip(1) {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            self.epoch = self.epoch.max(Epoch(digits.parse().unwrap_or(0)));
        }
        for rest in text.split("\"effectId\":\"").skip(1) {
            let id = rest.split('"').next().and_then(|id| id.parse::<EffectId>().ok());
            self.ordinal = self.ordinal.max(id.map_or(0, EffectId::ordinal));
        }
    }
}

fn seen(run: &RunDir, scan: &Scan) -> disk::Result<Seen> {
    let mut seen = Seen::default();
    for record in &scan.records {
        seen.look_into(record.event.data().as_str().as_bytes());
    }
    let Some(tasks) = disk::optional(run.dir().open_dir("tasks"))? else { return Ok(seen) };
    for name in tasks.list()? {
        let Ok(effect) = name.parse::<EffectId>() else { continue };
        seen.ordinal = seen.ordinal.max(effect.ordinal());
        let stale: Option<Rc<dyn Dir>> =
            disk::optional(tasks.open_dir(&name).and_then(|task| task.open_dir("stale")))?;
        for post in stale.map_or(Ok(Vec::new()), |dir| dir.list())? {
            let epoch = post.split('-').next().and_then(|epoch| epoch.parse().ok());
            seen.epoch = seen.epoch.max(Epoch(epoch.unwrap_or(0)));
        }
    }
    Ok(seen)
}

/// The record of a repair. After one that lost records, at-most-once must survive the gap: no epoch
/// up to the highest seen may be given again, and effects up to the highest seen are suspect.
#[must_use]
pub fn record(plan: &Plan, done: &Done, by: &str, why: Option<String>) -> JournalRepaired {
    let loses = plan.lost.is_some();
    JournalRepaired {
        case: plan.case.to_string(),
        plan: plan.label.as_str().to_owned(),
        by: by.to_owned(),
        why,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        removed: done.removed.clone(),
        old_head: plan.head,
        new_head: plan.head,
        lost: plan.lost.clone(),
        epoch_floor: loses.then(|| done.seen.epoch.next()),
        suspect_upto: loses.then_some(done.seen.ordinal),
    }
}

/// Copies the last segment to a new file. After a writer that died the page cache is no evidence,
/// and what is written over a failed write-back may never reach the device: a new file does.
pub(super) fn copy_last(run: &RunDir, scan: &Scan) -> disk::Result<()> {
    let journal = run.dir().open_dir("journal")?;
    let whole = |segment: &&Segment| !segment.blank && segment.verified > 0;
    let Some(last) = scan.segments.iter().rfind(whole) else { return Ok(()) };
    let bytes = read_segment(&*journal, &last.name, Open::Truth)?;
    disk::write_atomic(&*journal, &last.name, &bytes, Atomic::DURABLE)
}

/// The head of an empty journal is nothing to build on.
pub(super) fn is_empty(head: Head) -> bool {
    head.seq == Seq(0)
}
