//! Recovery of the commit log: every label, every place to die, power cuts, failed write-backs,
//! rot.
//!
//! On the memory disk; the log is written by hand.

use crate::log_by_hand::{BLOCK, ByHand, own, patience, recover, recover_on};
use crate::support::{as_disk, clock, note};
use dormouse::codecs::format::line;
use dormouse::codecs::format::log_entry::Entry;
use dormouse::ground::id::{RunId, Seq};
use dormouse::ports::disk::Disk;
use dormouse::ports::disk::memory::{Fault, MemoryDisk};
use dormouse::shells::commit_log::label::{Label, RunCase};
use dormouse::shells::commit_log::recover::{self, Failure};
use dormouse::shells::commit_log::scan;
use dormouse::shells::commit_log::segment_file;
use dormouse::shells::journal::reader;
use dormouse::shells::journal::scan::Case;
use dormouse::shells::run_dir::root::RootView;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn run(name: &str) -> RunId {
    name.parse().unwrap()
}

fn journal_path(run: &RunId, first: u64) -> PathBuf {
    PathBuf::from(format!("/runs/{run}/journal/{}", line::segment_name(Seq(first))))
}

fn segment_path(segno: u64) -> PathBuf {
    PathBuf::from(format!("/runs/.dormouse/commit-log/{}", segment_file(segno)))
}

/// The head of a run whose journal verifies.
fn head(disk: &MemoryDisk, run: &RunId) -> Option<u64> {
    let view = RootView::open(&as_disk(disk), Path::new("/runs")).unwrap();
    let dir = view.run(run).ok()?;
    let scan = reader::read_locked(&dir, None);
    assert_eq!(scan.main.case, Case::J00, "{run}: {:?}", scan.main);
    Some(scan.head.seq.0)
}

/// A log with three batches of runs a and b, copied to journals. Nothing is settled.
fn three_batches(disk: &MemoryDisk) -> ByHand {
    let mut daemon = ByHand::start(disk).unwrap();
    let (a, b) = (run("a"), run("b"));
    daemon.append(&[(&a, 1)]).unwrap();
    daemon.append(&[(&a, 2), (&b, 1)]).unwrap();
    daemon.append(&[(&b, 2)]).unwrap();
    daemon
}

/// The label of the corruption that a recovery finds.
fn refused(disk: &MemoryDisk) -> scan::Corruption {
    let root = own(disk).unwrap();
    match recover_on(&root) {
        Err(Failure::Log(scan::Error::Corrupt(found))) => *found,
        other => panic!("{other:?}"),
    }
}

/// Flips bits of a byte on the device.
fn flip(disk: &MemoryDisk, path: &Path, offset: u64) {
    disk.tamper(path, |bytes| bytes[usize::try_from(offset).unwrap()] ^= 0x55);
}

#[test]
fn l0_a_log_that_ends_cleanly_empties_into_journals() {
    let disk = MemoryDisk::new(1);
    drop(three_batches(&disk));
    disk.kill();
    let done = recover(&disk).unwrap();
    assert_eq!((done.verdict, done.last_seq, done.generation), (Label::L0, 3, 2));
    let cases: Vec<_> = done.runs.iter().map(|(run, case)| (run.as_str(), *case)).collect();
    assert_eq!(cases, [("a", Some(RunCase::J42)), ("b", Some(RunCase::J42))]);
    assert!(done.set_aside.is_empty() && done.notes.is_empty());
    disk.power_cut();
    assert_eq!((head(&disk, &run("a")), head(&disk, &run("b"))), (Some(3), Some(3)));
    let again = recover(&disk).unwrap();
    assert_eq!((again.verdict, again.last_seq, again.generation), (Label::L0, 3, 3));
    assert!(again.runs.is_empty());
    let log = disk.open_dir(Path::new("/runs/.dormouse/commit-log")).unwrap();
    assert_eq!(log.list().unwrap(), [""; 0]);
    // The next log goes on counting.
    let mut daemon = ByHand::start(&disk).unwrap();
    assert_eq!((daemon.header.segno, daemon.header.first_seq), (2, 4));
    daemon.append(&[(&run("c"), 1)]).unwrap();
    assert_eq!(daemon.tip.seq, 4);
}

