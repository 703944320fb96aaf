//! A commit log over a memory disk, runs that write to it, and a reader of what a crash left.

use crate::support::*;
use dormouse::codecs::event::Event;
use dormouse::codecs::format::frame::{self, Tip};
use dormouse::codecs::format::line;
use dormouse::codecs::format::log_entry::{Append, Entry};
use dormouse::codecs::format::log_header::SegmentHeader;
use dormouse::ground::clock::Clock;
use dormouse::ground::digest::Sum;
use dormouse::ground::id::{RunId, Seq};
use dormouse::ports::disk::memory::MemoryDisk;
use dormouse::ports::disk::{Disk, Open};
use dormouse::shells::commit_log::log::{Home, Log, Step};
use dormouse::shells::commit_log::recover::{self, Patience};
use dormouse::shells::commit_log::{
    Committed, Error, LOG_DIR, Settings, Unit, WriterState, segment_file,
};
use dormouse::shells::run_dir::owned::OwnedRoot;
use dormouse::shells::run_dir::root::Options;
use dormouse::shells::run_dir::root_file;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

pub(crate) fn settings() -> Settings {
    Settings {
        segment_bytes: 256 << 10,
        batch_bytes_max: 64 << 10,
        reserve_bytes: 16 << 10,
        ..Settings::default()
    }
}

/// One run as its owner sees it.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    run: RunId,
    seq: Seq,
    sum: Sum,
    file: Seq,
    off: u64,
}

impl Owner {
    pub(crate) fn new(run: &str) -> Self {
        let run: RunId = run.parse().unwrap();
        let sum = line::genesis(&run);
        Self { run, seq: Seq(0), sum, file: Seq(1), off: 0 }
    }

    pub(crate) fn run(&self) -> &RunId {
        &self.run
    }

    /// The next records go to a new journal segment.
    pub(crate) fn rotate(&mut self) {
        (self.file, self.off) = (self.seq.next(), 0);
    }

    /// A unit of `count` records with these words in them, `bytes` more in each.
    pub(crate) fn unit(&mut self, words: &str, count: u32, bytes: usize) -> Unit {
        let (first, prev) = (self.seq.next(), self.sum);
        let mut lines = Vec::new();
        for n in 0..count {
            let text = format!("{words}.{n} {}", "x".repeat(bytes));
            let event: Event =
                dormouse::codecs::event::OperatorNote { text, by: "t".into() }.into();
            let created = self.seq == Seq(0);
            let event = if created { created_with(&self.run, words) } else { event };
            self.seq = self.seq.next();
            let (text, sum) = line::encode(self.seq, at(self.seq.0), &event, self.sum);
            lines.extend(text);
            self.sum = sum;
        }
        let (run, last) = (self.run.clone(), self.sum);
        let (file, off) = (self.file, self.off);
        self.off += lines.len() as u64;
        let append = Append { run, file, off, seq: first, n: count, prev, last, lines };
        Unit::append(append, true)
    }
}

fn created_with(run: &RunId, words: &str) -> Event {
    let mut event = created(run);
    if let Event::RunCreated(created) = &mut event {
        created.tags = vec![format!("{words}.0 ")];
    }
    event
}

/// What is known of each unit, by its words.
#[derive(Debug, Default)]
pub(crate) struct Known {
    given: BTreeMap<(RunId, Seq), String>,
    pub(crate) durable: BTreeMap<String, RunId>,
    pub(crate) not_written: BTreeSet<String>,
    pub(crate) events: Vec<Committed>,
}

pub(crate) struct Rig {
    pub(crate) log: Log,
    pub(crate) queue: VecDeque<Unit>,
    pub(crate) now_ms: u64,
    /// Marks and frames that an index would have applied.
    applied: u64,
    pub(crate) root: OwnedRoot,
}

impl Rig {
    pub(crate) fn open(disk: &MemoryDisk, settings: Settings) -> Result<Self, String> {
        let options = Options { create: true, wait_ms: 0, allow_fs: None };
        let root = OwnedRoot::open(&as_disk(disk), Path::new("/runs"), &options, &clock());
        Self::over(root.map_err(|e| e.to_string())?, settings, Arc::new(clock()))
    }

