//! Every point at which a process or a machine can die while a run is made and written to.

use crate::support::*;
use dormouse::codecs::event::{Event, Record};
use dormouse::ground::id::Seq;
use dormouse::ports::disk::memory::{Fault, MemoryDisk};
use dormouse::shells::journal::reader;
use dormouse::shells::journal::scan::{Case, Verdict};
use dormouse::shells::journal::writer::{Error, Writer};
use std::path::Path;

/// What was acknowledged before the crash.
#[derive(Default)]
struct Promised {
    run: bool,
    records: Vec<Record>,
}

fn append(writer: &mut Writer, n: u64, promised: &mut Promised) -> Option<()> {
    let record = writer.append(writer.head().seq, at(n), &note(n)).ok()?;
    promised.records.extend(writer.take_repaired());
    promised.records.push(record);
    Some(())
}

/// Create a run, append three times with a new segment in between, close, open again, append.
/// Nothing as soon as the disk dies.
fn scenario(disk: &MemoryDisk, promised: &mut Promised) -> Option<()> {
    let root = open_root(disk).ok()?;
    let run = new_run(&root).ok()?;
    promised.run = true;
    promised.records = journal(&run_id(), 1, &[]).1;
    let mut writer = open_writer(&run).ok()?.writer;
    append(&mut writer, 2, promised)?;
    append(&mut writer, 3, promised)?;
    writer.rotate();
    append(&mut writer, 4, promised)?;
    writer.close().ok()?;
    let mut writer = open_writer(&run).ok()?.writer;
    append(&mut writer, 5, promised)
}

/// Opens again for writing and appends one record; checks that all that was promised is there.
fn recover(disk: &MemoryDisk, promised: &mut Promised, what: &str) -> Option<()> {
    let root = match open_root(disk) {
        Ok(root) => root,
        Err(_) if disk.is_dead() => return None,
        Err(e) => panic!("{what}: {e}"),
    };
    let run = match root.view().run(&run_id()) {
        Ok(run) => run,
        Err(_) if disk.is_dead() => return None,
        Err(e) => {
            assert!(!promised.run, "{what}: the run is gone: {e}");
            return Some(());
        }
    };
    let mut opened = match open_writer(&run) {
        Ok(opened) => opened,
        Err(_) if disk.is_dead() => return None,
        Err(e) => panic!("{what}: {e}"),
    };
    let kept = &opened.scan.records;
    assert!(kept.len() >= promised.records.len(), "{what}: {:?}", opened.scan.main);
    assert_eq!(&kept[..promised.records.len()], &promised.records[..], "{what}");
    promised.records = kept.clone();
    append(&mut opened.writer, 100, promised)?;
    opened.writer.close().ok()
}

fn crash(disk: &MemoryDisk, power: bool) {
    if power { disk.power_cut() } else { disk.kill() }
}

#[test]
fn g1_nothing_acknowledged_is_lost_at_any_crash_point() {
    for (power, seeds) in [(false, 3), (true, 25)] {
        for seed in 0..seeds {
            let mut nth = 1;
            loop {
                let disk = MemoryDisk::new(seed * 1_000 + nth);
                let mut promised = Promised::default();
                disk.fail_at(nth, Fault::Die);
                let through = scenario(&disk, &mut promised).is_some();
                disk.write_back_some();
                crash(&disk, power);
                // The opener may die too, once, somewhere.
                let what = format!("power {power}, seed {seed}, crash at {nth}");
                disk.fail_at(1 + (seed * 7 + nth) % 40, Fault::Die);
                if recover(&disk, &mut promised, &what).is_none() {
                    crash(&disk, power);
                    recover(&disk, &mut promised, &what).unwrap();
                }
                disk.power_cut();
                recover(&disk, &mut promised, &format!("{what}, at last")).unwrap();
                if through {
                    break;
                }
                nth += 1;
            }
            assert!(nth > 30, "the scenario has only {nth} steps");
        }
    }
}

fn fresh(seed: u64) -> (MemoryDisk, dormouse::shells::run_dir::dir::RunDir) {
    let disk = MemoryDisk::new(seed);
    let run = new_run(&open_root(&disk).unwrap()).unwrap();
    (disk, run)
}

#[test]
fn after_a_failed_sync_the_writer_is_done_and_the_next_one_copies() {
    for stuck in [false, true] {
        let (disk, run) = fresh(1);
        if stuck {
            disk.stick_cache();
        }
        let mut writer = open_writer(&run).unwrap().writer;
        writer.append(Seq(1), at(2), &note(2)).unwrap();
        // The write is the first operation, its sync the second.
        disk.fail_at(2, Fault::Broken);
        assert!(matches!(writer.append(Seq(2), at(3), &note(3)), Err(Error::Unknown(_))));
        assert!(matches!(writer.append(Seq(2), at(3), &note(3)), Err(Error::Latched)));
        writer.close().unwrap();

        let mut opened = open_writer(&run).unwrap();
        let case = opened.scan.main.case;
        // A cache that would not drop shows the record; the copy then makes it durable.
        assert_eq!(case, if stuck { Case::J00 } else { Case::J13 });
        let mut kept = opened.scan.records.clone();
        for n in 4..9 {
            let head = opened.writer.head().seq;
            let record = opened.writer.append(head, at(n), &note(n)).unwrap();
            kept.extend(opened.writer.take_repaired());
            kept.push(record);
        }
        opened.writer.close().unwrap();
        disk.evict();
        let scan = reader::read(&run, None);
        assert_eq!(scan.verdict(), Verdict::Ok, "{:?}", scan.main);
        assert_eq!(scan.records, kept);
    }
}

