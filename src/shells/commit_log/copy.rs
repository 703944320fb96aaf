//! The journal of one run as the log sees it: where its copy stands, which files wait for a sync.
//!
//! May not know other runs or the log's files. Invariant: lines are written where the log says they
//! stand and in order; a file with unsynced bytes stays open until the very descriptor was synced.

use super::Why;
use crate::codecs::event::Head;
use crate::codecs::format::line;
use crate::codecs::format::log_entry::Append;
use crate::ground::digest::Sum;
use crate::ground::id::{RunId, Seq};
use crate::ports::disk::{self, Dir, FileHandle, Open};
use crate::shells::run_dir::dir::RunDir;
use std::collections::VecDeque;
use std::sync::Arc;

/// An open journal segment.
#[derive(Debug, Clone)]
pub(super) struct JournalFile {
    /// Place of its first record: its name.
    pub(super) first: Seq,
    pub(super) file: Arc<dyn FileHandle>,
    /// It holds bytes that were not synced.
    pub(super) dirty: bool,
    /// It was made here: its size and name are new.
    pub(super) created: bool,
}

/// Names that wait for a sync.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    /// Directories that got new files.
    pub(super) dirs: Vec<Arc<dyn Dir>>,
    /// The run's directory with everything in it, if it was made here.
    pub(super) made: Option<RunDir>,
}

/// Whether a run's directory exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Not yet: lines wait.
    Unmade,
    /// A job makes it.
    Making,
    /// It does.
    Made,
    /// The run is deleted; its directory goes.
    Gone,
}

/// A run's copy.
#[derive(Debug)]
pub(super) struct RunCopy {
    /// The last record that was given to the log.
    pub(super) head: Head,
    /// The journal segment that it stands in, and where that ends.
    pub(super) file: Seq,
    pub(super) end: u64,
    pub(super) place: Place,
    pub(super) files: Vec<JournalFile>,
    pub(super) names: Names,
    /// Lines that are durable in the log and not yet in the journal.
    pub(super) waiting: VecDeque<Append>,
    /// A journal segment that must be built again before anything is written to it.
    pub(super) broken: Option<Seq>,
    /// First log segment with an entry that no finished or running settle covers.
    pub(super) since: Option<u64>,
    /// The job that settles it.
    pub(super) running: Option<Running>,
    /// When the oldest uncovered entry came, and the youngest.
    pub(super) dirty_ms: u64,
    pub(super) last_ms: u64,
    /// When to look whether it should be settled.
    pub(super) due_ms: Option<u64>,
    /// Its place among the runs whose directory is not there: the earlier, the sooner.
    pub(super) made_by_ms: u64,
    /// Failed attempts in a row to make or to sync directories.
    pub(super) failures: u32,
    /// Somebody waits for it to be settled.
    pub(super) asked: bool,
    /// Number of the job that makes its directory.
    pub(super) making: u64,
}

/// A job that settles the run: its number, the first log segment that it covers, and the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) ticket: u64,
    pub(super) since: Option<u64>,
    pub(super) head: Seq,
}

impl RunCopy {
    fn new(head: Head, file: Seq, end: u64, place: Place) -> Self {
        Self {
            head,
            file,
            end,
            place,
            files: Vec::new(),
            names: Names::default(),
            waiting: VecDeque::new(),
            broken: None,
            since: None,
            running: None,
            dirty_ms: 0,
            last_ms: 0,
            due_ms: None,
            made_by_ms: 0,
            failures: 0,
            asked: false,
            making: 0,
        }
    }

    /// A run that the log holds nothing of: looks whether `append` continues what its journal
    /// holds, byte and sum.
    pub(super) fn open(root: &dyn Dir, append: &Append) -> Result<Self, Why> {
        let unreadable = |e: disk::Error| Why::Unreadable(e.kind);
        let before = Head { seq: Seq(append.seq.0.saturating_sub(1)), sum: append.prev };
        let dir = disk::optional(root.open_dir(append.run.as_str())).map_err(unreadable)?;
        if append.seq == Seq(1) {
            let begins = dir.is_none() && append.prev == line::genesis(&append.run);
            let fresh = Self::new(before, Seq(1), 0, Place::Unmade);
            return if begins { Ok(fresh) } else { Err(Why::NotTheHead) };
        }
        let journal = dir.ok_or(Why::NotTheHead)?.open_dir("journal").map_err(unreadable)?;
        let mut copy = Self::new(before, append.file, append.off, Place::Made);
        let last = if append.off == 0 {
            last_before(&*journal, append.file).map_err(unreadable)?.ok_or(Why::NotTheHead)?
        } else {
            append.file
        };
        let file = journal.open(&line::segment_name(last), Open::Write).map_err(unreadable)?;
        let end = file.stat().map_err(unreadable)?.bytes;
        let stated = sum_before(&*file, end).map_err(unreadable)?;
        if stated != Some(append.prev) || (append.off != 0 && append.off != end) {
            return Err(Why::NotTheHead);
        }
        if append.off != 0 {
            let file = Arc::from(file);
            let opened = JournalFile { first: last, file, dirty: false, created: false };
            copy.files.push(opened);
        }
        Ok(copy)
    }

