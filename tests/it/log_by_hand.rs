//! A commit log written step by step, as the daemon's writer does, for tests of its recovery.
//!
//! Nothing here is the product's: it is a second, slower writer of the same bytes.

use crate::support::{as_disk, at, clock, created, note};
use dormouse::codecs::event::Head;
use dormouse::codecs::format::frame::{self, Place, Tip};
use dormouse::codecs::format::line;
use dormouse::codecs::format::log_entry::{Append, Entry};
use dormouse::codecs::format::log_header::SegmentHeader;
use dormouse::ground::id::{RunId, Seq};
use dormouse::ports::disk::aligned::AlignedBuffer;
use dormouse::ports::disk::memory::MemoryDisk;
use dormouse::ports::disk::{self, Dir, Disk, FileHandle, Open, Rename};
use dormouse::shells::commit_log::recover::{self, Patience, Recovered};
use dormouse::shells::commit_log::{LOG_DIR, segment_file};
use dormouse::shells::run_dir::make;
use dormouse::shells::run_dir::owned::OwnedRoot;
use dormouse::shells::run_dir::root::Options;
use dormouse::shells::run_dir::root_file::uuid_bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(crate) const SEGMENT_BYTES: u64 = 20 * 4096;
pub(crate) const BLOCK: u32 = 4096;

/// Where a run's journal ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) head: Head,
    pub(crate) file: Seq,
    pub(crate) off: u64,
}

#[derive(Debug)]
pub(crate) struct ByHand {
    pub(crate) root: OwnedRoot,
    log: Arc<dyn Dir>,
    file: Box<dyn FileHandle>,
    pub(crate) header: SegmentHeader,
    pub(crate) tip: Tip,
    pub(crate) offset: u64,
    pub(crate) ends: BTreeMap<RunId, End>,
    /// Journals are not written: as if the process died right after each frame.
    pub(crate) without_copies: bool,
}

pub(crate) fn own(disk: &MemoryDisk) -> Result<OwnedRoot, dormouse::shells::run_dir::root::Error> {
    own_on(&as_disk(disk), Path::new("/runs"))
}

pub(crate) fn own_on(
    disk: &Arc<dyn Disk>,
    path: &Path,
) -> Result<OwnedRoot, dormouse::shells::run_dir::root::Error> {
    let options = Options { create: true, wait_ms: 0, allow_fs: None };
    OwnedRoot::open(disk, path, &options, &clock())
}

/// One thread, no waiting.
pub(crate) fn patience() -> Patience {
    Patience { threads: 1, lock_wait_ms: 0 }
}

pub(crate) fn recover_on(root: &OwnedRoot) -> Result<Recovered, recover::Failure> {
    recover::recover(root, None, &patience(), &clock())
}

/// Opens, recovers and leaves at rest.
pub(crate) fn recover(disk: &MemoryDisk) -> Result<Recovered, String> {
    let root = own(disk).map_err(|e| e.to_string())?;
    let done = recover_on(&root).map_err(|e| format!("{e}: {e:?}"))?;
    root.rest().map_err(|e| e.to_string())?;
    Ok(done)
}

/// A segment's file, zero from end to end and durable.
fn spare(log: &dyn Dir, segno: u64) -> disk::Result<Box<dyn FileHandle>> {
    let name = segment_file(segno);
    let temporary = format!("{name}.tmp");
    for left in [&temporary, &name] {
        disk::optional(log.unlink(left))?;
    }
    let file = log.create_excl(&temporary)?;
    file.write_at(0, &vec![0; usize::try_from(SEGMENT_BYTES).unwrap()])?;
    file.sync_file()?;
    log.rename(&temporary, log, &name, Rename::NoReplace)?;
    log.sync()?;
    log.open(&name, Open::Direct)
}

impl ByHand {
    /// Recovers the root and begins a segment.
    pub(crate) fn start(disk: &MemoryDisk) -> Result<Self, String> {
        let root = own(disk).map_err(|e| e.to_string())?;
        recover_on(&root).map_err(|e| e.to_string())?;
        Self::begin(root).map_err(|e| e.to_string())
    }

    pub(crate) fn begin(root: OwnedRoot) -> disk::Result<Self> {
        let log = root.meta().ensure_durable_dir(LOG_DIR)?;
        let json = root.file().json();
        let before = Tip { seq: json.last_seq, crc: 0 };
        let (file, header) = activate(&root, &*log, before, true)?;
        Ok(Self {
            root,
            log,
            file,
            header,
            tip: header.tip(),
            offset: header.frames_at(),
            ends: BTreeMap::new(),
            without_copies: false,
        })
    }

