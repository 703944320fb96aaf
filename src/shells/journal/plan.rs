//! Repair: what would be done to a journal as plain data, and doing it.
//!
//! May not decide whether a loss is acceptable, nor judge bytes. Invariant: every byte that leaves
//! the journal is durable in `quarantine/` before, files change only by being replaced, and a
//! repair that loses records and dies halfway leaves a journal that is still judged damaged, or
//! one that holds the record of the repair.

use super::reader::read_segment;
use super::scan::{Case, File, Scan, Segment, Verdict};
use crate::codecs::event::{Head, JournalRepaired, Lost, Record, Removed};
use crate::codecs::format::line;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, Seq};
use crate::ground::limits::JOURNAL_SEGMENT_BYTES;
use crate::ports::disk::{self, Atomic, Dir, Open};
use crate::shells::run_dir::dir::RunDir;
use std::sync::Arc;

/// Which of the published plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// Remove empty or temporary files of ours. Loses nothing.
    P1,
    /// Complete the last line. Loses nothing.
    P2,
    /// Set an unacknowledged tail aside. Loses nothing acknowledged.
    P3,
    /// Put records back that were found elsewhere. Loses what was not found.
    P4,
    /// Cut at the last verified record, keep the rest in quarantine. Loses records.
    P5,
    /// Put files back that were found elsewhere: a whole journal, blobs, pinned code.
    P6,
}

impl Label {
    /// The label as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P3 => "P3",
            Self::P4 => "P4",
            Self::P5 => "P5",
            Self::P6 => "P6",
        }
    }
}

/// One thing to do to a file in `journal/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
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
    /// Keep `bytes` bytes at `offset` in quarantine; then the file is `content`.
    Restore {
        /// The file.
        file: String,
        /// Where what is not kept in it begins.
        offset: u64,
        /// How many bytes are set aside.
        bytes: u64,
        /// All that will be in it.
        content: Vec<u8>,
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
    pub edits: Vec<Edit>,
    /// The head of what verified before.
    pub old_head: Head,
    /// The head of what will stand there.
    pub head: Head,
    /// The time of the last record that will.
    pub last_at: Timestamp,
    /// Records that go, when they were or may have been acknowledged.
    pub lost: Option<Lost>,
    /// Where what is put back was found.
    pub sources: Vec<String>,
}

impl Plan {
    /// Bytes of the journal when it is done.
    pub(super) fn journal_bytes(&self, scan: &Scan) -> u64 {
        let restored = |name: &str| {
            self.edits.iter().find_map(|edit| match edit {
                Edit::Restore { file, content, .. } if file == name => Some(content.len() as u64),
                _ => None,
            })
        };
        let own = scan.segments.iter().map(|s| restored(&s.name).unwrap_or(s.verified));
        let is_new = |file: &String| scan.segments.iter().all(|s| s.name != *file);
        let new = self.edits.iter().filter_map(|edit| match edit {
            Edit::Restore { file, content, .. } if is_new(file) => Some(content.len() as u64),
            _ => None,
        });
        own.chain(new).sum()
    }
}

/// The plan for what a scan found; nothing when there is nothing to do, or nothing that can be done
/// with this directory alone (a missing journal or first record, another run's journal, read
/// errors).
#[must_use]
pub fn plan(scan: &Scan) -> Option<Plan> {
    if is_empty(scan.head) {
        return None;
    }
    let case = scan.main.case;
    let label = match (scan.verdict(), case) {
        (Verdict::Ok | Verdict::Refuse, _)
        | (
            _,
            Case::J02 | Case::J22 | Case::J26 | Case::J33Equal | Case::J50 | Case::J51 | Case::J52,
        ) => {
            return None;
        }
        (_, Case::J03 | Case::J34) => Label::P1,
        (_, Case::J10) => Label::P2,
        (Verdict::Torn, _) => Label::P3,
        _ => Label::P5,
    };
    let mut edits = left_over(scan);
    edits.extend(scan.segments.iter().filter_map(edit));
    let lost = lost(scan, label);
    Some(Plan { label, case, edits, lost, ..unchanged(scan) })
}

