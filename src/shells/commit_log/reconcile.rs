//! One run after a crash: its journal made to hold what the log says (J40 to J47).
//!
//! May not know other runs or the log's files. Invariant: nothing is written before the whole run
//! is judged; differing bytes are kept before they are replaced, files change only by being
//! replaced; what a page cache shows is not believed.

use super::label::RunCase;
use super::recover::Patience;
use super::tail::{Fate, Piece, Tail};
use crate::codecs::format::line;
use crate::codecs::format::log_entry::Append;
use crate::ground::clock::Clock;
use crate::ground::digest::Sum;
use crate::ground::id::{RunId, Seq};
use crate::ground::limits::JOURNAL_SEGMENT_BYTES;
use crate::ports::disk::{self, Atomic, Dir, Kind, Open, Rename};
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::former::GONE;
use crate::shells::run_dir::lock::{self, State};
use crate::shells::run_dir::make;
use crate::shells::run_dir::root::{RootView, remove_tree, staging_name};

/// No segment of ours is longer.
const SEGMENT_BYTES_MAX: u64 = 2 * JOURNAL_SEGMENT_BYTES;
/// How often a file is written anew before storage counts as failed.
const REBUILDS_MAX: u32 = 3;
const TREE_DEPTH_MAX: u32 = 16;

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Its journal is durable and holds what the log does.
    Whole(RunCase),
    /// It is deleted, or its journal is durable by itself.
    Nothing,
    /// It cannot be helped from here; what the log holds of it is kept.
    SetAside(RunCase, String),
    /// J45: the log is at fault.
    Ahead(String),
}

/// A journal segment as the device has it.
struct Found {
    bytes: Vec<u8>,
    /// It must be written anew whatever it shows.
    suspect: bool,
}

/// Why a run is set aside before anything is written.
type Aside = (RunCase, String);

/// Brings one run to rest.
pub(super) struct Reconcile<'a> {
    pub(super) root: &'a RootView,
    pub(super) run: &'a RunId,
    pub(super) tail: &'a Tail,
    pub(super) patience: &'a Patience,
    pub(super) clock: &'a dyn Clock,
}

