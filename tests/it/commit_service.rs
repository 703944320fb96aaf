//! The commit log's threads: many submitters, orders, refusals, a clean stop, the real disk.

use crate::commit_log_support::{Owner, settings};
use crate::support::*;
use dormouse::ground::clock::SystemClock;
use dormouse::ports::disk::Disk;
use dormouse::ports::disk::memory::{Fault, MemoryDisk};
use dormouse::ports::disk::std::StdDisk;
use dormouse::services::commit::{Committer, Options, Rejected};
use dormouse::shells::commit_log::log::Home;
use dormouse::shells::commit_log::{Committed, Error, LOG_DIR, WriterState};
use dormouse::shells::journal::reader;
use dormouse::shells::journal::scan::Verdict;
use dormouse::shells::run_dir::owned::OwnedRoot;
use dormouse::shells::run_dir::root::{self, Root, RootView};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

fn options() -> Options {
    Options { log: settings(), threads: 3, ..Options::default() }
}

fn open(disk: &Arc<dyn Disk>, path: &Path, options: Options) -> (OwnedRoot, Running) {
    let how = root::Options { create: true, wait_ms: 0, allow_fs: None };
    let root = OwnedRoot::open(disk, path, &how, &clock()).unwrap();
    let home = Home {
        root: root.view().clone(),
        meta: Arc::clone(root.meta()),
        file: Arc::clone(root.file()),
        clock: Arc::new(SystemClock),
    };
    let (tell, told) = channel();
    let tell = Box::new(move |events: Vec<Committed>| {
        for event in events {
            // The receiver may have seen enough.
            let _ = tell.send(event);
        }
    });
    let committer = Committer::start(home, options, tell).unwrap();
    committer.applied(u64::MAX);
    (root, Running { committer, told })
}

struct Running {
    committer: Committer,
    told: Receiver<Committed>,
}

impl Running {
    fn next(&self, wanted: impl Fn(&Committed) -> bool) -> Committed {
        self.told.iter().find(|event| wanted(event)).unwrap()
    }

    fn durable(&self, count: usize) {
        for _ in 0..count {
            self.next(|event| {
                assert!(!matches!(event, Committed::NotWritten { .. }), "{event:?}");
                matches!(event, Committed::Durable { .. })
            });
        }
    }
}

/// Eight threads, each with a run of its own, fifty units each, one after the other.
fn many(running: &Running) {
    std::thread::scope(|scope| {
        for n in 0..8 {
            let committer = running.committer.clone();
            scope.spawn(move || {
                let mut owner = Owner::new(&format!("run-{n}"));
                for k in 0..50 {
                    let bytes = if k % 10 == 9 { 9_000 } else { 20 };
                    committer.submit(owner.unit(&format!("u{k}"), 2, bytes)).unwrap();
                }
            });
        }
    });
    running.durable(400);
}

fn all_there(disk: &Arc<dyn Disk>, path: &Path) {
    let view = RootView::open(disk, path).unwrap();
    assert_eq!(view.run_ids().unwrap().len(), 8);
    for run in view.run_ids().unwrap() {
        let run = view.run(&run).unwrap();
        let scan = reader::read(&run, None);
        assert_eq!((scan.verdict(), scan.head.seq.0), (Verdict::Ok, 100), "{:?}", scan.main);
        assert!(run.run_json().is_some());
    }
    let options = root::Options::default();
    Root::open(disk, path, &options, &clock()).unwrap();
}

#[test]
fn a_clean_stop_leaves_every_run_complete_and_no_log() {
    for direct in [true, false] {
        let memory = MemoryDisk::new(1);
        if !direct {
            memory.forbid_direct();
        }
        let disk = as_disk(&memory);
        let (root, running) = open(&disk, Path::new("/runs"), options());
        many(&running);
        let figures = running.committer.figures();
        assert_eq!((figures.records, figures.batch_units.sum), (800, 400));
        assert_eq!(figures.buffered, !direct);
        running.committer.clone().stop().unwrap();
        drop(root);
        assert_eq!(
            running.committer.submit(unit()).map_err(|back| back.0),
            Err(Rejected::Stopping)
        );
        memory.power_cut();
        all_there(&disk, Path::new("/runs"));
    }
}

fn unit() -> dormouse::shells::commit_log::Unit {
    Owner::new("other").unit("x", 1, 1)
}

