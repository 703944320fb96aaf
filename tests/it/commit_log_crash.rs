//! Every point at which a daemon or a machine can die, or a disk can fail, while the commit log is
//! written, settled, released and stopped.

use crate::commit_log_support::*;
use dormouse::ground::id::Seq;
use dormouse::ports::disk::memory::{Fault, MemoryDisk};
use dormouse::ports::disk::{self, Atomic, Dir, Disk as _, Open, Rename};
use dormouse::shells::commit_log::remark::Remark;
use dormouse::shells::commit_log::{Committed, WriterState};
use std::path::Path;

fn disk(seed: u64, direct: bool) -> MemoryDisk {
    let disk = MemoryDisk::new(seed);
    if !direct {
        disk.forbid_direct();
    }
    disk
}

/// Starts, commits for several runs, fills a segment, settles, releases, rests, stops. Ends where
/// the disk dies or the writer fails. True if the stop was clean.
pub(crate) fn scenario(disk: &MemoryDisk, known: &mut Known) -> bool {
    let Ok(mut rig) = Rig::open(disk, settings()) else { return false };
    let mut owners = ["a", "b", "c"].map(Owner::new);
    let mut serial = 0;
    let mut give = |rig: &mut Rig, known: &mut Known, owner: &mut Owner, bytes: usize| {
        serial += 1;
        let words = format!("w{serial}");
        let unit = owner.unit(&words, 1 + serial % 3, bytes);
        rig.give(known, &words, unit);
    };
    for round in 0..7 {
        for (n, owner) in owners.iter_mut().enumerate() {
            if round == 4 {
                owner.rotate();
            }
            if (round + n) % 3 != 2 || round == 0 {
                give(&mut rig, known, owner, 10);
            }
        }
        rig.commit(known);
        match round {
            1 => rig.pass(known, 150),
            2 => rig.pass(known, 3_000),
            // One unit above what is left of the segment, again and again.
            3 | 5 => {
                for _ in 0..3 {
                    give(&mut rig, known, &mut owners[1], 16_000);
                    give(&mut rig, known, &mut owners[0], 14_000);
                    rig.commit(known);
                }
                rig.jobs(known);
            }
            _ => {}
        }
        if disk.is_dead() || rig.log.state() == WriterState::Failed {
            return false;
        }
    }
    rig.pass(known, 40_000);
    give(&mut rig, known, &mut owners[2], 10);
    rig.commit(known);
    rig.stop(known).is_ok()
}

fn refused_or_durable(known: &Known) -> usize {
    known.durable.len() + known.not_written.len()
}

#[test]
fn without_faults_everything_is_settled_and_the_log_is_gone() {
    for direct in [true, false] {
        let disk = disk(1, direct);
        let mut known = Known::default();
        assert!(scenario(&disk, &mut known));
        assert!(known.not_written.is_empty());
        disk.power_cut();
        check(&disk, &known, "after a clean stop");
        let left = |name: &str| {
            disk.content(std::path::Path::new(&format!("/runs/.dormouse/commit-log/{name}")))
        };
        for segno in 0..9 {
            assert!(left(&dormouse::shells::commit_log::segment_file(segno)).is_none(), "{segno}");
        }
    }
}

#[test]
fn a_directory_is_made_at_once_however_many_files_are_open() {
    let few = dormouse::shells::commit_log::Settings { open_files_max: 4, ..settings() };
    let mut rig = Rig::open(&disk(1, true), few).unwrap();
    rig.now_ms = 1;
    let mut known = Known::default();
    for n in 0..12 {
        let unit = Owner::new(&format!("run-{n}")).unit(&format!("w{n}"), 1, 10);
        rig.give(&mut known, &format!("w{n}"), unit);
        rig.commit(&mut known);
        rig.jobs(&mut known);
        let made = |e: &&Committed| matches!(e, Committed::Made { .. });
        assert_eq!(known.events.iter().filter(made).count(), n + 1, "no time has passed");
    }
    assert!(rig.log.figures().open_files <= 4);
}

const JOURNAL: &str = "/runs/a/journal";
const SEGMENT: &str = "0000000001.jsonl";

