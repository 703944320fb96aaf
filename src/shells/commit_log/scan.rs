//! Reading the commit log back: from segment files to entries and one labelled verdict.
//!
//! May not change anything, nor know journals. Invariant: what is given back stood in frames that
//! pass every check and follow from each other without a gap; a log that cannot be explained by a
//! write that was cut short is an error, never a shorter log.

use super::label::Label;
use super::{LOG_DIR, segment_file, segment_number};
use crate::codecs::format::frame::{self, Check, FrameHeader, HEADER_BYTES, Tip};
use crate::codecs::format::log_entry::{self, Append, Entry};
use crate::codecs::format::log_header::{self, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, SegmentHeader};
use crate::ground::id::RunId;
use crate::ground::limits::{LOG_FRAME_BYTES_MAX, LOG_UNSETTLED_BYTES_MAX};
use crate::ports::disk::{self, Dir, Open};
use crate::shells::run_dir::root_file::{RootJson, uuid_bytes};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The segment.
    pub segno: u64,
    /// Bytes from its start.
    pub offset: u64,
}

/// A log that must not be built upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// L2 to L8.
    pub label: Label,
    /// Where.
    pub at: Place,
    /// The batch that was expected there.
    pub seq: u64,
    /// In words, for people.
    pub why: String,
    /// Runs that have something in the log, as far as it can be read.
    pub runs: BTreeSet<RunId>,
}

/// Why there is nothing to go on with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operator decides: nothing was changed.
    #[error(
        "{}: {} (segment {}, byte {}, batch {}) [{}]",
        .0.label.title(), .0.why, .0.at.segno, .0.at.offset, .0.seq, .0.label
    )]
    Corrupt(Box<Corruption>),
    /// R2: a segment of another root.
    #[error("{} belongs to another runs root [R2]", .0.display())]
    OtherRoot(PathBuf),
    /// L10: not judged; trying again may help.
    #[error("the log cannot be read [L10]")]
    Unreadable(#[from] disk::Error),
}

/// Something that is worth saying and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// L1 or L9.
    pub label: Label,
    /// Where.
    pub at: Place,
    /// In words.
    pub why: String,
}

/// One entry and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its frame.
    pub at: Place,
    /// The number of its frame.
    pub seq: u64,
    /// The opening of the root that wrote it.
    pub generation: u64,
    /// What it says.
    pub entry: Entry,
}

/// A last frame that was cut short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// Where it begins.
    pub at: Place,
    /// The number that it had.
    pub seq: u64,
    /// The opening of the root that wrote it.
    pub generation: u64,
    /// The check that it fails.
    pub check: Check,
    /// What can still be read of it: true or garbage, nobody can tell from here.
    pub rest: Vec<Append>,
}

/// What the log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// All entries, in order.
    pub entries: Vec<Logged>,
    /// Number of the first frame that the log holds, or would hold; nothing without a segment.
    pub first_seq: Option<u64>,
    /// Number of the last frame that counts.
    pub last_seq: u64,
    /// Set if a bad frame follows it.
    pub torn: Option<Torn>,
    /// What else is worth saying.
    pub notes: Vec<Note>,
    /// The highest segment that was ever made.
    pub highest: u64,
    /// Where the last frame ends.
    pub end: Place,
}

impl Scanned {
    /// All runs that have something in the log.
    #[must_use]
    pub fn runs(&self) -> BTreeSet<RunId> {
        self.entries.iter().map(|logged| logged.entry.run().clone()).collect()
    }

    /// The log is damaged at its end.
    #[must_use]
    pub fn corrupt(&self, label: Label, why: String) -> Error {
        Error::Corrupt(Box::new(self.corruption(label, why)))
    }

    fn corruption(&self, label: Label, why: String) -> Corruption {
        let torn = self.torn.as_ref();
        let mut runs = self.runs();
        runs.extend(torn.iter().flat_map(|torn| torn.rest.iter().map(|append| append.run.clone())));
        let (at, seq) = torn.map_or((self.end, self.last_seq + 1), |torn| (torn.at, torn.seq));
        Corruption { label, at, seq, why, runs }
    }
}

