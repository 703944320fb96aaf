//! Opening a journal: from bytes to records and one labelled verdict. Pure.
//!
//! May not open a file or change a byte; repair is [`super::plan`]'s. Invariant: the records given
//! back are a verified prefix of the chain, whatever the verdict says about the rest.

use crate::codecs::event::{Event, Head, Record};
use crate::codecs::format::line::{self, Envelope};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Sum;
use crate::ground::id::{RunId, Seq};
use crate::ground::limits::JOURNAL_RECORD_BYTES_MAX;
use crate::ports::disk;
use std::fmt;
use std::io::BufRead as _;

/// What a case means for whoever opens the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing to say.
    Ok,
    /// Something to say, nothing to do.
    Note,
    /// An unacknowledged tail; repaired when the run is opened for writing.
    Torn,
    /// Records are gone or strange: the run is set aside until an operator looks.
    Damaged,
    /// Not judged.
    Refuse,
}

macro_rules! cases {
    ($($(#[$doc:meta])* $case:ident $verdict:ident $title:literal,)*) => {
        /// What was found, one label each. The labels are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the title says it")]
        pub enum Case { $($(#[$doc])* $case,)* }

        /// All cases, in the order of their labels.
        pub const CASES: &[Case] = &[$(Case::$case,)*];

        impl Case {
            const fn name(self) -> &'static str {
                match self { $(Self::$case => stringify!($case),)* }
            }

            /// What it means for whoever opens the run.
            #[must_use]
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$case => Verdict::$verdict,)* }
            }

            /// One line for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$case => $title,)* }
            }
        }
    };
}

cases! {
    J00 Ok "every record verifies",
    J01 Refuse "no journal and no run.json: not a run",
    J02 Damaged "the run has no journal",
    J03 Torn "the last segment is empty",
    J10 Torn "the last record lacks its line feed",
    J11 Torn "the last record is incomplete",
    J12 Torn "the last record does not verify",
    J13 Torn "zeros follow the last record",
    J14 Damaged "what follows the last record is longer than one record",
    J15 Damaged "a record that was acknowledged is lost or cut",
    J20 Damaged "a record does not verify and others follow it",
    J21 Damaged "a record is missing, repeated or out of order",
    J22 Damaged "the journal belongs to another run",
    J23 Damaged "a record verifies but was not written by dormouse",
    J24 Damaged "a record verifies but is not legal where it stands",
    J25 Refuse "a record is longer than the limit",
    J26 Note "the time of a record steps back",
    J30 Damaged "a segment is missing",
    J31 Damaged "the name of a segment is not the place of its first record",
    J32 Damaged "a segment that is not the last one is empty",
    /// Segments overlap with different bytes.
    J33 Damaged "segments overlap and differ",
    /// Segments overlap with equal bytes: the harmless half of J33.
    J33Equal Note "segments overlap with equal bytes",
    J34 Note "a temporary file was left over",
    J50 Damaged "a blob that a record names is missing",
    J51 Damaged "a blob has other bytes than its record says",
    J52 Damaged "the pinned code is missing or differs",
    J60 Refuse "the journal cannot be read",
    J61 Refuse "a file of the run is not a plain file of its owner",
    J62 Refuse "the journal was written by a newer version",
}

impl Case {
    /// The label, such as `J11`: the row of the published table. Both halves of J33 are one row.
    #[must_use]
    pub const fn label(self) -> &'static str {
        if let Self::J33Equal = self { "J33" } else { self.name() }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// One file of `journal/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What is known about a run besides its journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Around {
    /// `run.json`, `blobs/` or `process/` exist.
    pub has_other_files: bool,
    /// Highest place that a witness vouches for: closing note, state cache, index.
    pub witness: Option<Seq>,
}

/// Something found, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which row of the table.
    pub case: Case,
    /// File in `journal/`, empty if it is about the whole.
    pub file: String,
    /// Where in the file.
    pub offset: u64,
    /// In words, for people.
    pub why: String,
}

/// A segment as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// File name.
    pub name: String,
    /// Size of the file.
    pub bytes: u64,
    /// How much of it verified; less than `bytes` only behind damage.
    pub verified: u64,
    /// Nothing in it but zeros, or nothing at all.
    pub blank: bool,
    /// Its last record verifies but the line feed is missing.
    pub lacks_feed: bool,
}

