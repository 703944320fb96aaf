//! Journals that were cut, flipped, crashed and failed: what opening says, and what is kept.

use crate::support::*;
use dormouse::ports::disk::memory::MemoryDisk;
use dormouse::shells::journal::reader;
use dormouse::shells::journal::scan::{Case, Verdict};

#[test]
fn a_run_is_created_written_closed_and_read_again() {
    let disk = MemoryDisk::new(1);
    let root = open_root(&disk).unwrap();
    let run = new_run(&root).unwrap();
    let mut opened = open_writer(&run).unwrap();
    assert_eq!(opened.scan.main.case, Case::J00);
    for n in 2..5 {
        opened.writer.append(opened.writer.head().seq, at(n), &note(n)).unwrap();
    }
    opened.writer.close().unwrap();
    disk.power_cut();
    let root = open_root(&disk).unwrap();
    let run = root.view().find("demo").unwrap();
    let scan = reader::read(&run, None);
    assert_eq!((scan.verdict(), scan.head.seq.0), (Verdict::Ok, 4), "{:?}", scan.main);
    assert_eq!(scan.records, journal(&run_id(), 4, &[]).1);
    assert!(matches!(new_run(&root), Err(dormouse::shells::run_dir::root::Error::Exists(_))));
}