/// A plan that leaves the journal as it is: what is put back stands beside it.
#[must_use]
pub fn unchanged(scan: &Scan) -> Plan {
    let (case, head, last_at) = (scan.main.case, scan.head, scan.last_at());
    let (edits, sources) = (Vec::new(), Vec::new());
    Plan { label: Label::P6, case, edits, old_head: head, head, last_at, lost: None, sources }
}

/// The plan that makes the journal one of `records`, which go on where the verified ones end. They
/// were verified and folded. Without `lost`, nothing else is known to have existed.
#[must_use]
pub fn restore(scan: &Scan, records: &[Record], lost: Option<Lost>) -> Plan {
    let is_whole = |s: &&Segment| !s.blank && s.verified == s.bytes && !s.lacks_feed;
    let stays = scan.segments.iter().take_while(is_whole).count();
    let own = &scan.segments[stays..];
    let begun = own.first().filter(|s| s.verified > 0);
    let from = begun.and_then(|s| line::segment_first(&s.name)).unwrap_or(scan.head.seq.next());
    let mut target = lay(scan, records, from);
    let mut edits = left_over(scan);
    for segment in own {
        let (file, offset) = (segment.name.clone(), segment.verified);
        let bytes = segment.bytes - segment.verified;
        match target.iter().position(|new| new.name == file) {
            Some(at) => {
                let content = target.remove(at).bytes;
                edits.push(Edit::Restore { file, offset, bytes, content });
            }
            None if segment.blank => edits.push(Edit::Remove { file }),
            None => edits.push(Edit::Cut { file, offset: 0, bytes: segment.bytes }),
        }
    }
    let new =
        |File { name: file, bytes: content }| Edit::Restore { file, offset: 0, bytes: 0, content };
    edits.extend(target.into_iter().map(new));
    let label = if scan.main.case == Case::J02 { Label::P6 } else { Label::P4 };
    let head = records.last().map_or(scan.head, |r| Head { seq: r.seq, sum: r.sum });
    let last_at = records.iter().map(|record| record.at).max().unwrap_or_default();
    Plan { label, edits, head, last_at, lost, ..unchanged(scan) }
}

/// The records from `from` on as segments.
fn lay(scan: &Scan, records: &[Record], from: Seq) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    let before = records.iter().rfind(|record| record.seq < from);
    let mut sum = before.map_or(scan.genesis(), |record| record.sum);
    for record in records.iter().filter(|record| record.seq >= from) {
        let (bytes, next) = line::encode(record.seq, record.at, &record.event, sum);
        sum = next;
        match files.last_mut() {
            Some(file) if (file.bytes.len() + bytes.len()) as u64 <= JOURNAL_SEGMENT_BYTES => {
                file.bytes.extend_from_slice(&bytes);
            }
            _ => files.push(File { name: line::segment_name(record.seq), bytes }),
        }
    }
    files
}

/// Temporary files of ours that hold nothing.
fn left_over(scan: &Scan) -> Vec<Edit> {
    let left = scan.notes.iter().filter(|note| note.case == Case::J34);
    left.map(|note| Edit::Remove { file: note.file.clone() }).collect()
}

fn edit(segment: &Segment) -> Option<Edit> {
    let file = segment.name.clone();
    if segment.blank {
        return Some(Edit::Remove { file });
    }
    if segment.verified < segment.bytes {
        let bytes = segment.bytes - segment.verified;
        return Some(Edit::Cut { file, offset: segment.verified, bytes });
    }
    segment.lacks_feed.then_some(Edit::Complete { file })
}