/// What opening found.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The verified prefix.
    pub records: Vec<Record>,
    /// Where it ends.
    pub head: Head,
    /// The verdict's reason.
    pub main: Finding,
    /// What else is worth saying.
    pub notes: Vec<Finding>,
    /// All segments, in order.
    pub segments: Vec<Segment>,
    /// Highest place that anything vouches for, later segments' names included.
    pub witness: Seq,
    /// Highest place that any line behind the damage claims.
    pub claimed: Option<Seq>,
    /// Nothing was read for want of descriptors: another look may find more.
    pub may_pass: bool,
    genesis: Sum,
}

impl Scan {
    /// The verdict of the main finding.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.main.case.verdict()
    }

    /// The segment that may be appended to: not one that only repeats records of another.
    #[must_use]
    pub fn appendable(&self) -> Option<&Segment> {
        let overlaps = self.notes.iter().any(|note| note.case == Case::J33Equal);
        self.segments.iter().rfind(|s| !s.blank && s.verified > 0).filter(|_| !overlaps)
    }

    /// The time of the last record.
    #[must_use]
    pub fn last_at(&self) -> Timestamp {
        self.records.iter().map(|r| r.at).max().unwrap_or_default()
    }

    /// The verified content of the `i`-th segment, printed again: what a page cache shows twice
    /// need not be the same twice. Ends in a line feed even if the file does not.
    #[must_use]
    pub fn segment_bytes(&self, i: usize) -> Vec<u8> {
        let Some(segment) = self.segments.get(i) else { return Vec::new() };
        let first = line::segment_first(&segment.name).unwrap_or_default().0.max(1);
        let skipped = usize::try_from(first - 1).unwrap_or(usize::MAX);
        let before = skipped.checked_sub(1).and_then(|i| self.records.get(i));
        let mut sum = before.map_or(self.genesis, |record| record.sum);
        let mut out = Vec::with_capacity(usize::try_from(segment.verified + 1).unwrap_or(0));
        for record in self.records.iter().skip(skipped) {
            if out.len() as u64 >= segment.verified {
                break;
            }
            out.extend_from_slice(&line::encode(record.seq, record.at, &record.event, sum).0);
            sum = record.sum;
        }
        out
    }

    /// What the first record builds on.
    pub(super) const fn genesis(&self) -> Sum {
        self.genesis
    }

    /// The same scan after the fold refused the record at `seq`: J24.
    #[must_use]
    pub fn refused_by_fold(mut self, seq: Seq, why: String) -> Self {
        self.main = Finding { case: Case::J24, file: String::new(), offset: 0, why };
        self.claimed = self.claimed.max(Some(self.head.seq));
        let kept = self.records.partition_point(|record| record.seq < seq);
        // A canonical record prints as it stood, so its length need not be remembered.
        let length = |r: &Record| line::encode(r.seq, r.at, &r.event, r.sum).0.len() as u64;
        for segment in &mut self.segments {
            let first = line::segment_first(&segment.name).unwrap_or_default();
            let inside = self.records[..kept].iter().skip_while(|record| record.seq < first);
            segment.verified = segment.verified.min(inside.map(length).sum());
        }
        self.records.truncate(kept);
        let sum = self.records.last().map_or(self.genesis, |record| record.sum);
        self.head = Head { seq: self.records.last().map_or(Seq(0), |record| record.seq), sum };
        self
    }

    /// What a journal that cannot be read at all gives: J60, J61.
    #[must_use]
    pub fn unreadable(run: &RunId, case: Case, file: &str, why: String) -> Self {
        let mut walk = Walk::new(run, Around::default());
        walk.found(case, file, 0, why);
        walk.finish()
    }
}

/// Judges the files of a journal.
#[must_use]
pub fn scan(run: &RunId, files: &[File], around: Around) -> Scan {
    let mut walk = Walk::new(run, around);
    let mut segments: Vec<(Seq, &File)> = Vec::new();
    for file in files {
        match line::segment_first(&file.name) {
            Some(first) => segments.push((first, file)),
            None if disk::is_temporary(&file.name) => {
                walk.found(Case::J34, &file.name, 0, "left over by a writer that died".into());
            }
            None => {}
        }
    }
    segments.sort_by_key(|(first, _)| *first);
    for (first, file) in &segments {
        let blank = file.bytes.iter().all(|b| *b == 0);
        let bytes = file.bytes.len() as u64;
        walk.segments.push(Segment {
            name: file.name.clone(),
            bytes,
            verified: 0,
            blank,
            lacks_feed: false,
        });
        // A segment is made only when the record before it is durable, and a run's directory only
        // appears together with its first record.
        walk.witness = walk.witness.max(Seq((first.0 - 1).max(1)));
    }
    if segments.iter().all(|(_, file)| file.bytes.iter().all(|b| *b == 0)) {
        walk.without_records(around, segments.len());
        return walk.finish();
    }
    for i in 0..segments.len() {
        if !walk.segment(i, &segments) {
            break;
        }
    }
    walk.finish()
}