#[test]
fn l1_a_last_batch_that_was_cut_short_is_ignored_and_kept() {
    for seed in 0..60 {
        let disk = MemoryDisk::new(seed);
        let mut daemon = three_batches(&disk);
        let c = run("c");
        disk.fail_at(1, Fault::Die);
        let entries = [Entry::Append(daemon.lines(&c, 2, false))];
        daemon.commit(&entries).unwrap_err();
        drop(daemon);
        if seed % 2 == 0 {
            disk.kill();
        } else {
            disk.power_cut();
        }
        let done = recover(&disk).unwrap();
        let kept = disk.open_dir(Path::new("/runs/.dormouse/quarantine"));
        if done.verdict == Label::L1 {
            assert_eq!(done.last_seq, 4, "the number of the torn batch is not used again");
            assert_eq!(done.notes[0].label, Label::L1);
            assert_eq!(kept.unwrap().list().unwrap(), ["log-0000000000000001-g1.dlog"]);
            assert_eq!(head(&disk, &c), None);
        } else {
            // Nothing of it reached the disk, or all of it.
            let whole = head(&disk, &c) == Some(2);
            assert_eq!(done.last_seq, if whole { 4 } else { 3 });
        }
        assert_eq!((head(&disk, &run("a")), head(&disk, &run("b"))), (Some(3), Some(3)));
    }
}

#[test]
fn l1_only_so_many_torn_logs_are_kept() {
    let disk = MemoryDisk::new(1);
    for n in 1..=7 {
        let mut daemon = ByHand::start(&disk).unwrap();
        daemon.append(&[(&run(&format!("r{n}")), 1)]).unwrap();
        let segment = segment_path(daemon.header.segno);
        flip(&disk, &segment, daemon.offset + 100);
        drop(daemon);
        disk.kill();
    }
    recover(&disk).unwrap();
    let kept = disk.open_dir(Path::new("/runs/.dormouse/quarantine")).unwrap();
    let names = kept.list().unwrap();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names[3].starts_with("log-0000000000000007-"));
}

#[test]
fn l2_batches_that_do_not_follow_from_each_other() {
    let disk = MemoryDisk::new(1);
    let mut daemon = three_batches(&disk);
    daemon.tip.seq += 1;
    daemon.append(&[(&run("c"), 1)]).unwrap();
    drop(daemon);
    disk.kill();
    let found = refused(&disk);
    assert_eq!((found.label, found.seq), (Label::L2, 4));
    assert!(found.runs.contains(&run("c")));
    let disk = MemoryDisk::new(1);
    let mut daemon = three_batches(&disk);
    daemon.tip.crc += 1;
    daemon.append(&[(&run("c"), 1)]).unwrap();
    assert_eq!(
        {
            drop(daemon);
            disk.kill();
            refused(&disk).label
        },
        Label::L2
    );
    let disk = MemoryDisk::new(1);
    let mut daemon = three_batches(&disk);
    daemon.header.generation += 1;
    daemon.append(&[(&run("c"), 1)]).unwrap();
    assert_eq!(
        {
            drop(daemon);
            disk.kill();
            refused(&disk).label
        },
        Label::L2
    );
}

#[test]
fn l3_batches_that_verify_and_cannot_be() {
    type Spoil = fn(&mut dormouse::codecs::format::log_entry::Append);
    let spoils: [(&str, Spoil); 4] = [
        ("lines", |append| append.lines[60] ^= 1),
        ("count", |append| append.n += 1),
        ("gap", |append| append.off += 7),
        ("segment", |append| (append.file, append.off) = (Seq(7), 0)),
    ];
    for (what, spoil) in spoils {
        let disk = MemoryDisk::new(1);
        let mut daemon = three_batches(&disk);
        daemon.without_copies = true;
        let mut append = daemon.lines(&run("a"), 2, false);
        spoil(&mut append);
        daemon.commit(&[Entry::Append(append)]).unwrap();
        drop(daemon);
        disk.kill();
        assert_eq!(refused(&disk).label, Label::L3, "{what}");
    }
    // A run that is not there, and records of another run's chain.
    let disk = MemoryDisk::new(1);
    let mut daemon = three_batches(&disk);
    daemon.without_copies = true;
    let mut append = daemon.lines(&run("c"), 1, false);
    append.run = run("d");
    daemon.commit(&[Entry::Append(append)]).unwrap();
    drop(daemon);
    disk.kill();
    assert_eq!(refused(&disk).label, Label::L3);
}

