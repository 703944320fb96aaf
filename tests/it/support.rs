//! Builders that several tests share: a root on a memory disk and a run with a few records.

use dormouse::codecs::event::{Event, OperatorNote, ProcessRef, Profile, Record, RunCreated};
use dormouse::codecs::format::line;
use dormouse::codecs::format::line::segment_name;
use dormouse::ground::clock::{ManualClock, Timestamp};
use dormouse::ground::digest::Digest;
use dormouse::ground::id::{RunId, Seq};
use dormouse::ports::disk::Disk;
use dormouse::ports::disk::memory::MemoryDisk;
use dormouse::shells::journal::scan::File;
use dormouse::shells::journal::writer::{self, Opened};
use dormouse::shells::run_dir::dir::RunDir;
use dormouse::shells::run_dir::root::{Options, Root};
use std::path::Path;
use std::sync::Arc;

/// Noon of a day in November.
pub(crate) const NOON: i64 = 1_795_176_000_000_000;

pub(crate) fn at(n: u64) -> Timestamp {
    Timestamp::from_micros(NOON + i64::try_from(n).unwrap() * 1_000_000)
}

pub(crate) fn run_id() -> RunId {
    "demo-run".parse().unwrap()
}

pub(crate) fn created(id: &RunId) -> Event {
    created_with(id, None)
}

/// The first record of a run with a process, or of a bare one.
pub(crate) fn created_with(id: &RunId, process: Option<ProcessRef>) -> Event {
    RunCreated {
        run_id: id.clone(),
        process,
        inputs: None,
        inputs_blob: None,
        parent: None,
        schedule: None,
        idempotency: None,
        generation: 1,
        tags: Vec::new(),
        cwd: None,
        non_interactive: false,
        system: None,
        traceparent: None,
        by: "operator:test".into(),
    }
    .into()
}

/// A process that nobody loads.
pub(crate) fn process() -> ProcessRef {
    ProcessRef {
        process_id: "p".into(),
        entry: "main.js".into(),
        export_name: None,
        api: Profile::Dormouse,
        digest: Digest::of(b"code"),
    }
}

pub(crate) fn note(n: u64) -> Event {
    OperatorNote { text: format!("note {n}"), by: "operator:test".into() }.into()
}

/// The records of a run: created, then notes. `long[i]` bytes of text more in the i-th.
pub(crate) fn journal(id: &RunId, count: u64, segments: &[u64]) -> (Vec<File>, Vec<Record>) {
    let mut files: Vec<File> = Vec::new();
    let mut records = Vec::new();
    let mut sum = line::genesis(id);
    for n in 1..=count {
        let event = if n == 1 { created(id) } else { note(n) };
        let (bytes, next) = line::encode(Seq(n), at(n), &event, sum);
        if n == 1 || segments.contains(&n) {
            files.push(File { name: segment_name(Seq(n)), bytes: Vec::new() });
        }
        files.last_mut().unwrap().bytes.extend_from_slice(&bytes);
        sum = next;
        records.push(Record { seq: Seq(n), at: at(n), event, sum });
    }
    (files, records)
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::at(at(0))
}

pub(crate) fn as_disk(disk: &MemoryDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

pub(crate) fn open_root(disk: &MemoryDisk) -> Result<Root, dormouse::shells::run_dir::root::Error> {
    let options = Options { create: true, wait_ms: 0, allow_fs: None };
    Root::open(&as_disk(disk), Path::new("/runs"), &options, &clock())
}

/// A run with its first record, and its directory open.
pub(crate) fn new_run(root: &Root) -> Result<RunDir, dormouse::shells::run_dir::root::Error> {
    let mut staged = root.stage(&run_id())?;
    staged.file("run.json", b"{}")?;
    staged.file("process/main.js", b"export const process = () => 1;")?;
    staged.journal(&[(at(1), created(&run_id()))])?;
    staged.publish()
}

pub(crate) fn open_writer(run: &RunDir) -> Result<Opened, String> {
    let lock = run.lock(0, &clock()).map_err(|e| format!("{e:?}"))?;
    writer::open(run, lock, &clock(), None).map_err(|e| format!("{e:?}"))
}