impl Reconcile<'_> {
    pub(super) fn run(&self) -> disk::Result<Outcome> {
        match &self.tail.fate {
            Fate::Gone => self.remove().map(|()| Outcome::Nothing),
            Fate::Rebased(_) => Ok(Outcome::Nothing),
            Fate::Lives(pieces) => {
                if self.tail.after_gone && self.is_other_life(pieces)? {
                    self.remove()?;
                }
                self.lives(pieces)
            }
        }
    }

    /// Removes a deleted run's directory.
    fn remove(&self) -> disk::Result<()> {
        let Some(meta) = self.root.meta() else { return Ok(()) };
        let staging = meta.ensure_durable_dir("staging")?;
        let name = staging_name(&format!("{GONE}{}", self.run), &**self.root.disk());
        let moved = self.root.dir().rename(self.run.as_str(), &*staging, &name, Rename::NoReplace);
        if disk::optional(moved)?.is_some() {
            self.root.dir().sync()?;
            remove_tree(&*staging, &name, TREE_DEPTH_MAX)?;
        }
        Ok(())
    }

    /// Whether the directory is that of a deleted run, not of the one that the log has.
    fn is_other_life(&self, pieces: &[Piece]) -> disk::Result<bool> {
        let Some(dir) = disk::optional(self.root.dir().open_dir(self.run.as_str()))? else {
            return Ok(false);
        };
        let Some(journal) = disk::optional(dir.open_dir("journal"))? else { return Ok(false) };
        let name = line::segment_name(Seq(1));
        let there = disk::optional(journal.read_file(&name, Open::Read, SEGMENT_BYTES_MAX))?;
        let there = there.unwrap_or_default();
        let ours = pieces.first().map(|piece| piece.bytes.as_slice()).unwrap_or_default();
        let first = ours.split_inclusive(|b| *b == b'\n').next().unwrap_or_default();
        let n = there.len().min(first.len());
        Ok(there.len() > ours.len() || there[..n] != first[..n])
    }

    fn lives(&self, pieces: &[Piece]) -> disk::Result<Outcome> {
        let dir = match self.root.dir().open_dir(self.run.as_str()) {
            Ok(dir) => Some(dir),
            Err(e) if e.is_not_found() => None,
            Err(e) if e.kind == Kind::WrongKind => {
                return self.orphan(RunCase::J60, "it is not a plain directory".into());
            }
            Err(e) => return Err(e),
        };
        if dir.is_none() && !self.tail.from_birth() {
            return self.orphan(RunCase::J41, "its directory is gone".into());
        }
        let existed = dir.is_some();
        let run = make::make(self.root, self.run, &self.tail.lines())?;
        let lock = match run.lock(self.patience.lock_wait_ms, self.clock) {
            Ok(lock) => lock,
            Err(lock::Error::Disk(e)) => return Err(e),
            Err(e) => return self.set_aside(&run, (RunCase::J47, e.to_string())),
        };
        let outcome = self.journal(&run, pieces, existed)?;
        if let (Outcome::Whole(_), Some(last)) = (&outcome, pieces.last()) {
            // Best effort: without it the next writer copies the last segment once more.
            let _ = lock.write_note(State::Closed, last.last, 0);
        }
        Ok(outcome)
    }

    /// Judges the whole journal, then writes what it lacks.
    fn journal(&self, run: &RunDir, pieces: &[Piece], existed: bool) -> disk::Result<Outcome> {
        let journal = run.dir().open_dir("journal")?;
        sweep(&*journal)?;
        let mut todo = Vec::new();
        for piece in pieces {
            let found = match read(&*journal, piece.file) {
                Ok(found) => found,
                Err(e) if e.kind.may_pass() => return Err(e),
                Err(e) => {
                    let why = format!("{e}: {}", e.source);
                    return self.set_aside(run, (RunCase::J60, why));
                }
            };
            match self.judge(&*journal, piece, &found)? {
                Judgement::Equal if !found.suspect => {}
                Judgement::Equal | Judgement::Differs => todo.push((piece, found)),
                Judgement::Aside(aside) => return self.set_aside(run, aside),
                Judgement::Ahead(why) => return Ok(Outcome::Ahead(why)),
            }
        }
        if let Some(why) = later_segment(&*journal, pieces)? {
            return Ok(Outcome::Ahead(why));
        }
        let case = match (existed, todo.is_empty()) {
            (false, _) => RunCase::J40,
            (true, true) => RunCase::J42,
            (true, false) => RunCase::J43,
        };
        for (piece, found) in todo {
            self.keep_differing(run, piece, &found.bytes)?;
            rebuild(&*journal, piece, &found.bytes)?;
        }
        make::sync(run)?;
        Ok(Outcome::Whole(case))
    }

    fn judge(&self, journal: &dyn Dir, piece: &Piece, found: &Found) -> disk::Result<Judgement> {
        let name = line::segment_name(piece.file);
        let off = usize::try_from(piece.off).unwrap_or(usize::MAX);
        let Some(there) = found.bytes.get(off..) else {
            let why = format!("{name} has {} bytes, {off} were durable", found.bytes.len());
            return Ok(Judgement::Aside((RunCase::J46, why)));
        };
        let before = match (off, piece.seq) {
            (0, Seq(1)) => Some(piece.prev),
            (0, _) => last_sum_before(journal, piece.file)?,
            _ => line_sum(&found.bytes[..off]),
        };
        // A later piece of the same run begins where the one before ends, which is judged already.
        let continues = self.tail.pieces().first() != Some(piece);
        if !continues && before != Some(piece.prev) {
            let why = format!("the record before {} in {name} is another one", piece.seq);
            return Ok(Judgement::Aside((RunCase::J46, why)));
        }
        if there.len() > piece.bytes.len() {
            let why = format!(
                "{name} of run {} has {} bytes, the log accounts for {}",
                self.run,
                found.bytes.len(),
                off + piece.bytes.len()
            );
            return Ok(Judgement::Ahead(why));
        }
        if there == piece.bytes {
            return Ok(Judgement::Equal);
        }
        Ok(match other_history(piece, there) {
            Some(seq) => {
                let why = format!("record {seq} in {name} verifies and is not the log's");
                Judgement::Aside((RunCase::J44, why))
            }
            None => Judgement::Differs,
        })
    }

    /// Keeps what a file has where the log says something else, unless it is only too short.
    fn keep_differing(&self, run: &RunDir, piece: &Piece, bytes: &[u8]) -> disk::Result<()> {
        let off = usize::try_from(piece.off).unwrap_or(usize::MAX);
        let there = bytes.get(off..).unwrap_or_default();
        if piece.bytes.starts_with(there) || there.iter().all(|b| *b == 0) {
            return Ok(());
        }
        let stamp = self.clock.now().stamp();
        let file = line::segment_name(piece.file);
        let name = format!("{stamp}-J43-{file}@{}+{}.bin", piece.off, there.len());
        let quarantine = run.dir().ensure_durable_dir("quarantine")?;
        disk::write_atomic(&*quarantine, &name, there, Atomic::DURABLE)
    }

    /// Keeps what the log holds of a run that cannot take it, in the run's quarantine.
    fn set_aside(&self, run: &RunDir, (case, why): Aside) -> disk::Result<Outcome> {
        let quarantine = run.dir().ensure_durable_dir("quarantine")?;
        let name = format!("tail-g{}.jsonl", self.tail.generation);
        disk::write_atomic(&*quarantine, &name, &self.tail.lines(), Atomic::DURABLE)?;
        Ok(Outcome::SetAside(case, why))
    }

    /// The same for a run that has no directory, in the root's quarantine.
    fn orphan(&self, case: RunCase, why: String) -> disk::Result<Outcome> {
        let Some(meta) = self.root.meta() else { return Ok(Outcome::SetAside(case, why)) };
        let quarantine = meta.ensure_durable_dir("quarantine")?;
        let name = format!("orphan-{}-g{}.jsonl", self.run, self.tail.generation);
        disk::write_atomic(&*quarantine, &name, &self.tail.lines(), Atomic::DURABLE)?;
        Ok(Outcome::SetAside(case, why))
    }
}