/// A run `a` with one settled record, something done to its directory, one more record, and time
/// for that to be settled.
fn meddled(disk: &MemoryDisk, meddle: impl Fn(&dyn Dir)) -> (Rig, Known) {
    let (mut rig, mut known) = (Rig::open(disk, settings()).unwrap(), Known::default());
    let mut owner = Owner::new("a");
    for words in ["first", "second"] {
        if words == "second" {
            rig.pass(&mut known, 5_000);
            meddle(&*disk.open_dir(Path::new(JOURNAL)).unwrap());
        }
        let unit = owner.unit(words, 1, 10);
        rig.give(&mut known, words, unit);
        rig.commit(&mut known);
        assert!(known.durable.contains_key(words));
    }
    rig.pass(&mut known, 5_000);
    (rig, known)
}

#[test]
fn a_journal_that_was_replaced_or_removed_gets_what_the_log_holds() {
    let replace = |journal: &dyn Dir| {
        let bytes = journal.read_file(SEGMENT, Open::Truth, 1 << 20).unwrap();
        disk::write_atomic(journal, SEGMENT, &bytes, Atomic::DURABLE).unwrap();
    };
    let remove = |journal: &dyn Dir| journal.unlink(SEGMENT).unwrap();
    for (what, meddle) in [("replaced", &replace as &dyn Fn(&dyn Dir)), ("removed", &remove)] {
        let disk = disk(1, true);
        let (rig, mut known) = meddled(&disk, meddle);
        assert_eq!(rig.log.state(), WriterState::Healthy, "{what}");
        rig.stop(&mut known).unwrap();
        disk.power_cut();
        check(&disk, &known, what);
    }
}

#[test]
fn a_run_that_was_removed_is_told_and_costs_the_others_nothing() {
    let disk = disk(1, true);
    let (rig, mut known) = meddled(&disk, |_| {
        let root = disk.open_dir(Path::new("/runs")).unwrap();
        root.rename("a", &*root, ".elsewhere", Rename::NoReplace).unwrap();
    });
    assert_eq!(rig.log.state(), WriterState::Healthy);
    let told = |e: &Committed| matches!(e, Committed::Removed { run } if run.as_str() == "a");
    assert!(known.events.iter().any(told));
    rig.stop(&mut known).unwrap();
}

#[test]
fn trouble_with_the_disk_is_said_with_its_reason() {
    let disk = disk(1, true);
    let mut known = Known::default();
    let mut rig = Rig::open(&disk, settings()).unwrap();
    rig.now_ms = 1;
    let mut owner = Owner::new("a");
    for words in ["one", "two"] {
        rig.give(&mut known, words, owner.unit(words, 1, 10));
        rig.commit(&mut known);
        rig.jobs(&mut known);
    }
    assert_eq!(rig.log.remarks(), []);
    disk.fail_write_back();
    rig.log.settle_all();
    rig.jobs(&mut known);
    let said = rig.log.remarks();
    let rebuilt = Remark::Rebuilt { run: owner.run().clone(), first: Seq(1) };
    let unsynced = "the journal of a was not synced";
    let survived = |remark: &Remark| *remark == Remark::Survived(unsynced.into());
    assert!(said.contains(&rebuilt) && said.iter().any(survived), "{said:?}");
    disk.set_capacity(0);
    rig.pass(&mut known, 10_000);
    let said = rig.log.remarks();
    let full =
        |remark: &Remark| matches!(remark, Remark::Full(why) if why.contains("disk.free_min"));
    assert!(said.iter().any(full), "{said:?}");
    disk.set_capacity(usize::MAX);
    rig.pass(&mut known, 10_000);
    assert_eq!(rig.log.remarks().last(), Some(&Remark::Healthy));
    rig.log.give_up("the sky fell");
    assert_eq!(rig.log.remarks(), [Remark::Failed("the sky fell".into())]);
}

/// Another daemon goes on with what the first has left, and the machine dies under it.
fn second_life(disk: &MemoryDisk, what: &str) {
    let what = format!("{what}, then a second life");
    let (mut rig, mut known) = (Rig::open(disk, settings()).unwrap(), Known::default());
    let unit = Owner::new("later").unit("later", 2, 10);
    rig.give(&mut known, "later", unit);
    rig.commit(&mut known);
    assert!(known.durable.contains_key("later"), "{what}");
    drop(rig);
    disk.power_cut();
    check(disk, &known, &what);
    recover_all(disk, &what);
    disk.power_cut();
    check(disk, &known, &what);
}