#[test]
fn l4_segments_that_are_missing_or_are_none() {
    let spoiled = |spoil: &dyn Fn(&MemoryDisk)| {
        let disk = MemoryDisk::new(1);
        let mut daemon = three_batches(&disk);
        daemon.rotate().unwrap();
        daemon.append(&[(&run("a"), 1)]).unwrap();
        drop(daemon);
        disk.kill();
        spoil(&disk);
        refused(&disk)
    };
    let log = |disk: &MemoryDisk| disk.open_dir(Path::new("/runs/.dormouse/commit-log")).unwrap();
    let missing = spoiled(&|disk| log(disk).unlink(&segment_file(1)).unwrap());
    assert_eq!((missing.label, missing.at.segno), (Label::L4, 1));
    let both_copies = spoiled(&|disk| {
        flip(disk, &segment_path(2), 30);
        flip(disk, &segment_path(2), u64::from(BLOCK) + 30);
    });
    assert_eq!((both_copies.label, both_copies.at.segno), (Label::L4, 2));
    let emptied = spoiled(&|disk| disk.tamper(&segment_path(1), |bytes| bytes.fill(0)));
    assert_eq!((emptied.label, emptied.at.segno), (Label::L4, 1));
    let header_only = spoiled(&|disk| {
        disk.tamper(&segment_path(1), |bytes| {
            bytes[2 * BLOCK as usize..].fill(0);
            bytes[0] ^= 1;
            bytes[BLOCK as usize] ^= 1;
        });
    });
    assert_eq!(header_only.label, Label::L4);
    let cut = spoiled(&|disk| disk.tamper(&segment_path(2), |bytes| bytes.truncate(40_960)));
    assert_eq!(cut.label, Label::L4);
    let unannounced = spoiled(&|disk| {
        let bytes = disk.content(&segment_path(2)).unwrap();
        disk.tamper(&segment_path(3), |new| *new = bytes);
    });
    assert_eq!((unannounced.label, unannounced.at.segno), (Label::L4, 3));
}

#[test]
fn l4_is_not_said_of_a_spare_or_of_an_activation_that_was_cut_short() {
    for seed in 0..40 {
        let disk = MemoryDisk::new(seed);
        let mut daemon = three_batches(&disk);
        // Spare: four changes, root.json: four more, then the header.
        let nth = 1 + seed % 12;
        disk.fail_at(nth, Fault::Die);
        let died = daemon.rotate().is_err();
        assert_eq!(died, disk.is_dead());
        drop(daemon);
        if seed % 3 == 0 {
            disk.kill();
        } else {
            disk.power_cut();
        }
        let done = recover(&disk).unwrap();
        assert_eq!((done.verdict, done.last_seq), (Label::L0, 3), "seed {seed}");
    }
}

#[test]
fn l5_and_l6_a_bad_batch_that_is_not_the_last() {
    let disk = MemoryDisk::new(1);
    drop(three_batches(&disk));
    disk.kill();
    flip(&disk, &segment_path(1), 3 * u64::from(BLOCK) + 200);
    let found = refused(&disk);
    assert_eq!((found.label, found.seq), (Label::L5, 2));
    assert_eq!((found.at.segno, found.at.offset), (1, 3 * u64::from(BLOCK)));
    assert_eq!(found.runs.len(), 2);
    // The same with the later batch in another segment, and with none.
    for (later, label) in [(true, Label::L5), (false, Label::L6)] {
        let disk = MemoryDisk::new(1);
        let mut daemon = three_batches(&disk);
        daemon.rotate().unwrap();
        if later {
            daemon.append(&[(&run("a"), 1)]).unwrap();
        }
        drop(daemon);
        disk.kill();
        flip(&disk, &segment_path(1), 4 * u64::from(BLOCK) + 200);
        assert_eq!(refused(&disk).label, label);
    }
    // Segments whose pins disagree.
    let disk = MemoryDisk::new(1);
    let mut daemon = three_batches(&disk);
    daemon.tip.crc ^= 1;
    daemon.rotate().unwrap();
    drop(daemon);
    disk.kill();
    assert_eq!(refused(&disk).label, Label::L6);
}

