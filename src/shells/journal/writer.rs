//! Appending to a run's journal without a daemon: one record, one write, one sync.
//!
//! May not know which events are legal when. Invariant: after the first failed write or sync this
//! writer never writes again, and the run's note stays `open` so that the next one copies the last
//! segment to a new file before it trusts it.

use super::plan::{self, Plan};
use super::reader;
use super::scan::{Scan, Verdict};
use crate::codecs::event::{Event, Head, Record};
use crate::codecs::format::line;
use crate::ground::clock::{Clock, Timestamp};
use crate::ground::id::Seq;
use crate::ground::limits::{JOURNAL_RECORD_BYTES_MAX, JOURNAL_SEGMENT_BYTES};
use crate::ground::sabotage::{self, Guard};
use crate::ports::disk::{self, Atomic, Dir, FileHandle, Open};
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::lock::{Held, State};
use std::sync::Arc;

/// Why nothing was appended, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else appended: read again and decide anew.
    #[error("the journal ends at {found}, not at {expected}")]
    Conflict {
        /// The head that the caller built on.
        expected: Seq,
        /// The head.
        found: Seq,
    },
    /// The record is not one that may be written. Nothing was.
    #[error("a record of {0} bytes is longer than a record may be")]
    TooLong(usize),
    /// The journal is not one to append to: show the scan.
    #[error("{}: {} [{}]", .0.main.case.title(), .0.main.why, .0.main.case)]
    SetAside(Box<Scan>),
    /// Nothing was written; safe to try again.
    #[error("nothing was written")]
    NotWritten(#[source] disk::Error),
    /// The record may be there or not: open the run again to find out.
    #[error("storage failed, the outcome is unknown")]
    Unknown(#[source] disk::Error),
    /// This writer failed before. Nothing was written.
    #[error("nothing was written: storage failed before")]
    Latched,
}

/// The only one who appends to a run's journal.
#[derive(Debug)]
pub struct Writer {
    lock: Held,
    journal: Arc<dyn Dir>,
    head: Head,
    latest: Timestamp,
    segment: Option<Segment>,
    /// Bytes of the whole journal.
    journal_bytes: u64,
    /// A repair whose record goes in with the next one.
    repaired: Option<Event>,
    /// That record, once written, until the caller takes it.
    written: Option<Record>,
    failed: bool,
}

#[derive(Debug)]
struct Segment {
    file: Box<dyn FileHandle>,
    bytes: u64,
}

/// A run that is open for writing.
#[derive(Debug)]
pub struct Opened {
    /// Appends.
    pub writer: Writer,
    /// What the journal holds.
    pub scan: Scan,
    /// What opening had to repair.
    pub repair: Option<Plan>,
}

/// Opens a run's journal for appending: reads it from the device, repairs an unacknowledged tail,
/// and copies the last segment to a new file if the writer before died.
pub fn open(
    run: &RunDir,
    lock: Held,
    clock: &dyn Clock,
    witness: Option<Seq>,
) -> Result<Opened, Error> {
    run.touch().map_err(Error::NotWritten)?;
    let (scan, repair, repaired) = sound(run, &lock, clock, witness)?;
    let writer = Writer::start(run, lock, &scan, repaired).map_err(Error::NotWritten)?;
    Ok(Opened { writer, scan, repair })
}

/// Reads a journal that is about to be appended to from the device, and mends what nobody was
/// promised: an unacknowledged tail, a segment whose writer died. Gives the repair that was done,
/// and the event that tells of it.
pub(super) fn sound(
    run: &RunDir,
    lock: &Held,
    clock: &dyn Clock,
    witness: Option<Seq>,
) -> Result<(Scan, Option<Plan>, Option<Event>), Error> {
    let scan = reader::read_locked(run, witness);
    if scan.verdict() >= Verdict::Damaged {
        return Err(Error::SetAside(Box::new(scan)));
    }
    let repair = plan::plan(&scan);
    let mut repaired = None;
    if let Some(plan) = &repair {
        let done = plan::keep(run, plan, &scan, clock.now()).map_err(not_repaired)?;
        plan::rewrite(run, plan, &scan, None).map_err(Error::NotWritten)?;
        if !done.removed.is_empty() {
            repaired = Some(plan::record(plan, &done, "recovery", None).into());
        }
    }
    if lock.writer_died() {
        plan::copy_last(run, &scan).map_err(Error::NotWritten)?;
    }
    Ok((scan, repair, repaired))
}

/// Repairs a journal by a plan that the caller has shown; what it loses was accepted.
/// The record of the repair is appended at once.
pub fn repair(
    run: &RunDir,
    lock: Held,
    clock: &dyn Clock,
    scan: &Scan,
    plan: &Plan,
    by: &str,
    why: Option<String>,
) -> Result<(Writer, Record), Error> {
    if plan::is_empty(plan.head) {
        return Err(Error::SetAside(Box::new(scan.clone())));
    }
    run.touch().map_err(Error::NotWritten)?;
    // The state cache vouches for records that are about to go.
    run.forget_state().map_err(Error::NotWritten)?;
    lock.write_note_durably(State::Open, plan.old_head).map_err(Error::NotWritten)?;
    let done = plan::keep(run, plan, scan, clock.now()).map_err(not_repaired)?;
    let event: Event = plan::record(plan, &done, by, why).into();
    // The record stands in a segment of its own before anything is cut: a repair that dies in
    // between is seen as damage again, never as a clean journal that has forgotten something.
    let (record, bytes) = next_line(plan.head, clock.now().max(plan.last_at), &event)?;
    let name = line::segment_name(record.seq);
    let journal = run.dir().open_dir("journal").map_err(Error::NotWritten)?;
    disk::write_atomic(&*journal, &name, &bytes, Atomic::DURABLE).map_err(Error::Unknown)?;
    plan::rewrite(run, plan, scan, Some(&name)).map_err(Error::Unknown)?;
    run.retire_tails().map_err(Error::Unknown)?;
    let file = journal.open(&name, Open::Write).map_err(Error::Unknown)?;
    let head = Head { seq: record.seq, sum: record.sum };
    lock.write_note(State::Open, head, 0).map_err(Error::Unknown)?;
    let segment = Some(Segment { file, bytes: bytes.len() as u64 });
    let writer = Writer {
        lock,
        journal,
        head,
        latest: record.at,
        segment,
        journal_bytes: plan.journal_bytes(scan) + bytes.len() as u64,
        repaired: None,
        written: None,
        failed: false,
    };
    Ok((writer, record))
}

/// The record of an event that follows `head`, and its line.
pub(super) fn next_line(
    head: Head,
    at: Timestamp,
    event: &Event,
) -> Result<(Record, Vec<u8>), Error> {
    let seq = head.seq.next();
    let (bytes, sum) = line::encode(seq, at, event, head.sum);
    if bytes.len() > JOURNAL_RECORD_BYTES_MAX {
        return Err(Error::TooLong(bytes.len()));
    }
    Ok((Record { seq, at, event: event.clone(), sum }, bytes))
}

fn not_repaired(error: plan::Error) -> Error {
    match error {
        plan::Error::Disk(e) => Error::NotWritten(e),
        plan::Error::Changed(file) => {
            let why = "it has changed since it was read";
            let e = disk::Error::of_kind("repair", file, disk::Kind::Broken, why);
            Error::NotWritten(e)
        }
    }
}

pub(super) fn verified_bytes(scan: &Scan) -> u64 {
    scan.segments.iter().map(|s| s.verified).sum()
}

impl Writer {
    /// Size of the whole journal.
    #[must_use]
    pub const fn journal_bytes(&self) -> u64 {
        self.journal_bytes
    }

    fn start(run: &RunDir, lock: Held, scan: &Scan, repaired: Option<Event>) -> disk::Result<Self> {
        let journal = run.dir().open_dir("journal")?;
        let mut segment = None;
        if let Some(last) = scan.appendable() {
            let file = journal.open(&last.name, Open::Write)?;
            let bytes = file.stat()?.bytes;
            segment = Some(Segment { file, bytes });
        }
        lock.write_note(State::Open, scan.head, 0)?;
        Ok(Self {
            lock,
            journal,
            head: scan.head,
            latest: scan.last_at(),
            segment,
            journal_bytes: verified_bytes(scan),
            repaired,
            written: None,
            failed: false,
        })
    }

    /// The last record that is known to be durable.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Appends the record of a repair that opening did, if there is one to append.
    pub fn begin(&mut self, at: Timestamp) -> Result<Option<Record>, Error> {
        let Some(event) = self.repaired.clone() else { return Ok(None) };
        let record = self.write(at, &event)?;
        self.repaired = None;
        Ok(Some(record))
    }

    /// Appends one event on top of record `expected` and returns when it is durable. The record of
    /// a repair goes in before it: [`Writer::take_repaired`] gives it.
    pub fn append(&mut self, expected: Seq, at: Timestamp, event: &Event) -> Result<Record, Error> {
        if expected != self.head.seq {
            return Err(Error::Conflict { expected, found: self.head.seq });
        }
        if let Some(record) = self.begin(at)? {
            self.written = Some(record);
        }
        self.write(at, event)
    }

    /// The record of a repair that the last append put before its own. Fold it first.
    pub fn take_repaired(&mut self) -> Option<Record> {
        self.written.take()
    }

    /// The next record begins a new segment.
    pub fn rotate(&mut self) {
        self.segment = None;
    }

    /// Says in the lock's note that everything is durable, and lets the lock go. Without this, or
    /// after a failure, the note stays `open`.
    pub fn close(self) -> disk::Result<()> {
        if self.failed {
            return Ok(());
        }
        self.lock.write_note(State::Closed, self.head, 0)
    }

    fn write(&mut self, at: Timestamp, event: &Event) -> Result<Record, Error> {
        if self.failed {
            return Err(Error::Latched);
        }
        let (record, bytes) = next_line(self.head, at.max(self.latest), event)?;
        if let Err(e) = self.store(record.seq, &bytes) {
            self.failed = !sabotage::is_removed(Guard::AppendAfterError);
            // For people and for the next writer; the disk may refuse this too.
            let _ = self.lock.write_note(State::Open, self.head, 1);
            return Err(Error::Unknown(e));
        }
        self.head = Head { seq: record.seq, sum: record.sum };
        self.latest = record.at;
        Ok(record)
    }

    fn store(&mut self, seq: Seq, bytes: &[u8]) -> disk::Result<()> {
        let length = bytes.len() as u64;
        self.journal_bytes += length;
        if let Some(segment) = &mut self.segment
            && segment.bytes + length <= JOURNAL_SEGMENT_BYTES
        {
            segment.file.write_at(segment.bytes, bytes)?;
            if !sabotage::is_removed(Guard::NoSync) {
                segment.file.sync_data()?;
            }
            segment.bytes += length;
            return Ok(());
        }
        let file = self.journal.create_excl(&line::segment_name(seq))?;
        file.write_at(0, bytes)?;
        file.sync_file()?;
        self.journal.sync()?;
        self.segment = Some(Segment { file, bytes: length });
        Ok(())
    }
}