    /// The same over a root that was recovered.
    pub(crate) fn over(
        root: OwnedRoot,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let home = Home {
            root: root.view().clone(),
            meta: Arc::clone(root.meta()),
            file: Arc::clone(root.file()),
            clock,
        };
        let log = Log::start(home, settings, 0).map_err(|e| e.to_string())?;
        Ok(Self { log, queue: VecDeque::new(), now_ms: 0, applied: 0, root })
    }

    pub(crate) fn give(&mut self, known: &mut Known, words: &str, unit: Unit) {
        let key = (unit.entry.run().clone(), unit.last_seq());
        known.given.insert(key, words.to_owned());
        self.queue.push_back(unit);
    }

    pub(crate) fn note(&mut self, known: &mut Known) {
        for event in self.log.events() {
            match &event {
                Committed::Durable { run, seq, frame } => {
                    self.applied = *frame;
                    if let Some(words) = known.given.get(&(run.clone(), *seq)) {
                        known.durable.insert(words.clone(), run.clone());
                    }
                }
                Committed::Mark { frame } => self.applied = *frame,
                Committed::NotWritten { run, seq, .. } => {
                    let words = known.given[&(run.clone(), *seq)].clone();
                    known.not_written.insert(words);
                }
                _ => {}
            }
            known.events.push(event);
        }
        self.log.index_applied(self.applied);
    }

    /// Commits what is in the queue; runs jobs only where a commit waits for them.
    pub(crate) fn commit(&mut self, known: &mut Known) {
        for _ in 0..1000 {
            let step = self.log.commit(&mut self.queue, self.now_ms);
            self.note(known);
            match step {
                Step::Empty => return,
                Step::Written => {}
                Step::NeedsSpare | Step::Crowded => self.jobs(known),
            }
        }
        panic!("the queue does not empty");
    }

    pub(crate) fn jobs(&mut self, known: &mut Known) {
        for _ in 0..1000 {
            let jobs = self.log.jobs(self.now_ms, 4);
            if jobs.is_empty() {
                return;
            }
            for job in jobs {
                let done = job.run();
                self.log.done(done, self.now_ms);
                self.note(known);
            }
        }
        panic!("jobs without end");
    }

    /// Lets time pass, and what it brings.
    pub(crate) fn pass(&mut self, known: &mut Known, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms = self.log.wake_at().clamp(self.now_ms + 1, end);
            self.log.tick(self.now_ms);
            self.note(known);
            self.jobs(known);
        }
    }

    pub(crate) fn stop(mut self, known: &mut Known) -> Result<(), Error> {
        for _ in 0..20 {
            self.log.settle_all();
            self.jobs(known);
            if self.log.unsettled() == 0 || self.log.state() == WriterState::Failed {
                break;
            }
            self.pass(known, 1000);
        }
        self.log.finish()
    }
}

/// All bytes that each run has: its journal where the log begins, then the log. Panics if the log
/// is not one that a crash may leave.
pub(crate) fn truth(disk: &MemoryDisk) -> BTreeMap<RunId, Vec<u8>> {
    let Ok(root) = disk.open_dir(Path::new("/runs")) else { return BTreeMap::new() };
    let mut logged: BTreeMap<RunId, Vec<Append>> = BTreeMap::new();
    for entry in entries(disk) {
        match entry {
            Entry::Append(append) => logged.entry(append.run.clone()).or_default().push(append),
            other => drop(logged.remove(other.run())),
        }
    }
    let mut runs = BTreeMap::new();
    for name in root.list().unwrap() {
        let Ok(run) = name.parse::<RunId>() else { continue };
        logged.entry(run).or_default();
    }
    for (run, appends) in logged {
        let mut files: BTreeMap<Seq, Vec<u8>> = BTreeMap::new();
        let journal = root.open_dir(run.as_str()).and_then(|dir| dir.open_dir("journal"));
        for name in journal.as_ref().map_or(Vec::new(), |j| j.list().unwrap()) {
            let Some(first) = line::segment_first(&name) else { continue };
            let journal = journal.as_ref().unwrap();
            files.insert(first, journal.read_file(&name, Open::Truth, 1 << 30).unwrap());
        }
        if let Some(first) = appends.first() {
            let settled = files.entry(first.file).or_default();
            assert!(settled.len() as u64 >= first.off, "{run}: a settled part is gone");
            settled.truncate(usize::try_from(first.off).unwrap());
            files.retain(|file, _| *file <= first.file);
        }
        for append in &appends {
            let file = files.entry(append.file).or_default();
            assert_eq!(file.len() as u64, append.off, "{run}: the log leaves a gap");
            file.extend_from_slice(&append.lines);
        }
        let bytes = files.into_values().collect::<Vec<_>>().concat();
        verify(&run, &bytes);
        runs.insert(run, bytes);
    }
    runs
}