/// How a piece compares with its file.
enum Judgement {
    Equal,
    /// Shorter, or bytes that are no records.
    Differs,
    Aside(Aside),
    Ahead(String),
}

/// Removes what an earlier rebuild left that died.
fn sweep(journal: &dyn Dir) -> disk::Result<()> {
    for name in journal.list()? {
        if disk::is_temporary(&name) {
            disk::optional(journal.unlink(&name))?;
        }
    }
    Ok(())
}

/// Reads a segment as the device has it: what a killed process left dirty is flushed first.
fn read(journal: &dyn Dir, first: Seq) -> disk::Result<Found> {
    let name = line::segment_name(first);
    let Some(file) = disk::optional(journal.open(&name, Open::Write))? else {
        return Ok(Found { bytes: Vec::new(), suspect: false });
    };
    // An error is reported once: from now on the cache may show what the device has not.
    let lost_write = file.sync_file().is_err();
    let truth = journal.open(&name, Open::Truth)?;
    let bytes = truth.read_all(SEGMENT_BYTES_MAX)?;
    let cached = truth.cached_pages().is_some_and(|pages| pages > 0);
    Ok(Found { bytes, suspect: lost_write || cached })
}

/// The sum that the last line of `bytes` states.
fn line_sum(bytes: &[u8]) -> Option<Sum> {
    let cut = bytes.len().checked_sub(line::TRAILER_BYTES)?;
    line::split(&bytes[cut..]).map(|(_, sum)| sum)
}

