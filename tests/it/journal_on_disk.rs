//! The same runs on the machine's own filesystem.

use crate::support::*;
use dormouse::ground::id::Seq;
use dormouse::ports::disk::std::StdDisk;
use dormouse::ports::disk::{self, Atomic, Disk, Kind, Lock, Open, Rename};
use dormouse::shells::journal::reader;
use dormouse::shells::journal::scan::{Case, Verdict};
use dormouse::shells::run_dir::lock;
use dormouse::shells::run_dir::root::{Error, Options, Root, run_at};
use std::path::Path;
use std::sync::Arc;

fn root_in(place: &Path) -> (Arc<dyn Disk>, Root) {
    let disk: Arc<dyn Disk> = Arc::new(StdDisk);
    let options = Options { create: true, wait_ms: 0, allow_fs: None };
    let root = Root::open(&disk, &place.join("deep/runs"), &options, &clock()).unwrap();
    (disk, root)
}

#[test]
fn a_run_lives_through_a_writer_that_forgets_to_close() {
    let place = tempfile::tempdir().unwrap();
    let (disk, root) = root_in(place.path());
    let run = new_run(&root).unwrap();
    let mut writer = open_writer(&run).unwrap().writer;
    writer.append(Seq(1), at(2), &note(2)).unwrap();
    writer.rotate();
    writer.append(Seq(2), at(3), &note(3)).unwrap();
    assert!(matches!(run.lock(0, &clock()), Err(lock::Error::Busy { .. })));
    drop(writer);
    let path = run.path().join("journal/0000000003.jsonl");
    let before = disk.read_user_file(&path, 10_000).unwrap();
    let mut opened = open_writer(&run).unwrap();
    assert_eq!(opened.scan.head.seq, Seq(3));
    opened.writer.append(Seq(3), at(4), &note(4)).unwrap();
    opened.writer.close().unwrap();
    assert!(disk.read_user_file(&path, 10_000).unwrap().starts_with(&before));
    // Two commands may hold the root, and the run opens by its path.
    let (_, _again) = root_in(place.path());
    let run = run_at(&disk, run.path()).unwrap();
    let scan = reader::read(&run, None);
    assert_eq!((scan.verdict(), scan.records.len(), scan.segments.len()), (Verdict::Ok, 4, 2));
    assert!(matches!(new_run(&root), Err(Error::Exists(_))));
    assert_eq!(run.put_blob(b"big").unwrap(), run.put_blob(b"big").unwrap());
}

#[test]
fn a_copied_run_opens_alone_under_any_name_and_keeps_its_id() {
    let place = tempfile::tempdir().unwrap();
    let (disk, root) = root_in(place.path());
    let run = new_run(&root).unwrap();
    let json = format!(
        r#"{{"runId":"{}","formatVersion":1,"createdAt":"2026-11-20T12:00:00.000000Z"}}"#,
        run.id()
    );
    run.put_relative("run.json", json.as_bytes()).unwrap();
    let from = root.view().path().to_owned();
    let (old, new) = (disk.open_dir(&from).unwrap(), disk.open_dir(place.path()).unwrap());
    old.rename(run.id().as_str(), &*new, "copy of a run", Rename::NoReplace).unwrap();
    let run = run_at(&disk, &place.path().join("copy of a run")).unwrap();
    assert_eq!(run.id(), &run_id());
    assert_eq!(reader::read(&run, None).main.case, Case::J00);
    let mut writer = open_writer(&run).unwrap().writer;
    writer.append(Seq(1), at(2), &note(2)).unwrap();
}

#[test]
fn links_pipes_and_odd_names_do_not_open() {
    let place = tempfile::tempdir().unwrap();
    let dir = StdDisk.open_dir(place.path()).unwrap();
    disk::write_atomic(&*dir, "file", b"x", Atomic::NEW).unwrap();
    let again = disk::write_atomic(&*dir, "file", b"y", Atomic::NEW).unwrap_err();
    assert!(again.is_exists());
    assert_eq!(dir.list().unwrap(), ["file"]);
    std::os::unix::fs::symlink("file", place.path().join("link")).unwrap();
    std::os::unix::fs::symlink(".", place.path().join("up")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.path().join("pipe"), rustix::fs::Mode::RWXU)
        .unwrap();
    dir.mkdir("dir").unwrap();
    for name in ["link", "pipe", "dir"] {
        assert_eq!(dir.open(name, Open::Read).unwrap_err().kind, Kind::WrongKind, "{name}");
        assert_eq!(dir.open_or_create(name).unwrap_err().kind, Kind::WrongKind, "{name}");
    }
    assert_eq!(dir.open_dir("up").unwrap_err().kind, Kind::WrongKind);
    assert_eq!(dir.open("none", Open::Read).unwrap_err().kind, Kind::NotFound);
    for name in ["..", ".", "", "a/b", "/etc"] {
        assert_eq!(dir.open(name, Open::Read).unwrap_err().kind, Kind::BadName, "{name}");
    }
    let long = dir.read_file("file", Open::Truth, 0).unwrap_err();
    assert_eq!(long.kind, Kind::TooLarge);
    assert!(StdDisk.read_user_file(&place.path().join("link"), 0).is_err());
    assert_eq!(StdDisk.read_user_file(&place.path().join("link"), 1).unwrap(), b"x");
    let stat = dir.stat("file").unwrap();
    assert_eq!((stat.links, stat.mode, stat.bytes), (1, 0o600, 1));
    dir.link("file", &*dir, "twin").unwrap();
    assert_eq!(dir.stat("twin").unwrap().links, 2);
    assert!(!StdDisk.boot_id().is_empty());
}

#[test]
fn locks_exclude_each_other_between_handles() {
    let place = tempfile::tempdir().unwrap();
    let dir = StdDisk.open_dir(place.path()).unwrap();
    let open = || dir.open_or_create("lock").unwrap();
    let (one, two) = (open(), open());
    assert!(one.try_lock(Lock::Shared).unwrap() && two.try_lock(Lock::Shared).unwrap());
    assert!(!open().try_lock(Lock::Exclusive).unwrap());
    drop((one, two));
    let alone = open();
    assert!(alone.try_lock(Lock::Exclusive).unwrap());
    assert!(!open().try_lock(Lock::Shared).unwrap());
}