struct Walk<'a> {
    run: &'a RunId,
    records: Vec<Record>,
    sum: Sum,
    segments: Vec<Segment>,
    witness: Seq,
    claimed: Option<Seq>,
    latest: Timestamp,
    main: Option<Finding>,
    notes: Vec<Finding>,
}

impl<'a> Walk<'a> {
    fn new(run: &'a RunId, around: Around) -> Self {
        Self {
            run,
            records: Vec::new(),
            sum: line::genesis(run),
            segments: Vec::new(),
            witness: around.witness.unwrap_or_default(),
            claimed: None,
            latest: Timestamp::default(),
            main: None,
            notes: Vec::new(),
        }
    }

    fn head(&self) -> Seq {
        self.records.last().map_or(Seq(0), |record| record.seq)
    }

    fn found(&mut self, case: Case, file: &str, offset: u64, why: String) {
        let finding = Finding { case, file: file.to_owned(), offset, why };
        if case.verdict() <= Verdict::Note {
            // One note of a kind is enough; a journal may hold thousands of small clock steps.
            if self.notes.iter().all(|note| note.case != case || note.file != finding.file) {
                self.notes.push(finding);
            }
        } else if self.main.is_none() {
            self.main = Some(finding);
        }
    }

    fn finish(mut self) -> Scan {
        if self.main.is_none() && self.witness > self.head() {
            let why = format!("record {} is vouched for, the journal ends before it", self.witness);
            let last = self.segments.last().cloned();
            let (file, at) = last.map(|s| (s.name, s.bytes)).unwrap_or_default();
            self.found(Case::J15, &file, at, why);
        }
        let head = Head { seq: self.head(), sum: self.sum };
        let first_note = || self.notes.first().cloned();
        let fine = Finding { case: Case::J00, file: String::new(), offset: 0, why: String::new() };
        Scan {
            head,
            main: self.main.take().or_else(first_note).unwrap_or(fine),
            records: self.records,
            notes: self.notes,
            segments: self.segments,
            witness: self.witness,
            claimed: self.claimed,
            may_pass: false,
            genesis: line::genesis(self.run),
        }
    }

    /// No segment holds a byte that is not zero.
    fn without_records(&mut self, around: Around, segments: usize) {
        if segments == 0 && !around.has_other_files {
            self.found(Case::J01, "", 0, "there is no journal and no run.json".into());
        } else {
            self.found(Case::J02, "", 0, "the journal has no record".into());
        }
    }

    /// Reads one segment; false when nothing behind it can be verified.
    fn segment(&mut self, i: usize, segments: &[(Seq, &File)]) -> bool {
        let (first, file) = segments[i];
        let expected = self.head().next();
        let is_last = i + 1 == segments.len();
        if self.segments[i].blank {
            return self.blank(first, file, is_last);
        }
        let bytes = &file.bytes;
        let first_line = &bytes[..line_bytes(bytes)];
        let follows = line::decode(first_line, self.sum).is_ok_and(|r| r.seq == expected);
        if first != expected && follows {
            let why = format!("its first record is {expected}");
            self.found(Case::J31, &file.name, 0, why);
            return false;
        }
        if first < expected {
            return self.overlap(i, file, segments);
        }
        if first > expected {
            let why = format!("record {expected} is in no segment");
            self.claim(bytes);
            self.found(Case::J30, &file.name, 0, why);
            return false;
        }
        self.lines(i, 0, segments)
    }

    fn blank(&mut self, first: Seq, file: &File, is_last: bool) -> bool {
        let expected = self.head().next();
        if !is_last {
            self.found(Case::J32, &file.name, 0, "others follow it".into());
        } else if first > expected {
            let why = format!("record {expected} is in no segment");
            self.found(Case::J30, &file.name, 0, why);
        } else if self.witness >= expected {
            self.lost(&file.name, 0, "the last segment is empty");
        } else {
            self.found(Case::J03, &file.name, 0, "no record was written to it".into());
        }
        false
    }