fn lost(scan: &Scan, label: Label) -> Option<Lost> {
    if label != Label::P5 {
        return None;
    }
    let last_seq = scan.claimed.max(Some(scan.witness)).filter(|last| *last > scan.head.seq);
    if last_seq.is_none() && scan.segments.iter().any(|s| s.lacks_feed) {
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

/// The first half of a repair: keeps in quarantine what the plan takes out. The journal is not
/// touched; done twice, it keeps the bytes twice.
pub fn keep(run: &RunDir, plan: &Plan, scan: &Scan, now: Timestamp) -> Result<Done, Error> {
    let journal = run.dir().ensure_durable_dir("journal")?;
    let mut done = Done { removed: Vec::new(), seen: seen(run, scan)? };
    for edit in &plan.edits {
        if let Edit::Cut { file, offset, bytes } | Edit::Restore { file, offset, bytes, .. } = edit
            && *bytes > 0
        {
            let all = read_segment(&*journal, file, Open::Truth)?;
            if all.len() as u64 != offset + bytes {
                return Err(Error::Changed(file.clone()));
            }
            let gone = &all[usize::try_from(*offset).unwrap_or(0)..];
            done.seen.look_into(gone);
            done.removed.push(set_aside(run, plan.case, file, *offset, gone, now)?);
        }
    }
    Ok(done)
}

/// The second half: changes the journal. `written` is a segment that already has its new content.
/// Cuts come before removals: until the first bad byte is gone the verdict is still damaged. What
/// stays is printed from the verified records, not read again.
pub(super) fn rewrite(
    run: &RunDir,
    plan: &Plan,
    scan: &Scan,
    written: Option<&str>,
) -> disk::Result<()> {
    let journal = run.dir().open_dir("journal")?;
    for edit in &plan.edits {
        match edit {
            Edit::Remove { file } | Edit::Cut { file, offset: 0, .. } => {
                if Some(file.as_str()) != written {
                    disk::optional(journal.unlink(file))?;
                }
            }
            Edit::Complete { file } | Edit::Cut { file, .. } => {
                replace(&*journal, scan, file)?;
            }
            Edit::Restore { file, content, .. } => {
                disk::write_atomic(&*journal, file, content, Atomic::DURABLE)?;
            }
        }
    }
    journal.sync()
}

/// Puts the verified records of a segment into a new file of its name.
fn replace(journal: &dyn Dir, scan: &Scan, file: &str) -> disk::Result<()> {
    let Some(i) = scan.segments.iter().position(|segment| segment.name == file) else {
        return Ok(());
    };
    disk::write_atomic(journal, file, &scan.segment_bytes(i), Atomic::DURABLE)
}

/// Makes everything that stands in the journal durable, whoever wrote it.
pub fn sync(run: &RunDir) -> disk::Result<()> {
    let Some(journal) = disk::optional(run.dir().open_dir("journal"))? else { return Ok(()) };
    for name in journal.list()?.iter().filter(|name| line::segment_first(name).is_some()) {
        journal.open(name, Open::Write)?.sync_file()?;
    }
    journal.sync()
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
    let stamp = now.stamp();
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
        let stale: Option<Arc<dyn Dir>> =
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
        old_head: plan.old_head,
        new_head: plan.head,
        lost: plan.lost.clone(),
        sources: plan.sources.clone(),
        epoch_floor: loses.then(|| done.seen.epoch.next()),
        suspect_upto: loses.then_some(done.seen.ordinal),
    }
}

/// Copies the last segment to a new file. After a writer that died the page cache is no evidence,
/// and what is written over a failed write-back may never reach the device: a new file does.
pub(super) fn copy_last(run: &RunDir, scan: &Scan) -> disk::Result<()> {
    let journal = run.dir().open_dir("journal")?;
    let last = scan.segments.iter().rfind(|segment| segment.verified > 0);
    last.map_or(Ok(()), |segment| replace(&*journal, scan, &segment.name))
}

/// The head of an empty journal is nothing to build on.
pub(super) fn is_empty(head: Head) -> bool {
    head.seq == Seq(0)
}