/// The sum at the end of the segment before the one that begins with `first`.
fn last_sum_before(journal: &dyn Dir, first: Seq) -> disk::Result<Option<Sum>> {
    let names = journal.list()?;
    let firsts = names.iter().filter_map(|name| line::segment_first(name));
    let Some(last) = firsts.filter(|found| *found < first).max() else { return Ok(None) };
    let name = line::segment_name(last);
    let bytes = journal.read_file(&name, Open::Truth, SEGMENT_BYTES_MAX)?;
    Ok(line_sum(&bytes))
}

/// The place of the first line that verifies and is not the log's.
fn other_history(piece: &Piece, there: &[u8]) -> Option<Seq> {
    let (mut sum, mut seq) = (piece.prev, piece.seq);
    let mut ours = piece.bytes.split_inclusive(|b| *b == b'\n');
    for line in there.split_inclusive(|b| *b == b'\n') {
        let (body, stated) = line::split(line)?;
        if line::chain(sum, body) != stated {
            return None;
        }
        if ours.next() != Some(line) {
            return Some(seq);
        }
        (sum, seq) = (stated, seq.next());
    }
    None
}

/// What a segment behind the last piece holds, if it holds anything.
fn later_segment(journal: &dyn Dir, pieces: &[Piece]) -> disk::Result<Option<String>> {
    let last = pieces.last().map_or(Seq(0), |piece| piece.file);
    for name in journal.list()? {
        if line::segment_first(&name).is_some_and(|first| first > last) {
            let bytes = journal.stat(&name)?.bytes;
            if bytes > 0 {
                return Ok(Some(format!("{name} has {bytes} bytes, the log has none of them")));
            }
        }
    }
    Ok(None)
}

/// Writes the durable part of a segment and the log's bytes to a new file of its name.
fn rebuild(journal: &dyn Dir, piece: &Piece, there: &[u8]) -> disk::Result<()> {
    let off = usize::try_from(piece.off).unwrap_or(usize::MAX);
    let mut bytes = there.get(..off).unwrap_or_default().to_vec();
    bytes.extend_from_slice(&piece.bytes);
    let name = line::segment_name(piece.file);
    let mut left = REBUILDS_MAX;
    loop {
        left -= 1;
        match disk::write_atomic(journal, &name, &bytes, Atomic::DURABLE) {
            Err(e) if left == 0 || e.kind.may_pass() => return Err(e),
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
    }
}

/// Whether a run's journal holds a record that a bad frame speaks of: then that frame was whole
/// once, for lines are copied only after their frame is durable.
pub(super) fn bears_witness(root: &RootView, append: &Append) -> disk::Result<bool> {
    let Some(dir) = disk::optional(root.dir().open_dir(append.run.as_str()))? else {
        return Ok(false);
    };
    let Some(journal) = disk::optional(dir.open_dir("journal"))? else { return Ok(false) };
    let names = journal.list()?;
    let mut firsts: Vec<Seq> = names.iter().filter_map(|name| line::segment_first(name)).collect();
    firsts.sort_unstable();
    // Sums are sixteen bytes: no garbage meets one by chance. The places may be garbage.
    let mut follows = append.prev == line::genesis(&append.run);
    // What follows the last settled record stands in the last segment, or just before it.
    let from = firsts.len().saturating_sub(2);
    for first in &firsts[if follows { 0 } else { from }..] {
        let name = line::segment_name(*first);
        let bytes = journal.read_file(&name, Open::Read, SEGMENT_BYTES_MAX)?;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let stated = line::split(line).map(|(_, sum)| sum);
            if follows || stated == Some(append.last) {
                return Ok(true);
            }
            follows = stated == Some(append.prev);
        }
    }
    Ok(false)
}