fn verify(run: &RunId, bytes: &[u8]) {
    let mut sum = line::genesis(run);
    for text in bytes.split_inclusive(|b| *b == b'\n') {
        let (body, stated) = line::split(text).unwrap_or_else(|| panic!("{run}: a torn line"));
        assert_eq!(line::chain(sum, body), stated, "{run}");
        sum = stated;
    }
}

fn entries(disk: &MemoryDisk) -> Vec<Entry> {
    let Ok(meta) = disk.open_dir(Path::new("/runs/.dormouse")) else { return Vec::new() };
    let Ok(Some(json)) = root_file::read(&*meta) else { return Vec::new() };
    let Ok(dir) = meta.open_dir(LOG_DIR) else {
        assert_eq!(json.max_segment, 0);
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut tip: Option<Tip> = None;
    for segno in json.oldest_segment..=json.max_segment {
        let bytes = dir.read_file(&segment_file(segno), Open::Truth, 1 << 30).unwrap();
        let Ok((segment, _)) = SegmentHeader::find(&bytes) else {
            let frames = &bytes[8192..];
            assert!(frames.iter().all(|b| *b == 0), "segment {segno} lost its header");
            continue;
        };
        if let Some(tip) = tip {
            assert_eq!(segment.tip(), tip, "segment {segno}");
        }
        let (mut last, mut at) = (segment.tip(), segment.frames_at());
        while at < segment.segment_bytes {
            let rest = &bytes[usize::try_from(at).unwrap()..];
            match frame::verify(&segment, at, last, rest) {
                Ok(frame) => {
                    last = Tip { seq: frame.header.seq, crc: frame.header.crc };
                    at += frame.bytes;
                    found.extend(frame.entries);
                }
                Err(check) => {
                    assert!(check.may_be_torn(), "check {}", check.letter());
                    break;
                }
            }
        }
        tip = Some(last);
    }
    found
}

/// Opens the root as the next daemon does, and checks that it accepts what it finds.
pub(crate) fn recover_all(disk: &MemoryDisk, what: &str) {
    let options = Options { create: true, wait_ms: 0, allow_fs: None };
    let root = OwnedRoot::open(&as_disk(disk), Path::new("/runs"), &options, &clock()).unwrap();
    let recovered = recover::recover(&root, None, &Patience::default(), &clock());
    let recovered = recovered.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(recovered.set_aside.is_empty(), "{what}: {:?}", recovered.set_aside);
}

/// Everything that was called durable is there, nothing that was called not written is.
pub(crate) fn check(disk: &MemoryDisk, known: &Known, what: &str) {
    let truth = truth(disk);
    let holds = |run: &RunId, words: &str| {
        let words = format!("{words}.0 ");
        let bytes = truth.get(run).map_or(&[][..], |bytes| bytes);
        bytes.windows(words.len()).any(|w| w == words.as_bytes())
    };
    for (words, run) in &known.durable {
        assert!(holds(run, words), "{what}: {words} of {run} is lost");
    }
    for ((run, _), words) in &known.given {
        if known.not_written.contains(words) {
            assert!(!holds(run, words), "{what}: {words} of {run} was not written and is there");
        }
    }
}