#[test]
fn g1_nothing_acknowledged_is_lost_wherever_the_daemon_or_the_machine_dies() {
    let mut steps = 0;
    for (direct, seeds) in [(true, 2), (false, 2)] {
        for seed in 0..seeds {
            for nth in 1.. {
                let disk = disk(seed * 10_000 + nth, direct);
                let mut known = Known::default();
                disk.fail_at(nth, Fault::Die);
                let through = scenario(&disk, &mut known);
                if nth % 3 == 0 {
                    disk.write_back_some();
                }
                let what = format!("direct {direct}, seed {seed}, death at {nth}");
                if nth % 2 == 0 {
                    disk.power_cut();
                    check(&disk, &known, &what);
                } else {
                    disk.kill();
                }
                recover_all(&disk, &what);
                disk.power_cut();
                check(&disk, &known, &what);
                if nth % 2 == 1 {
                    second_life(&disk, &what);
                }
                if through {
                    steps = nth;
                    break;
                }
            }
        }
    }
    assert!(steps > 100, "the scenario has only {steps} steps");
}

#[test]
fn g1_nothing_acknowledged_is_lost_whatever_fails() {
    let faults = [Fault::Broken, Fault::NoSpace, Fault::Short(100), Fault::Short(5000)];
    let (mut failed, mut survived) = (0, 0);
    for direct in [true, false] {
        for (n, fault) in (1..).zip(faults) {
            // Each kind of fault at every fourth operation; together they meet each one.
            for nth in (n..200).step_by(4) {
                let disk = disk(nth, direct);
                let mut known = Known::default();
                disk.fail_at(nth, fault);
                let clean = scenario(&disk, &mut known);
                let what = format!("direct {direct}, {fault:?} at {nth}");
                if clean {
                    survived += 1;
                    assert!(refused_or_durable(&known) > 15, "{what}");
                } else {
                    failed += 1;
                }
                disk.kill();
                if nth % 3 == 0 {
                    disk.power_cut();
                    check(&disk, &known, &what);
                }
                recover_all(&disk, &what);
                disk.power_cut();
                check(&disk, &known, &what);
            }
        }
    }
    // Most failures are survived; those of the log itself end the writer.
    assert!(failed > 50 && survived > 150, "{failed} {survived}");
}

#[test]
fn g1_a_failed_write_back_anywhere_costs_nothing() {
    for direct in [true, false] {
        for nth in (1..120).step_by(2) {
            let disk = disk(nth, direct);
            let mut known = Known::default();
            // The kernel gives up on whatever is dirty, and the next sync of each file says so.
            disk.fail_at(nth, Fault::Broken);
            disk.fail_at(nth + 7, Fault::Broken);
            disk.fail_at(nth + 8, Fault::Broken);
            scenario(&disk, &mut known);
            disk.kill();
            disk.evict();
            check(&disk, &known, &format!("direct {direct}, failures from {nth}"));
            disk.power_cut();
            check(&disk, &known, &format!("direct {direct}, failures from {nth}, power cut"));
        }
    }
}

#[test]
fn too_many_open_files_pass_by_themselves() {
    let disk = disk(1, true);
    let mut known = Known::default();
    let mut rig = Rig::open(&disk, settings()).unwrap();
    let mut owner = Owner::new("a");
    rig.give(&mut known, "w", owner.unit("w", 1, 10));
    rig.commit(&mut known);
    for _ in 0..6 {
        // A second later: the next segment and the run's directory want to be made.
        rig.now_ms += 1_000;
        disk.fail_at(1, Fault::TooManyOpen);
        disk.fail_at(2, Fault::TooManyOpen);
        rig.jobs(&mut known);
        assert_eq!(rig.log.state(), WriterState::Full, "{:?}", rig.log.failure());
        assert!(rig.log.figures().crowded);
    }
    rig.pass(&mut known, 7_000);
    assert_eq!(rig.log.state(), WriterState::Healthy, "{:?}", rig.log.failure());
    assert!(!rig.log.figures().crowded);
    rig.stop(&mut known).unwrap();
    assert!(known.durable.contains_key("w"));
}