    /// A run that is deleted.
    pub(super) fn gone() -> Self {
        let head = Head { seq: Seq(0), sum: Sum::from_bytes([0; 16]) };
        Self::new(head, Seq(0), 0, Place::Gone)
    }

    /// Whether `append` builds on the head.
    pub(super) fn continues(&self, append: &Append) -> bool {
        let placed = (append.file == self.file && append.off == self.end)
            || (append.off == 0 && append.file == append.seq);
        append.seq == self.head.seq.next() && append.prev == self.head.sum && placed
    }

    /// Takes the head to the end of `append`.
    pub(super) fn advance(&mut self, append: &Append) {
        self.head = Head { seq: append.last_seq(), sum: append.last };
        (self.file, self.end) = (append.file, append.end());
    }

    /// Whether anything keeps it from being settled: nothing is due if not.
    pub(super) const fn is_pinned(&self) -> bool {
        self.since.is_some() || self.running.is_some()
    }

    /// Whether lines wait although the directory is there, or a file has to be built again.
    pub(super) fn lags(&self) -> bool {
        self.place == Place::Made && (!self.waiting.is_empty() || self.broken.is_some())
    }

    /// Writes lines to the journal, or keeps them if it is not their turn.
    pub(super) fn copy(&mut self, root: &dyn Dir, append: Append) -> disk::Result<()> {
        self.waiting.push_back(append);
        if self.place == Place::Made && self.waiting.len() == 1 && self.broken.is_none() {
            self.flush(root)
        } else {
            Ok(())
        }
    }

    /// Writes the lines that wait, in order.
    pub(super) fn flush(&mut self, root: &dyn Dir) -> disk::Result<()> {
        while let Some(append) = self.waiting.pop_front() {
            if let Err(e) = self.write(root, &append) {
                self.waiting.push_front(append);
                return Err(e);
            }
        }
        Ok(())
    }

    fn write(&mut self, root: &dyn Dir, append: &Append) -> disk::Result<()> {
        let index = self.open_file(root, &append.run, append.file, append.off == 0)?;
        let open = &mut self.files[index];
        open.dirty = true;
        let written = open.file.write_at(append.off, &append.lines);
        if written.as_ref().is_err_and(|e| !e.kind.may_pass()) {
            self.broken = Some(append.file);
        }
        written
    }

    /// A journal segment has been built again from everything that the log holds of it.
    pub(super) fn rebuilt(&mut self, first: Seq, file: Arc<dyn FileHandle>) {
        self.files.retain(|open| open.first != first);
        self.files.push(JournalFile { first, file, dirty: false, created: false });
        self.files.sort_by_key(|open| open.first);
        self.waiting.retain(|append| append.file != first);
        self.broken = None;
    }

    /// The journal segment that begins with `first`, opened, or made when it is new.
    fn open_file(
        &mut self,
        root: &dyn Dir,
        run: &RunId,
        first: Seq,
        new: bool,
    ) -> disk::Result<usize> {
        if let Some(index) = self.files.iter().position(|file| file.first == first) {
            return Ok(index);
        }
        let journal = root.open_dir(run.as_str())?.open_dir("journal")?;
        let name = line::segment_name(first);
        let file = if new {
            let file = journal.open_or_create(&name)?;
            self.names.dirs.push(journal);
            file
        } else {
            journal.open(&name, Open::Write)?
        };
        // Earlier segments are never written again; those without unsynced bytes can go.
        self.files.retain(|file| file.dirty);
        let opened = JournalFile { first, file: Arc::from(file), dirty: false, created: new };
        self.files.push(opened);
        Ok(self.files.len() - 1)
    }
}

/// The journal segment before the one that begins with `first`.
pub(super) fn last_before(journal: &dyn Dir, first: Seq) -> disk::Result<Option<Seq>> {
    let names = journal.list()?;
    let firsts = names.iter().filter_map(|name| line::segment_first(name));
    Ok(firsts.filter(|found| *found < first).max())
}

/// The sum that the line ending at `end` states; nothing if no line ends there.
pub(super) fn sum_before(file: &dyn FileHandle, end: u64) -> disk::Result<Option<Sum>> {
    let mut trailer = [0; line::TRAILER_BYTES];
    let Some(at) = end.checked_sub(trailer.len() as u64) else { return Ok(None) };
    let read = file.read_at(at, &mut trailer)?;
    Ok(line::split(&trailer[..read]).map(|(_, sum)| sum))
}