/// Reads and judges the log of the root whose own directory is `meta`, as `json` describes it.
pub fn scan(meta: &dyn Dir, json: &RootJson, mode: Open) -> Result<Scanned, Error> {
    let mut walk = Walk {
        root: uuid_bytes(&json.root).unwrap_or_default(),
        json,
        tip: None,
        spare: None,
        found: Scanned { highest: json.max_segment, ..Scanned::default() },
    };
    let dir = disk::optional(meta.open_dir(LOG_DIR))?;
    let names = dir.as_ref().map_or(Ok(Vec::new()), |dir| dir.list())?;
    let mut segments: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    segments.sort_unstable();
    walk.found.highest = walk.found.highest.max(segments.last().copied().unwrap_or(0));
    segments.retain(|segno| *segno >= json.oldest_segment);
    for wanted in json.oldest_segment..=json.max_segment {
        if segments.binary_search(&wanted).is_err() {
            let at = Place { segno: wanted, offset: 0 };
            return Err(walk.corrupt(Label::L4, at, "the segment is missing".into()));
        }
    }
    for segno in segments {
        let Some(dir) = &dir else { break };
        walk.segment(&**dir, segno, mode)?;
    }
    walk.finish()
}

struct Walk<'a> {
    root: [u8; 16],
    json: &'a RootJson,
    /// The last frame that counts.
    tip: Option<Tip>,
    /// A segment that was never active, or whose activation was cut short, and which of the two.
    spare: Option<(u64, &'static str)>,
    found: Scanned,
}

/// Compared in blocks: most of a segment is zero, and a loop over bytes takes its time.
fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|block| *block == ZEROS[..block.len()])
}

fn from(bytes: &[u8], at: u64) -> &[u8] {
    usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default()
}