#[test]
fn l7_a_bad_batch_that_somebody_has_seen() {
    let torn = |spoil: u64| {
        let disk = MemoryDisk::new(1);
        drop(three_batches(&disk));
        disk.kill();
        flip(&disk, &segment_path(1), 4 * u64::from(BLOCK) + spoil);
        disk
    };
    // Run b is in the log before: its journal is longer than what the log accounts for.
    assert_eq!(refused(&torn(3)).label, Label::L7);
    assert_eq!(refused(&torn(200)).label, Label::L7);
    // The index.
    let disk = torn(3);
    disk.tamper(&journal_path(&run("b"), 1), |bytes| {
        let first = bytes.iter().position(|b| *b == b'\n').unwrap();
        bytes.truncate(first + 1);
    });
    let root = own(&disk).unwrap();
    let with_index = |applied| recover::recover(&root, Some(applied), &patience(), &clock());
    let Err(Failure::Log(scan::Error::Corrupt(found))) = with_index(3) else { panic!() };
    assert_eq!((found.label, found.seq), (Label::L7, 3));
    assert_eq!(with_index(2).unwrap().verdict, Label::L1);
    // A run that only the bad batch speaks of, wherever a bit of it is flipped.
    for seed in 0..64 {
        let disk = MemoryDisk::new(seed);
        let mut daemon = ByHand::start(&disk).unwrap();
        daemon.append(&[(&run("a"), 1)]).unwrap();
        daemon.settle(&run("a")).unwrap();
        let ends = daemon.ends.clone();
        drop(daemon);
        disk.kill();
        let mut daemon = ByHand::start(&disk).unwrap();
        daemon.ends = ends;
        daemon.append(&[(&run("a"), 2)]).unwrap();
        let used = u64::from(daemon.header.block_bytes) * 2;
        drop(daemon);
        disk.kill();
        // In the lines, behind the entry's own fields.
        flip(&disk, &segment_path(2), used + 150 + seed);
        assert_eq!(refused(&disk).label, Label::L7, "byte {}", 150 + seed);
    }
}

#[test]
fn l8_a_log_that_ends_before_what_others_have_seen() {
    let disk = MemoryDisk::new(1);
    drop(three_batches(&disk));
    disk.kill();
    // The last frame vanishes as if it had never been written.
    disk.tamper(&segment_path(1), |bytes| bytes[4 * BLOCK as usize..].fill(0));
    let found = refused(&disk);
    assert_eq!((found.label, found.seq), (Label::L8, 3));
    let root = own(&disk).unwrap();
    let with_index = recover::recover(&root, Some(3), &patience(), &clock());
    let Err(Failure::Log(scan::Error::Corrupt(found))) = with_index else { panic!() };
    assert_eq!(found.label, Label::L8);
    assert!(found.why.contains("index"));
    // root.json is newer, or older, than the log.
    for (last_seq, generation) in [(9, 1), (0, 0)] {
        let disk = MemoryDisk::new(1);
        let daemon = three_batches(&disk);
        daemon
            .root
            .file()
            .replace(|json| {
                (json.last_seq, json.generation) = (last_seq, generation);
            })
            .unwrap();
        drop(daemon);
        disk.kill();
        assert_eq!(refused(&disk).label, Label::L8);
    }
}

#[test]
fn l9_damage_of_no_consequence_is_noted() {
    let disk = MemoryDisk::new(1);
    drop(three_batches(&disk));
    disk.kill();
    flip(&disk, &segment_path(1), 30);
    flip(&disk, &segment_path(1), 3 * u64::from(BLOCK) - 1);
    let done = recover(&disk).unwrap();
    assert_eq!(done.verdict, Label::L0);
    assert_eq!(done.notes.iter().map(|n| n.label).collect::<Vec<_>>(), [Label::L9; 2]);
    assert_eq!(head(&disk, &run("b")), Some(3));
}

#[test]
fn l10_a_log_that_cannot_be_read_is_not_judged() {
    let disk = MemoryDisk::new(1);
    drop(three_batches(&disk));
    disk.kill();
    disk.unreadable(Some(&segment_path(1)));
    let root = own(&disk).unwrap();
    assert!(matches!(recover_on(&root), Err(Failure::Log(scan::Error::Unreadable(_)))));
    disk.unreadable(None);
    assert_eq!(recover_on(&root).unwrap().last_seq, 3);
}

#[test]
fn r2_a_segment_of_another_root() {
    let (disk, other) = (MemoryDisk::new(1), MemoryDisk::new(2));
    drop((three_batches(&disk), three_batches(&other)));
    disk.kill();
    let bytes = other.content(&segment_path(1)).unwrap();
    disk.tamper(&segment_path(1), |own| *own = bytes);
    let root = own(&disk).unwrap();
    assert!(matches!(recover_on(&root), Err(Failure::Log(scan::Error::OtherRoot(_)))));
}