#[test]
fn a_write_back_that_fails_while_the_run_is_opened_costs_nothing_that_was_folded() {
    let (disk, run) = fresh(5);
    let mut writer = open_writer(&run).unwrap().writer;
    writer.append(Seq(1), at(2), &note(2)).unwrap();
    // Written, never synced, and its writer is gone.
    disk.fail_at(2, Fault::Die);
    writer.append(Seq(2), at(3), &note(3)).unwrap_err();
    disk.kill();
    disk.fail_write_back_on_drop();
    let run = open_root(&disk).unwrap().view().run(&run_id()).unwrap();
    let mut opened = open_writer(&run).unwrap();
    assert_eq!(opened.scan.head.seq, Seq(3), "{:?}", opened.scan.main);
    opened.writer.append(Seq(3), at(4), &note(4)).unwrap();
    opened.writer.close().unwrap();
    disk.power_cut();
    let run = open_root(&disk).unwrap().view().run(&run_id()).unwrap();
    let scan = reader::read(&run, None);
    assert_eq!((scan.verdict(), scan.head.seq), (Verdict::Ok, Seq(4)), "{:?}", scan.main);
}

#[test]
fn a_full_disk_leaves_a_torn_tail_that_is_kept_and_said() {
    let (disk, run) = fresh(2);
    let mut writer = open_writer(&run).unwrap().writer;
    disk.fail_at(1, Fault::Short(50));
    assert!(matches!(writer.append(Seq(1), at(2), &note(2)), Err(Error::Unknown(_))));
    drop(writer);
    let mut opened = open_writer(&run).unwrap();
    assert_eq!(opened.scan.main.case, Case::J11);
    let record = opened.writer.append(Seq(1), at(3), &note(3)).unwrap();
    let repaired = opened.writer.take_repaired().unwrap();
    assert_eq!((repaired.seq, record.seq), (Seq(2), Seq(3)));
    let Event::JournalRepaired(event) = &repaired.event else { panic!("{repaired:?}") };
    assert_eq!((event.case.as_str(), event.plan.as_str(), &event.lost), ("J11", "P3", &None));
    let kept = run.read_relative(&event.removed[0].kept_as, 1000).unwrap();
    assert_eq!((kept.len(), event.removed[0].bytes), (50, 50));
    assert!(event.removed[0].kept_as.contains("-J11-0000000001.jsonl@"));
    opened.writer.close().unwrap();
    assert_eq!(reader::read(&run, None).head.seq, Seq(3));

    disk.set_capacity(0);
    let mut opened = writer_without_note(&disk, &run);
    assert!(matches!(opened.append(Seq(3), at(4), &note(4)), Err(Error::Unknown(_))));
    let note_text = disk.content(Path::new("/runs/demo-run/run.lock")).unwrap();
    assert!(!String::from_utf8(note_text).unwrap().contains("closed"));
}

/// Opens while there is room, then takes the room away.
fn writer_without_note(disk: &MemoryDisk, run: &dormouse::shells::run_dir::dir::RunDir) -> Writer {
    disk.set_capacity(usize::MAX);
    let writer = open_writer(run).unwrap().writer;
    disk.set_capacity(0);
    writer
}

#[test]
fn an_append_on_another_head_is_refused_and_time_never_steps_back() {
    let (_disk, run) = fresh(3);
    let mut writer = open_writer(&run).unwrap().writer;
    let late = writer.append(Seq(1), at(50), &note(2)).unwrap();
    let early = writer.append(Seq(2), at(10), &note(3)).unwrap();
    assert_eq!((late.at, early.at), (at(50), at(50)));
    let conflict = writer.append(Seq(2), at(60), &note(4)).unwrap_err();
    assert!(matches!(conflict, Error::Conflict { expected: Seq(2), found: Seq(3) }));
    let huge = dormouse::codecs::event::OperatorNote { text: "x".repeat(300_000), by: "t".into() };
    assert!(matches!(writer.append(Seq(3), at(60), &huge.into()), Err(Error::TooLong(_))));
    writer.append(Seq(3), at(60), &note(4)).unwrap();
}

#[test]
fn segments_are_closed_at_their_size() {
    let (_disk, run) = fresh(4);
    let mut writer = open_writer(&run).unwrap().writer;
    let long = dormouse::codecs::event::OperatorNote { text: "x".repeat(200_000), by: "t".into() };
    let long: Event = long.into();
    for n in 1..60 {
        writer.append(Seq(n), at(n), &long).unwrap();
    }
    writer.close().unwrap();
    let scan = reader::read(&run, None);
    assert_eq!((scan.verdict(), scan.segments.len()), (Verdict::Ok, 2));
    assert!(scan.segments.iter().all(|s| s.bytes <= 8 * 1024 * 1024));
}

#[test]
fn a_long_journal_is_staged_in_segments_too() {
    let root = open_root(&MemoryDisk::new(5)).unwrap();
    let mut staged = root.stage(&run_id()).unwrap();
    let long = dormouse::codecs::event::OperatorNote { text: "x".repeat(200_000), by: "t".into() };
    let mut events = vec![(at(1), created(&run_id()))];
    events.extend((2..60).map(|n| (at(n), long.clone().into())));
    staged.journal(&events).unwrap();
    let scan = reader::read(&staged.publish().unwrap(), None);
    assert_eq!((scan.verdict(), scan.segments.len()), (Verdict::Ok, 2));
    assert_eq!(scan.records.len(), 59);
}