impl Walk<'_> {
    fn corrupt(&self, label: Label, at: Place, why: String) -> Error {
        let seq = self.tip.map_or(0, |tip| tip.seq + 1);
        Error::Corrupt(Box::new(Corruption { at, seq, ..self.found.corruption(label, why) }))
    }

    fn note(&mut self, at: Place, why: &str) {
        self.found.notes.push(Note { label: Label::L9, at, why: why.to_owned() });
    }

    fn segment(&mut self, dir: &dyn Dir, segno: u64, mode: Open) -> Result<(), Error> {
        let name = segment_file(segno);
        let file = dir.open(&name, mode)?;
        let bytes = file.read_all(LOG_UNSETTLED_BYTES_MAX)?;
        if is_zero(&bytes) {
            self.spare.get_or_insert((segno, "the segment is empty, a later one is not"));
            return Ok(());
        }
        let at = Place { segno, offset: 0 };
        if let Some((segno, why)) = self.spare {
            return Err(self.corrupt(Label::L4, Place { segno, offset: 0 }, why.into()));
        }
        let (header, other_is_bad) = match SegmentHeader::find(&bytes) {
            Ok(found) => found,
            Err(e @ log_header::Error::Newer(_)) => {
                return Err(self.corrupt(Label::L4, at, e.to_string()));
            }
            Err(e) => {
                let align = file.dio_alignment()?.filter(|align| *align <= BLOCK_BYTES_MAX);
                let block = align.unwrap_or(BLOCK_BYTES_MIN).max(BLOCK_BYTES_MIN);
                if !is_zero(from(&bytes, 2 * u64::from(block))) {
                    return Err(self.corrupt(Label::L4, at, e.to_string()));
                }
                // Its activation was cut short, so nothing was ever written to it.
                self.spare = Some((segno, "neither copy of the header is good"));
                return Ok(());
            }
        };
        if header.root != self.root {
            return Err(Error::OtherRoot(dir.path().join(name)));
        }
        if other_is_bad {
            self.note(at, "one of the two copies of the header is bad");
        }
        self.join(&header, segno, &bytes)?;
        self.found.first_seq.get_or_insert(header.first_seq);
        self.frames(&header, &bytes)
    }

    /// Whether a segment is the one that its name says and goes on where the one before ended.
    fn join(&mut self, header: &SegmentHeader, segno: u64, bytes: &[u8]) -> Result<(), Error> {
        let at = Place { segno, offset: 0 };
        if segno > self.json.max_segment {
            let why = "it was never announced in root.json".to_owned();
            return Err(self.corrupt(Label::L4, at, why));
        }
        if header.segno != segno || header.segment_bytes != bytes.len() as u64 {
            let why = format!(
                "the header is of segment {} with {} bytes, the file has {}",
                header.segno,
                header.segment_bytes,
                bytes.len()
            );
            return Err(self.corrupt(Label::L4, at, why));
        }
        if header.generation > self.json.generation {
            let why = format!(
                "opening {} of the root wrote it, root.json knows {}",
                header.generation, self.json.generation
            );
            return Err(self.corrupt(Label::L8, at, why));
        }
        if let Some(torn) = &self.found.torn {
            let later = later_frame(header, bytes, header.frames_at(), torn.seq);
            let (label, why) = match later {
                Some((_, seq)) => (Label::L5, format!("batch {seq} is in segment {segno}")),
                None => (Label::L6, format!("segment {segno} was begun after it")),
            };
            return Err(self.found.corrupt(label, why));
        }
        let fits = header.first_seq == header.prev_last_seq.wrapping_add(1)
            && self.tip.is_none_or(|tip| !header.settled && header.tip() == tip);
        if !fits {
            let why = "the segment does not begin where the one before ends".to_owned();
            return Err(self.corrupt(Label::L6, at, why));
        }
        self.tip = Some(header.tip());
        Ok(())
    }

    fn frames(&mut self, header: &SegmentHeader, bytes: &[u8]) -> Result<(), Error> {
        let mut tip = header.tip();
        let mut at = Place { segno: header.segno, offset: header.frames_at() };
        while at.offset < header.segment_bytes {
            let rest = from(bytes, at.offset);
            match frame::verify(header, at.offset, tip, rest) {
                Ok(frame) => {
                    if frame.dirty_padding {
                        self.note(at, "the padding of a batch is not zero");
                    }
                    tip = Tip { seq: frame.header.seq, crc: frame.header.crc };
                    self.tip = Some(tip);
                    let (seq, generation) = (tip.seq, header.generation);
                    let logged = |entry| Logged { at, seq, generation, entry };
                    self.found.entries.extend(frame.entries.into_iter().map(logged));
                    at.offset += frame.bytes;
                }
                Err(_) if is_zero(rest) => break,
                Err(check) => {
                    self.bad_frame(header, bytes, at, check)?;
                    break;
                }
            }
        }
        self.found.end = at;
        Ok(())
    }

    /// The tail rule, as far as the log alone can tell.
    fn bad_frame(
        &mut self,
        header: &SegmentHeader,
        bytes: &[u8],
        at: Place,
        check: Check,
    ) -> Result<(), Error> {
        let seq = self.tip.map_or(0, |tip| tip.seq + 1);
        let rest = salvage(from(bytes, at.offset));
        self.found.end = at;
        self.found.torn = Some(Torn { at, seq, generation: header.generation, check, rest });
        let why = format!("it fails check {}", check.letter());
        match check {
            Check::Generation | Check::Order | Check::Chain => {
                return Err(self.found.corrupt(Label::L2, why));
            }
            Check::Payload | Check::Lines => return Err(self.found.corrupt(Label::L3, why)),
            Check::Shape | Check::HeaderSum | Check::Length | Check::PayloadSum => {}
        }
        let next = at.offset + u64::from(header.block_bytes);
        if let Some((offset, later)) = later_frame(header, bytes, next, seq) {
            let why = format!("{why}; batch {later} stands behind it at byte {offset}");
            return Err(self.found.corrupt(Label::L5, why));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Scanned, Error> {
        self.found.last_seq = self.tip.map_or(self.json.last_seq, |tip| tip.seq);
        if self.found.last_seq < self.json.last_seq {
            let why = format!(
                "the log ends with batch {}, root.json knows of {}",
                self.found.last_seq, self.json.last_seq
            );
            return Err(self.found.corrupt(Label::L8, why));
        }
        Ok(self.found)
    }
}

/// The first frame at or behind `at` whose header is good and whose number is above `seq`.
fn later_frame(header: &SegmentHeader, bytes: &[u8], mut at: u64, seq: u64) -> Option<(u64, u64)> {
    while at < header.segment_bytes {
        if let Ok(found) = FrameHeader::read(header, at, from(bytes, at))
            && found.seq > seq
        {
            return Some((at, found.seq));
        }
        at += u64::from(header.block_bytes);
    }
    None
}

/// Entries that can still be read in a bad frame. An entry whose beginning is broken hides only
/// itself: the next one is looked for by the two bytes that every entry with lines begins with.
fn salvage(frame: &[u8]) -> Vec<Append> {
    let end = frame.len().min(LOG_FRAME_BYTES_MAX);
    let payload = frame.get(HEADER_BYTES..end).unwrap_or_default();
    let mut found: Vec<Append> = Vec::new();
    let mut at = 0;
    while let Some(next) = payload.get(at..).and_then(log_entry::find_append) {
        let (start, append, bytes) = next;
        found.push(append);
        at += start + bytes;
    }
    found
}