/// A log whose journals were not written, and what becomes of its runs.
fn cases(spoil: impl FnOnce(&MemoryDisk, &mut ByHand)) -> (MemoryDisk, recover::Recovered) {
    let disk = MemoryDisk::new(1);
    let mut daemon = ByHand::start(&disk).unwrap();
    daemon.append(&[(&run("a"), 2)]).unwrap();
    daemon.settle(&run("a")).unwrap();
    let ends = daemon.ends.clone();
    drop(daemon);
    disk.kill();
    let mut daemon = ByHand::start(&disk).unwrap();
    daemon.ends = ends;
    spoil(&disk, &mut daemon);
    drop(daemon);
    disk.kill();
    let done = recover(&disk).unwrap();
    (disk, done)
}

#[test]
fn j40_a_run_whose_directory_was_not_made() {
    let (disk, done) = cases(|_, daemon| {
        daemon.without_copies = true;
        daemon.append(&[(&run("new"), 1)]).unwrap();
        let more = daemon.lines(&run("new"), 3, true);
        daemon.commit(&[Entry::Append(more)]).unwrap();
    });
    assert_eq!(done.runs, [(run("new"), Some(RunCase::J40))]);
    disk.power_cut();
    assert_eq!(head(&disk, &run("new")), Some(4));
    let view = RootView::open(&as_disk(&disk), Path::new("/runs")).unwrap();
    assert_eq!(view.run(&run("new")).unwrap().run_json().unwrap().run_id, run("new"));
}

#[test]
fn j41_a_run_that_somebody_removed() {
    let (disk, done) = cases(|disk, daemon| {
        daemon.append(&[(&run("a"), 1)]).unwrap();
        let root = disk.open_dir(Path::new("/runs")).unwrap();
        let aside = disk.open_dir(Path::new("/")).unwrap();
        let rename = dormouse::ports::disk::Rename::NoReplace;
        root.rename("a", &*aside, "elsewhere", rename).unwrap();
    });
    assert_eq!(done.set_aside[0].1, RunCase::J41);
    let kept = disk.content(Path::new("/runs/.dormouse/quarantine/orphan-a-g2.jsonl")).unwrap();
    assert!(kept.starts_with(b"{\"seq\":3,"));
}

#[test]
fn j43_a_journal_that_lacks_what_the_log_holds() {
    type Spoil = fn(&mut Vec<u8>, usize);
    let spoils: [(&str, Spoil, usize); 4] = [
        ("cut", |bytes, end| bytes.truncate(end - 5), 0),
        ("zeros", |bytes, end| bytes[end - 60..end].fill(0), 1),
        ("garbage", |bytes, end| bytes[end - 60..end].fill(b'x'), 1),
        ("one bit", |bytes, end| bytes[end - 60] ^= 1, 1),
    ];
    for (what, spoil, kept) in spoils {
        let (disk, done) = cases(|disk, daemon| {
            daemon.append(&[(&run("a"), 2)]).unwrap();
            disk.tamper(&journal_path(&run("a"), 1), |bytes| {
                let end = bytes.len();
                spoil(bytes, end);
            });
        });
        assert_eq!(done.runs, [(run("a"), Some(RunCase::J43))], "{what}");
        assert_eq!(head(&disk, &run("a")), Some(4), "{what}");
        let quarantine = disk.open_dir(Path::new("/runs/a/quarantine"));
        assert_eq!(quarantine.map_or(0, |q| q.list().unwrap().len()), kept, "{what}");
    }
}

#[test]
fn j44_two_histories() {
    let (disk, done) = cases(|disk, daemon| {
        let other = daemon.lines(&run("a"), 1, false);
        daemon.append(&[(&run("a"), 1)]).unwrap();
        let at = dormouse::ground::clock::Timestamp::default();
        let (mut forged, _) = line::encode(Seq(3), at, &note(9), other.prev);
        disk.tamper(&journal_path(&run("a"), 1), |bytes| {
            bytes.truncate(usize::try_from(other.off).unwrap());
            assert_eq!(forged.len(), other.lines.len());
            bytes.append(&mut forged);
        });
    });
    assert_eq!(done.set_aside[0].1, RunCase::J44);
    assert!(disk.content(Path::new("/runs/a/quarantine/tail-g2.jsonl")).is_some());
}