    fn lost(&mut self, file: &str, offset: u64, shape: &str) {
        let why = format!("{shape}, but record {} was acknowledged", self.witness);
        self.found(Case::J15, file, offset, why);
    }

    /// A segment that begins at or before the head: equal bytes or two stories.
    fn overlap(&mut self, i: usize, file: &File, segments: &[(Seq, &File)]) -> bool {
        let mut at = 0;
        for line in file.bytes.split_inclusive(|b| *b == b'\n') {
            let Some((body, sum)) = line::split(line) else { break };
            let seq = std::str::from_utf8(body).ok().and_then(|b| line::envelope(b).ok());
            let Some(seq) = seq.map(|e| e.seq) else { break };
            if seq > self.head() {
                break;
            }
            // Equal sums are equal bytes: a sum covers everything up to its line.
            let index = usize::try_from(seq.0).unwrap_or(0).wrapping_sub(1);
            if self.records.get(index).is_none_or(|r| r.sum != sum || !is_chained(body, r, self)) {
                let why = format!("record {seq} stands in two segments with different bytes");
                self.found(Case::J33, &file.name, at as u64, why);
                return false;
            }
            at += line.len();
        }
        if at == 0 {
            self.found(Case::J33, &file.name, 0, "what overlaps does not verify".into());
            return false;
        }
        self.found(Case::J33Equal, &file.name, 0, "it repeats records of another one".into());
        self.lines(i, at, segments)
    }

    /// Reads the lines of a segment from `at` on.
    fn lines(&mut self, i: usize, mut at: usize, segments: &[(Seq, &File)]) -> bool {
        let file = segments[i].1;
        while at < file.bytes.len() {
            let rest = &file.bytes[at..];
            let line = &rest[..line_bytes(rest)];
            match line::decode(line, self.sum) {
                Ok(record) if record.seq == self.head().next() => {
                    self.accept(record, &file.name, at);
                    at += line.len();
                    self.segments[i].verified = at as u64;
                }
                Ok(record) => {
                    let why = format!("record {} follows {}", record.seq, self.head());
                    self.found(Case::J21, &file.name, at as u64, why);
                    return false;
                }
                Err(error) => {
                    self.bad(i, at, &error, segments);
                    return false;
                }
            }
        }
        self.segments[i].verified = at as u64;
        true
    }

    fn accept(&mut self, record: Record, file: &str, at: usize) {
        if record.at < self.latest {
            let why = format!("record {} is older than the one before it", record.seq);
            self.found(Case::J26, file, at as u64, why);
        }
        self.latest = self.latest.max(record.at);
        self.sum = record.sum;
        self.records.push(record);
    }

    /// The line at `at` is not the next record: says what that means.
    fn bad(&mut self, i: usize, at: usize, error: &line::Error, segments: &[(Seq, &File)]) {
        let file = segments[i].1;
        let (name, offset) = (file.name.as_str(), at as u64);
        let why = error.to_string();
        match error {
            line::Error::TooLong(_) => return self.found(Case::J25, name, offset, why),
            line::Error::NotCanonical(_) => return self.found(Case::J23, name, offset, why),
            line::Error::Newer(_) => return self.found(Case::J62, name, offset, why),
            line::Error::Sum => {}
        }
        let tail = &file.bytes[at..];
        let later = &segments[i + 1..];
        self.claim(tail);
        for (_, file) in later {
            self.claim(&file.bytes);
        }
        if self.head() == Seq(0)
            && let Some(other) = foreign(tail)
        {
            return self.found(Case::J22, name, offset, format!("it is the journal of {other}"));
        }
        if let Some((case, why)) = self.followed(tail, later) {
            return self.found(case, name, offset, why);
        }
        if tail.len() > JOURNAL_RECORD_BYTES_MAX || feeds(tail) >= 2 {
            let why = "it cannot be the rest of one record".to_owned();
            return self.found(Case::J14, name, offset, why);
        }
        self.tail(i, at, tail, later.is_empty());
    }