#[test]
fn runs_are_made_and_settled_when_asked() {
    let memory = MemoryDisk::new(1);
    let (_root, running) = open(&as_disk(&memory), Path::new("/runs"), options());
    let mut owner = Owner::new("a");
    running.committer.submit(owner.unit("one", 1, 1)).unwrap();
    running.durable(1);
    running.committer.ensure_made(owner.run().clone());
    running.next(|event| matches!(event, Committed::Made { .. }));
    running.committer.submit(owner.unit("two", 1, 1)).unwrap();
    running.durable(1);
    running.committer.settle(owner.run().clone());
    let settled =
        running.next(|event| matches!(event, Committed::Settled { seq, .. } if seq.0 == 2));
    assert!(matches!(settled, Committed::Settled { run, .. } if run == *owner.run()));
    memory.power_cut();
    let journal = memory.content(Path::new("/runs/a/journal/0000000001.jsonl")).unwrap();
    assert_eq!(journal.split_inclusive(|b| *b == b'\n').count(), 2);
}

#[test]
fn a_unit_on_another_head_is_refused_and_what_follows_it() {
    let memory = MemoryDisk::new(1);
    let (_root, running) = open(&as_disk(&memory), Path::new("/runs"), options());
    let mut owner = Owner::new("a");
    let first = owner.unit("one", 1, 1);
    let (lost, next) = (owner.unit("two", 1, 1), owner.unit("three", 1, 1));
    running.committer.submit(first.clone()).unwrap();
    running.committer.submit(next).unwrap();
    running.committer.submit(first).unwrap();
    running.committer.submit(lost).unwrap();
    let said = running.told.iter().filter_map(|event| match event {
        Committed::Durable { seq, .. } => Some((true, seq.0)),
        Committed::NotWritten { seq, .. } => Some((false, seq.0)),
        _ => None,
    });
    let said: Vec<_> = said.take(4).collect();
    let mut sorted = said.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [(false, 1), (false, 3), (true, 1), (true, 2)], "{said:?}");
}

#[test]
fn too_much_at_once_is_refused_and_a_failed_writer_says_so() {
    let memory = MemoryDisk::new(1);
    let small = Options { queue_records_max: 0, ..options() };
    let (root, running) = open(&as_disk(&memory), Path::new("/runs"), small);
    assert_eq!(running.committer.submit(unit()).map_err(|back| back.0), Err(Rejected::QueueFull));
    running.committer.stop().unwrap();
    drop(root);
    let (_root, running) = open(&as_disk(&memory), Path::new("/runs"), options());
    // The spare is made in the background; from some operation on everything fails.
    for nth in 1..200 {
        memory.fail_at(nth, Fault::Broken);
    }
    let mut owner = Owner::new("a");
    let refused = (0..200).find_map(|n| {
        let refused = running.committer.submit(owner.unit(&format!("u{n}"), 1, 1)).err();
        if refused.is_none() {
            running.next(|event| !matches!(event, Committed::Made { .. }));
        }
        refused
    });
    assert!(
        matches!(refused.as_ref().map(|back| back.0), Some(Rejected::Failed | Rejected::DiskFull)),
        "{refused:?}"
    );
    running.next(|event| *event == Committed::State(WriterState::Failed));
    assert_eq!(running.committer.state(), WriterState::Failed);
    assert!(matches!(running.committer.stop(), Err(Error::Failed(_))));
}

#[test]
fn the_real_disk_keeps_the_log_in_the_mode_that_it_can() {
    // The build directory is on a disk, the other one in memory on most machines.
    let places = [env!("CARGO_TARGET_TMPDIR").to_owned(), "/dev/shm".to_owned()];
    for place in places.iter().filter(|place| Path::new(place).is_dir()) {
        let dir = tempfile::tempdir_in(place).unwrap();
        let path = dir.path().join("runs");
        let disk: Arc<dyn Disk> = Arc::new(StdDisk);
        let (root, running) = open(&disk, &path, options());
        many(&running);
        let log = root.meta().open_dir(LOG_DIR).unwrap();
        let name = log.list().unwrap().into_iter().find(|name| name.contains(".dlog")).unwrap();
        let file = log.open(&name, dormouse::ports::disk::Open::Truth).unwrap();
        let direct = file.dio_alignment().unwrap().is_some();
        assert_eq!(running.committer.figures().buffered, !direct, "{place}");
        let mut piece = [0; 5000];
        assert_eq!(file.read_at(3, &mut piece).unwrap(), 5000);
        running.committer.stop().unwrap();
        drop(root);
        all_there(&disk, &path);
    }
}