#[test]
fn j45_a_journal_that_holds_more_than_the_log() {
    let disk = MemoryDisk::new(1);
    let mut daemon = three_batches(&disk);
    let more = daemon.lines(&run("a"), 1, false);
    daemon.without_copies = true;
    drop(daemon);
    disk.kill();
    disk.tamper(&journal_path(&run("a"), 1), |bytes| bytes.extend(&more.lines));
    let found = refused(&disk);
    assert_eq!(found.label, Label::L8);
    // In a segment of its own.
    let disk = MemoryDisk::new(1);
    drop(three_batches(&disk));
    disk.kill();
    disk.tamper(&journal_path(&run("a"), 4), |bytes| bytes.extend(&more.lines));
    assert_eq!(refused(&disk).label, Label::L8);
    // Nothing was removed: it can be looked at again and again.
    assert_eq!(refused(&disk).label, Label::L8);
}

#[test]
fn j46_a_settled_part_that_is_damaged() {
    type Spoil = fn(&mut Vec<u8>, usize);
    let spoils: [Spoil; 2] =
        [|bytes, off| bytes.truncate(off - 9), |bytes, off| bytes[off - 9] ^= 1];
    for spoil in spoils {
        let (disk, done) = cases(|disk, daemon| {
            let off = usize::try_from(daemon.ends[&run("a")].off).unwrap();
            daemon.append(&[(&run("a"), 1)]).unwrap();
            disk.tamper(&journal_path(&run("a"), 1), |bytes| spoil(bytes, off));
        });
        assert_eq!(done.set_aside[0].1, RunCase::J46);
        let kept = disk.content(Path::new("/runs/a/quarantine/tail-g2.jsonl")).unwrap();
        assert!(kept.starts_with(b"{\"seq\":3,"));
    }
    // A new journal segment builds on a record of the one before.
    let (_, done) = cases(|disk, daemon| {
        let entry = Entry::Append(daemon.lines(&run("a"), 1, true));
        daemon.commit(&[entry]).unwrap();
        disk.tamper(&journal_path(&run("a"), 1), |bytes| bytes.truncate(20));
    });
    assert_eq!(done.set_aside[0].1, RunCase::J46);
}

#[test]
fn j47_a_run_that_somebody_else_holds() {
    let disk = MemoryDisk::new(1);
    drop(three_batches(&disk));
    disk.kill();
    let view = RootView::open(&as_disk(&disk), Path::new("/runs")).unwrap();
    let held = view.run(&run("a")).unwrap().lock(0, &clock()).unwrap();
    let done = recover(&disk).unwrap();
    assert_eq!(done.set_aside.len(), 1);
    assert_eq!((&done.set_aside[0].0, done.set_aside[0].1), (&run("a"), RunCase::J47));
    assert_eq!(head(&disk, &run("b")), Some(3));
    drop(held);
    // Cut short by whoever held it: what was kept vouches for what was acknowledged.
    disk.tamper(&journal_path(&run("a"), 1), |bytes| {
        let first = bytes.iter().position(|b| *b == b'\n').unwrap();
        bytes.truncate(first + 1);
    });
    let dir = view.run(&run("a")).unwrap();
    assert_eq!(reader::read_locked(&dir, None).main.case, Case::J15);
    dir.retire_tails().unwrap();
    assert_eq!(reader::read_locked(&dir, None).main.case, Case::J00);
}

#[test]
fn j60_a_journal_that_cannot_be_read_keeps_nobody_else() {
    let disk = MemoryDisk::new(1);
    drop(three_batches(&disk));
    disk.kill();
    disk.unreadable(Some(&journal_path(&run("a"), 1)));
    let done = recover(&disk).unwrap();
    assert_eq!((done.set_aside.len(), done.set_aside[0].1), (1, RunCase::J60));
    assert_eq!(head(&disk, &run("b")), Some(3));
}

#[test]
fn runs_that_were_deleted_or_handed_over() {
    let (disk, done) = cases(|_, daemon| {
        daemon.append(&[(&run("a"), 1), (&run("b"), 1)]).unwrap();
        let head = daemon.ends[&run("b")].head;
        daemon
            .commit(&[
                Entry::Gone { run: run("a") },
                Entry::Rebase { run: run("b"), seq: head.seq, sum: head.sum },
            ])
            .unwrap();
        daemon.settle(&run("b")).unwrap();
    });
    assert_eq!(done.runs, [(run("a"), None), (run("b"), None)]);
    assert_eq!((head(&disk, &run("a")), head(&disk, &run("b"))), (None, Some(1)));
    // An id that is used again after its run was deleted.
    let (disk, done) = cases(|_, daemon| {
        daemon.commit(&[Entry::Gone { run: run("a") }]).unwrap();
        daemon.ends.clear();
        daemon.without_copies = true;
        daemon.append(&[(&run("a"), 1)]).unwrap();
    });
    assert_eq!(done.runs[0].0, run("a"));
    assert_eq!(head(&disk, &run("a")), Some(1));
}