    /// The bad bytes could be the rest of one record that nobody was told about.
    fn tail(&mut self, i: usize, at: usize, tail: &[u8], is_last: bool) {
        let name = self.segments[i].name.clone();
        let expected = self.head().next();
        let mut completed = tail.to_vec();
        completed.push(b'\n');
        let whole = line::decode(&completed, self.sum).ok().filter(|r| r.seq == expected);
        let (case, shape) = if tail.iter().all(|b| *b == 0) {
            (Case::J13, "zeros follow the last record")
        } else if whole.is_some() {
            (Case::J10, "the last record lacks its line feed")
        } else if tail.ends_with(b"\n") {
            (Case::J12, "the last record does not verify")
        } else {
            (Case::J11, "the last record is incomplete")
        };
        if self.witness >= expected {
            self.lost(&name, at as u64, shape);
        } else if is_last {
            self.found(case, &name, at as u64, shape.to_owned());
        } else {
            let why = format!("{shape}, and another segment follows");
            self.found(Case::J20, &name, at as u64, why);
        }
        if let Some(record) = whole {
            self.accept(record, &name, at);
            self.segments[i].verified = (at + tail.len()) as u64;
            self.segments[i].lacks_feed = true;
        }
    }

    /// Whether anything behind the bad line is a record: then it is not a torn tail.
    fn followed(&self, tail: &[u8], later: &[(Seq, &File)]) -> Option<(Case, String)> {
        let expected = self.head().next();
        let mut lines = tail
            .split_inclusive(|b| *b == b'\n')
            .chain(later.iter().flat_map(|(_, file)| file.bytes.split_inclusive(|b| *b == b'\n')));
        let bad = lines.next()?;
        let own = parse(bad).map(|(envelope, _)| envelope.seq);
        let stated = line::split(bad).map(|(_, sum)| sum);
        let mut previous = stated;
        let gap = |seq: Seq| {
            (Case::J21, format!("record {seq} stands where record {expected} should be"))
        };
        for (n, line) in lines.enumerate() {
            let Some((envelope, sum)) = parse(line) else {
                previous = line::split(line).map(|(_, sum)| sum);
                continue;
            };
            let body = &line[..line.len() - line::TRAILER_BYTES];
            let verifies = previous.is_some_and(|before| line::chain(before, body) == sum);
            if n == 0 && verifies && own.is_some_and(|s| s != expected && s.next() == envelope.seq)
            {
                return own.map(gap);
            }
            if verifies || envelope.seq > expected {
                let edited = verifies && n == 0 && own == Some(expected);
                let hint = if edited { "; only its text differs: edited by hand?" } else { "" };
                return Some((Case::J20, format!("record {} follows it{hint}", envelope.seq)));
            }
            previous = Some(sum);
        }
        own.filter(|seq| *seq > expected).map(gap)
    }

    /// Remembers the highest place that any line of `bytes` claims.
    fn claim(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if let Some((envelope, _)) = parse(line) {
                self.claimed = self.claimed.max(Some(envelope.seq));
            }
        }
    }
}

/// Whether `body` is the body that the record with the same sum was read from.
fn is_chained(body: &[u8], record: &Record, walk: &Walk<'_>) -> bool {
    let before = usize::try_from(record.seq.0).unwrap_or(0).checked_sub(2);
    let previous = before
        .and_then(|index| walk.records.get(index))
        .map_or_else(|| line::genesis(walk.run), |r| r.sum);
    line::chain(previous, body) == record.sum
}

/// Bytes of the first line, its line feed included; all that is there if it has none.
fn line_bytes(bytes: &[u8]) -> usize {
    // The search of the standard library for readers is vectorised, that of slices is not. A slice
    // is a reader that cannot fail.
    (&mut &*bytes).skip_until(b'\n').unwrap_or(bytes.len())
}

fn feeds(bytes: &[u8]) -> usize {
    // A handful decides; a tail may be megabytes of anything.
    bytes.iter().filter(|b| **b == b'\n').take(2).count()
}

/// A line that has the form of a record, whether it verifies or not.
fn parse(line: &[u8]) -> Option<(Envelope<'_>, Sum)> {
    let (body, sum) = line::split(line)?;
    let envelope = line::envelope(std::str::from_utf8(body).ok()?).ok()?;
    Some((envelope, sum))
}

/// The run whose journal the first line would begin, if it verifies for that run.
fn foreign(bytes: &[u8]) -> Option<RunId> {
    let line = bytes.split_inclusive(|b| *b == b'\n').next()?;
    let (envelope, _) = parse(line)?;
    let Ok(Event::RunCreated(created)) = Event::decode(envelope.event_type, envelope.data) else {
        return None;
    };
    line::decode(line, line::genesis(&created.run_id)).ok().map(|_| created.run_id)
}