    /// Begins the next segment.
    pub(crate) fn rotate(&mut self) -> disk::Result<()> {
        let (file, header) = activate(&self.root, &*self.log, self.tip, false)?;
        (self.file, self.header, self.offset) = (file, header, header.frames_at());
        Ok(())
    }

    /// Lines that go on where a run's journal ends. `segment`: in a new journal segment.
    pub(crate) fn lines(&self, run: &RunId, count: u32, segment: bool) -> Append {
        let fresh =
            End { head: Head { seq: Seq(0), sum: line::genesis(run) }, file: Seq(1), off: 0 };
        let end = self.ends.get(run).copied().unwrap_or(fresh);
        let (mut head, mut lines) = (end.head, Vec::new());
        for _ in 0..count {
            let seq = head.seq.next();
            let event = if seq == Seq(1) { created(run) } else { note(seq.0) };
            let (bytes, sum) = line::encode(seq, at(seq.0), &event, head.sum);
            lines.extend(bytes);
            head = Head { seq, sum };
        }
        let first = end.head.seq.next();
        let (file, off) = if segment { (first, 0) } else { (end.file, end.off) };
        let (run, prev, last) = (run.clone(), end.head.sum, head.sum);
        Append { run, file, off, seq: first, n: count, prev, last, lines }
    }

    /// One batch: the frame, then the copies.
    pub(crate) fn commit(&mut self, entries: &[Entry]) -> disk::Result<()> {
        let wanted = frame::bytes_max(entries.iter()).next_multiple_of(BLOCK as usize);
        if self.offset + wanted as u64 > self.header.segment_bytes {
            self.rotate()?;
        }
        let mut buffer = AlignedBuffer::new(wanted, BLOCK as usize);
        let place = Place { segment: &self.header, offset: self.offset, tip: self.tip, now: at(0) };
        let (header, bytes) = frame::encode(place, entries.iter(), &mut buffer).unwrap();
        self.file.write_at(self.offset, &buffer[..bytes])?;
        self.tip = Tip { seq: header.seq, crc: header.crc };
        self.offset += bytes as u64;
        for entry in entries {
            if let Entry::Append(append) = entry {
                let head = Head { seq: append.last_seq(), sum: append.last };
                let end = End { head, file: append.file, off: append.end() };
                self.ends.insert(append.run.clone(), end);
                if !self.without_copies {
                    self.copy(append)?;
                }
            }
        }
        Ok(())
    }

    /// Some records of some runs in one batch.
    pub(crate) fn append(&mut self, runs: &[(&RunId, u32)]) -> disk::Result<()> {
        let entries: Vec<Entry> =
            runs.iter().map(|(run, n)| Entry::Append(self.lines(run, *n, false))).collect();
        self.commit(&entries)
    }

    fn copy(&self, append: &Append) -> disk::Result<()> {
        let top = self.root.view().dir();
        if append.seq == Seq(1) && disk::optional(top.stat(append.run.as_str()))?.is_none() {
            make::make(self.root.view(), &append.run, &append.lines)?;
        }
        let journal = top.open_dir(append.run.as_str())?.open_dir("journal")?;
        let file = journal.open_or_create(&line::segment_name(append.file))?;
        file.write_at(append.off, &append.lines)
    }

    /// Makes a run's journal durable.
    pub(crate) fn settle(&self, run: &RunId) -> disk::Result<()> {
        let top = self.root.view().dir();
        let dir = top.open_dir(run.as_str())?;
        let journal = dir.open_dir("journal")?;
        for name in journal.list()? {
            journal.open(&name, Open::Write)?.sync_file()?;
        }
        for dir in [&journal, &dir, top] {
            dir.sync()?;
        }
        Ok(())
    }
}

fn activate(
    root: &OwnedRoot,
    log: &dyn Dir,
    before: Tip,
    settled: bool,
) -> disk::Result<(Box<dyn FileHandle>, SegmentHeader)> {
    let json = root.file().json();
    let segno = json.max_segment + 1;
    let file = spare(log, segno)?;
    root.file().replace(|json| json.max_segment = segno)?;
    let header = SegmentHeader {
        block_bytes: BLOCK,
        root: uuid_bytes(&json.root).unwrap(),
        segno,
        generation: json.generation,
        first_seq: before.seq + 1,
        prev_last_seq: before.seq,
        prev_last_crc: if settled { 0 } else { before.crc },
        settled,
        buffered: false,
        segment_bytes: SEGMENT_BYTES,
        nonce: root.view().disk().random(),
        boot: [0; 16],
        created: at(0),
    };
    let mut buffer = AlignedBuffer::new(2 * BLOCK as usize, BLOCK as usize);
    header.encode(&mut buffer);
    file.write_at(0, &buffer)?;
    Ok((file, header))
}