/// Commits and settles in several runs until something fails. Gives what was acknowledged.
fn workload(disk: &MemoryDisk) -> BTreeMap<RunId, u64> {
    let mut acked = BTreeMap::new();
    let names = ["a", "b", "c"].map(run);
    let Ok(mut daemon) = ByHand::start(disk) else { return acked };
    for n in 0..9 {
        let (one, two) = (&names[n % 3], &names[(n + 1) % 3]);
        let segment = n == 5;
        let entries = [
            Entry::Append(daemon.lines(one, 1 + u32::try_from(n).unwrap() % 3, segment)),
            Entry::Append(daemon.lines(two, 1, false)),
        ];
        let committed = daemon.commit(&entries);
        let durable = daemon.tip.seq > n as u64;
        if committed.is_ok() || durable {
            for (run, end) in &daemon.ends {
                acked.insert(run.clone(), end.head.seq.0);
            }
        }
        let settled = if n % 4 == 3 { daemon.settle(one) } else { Ok(()) };
        let rotated = if n == 4 { daemon.rotate() } else { Ok(()) };
        if committed.is_err() || settled.is_err() || rotated.is_err() {
            break;
        }
    }
    acked
}

/// All journals, byte for byte.
fn journals(disk: &MemoryDisk) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for name in ["a", "b", "c"] {
        let Ok(journal) = disk.open_dir(Path::new(&format!("/runs/{name}/journal"))) else {
            continue;
        };
        for file in journal.list().unwrap() {
            let path = format!("/runs/{name}/journal/{file}");
            all.insert(path.clone(), disk.content(Path::new(&path)).unwrap());
        }
    }
    all
}

fn crash(disk: &MemoryDisk, how: u64) {
    match how % 4 {
        0 => disk.kill(),
        1 => disk.power_cut(),
        2 => {
            disk.write_back_some();
            disk.power_cut();
        }
        _ => {
            disk.write_back_some();
            disk.evict();
            disk.kill();
        }
    }
}

fn check(disk: &MemoryDisk, acked: &BTreeMap<RunId, u64>, what: &str) {
    for (run, seq) in acked {
        let head = head(disk, run).unwrap_or(0);
        assert!(head >= *seq, "{what}: {run} ends at {head}, {seq} was acknowledged");
    }
}

#[test]
fn nothing_acknowledged_is_lost_wherever_the_writer_dies() {
    for how in 0..4 {
        for nth in 1.. {
            let disk = MemoryDisk::new(nth * 4 + how);
            disk.fail_at(nth, Fault::Die);
            let acked = workload(&disk);
            let died = disk.is_dead();
            crash(&disk, how);
            let what = format!("died at {nth}, then {how}");
            let done = recover(&disk).map_err(|e| format!("{what}: {e}")).unwrap();
            assert!(done.set_aside.is_empty(), "{what}: {:?}", done.set_aside);
            check(&disk, &acked, &what);
            disk.power_cut();
            check(&disk, &acked, &format!("{what}, and the power went"));
            if !died {
                assert!(nth > 80, "{nth}");
                break;
            }
        }
    }
}

#[test]
fn a_recovery_that_dies_anywhere_ends_with_the_same_bytes() {
    for how in 0..4 {
        let prepared = || {
            let disk = MemoryDisk::new(77 + how);
            let acked = workload(&disk);
            crash(&disk, how);
            (disk, acked)
        };
        let (disk, acked) = prepared();
        recover(&disk).unwrap();
        let expected = journals(&disk);
        for nth in 1.. {
            let (disk, _) = prepared();
            disk.fail_at(nth, Fault::Die);
            let done = recover(&disk);
            let died = disk.is_dead();
            assert_eq!(done.is_err(), died);
            // The second one dies too, somewhere else.
            crash(&disk, how + nth);
            disk.fail_at(1 + nth * 7 % 23, Fault::Die);
            let _ = recover(&disk);
            crash(&disk, nth);
            recover(&disk).map_err(|e| format!("{how}, {nth}: {e}")).unwrap();
            assert_eq!(journals(&disk), expected, "{how}, {nth}");
            disk.power_cut();
            check(&disk, &acked, &format!("{how}, {nth}"));
            if !died {
                break;
            }
        }
    }
}

