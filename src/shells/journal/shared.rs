//! Writing a run's journal through a commit log that many runs share.
//!
//! Nothing is written here: lines are made, in order, for whoever makes them durable. May not know
//! when they become so. Invariant: lines are handed over once, in the order of their records, and
//! say where in the journal they belong.

use super::plan::Plan;
use super::scan::Scan;
use super::writer::{self, Error};
use crate::codecs::event::{Event, Head, Record};
use crate::codecs::format::line;
use crate::codecs::format::log_entry::Append;
use crate::ground::clock::{Clock, Timestamp};
use crate::ground::digest::Sum;
use crate::ground::id::{RunId, Seq};
use crate::ground::limits::JOURNAL_SEGMENT_BYTES;
use crate::ports::disk;
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::lock::{Held, State};

/// Most bytes of one [`Lines`], so that it fits into a batch of the log.
const BYTES_MAX: usize = 512 * 1024;

/// Lines of one run that follow each other in one segment of its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Segment, named by its first record.
    pub file: Seq,
    /// Where in the segment they begin.
    pub offset: u64,
    /// Their first record.
    pub seq: Seq,
    /// How many they are.
    pub count: u32,
    /// Chain sum before the first.
    pub prev: Sum,
    /// Chain sum after the last.
    pub last: Sum,
    /// The bytes, as they will stand in the journal.
    pub bytes: Vec<u8>,
}

impl Lines {
    /// The last record.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        Seq(self.seq.0 + u64::from(self.count) - 1)
    }

    /// The same as the log takes them, of their run.
    #[must_use]
    pub fn into_append(self, run: &RunId) -> Append {
        Append {
            run: run.clone(),
            file: self.file,
            off: self.offset,
            seq: self.seq,
            n: self.count,
            prev: self.prev,
            last: self.last,
            lines: self.bytes,
        }
    }
}

/// The only one who makes records of a run, while a daemon owns it.
#[derive(Debug)]
pub struct SharedWriter {
    lock: Option<Held>,
    head: Head,
    latest: Timestamp,
    /// The segment that is appended to: its name and size.
    segment: Option<(Seq, u64)>,
    journal_bytes: u64,
    repaired: Option<Event>,
    made: Vec<Lines>,
}

/// A run that is open for writing through the log.
#[derive(Debug)]
pub struct Opened {
    /// Makes lines.
    pub writer: SharedWriter,
    /// What the journal holds.
    pub scan: Scan,
    /// What opening had to repair.
    pub repair: Option<Plan>,
}

/// Opens a run's journal: reads it from the device, repairs an unacknowledged tail, and copies the
/// last segment to a new file if a direct writer before died. The run's part of the log must have
/// been recovered.
pub fn open(
    run: &RunDir,
    lock: Held,
    clock: &dyn Clock,
    witness: Option<Seq>,
) -> Result<Opened, Error> {
    let (scan, repair, repaired) = writer::sound(run, &lock, clock, witness)?;
    // What is in the journal is durable, and what follows is promised by the log alone.
    lock.write_note(State::Closed, scan.head, 0).map_err(Error::NotWritten)?;
    let segment = scan.appendable().and_then(|s| Some((line::segment_first(&s.name)?, s.verified)));
    let writer = SharedWriter {
        lock: Some(lock),
        head: scan.head,
        latest: scan.last_at(),
        segment,
        journal_bytes: writer::verified_bytes(&scan),
        repaired,
        made: Vec::new(),
    };
    Ok(Opened { writer, scan, repair })
}

impl SharedWriter {
    /// For a run that begins: no journal stands anywhere yet.
    #[must_use]
    pub fn begin_run(run: &RunId) -> Self {
        Self {
            lock: None,
            head: Head { seq: Seq(0), sum: line::genesis(run) },
            latest: Timestamp::default(),
            segment: None,
            journal_bytes: 0,
            repaired: None,
            made: Vec::new(),
        }
    }

    /// Takes the lock of a run whose directory was made in the meantime.
    pub fn hold(&mut self, lock: Held) {
        self.lock = Some(lock);
    }

    /// The last record that was made.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Size of the whole journal, with what was made.
    #[must_use]
    pub const fn journal_bytes(&self) -> u64 {
        self.journal_bytes
    }

    /// Makes the record of a repair that opening did, if there is one.
    pub fn begin(&mut self, at: Timestamp) -> Result<Option<Record>, Error> {
        let Some(event) = self.repaired.take() else { return Ok(None) };
        self.write(at, &event).map(Some)
    }

    /// Makes the record of one event on top of record `expected`.
    pub fn append(&mut self, expected: Seq, at: Timestamp, event: &Event) -> Result<Record, Error> {
        if expected != self.head.seq {
            return Err(Error::Conflict { expected, found: self.head.seq });
        }
        self.write(at, event)
    }

    /// The next record begins a new segment.
    pub fn rotate(&mut self) {
        self.segment = None;
    }

    /// Hands over what was made since the last call.
    pub fn take_lines(&mut self) -> Vec<Lines> {
        std::mem::take(&mut self.made)
    }

    /// Whether lines wait to be handed over.
    #[must_use]
    pub fn has_lines(&self) -> bool {
        !self.made.is_empty()
    }

    /// Lets the run go: its journal is durable up to the head.
    pub fn close(self) -> disk::Result<()> {
        self.lock.map_or(Ok(()), |lock| lock.write_note(State::Closed, self.head, 0))
    }

    fn write(&mut self, at: Timestamp, event: &Event) -> Result<Record, Error> {
        let (record, bytes) = writer::next_line(self.head, at.max(self.latest), event)?;
        self.store(record.seq, &bytes, record.sum);
        self.head = Head { seq: record.seq, sum: record.sum };
        self.latest = record.at;
        Ok(record)
    }

    fn store(&mut self, seq: Seq, bytes: &[u8], sum: Sum) {
        let length = bytes.len() as u64;
        let (file, offset) = match self.segment {
            Some((file, size)) if size + length <= JOURNAL_SEGMENT_BYTES => (file, size),
            _ => (seq, 0),
        };
        self.segment = Some((file, offset + length));
        self.journal_bytes += length;
        match self.made.last_mut() {
            Some(lines) if lines.file == file && lines.bytes.len() + bytes.len() <= BYTES_MAX => {
                lines.bytes.extend_from_slice(bytes);
                lines.count += 1;
                lines.last = sum;
            }
            _ => self.made.push(Lines {
                file,
                offset,
                seq,
                count: 1,
                prev: self.head.sum,
                last: sum,
                bytes: bytes.to_vec(),
            }),
        }
    }
}