#[test]
fn failed_write_backs_and_errors_in_recovery_lose_nothing() {
    for seed in 0..150 {
        let disk = MemoryDisk::new(seed);
        let acked = workload(&disk);
        if seed % 3 == 0 {
            disk.write_back_some();
        }
        disk.fail_write_back();
        if seed % 5 == 0 {
            disk.stick_cache();
        }
        if seed % 7 == 0 {
            disk.fail_write_back_on_drop();
        }
        disk.kill();
        for n in 0..seed % 4 {
            let fault = if n % 2 == 0 { Fault::Broken } else { Fault::NoSpace };
            disk.fail_at(1 + (seed * 5 + n * 11) % 60, fault);
        }
        let first = recover(&disk);
        disk.kill();
        if first.is_err() {
            recover(&disk).map_err(|e| format!("{seed}: {e}")).unwrap();
        }
        disk.power_cut();
        check(&disk, &acked, &format!("seed {seed}"));
    }
}

#[test]
fn no_flipped_bit_of_a_used_log_loses_anything_silently() {
    let written = |seed: u64, mark: bool| {
        let disk = MemoryDisk::new(seed);
        let mut daemon = three_batches(&disk);
        if mark {
            daemon.commit(&[]).unwrap();
        }
        let end = daemon.offset;
        drop(daemon);
        disk.kill();
        (disk, end)
    };
    let acked = BTreeMap::from([(run("a"), 3), (run("b"), 3)]);
    for (round, (mark, power)) in
        [(true, true), (true, false), (false, true), (false, false)].into_iter().enumerate()
    {
        let mut torn = 0;
        let (_, end) = written(0, mark);
        for byte in 0..usize::try_from(end).unwrap() {
            // Headers and payloads; of the padding some bytes are enough.
            let used = byte % usize::try_from(BLOCK).unwrap() <= 800;
            if (byte + round) % if used { 5 } else { 211 } != 0 {
                continue;
            }
            let (disk, _) = written(byte as u64, mark);
            if power {
                disk.power_cut();
            }
            disk.tamper(&segment_path(1), |bytes| bytes[byte] ^= 1 << (byte % 8));
            match recover(&disk) {
                Err(_) => {}
                Ok(done) if done.verdict == Label::L1 && done.last_seq == 3 => {
                    // Reported, and only where no witness survived.
                    assert!(power && !mark, "byte {byte}");
                    torn += 1;
                }
                Ok(_) => check(&disk, &acked, &format!("byte {byte}")),
            }
        }
        assert_eq!(torn > 0, power && !mark);
    }
}

#[test]
fn many_runs_are_recovered_by_many_threads() {
    let disk = MemoryDisk::new(1);
    let mut daemon = ByHand::start(&disk).unwrap();
    daemon.without_copies = true;
    let names: Vec<RunId> = (0..60).map(|n| run(&format!("r{n:02}"))).collect();
    for chunk in names.chunks(10) {
        let runs: Vec<(&RunId, u32)> = chunk.iter().map(|run| (run, 3)).collect();
        daemon.append(&runs).unwrap();
    }
    drop(daemon);
    disk.kill();
    let root = own(&disk).unwrap();
    let patience = recover::Patience { threads: 8, lock_wait_ms: 0 };
    let done = recover::recover(&root, None, &patience, &clock()).unwrap();
    assert_eq!(done.runs.len(), 60);
    assert!(names.iter().all(|run| head(&disk, run) == Some(3)));
}

#[test]
fn g1_what_the_writer_acknowledged_is_in_journals_after_recovery() {
    use crate::commit_log_support::{Known, check};
    for (direct, how) in [(true, 0), (true, 1), (false, 1), (false, 2), (true, 3)] {
        for nth in (1 + how..).step_by(4) {
            let disk = MemoryDisk::new(nth * 31 + how);
            if !direct {
                disk.forbid_direct();
            }
            let mut known = Known::default();
            disk.fail_at(nth, Fault::Die);
            let stopped = crate::commit_log_crash::scenario(&disk, &mut known);
            crash(&disk, how);
            let what = format!("direct {direct}, died at {nth}, then {how}");
            disk.fail_at(1 + nth % 40, Fault::Die);
            let _ = recover(&disk);
            crash(&disk, how + nth);
            let done = recover(&disk).map_err(|e| format!("{what}: {e}")).unwrap();
            assert!(done.set_aside.is_empty(), "{what}: {:?}", done.set_aside);
            disk.power_cut();
            check(&disk, &known, &what);
            for name in ["a", "b", "c"] {
                head(&disk, &run(name));
            }
            if stopped {
                break;
            }
        }
    }
}
