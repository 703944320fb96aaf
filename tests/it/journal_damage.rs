//! Journals that were cut, flipped, edited and shuffled: what opening says, and what is kept.

use crate::fuzz::targets::mended;
use crate::support::*;
use dormouse::codecs::event::{Event, Record};
use dormouse::codecs::format::line;
use dormouse::codecs::format::line::segment_name;
use dormouse::ground::id::{RunId, Seq};
use dormouse::ports::disk::Disk;
use dormouse::ports::disk::memory::{Fault, MemoryDisk};
use dormouse::shells::journal::plan::{self, Label};
use dormouse::shells::journal::scan::{Around, CASES, Case, File, Scan, Verdict, scan};
use dormouse::shells::journal::{reader, writer};
use dormouse::shells::run_dir::lock;
use dormouse::shells::run_dir::root;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

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
    assert!(matches!(new_run(&root), Err(root::Error::Exists(_))));
}

fn judge(files: &[File], witness: u64) -> Scan {
    let around = Around { has_other_files: true, witness: Some(Seq(witness)) };
    scan(&run_id(), files, around)
}

/// What holds for every scan, whatever was done to the journal.
fn check(scan: &Scan, truth: &[Record], what: &str) {
    let n = scan.records.len();
    assert!(n <= truth.len(), "{what}: records out of nowhere");
    assert_eq!(&scan.records[..], &truth[..n], "{what}: other data");
    assert_eq!(scan.head.seq.0, n as u64, "{what}");
    if scan.verdict() == Verdict::Torn {
        assert!(scan.witness <= scan.head.seq, "{what}: torn although vouched for");
        let plan = plan::plan(scan).unwrap();
        assert!(plan.lost.is_none(), "{what}");
    }
    if scan.verdict() <= Verdict::Note {
        assert!(scan.segments.iter().all(|s| s.bytes == s.verified), "{what}");
        assert!(plan::plan(scan).is_none_or(|plan| plan.label == Label::P1), "{what}");
    }
}

#[test]
fn every_truncation_is_a_prefix_a_torn_tail_or_a_labelled_loss() {
    let (files, truth) = journal(&run_id(), 7, &[4]);
    for i in 0..files.len() {
        for cut in 0..=files[i].bytes.len() {
            // As after a power cut (nothing behind the cut), and as damage inside.
            for whole in [false, true] {
                let mut bad = files.clone();
                bad[i].bytes.truncate(cut);
                if !whole {
                    bad.truncate(i + 1);
                }
                let what = format!("segment {i} cut at {cut}, rest kept: {whole}");
                let scan = judge(&bad, 0);
                check(&scan, &truth, &what);
                let complete = cut == files[i].bytes.len();
                if complete {
                    assert_eq!(scan.verdict(), Verdict::Ok, "{what}");
                } else if whole && i == 0 {
                    assert_eq!(scan.verdict(), Verdict::Damaged, "{what}: {:?}", scan.main);
                }
                // With a witness for the last record nothing passes for a torn tail.
                let strict = judge(&bad, 7);
                check(&strict, &truth, &what);
                let lost = !complete || (!whole && i == 0);
                assert_eq!(strict.verdict() == Verdict::Damaged, lost, "{what}: {:?}", strict.main);
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_found_and_never_becomes_data() {
    let (files, truth) = journal(&run_id(), 5, &[3]);
    for i in 0..files.len() {
        for bit in 0..files[i].bytes.len() * 8 {
            let mut bad = files.clone();
            bad[i].bytes[bit / 8] ^= 1 << (bit % 8);
            let what = format!("segment {i} bit {bit}");
            let scan = judge(&bad, 0);
            check(&scan, &truth, &what);
            assert!(scan.verdict() >= Verdict::Torn, "{what}");
            // Only the last record can be mistaken for one that nobody was told about, and a line
            // feed less makes it the last two.
            if scan.verdict() == Verdict::Torn {
                assert!(scan.head.seq.0 >= 3, "{what}: {:?}", scan.main);
            }
            assert!(judge(&bad, 5).verdict() >= Verdict::Damaged, "{what}");
        }
    }
}

fn line_of(seq: u64, event: &Event, before: &[Record], id: &RunId) -> Vec<u8> {
    let previous = before.last().map_or_else(|| line::genesis(id), |record| record.sum);
    line::encode(Seq(seq), at(seq), event, previous).0
}

/// A line that verifies on top of `before` with this body.
fn forged(body: &str, before: &[Record]) -> Vec<u8> {
    let mut bytes = body.as_bytes().to_vec();
    let sum = line::chain(before.last().unwrap().sum, &bytes);
    bytes.extend_from_slice(format!(",\"sum\":\"{sum}\"}}\n").as_bytes());
    bytes
}

fn one_file(bytes: Vec<u8>) -> Vec<File> {
    vec![File { name: segment_name(Seq(1)), bytes }]
}

type Row = (Case, u64, Vec<File>);

/// One journal for each case that bytes alone can show: damage to a single file.
fn rows_of_one_file() -> Vec<Row> {
    let id = run_id();
    let (whole, truth) = journal(&id, 4, &[]);
    let bytes = whole[0].bytes.clone();
    let lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let with = |tail: &[u8]| one_file([&bytes[..], tail].concat());
    let next = line_of(5, &note(5), &truth, &id);
    let later: Vec<Vec<u8>> = journal(&id, 6, &[]).0[0]
        .bytes
        .split_inclusive(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let body = |rest: &str| {
        let envelope = r#"{"seq":5,"at":"2026-11-20T12:00:00.000000Z","type":"OPERATOR_NOTE""#;
        format!("{envelope},\"data\":{rest}")
    };
    let mut flipped = lines.clone();
    flipped[1][90] ^= 1;
    let mut repeated = lines.clone();
    repeated.insert(2, lines[1].clone());
    let other: RunId = "other-run".parse().unwrap();
    let early = line::encode(Seq(5), at(0), &note(5), truth[3].sum).0;
    let long = dormouse::codecs::event::OperatorNote { text: "x".repeat(300_000), by: "t".into() };
    let jump = line::encode(Seq(9), at(9), &note(9), truth[3].sum).0;
    vec![
        (Case::J00, 4, whole.clone()),
        (Case::J02, 0, vec![]),
        (Case::J02, 0, one_file(vec![])),
        (Case::J02, 0, one_file(vec![0; 100])),
        (Case::J10, 4, with(&next[..next.len() - 1])),
        (Case::J11, 4, with(&next[..40])),
        (Case::J11, 4, with(b"\xff\xfe\n{\"seq\"")),
        (Case::J12, 4, with(b"garbage\n")),
        (Case::J12, 4, with(&later[4][1..])),
        (Case::J13, 4, with(&[0; 700])),
        (Case::J14, 4, with(b"garbage\ngarbage\n")),
        (Case::J14, 4, with(&vec![b'x'; 300_000])),
        (Case::J15, 5, whole.clone()),
        (Case::J15, 5, with(&next[..next.len() - 1])),
        (Case::J15, 5, with(&next[..40])),
        (Case::J15, 5, with(b"garbage\n")),
        (Case::J15, 5, with(&[0; 700])),
        (Case::J15, 0, one_file(lines[0][..50].to_vec())),
        (Case::J20, 0, one_file(flipped.concat())),
        (Case::J20, 4, with(&[b"garbage\n".as_slice(), &later[5]].concat())),
        (Case::J21, 0, one_file([&lines[0][..], &lines[2], &lines[3]].concat())),
        (Case::J21, 0, one_file(repeated.concat())),
        (Case::J21, 4, with(&jump)),
        (Case::J21, 4, with(&later[5])),
        (Case::J22, 0, journal(&other, 3, &[]).0),
        (Case::J23, 4, with(&forged(&body(r#"{"by":"a","text":"hi"}"#), &truth))),
        (Case::J25, 4, with(&line_of(5, &long.into(), &truth, &id))),
        (Case::J26, 4, with(&early)),
        (Case::J62, 4, with(&forged(&body(r#"{"text":"hi","mood":1,"by":"a"}"#), &truth))),
    ]
}

/// The same for damage that several files show together.
fn rows_of_segments() -> Vec<Row> {
    let id = run_id();
    let (_, truth) = journal(&id, 4, &[]);
    let changed = |change: &dyn Fn(&mut Vec<File>)| {
        let mut files = journal(&id, 6, &[3, 5]).0;
        change(&mut files);
        files
    };
    let plus = |name: String, bytes: &[u8]| {
        changed(&|files| files.push(File { name: name.clone(), bytes: bytes.to_vec() }))
    };
    let seven = segment_name(Seq(7));
    let second = segment_name(Seq(2));
    vec![
        (Case::J00, 6, changed(&|_| {})),
        (Case::J03, 6, plus(seven.clone(), b"")),
        (Case::J03, 6, plus(seven.clone(), &[0; 99])),
        (Case::J15, 7, plus(seven, b"")),
        (Case::J20, 0, changed(&|files| files[0].bytes.extend_from_slice(b"{\"seq\":"))),
        (Case::J30, 0, changed(&|files| drop(files.remove(0)))),
        (Case::J30, 0, changed(&|files| drop(files.remove(1)))),
        (Case::J30, 0, plus(segment_name(Seq(9)), b"")),
        (Case::J31, 0, changed(&|files| files[1].name = segment_name(Seq(4)))),
        (Case::J31, 0, changed(&|files| files[2].name = segment_name(Seq(4)))),
        (Case::J32, 0, changed(&|files| files[1].bytes = vec![0; 30])),
        (Case::J32, 0, changed(&|files| files[0].bytes = vec![0; 30])),
        (Case::J33, 0, plus(second.clone(), &line_of(2, &note(99), &truth[..1], &id))),
        (Case::J33Equal, 6, plus(second, &line_of(2, &note(2), &truth[..1], &id))),
        (Case::J34, 6, plus(".0000000005.jsonl.tmp-12-3".into(), b"half")),
        (Case::J00, 6, plus("notes.txt".into(), b"hello")),
    ]
}

#[test]
fn each_case_of_the_table_is_found() {
    let mut seen = BTreeSet::new();
    let rows = rows_of_one_file().into_iter().chain(rows_of_segments());
    for (n, (case, witness, files)) in rows.enumerate() {
        let scan = judge(&files, witness);
        assert_eq!(scan.main.case, case, "row {n}: {:?}", scan.main);
        seen.insert(case);
    }
    assert_eq!(scan(&run_id(), &[], Around::default()).main.case, Case::J01);
    // The rest needs a disk (J60, J61), a fold (J24) or files beside it (J50 to J52).
    let elsewhere = [Case::J01, Case::J24, Case::J50, Case::J51, Case::J52, Case::J60, Case::J61];
    for case in CASES {
        assert!(seen.contains(case) != elsewhere.contains(case), "{case}");
    }
}

#[test]
fn every_combination_of_layout_tail_and_witness_has_one_case_and_a_plan_that_holds() {
    let id = run_id();
    let (_, truth) = journal(&id, 7, &[]);
    let next = line_of(7, &note(7), &truth[..6], &id);
    let beyond = line_of(8, &note(8), &truth, &id);
    let tails: Vec<Vec<u8>> = vec![
        vec![],
        next.clone(),
        next[..next.len() - 1].to_vec(),
        next[..30].to_vec(),
        vec![0; 64],
        b"x\n".to_vec(),
        b"x\ny\n".to_vec(),
        [b"x\n".as_slice(), &beyond].concat(),
        [&next[..], &beyond[..20]].concat(),
    ];
    let layouts: [&[u64]; 4] = [&[], &[3], &[3, 6], &[2, 3, 4, 5, 6]];
    for layout in layouts {
        for (t, tail) in tails.iter().enumerate() {
            for extra in [None, Some(7), Some(8)] {
                for witness in [0, 5, 6, 7, 9] {
                    let (mut files, _) = journal(&id, 6, layout);
                    files.last_mut().unwrap().bytes.extend_from_slice(tail);
                    if let Some(first) = extra {
                        files.push(File { name: segment_name(Seq(first)), bytes: Vec::new() });
                    }
                    let scan = judge(&files, witness);
                    let what = format!("{layout:?}, tail {t}, extra {extra:?}, witness {witness}");
                    check(&scan, &truth, &what);
                    repaired(&files, &scan, &truth, &what);
                }
            }
        }
    }
}

/// What an editor, a bad disk or a bad copy may do to one file.
#[derive(Debug, Clone)]
enum Harm {
    Cut(usize),
    Flip(usize, u8),
    Remove(usize, usize),
    Insert(usize, Vec<u8>),
    Zero(usize, usize),
    Swap(usize, usize),
    Repeat(usize, usize),
    Rename(u64),
    Lose,
}

fn harm() -> impl Strategy<Value = Harm> {
    let at = 0..1_000_usize;
    prop_oneof![
        at.clone().prop_map(Harm::Cut),
        (at.clone(), 0..8_u8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
        (at.clone(), 1..300_usize).prop_map(|(at, n)| Harm::Remove(at, n)),
        (at.clone(), proptest::collection::vec(any::<u8>(), 1..60))
            .prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        (at.clone(), 1..300_usize).prop_map(|(at, n)| Harm::Zero(at, n)),
        (0..9_usize, 0..9_usize).prop_map(|(a, b)| Harm::Swap(a, b)),
        (0..9_usize, 0..9_usize).prop_map(|(a, b)| Harm::Repeat(a, b)),
        (1..12_u64).prop_map(Harm::Rename),
        Just(Harm::Lose),
    ]
}

fn inflict(files: &mut Vec<File>, i: usize, harm: Harm) {
    if files.is_empty() {
        return;
    }
    let i = i % files.len();
    let bytes = &mut files[i].bytes;
    let lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    let end = bytes.len();
    let span = |at: usize, n: usize| at.min(end)..(at + n).min(end);
    match harm {
        Harm::Cut(at) => bytes.truncate(at),
        Harm::Flip(at, bit) if end > 0 => bytes[at % end] ^= 1 << bit,
        Harm::Remove(at, n) => drop(bytes.drain(span(at, n))),
        Harm::Insert(at, new) => drop(bytes.splice(span(at, 0), new)),
        Harm::Zero(at, n) => bytes[span(at, n)].fill(0),
        Harm::Swap(a, b) if a < lines.len() && b < lines.len() => {
            let mut lines = lines;
            lines.swap(a, b);
            *bytes = lines.concat();
        }
        Harm::Repeat(a, b) if a < lines.len() && b <= lines.len() => {
            let mut lines = lines;
            lines.insert(b, lines[a].clone());
            *bytes = lines.concat();
        }
        Harm::Rename(first) => {
            let name = segment_name(Seq(first));
            if files.iter().all(|file| file.name != name) {
                files[i].name = name;
            }
        }
        Harm::Lose => drop(files.remove(i)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_harm_makes_a_journal_say_something_else(
        harms in proptest::collection::vec((0..4_usize, harm()), 1..5),
        layout in proptest::sample::subsequence(vec![2_u64, 3, 5, 8], 0..4),
        witness in 0..11_u64,
    ) {
        let (mut files, truth) = journal(&run_id(), 9, &layout);
        let what = format!("{harms:?} on {layout:?}, witness {witness}");
        for (i, harm) in harms {
            inflict(&mut files, i, harm);
        }
        let scan = judge(&files, witness);
        check(&scan, &truth, &what);
        repaired(&files, &scan, &truth, &what);
    }
}

/// Does what the plans say to the files in memory: the results must be clean.
fn repaired(files: &[File], scan: &Scan, truth: &[Record], what: &str) {
    if scan.verdict() <= Verdict::Damaged {
        let plan = plan::restore(scan, truth, None);
        let after = judge(&mended(files, &plan), 0);
        assert!(after.verdict() <= Verdict::Note, "{what}: {:?} after {plan:?}", after.main);
        assert_eq!(after.records, truth, "{what}: everything is put back");
    }
    let Some(plan) = plan::plan(scan) else { return };
    let after = judge(&mended(files, &plan), 0);
    assert!(after.verdict() <= Verdict::Note, "{what}: {:?} after {plan:?}", after.main);
    assert_eq!(after.records, scan.records, "{what}");
    check(&after, truth, what);
}

#[test]
fn a_fold_that_refuses_a_record_cuts_there() {
    let (files, truth) = journal(&run_id(), 6, &[3, 5]);
    let scan = judge(&files, 6).refused_by_fold(Seq(4), "no".into());
    assert_eq!((scan.main.case, scan.head.seq, scan.head.sum), (Case::J24, Seq(3), truth[2].sum));
    repaired(&files, &scan, &truth, "refused at 4");
    let plan = plan::plan(&scan).unwrap();
    assert_eq!(plan.label, Label::P5);
    assert_eq!(plan.lost.unwrap().count, Some(3));
}

#[test]
fn a_repair_that_loses_records_keeps_them_in_quarantine_and_says_so_at_once() {
    let disk = MemoryDisk::new(7);
    let run = new_run(&open_root(&disk).unwrap()).unwrap();
    let mut writer = open_writer(&run).unwrap().writer;
    for n in 2..6 {
        writer.append(Seq(n - 1), at(n), &note(n)).unwrap();
    }
    writer.close().unwrap();
    run.keep_stale("e0007".parse().unwrap(), Some(dormouse::ground::id::Epoch(4)), b"{}").unwrap();
    disk.tamper(Path::new("/runs/demo-run/journal/0000000001.jsonl"), |bytes| {
        let second = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        bytes[second + 90] ^= 4;
    });
    assert!(open_writer(&run).unwrap_err().contains("J20"));
    let lock = run.lock(0, &clock()).unwrap();
    let scan = reader::read_locked(&run, None);
    let plan = plan::plan(&scan).unwrap();
    assert_eq!((plan.label, plan.case), (Label::P5, Case::J20));
    let why = Some("it was on fire".to_owned());
    let (writer, record) =
        writer::repair(&run, lock, &clock(), &scan, &plan, "operator:test", why).unwrap();
    writer.close().unwrap();
    let Event::JournalRepaired(event) = &record.event else { panic!() };
    assert_eq!(event.lost.as_ref().unwrap().count, Some(4));
    assert_eq!((event.epoch_floor.unwrap().0, event.suspect_upto), (5, Some(7)));
    let kept = run.read_relative(&event.removed[0].kept_as, 10_000).unwrap();
    assert_eq!(kept.len() as u64, event.removed[0].bytes);
    disk.power_cut();
    let scan = reader::read(&open_root(&disk).unwrap().view().find("demo-run").unwrap(), None);
    assert_eq!((scan.verdict(), scan.head.seq), (Verdict::Ok, Seq(2)), "{:?}", scan.main);
}

/// Repairs if the journal is damaged; nothing when the disk dies on the way.
fn repair(disk: &MemoryDisk) -> Option<()> {
    let root = open_root(disk).ok()?;
    let run = root.view().run(&run_id()).ok()?;
    let lock = run.lock(0, &clock()).ok()?;
    let scan = reader::read_locked(&run, None);
    if scan.verdict() == Verdict::Damaged {
        let plan = plan::plan(&scan).unwrap();
        writer::repair(&run, lock, &clock(), &scan, &plan, "operator:test", None).ok()?;
    }
    Some(())
}

#[test]
fn a_repair_that_dies_anywhere_is_still_damage_or_is_recorded() {
    for seed in 0..30 {
        for nth in 1.. {
            let disk = MemoryDisk::new(seed * 100 + nth);
            let run = new_run(&open_root(&disk).unwrap()).unwrap();
            let (mut files, truth) = journal(&run_id(), 9, &[3, 5, 8]);
            // Damage inside the second segment, or a segment that is gone.
            if seed % 2 == 0 {
                files[1].bytes[90] ^= 1;
            } else {
                files.remove(2);
            }
            for file in files {
                let path = run.path().join("journal").join(&file.name);
                disk.tamper(&path, |bytes| *bytes = file.bytes);
            }
            disk.open_dir(&run.path().join("journal")).unwrap().sync().unwrap();
            disk.fail_at(nth, Fault::Die);
            let through = repair(&disk).is_some();
            if seed % 3 == 0 {
                disk.kill();
            } else {
                disk.power_cut();
            }
            let run = open_root(&disk).unwrap().view().run(&run_id()).unwrap();
            let scan = reader::read(&run, None);
            let head = if seed % 2 == 0 { 2 } else { 4 };
            let what = format!("seed {seed}, crash at {nth}: {:?}", scan.main);
            assert_eq!(scan.records[..head], truth[..head], "{what}");
            if scan.verdict() <= Verdict::Torn {
                assert_eq!(scan.records[head].event.name(), "JOURNAL_REPAIRED", "{what}");
            }
            repair(&disk).unwrap();
            let run = open_root(&disk).unwrap().view().run(&run_id()).unwrap();
            let scan = reader::read(&run, None);
            assert!(scan.verdict() <= Verdict::Note, "{what}, then {:?}", scan.main);
            assert_eq!(scan.records[head].event.name(), "JOURNAL_REPAIRED", "{what}");
            if through {
                break;
            }
        }
    }
}

#[test]
fn the_witnesses_turn_a_torn_tail_into_a_loss() {
    let cut = |disk: &MemoryDisk| {
        disk.tamper(Path::new("/runs/demo-run/journal/0000000001.jsonl"), |bytes| {
            bytes.truncate(bytes.len() - 5);
        });
    };
    let make = |close: bool, cache: bool| {
        let disk = MemoryDisk::new(1);
        let run = new_run(&open_root(&disk).unwrap()).unwrap();
        let mut writer = open_writer(&run).unwrap().writer;
        writer.append(Seq(1), at(2), &note(2)).unwrap();
        if cache {
            run.write_cache(writer.head(), b"state").unwrap();
            assert_eq!(run.read_cache().unwrap().bytes, b"state");
        }
        if close {
            writer.close().unwrap();
        }
        cut(&disk);
        reader::read(&run, None).main.case
    };
    assert_eq!(make(false, false), Case::J11);
    assert_eq!(make(true, false), Case::J15);
    assert_eq!(make(false, true), Case::J15);
}

#[test]
fn files_that_are_not_plain_files_of_their_owner_are_refused() {
    let setup = || {
        let disk = MemoryDisk::new(1);
        let root = open_root(&disk).unwrap();
        let run = new_run(&root).unwrap();
        (disk, root, run)
    };
    let segment = Path::new("/runs/demo-run/journal/0000000001.jsonl");
    let case = |change: &dyn Fn(&MemoryDisk)| {
        let (disk, _root, run) = setup();
        change(&disk);
        reader::read(&run, None).main.case
    };
    assert_eq!(case(&|disk| disk.set_owner(segment, 0, 0o600)), Case::J61);
    assert_eq!(case(&|disk| disk.set_owner(segment, 1000, 0o620)), Case::J61);
    assert_eq!(
        case(&|d| d.put_symlink(Path::new("/runs/demo-run/journal/0000000002.jsonl"))),
        Case::J61
    );
    assert_eq!(case(&|d| d.put_symlink(Path::new("/runs/demo-run/run.lock"))), Case::J61);
    assert_eq!(
        case(&|disk| {
            let dir = disk.open_dir(segment.parent().unwrap()).unwrap();
            let up = disk.open_dir(Path::new("/runs")).unwrap();
            dir.link("0000000001.jsonl", &*up, "elsewhere").unwrap();
        }),
        Case::J61
    );
    assert_eq!(case(&|disk| disk.unreadable(Some(segment))), Case::J60);
    let (disk, root, _run) = setup();
    disk.put_symlink(Path::new("/runs/linked"));
    let refused = root.view().run(&"linked".parse().unwrap()).unwrap_err();
    assert!(refused.to_string().ends_with("[J61]"), "{refused}");
    disk.tamper(Path::new("/runs/demo-run/run.json"), |bytes| {
        *bytes =
            br#"{"runId":"demo-run","formatVersion":2,"createdAt":"2026-11-20T12:00:00.000000Z"}"#
                .to_vec();
    });
    let run = root.view().run(&run_id()).unwrap();
    assert_eq!(reader::read(&run, None).main.case, Case::J62);
    for bad in ["../x", "a/../b", "/etc/passwd", "", "a//b", "."] {
        assert!(run.read_relative(bad, 10).is_err(), "{bad}");
    }
    disk.put_symlink(Path::new("/runs/demo-run/out"));
    assert!(run.read_relative("out", 10).is_err());
}

#[test]
fn two_lockers_wait_and_a_released_lock_is_free() {
    let disk = MemoryDisk::new(1);
    let run = new_run(&open_root(&disk).unwrap()).unwrap();
    let writer = open_writer(&run).unwrap().writer;
    let clock = clock();
    let Err(lock::Error::Busy { holder, .. }) = run.lock(500, &clock) else { panic!() };
    assert!(holder.unwrap().contains("(unverified)"));
    // It has waited on the clock, not on the machine.
    let waited = dormouse::ground::clock::Clock::now(&clock).micros() - at(0).micros();
    assert_eq!(waited, 500_000);
    writer.close().unwrap();
    let held = run.lock(0, &clock).unwrap();
    assert!(held.still_in_place().unwrap() && !held.writer_died());
    disk.kill();
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let run = root::run_at(&disk, Path::new("/runs/demo-run")).unwrap();
    run.lock(0, &clock).unwrap();
}

#[test]
fn a_root_finds_its_runs_and_refuses_to_be_what_it_is_not() {
    let disk = MemoryDisk::new(1);
    let root = open_root(&disk).unwrap();
    for id in ["alpha-1", "alpha-2", "beta"] {
        let id: RunId = id.parse().unwrap();
        let mut staged = root.stage(&id).unwrap();
        staged.journal(&[(at(1), created(&id))]).unwrap();
        staged.publish().unwrap();
    }
    let view = root.view();
    assert_eq!(view.run_ids().unwrap().len(), 3);
    assert_eq!(view.find("b").unwrap().id().as_str(), "beta");
    assert_eq!(view.find("alpha-1").unwrap().id().as_str(), "alpha-1");
    let Err(root::Error::Ambiguous { candidates, .. }) = view.find("alpha") else { panic!() };
    assert_eq!(candidates.len(), 2);
    assert_eq!(view.find("/runs/beta").unwrap().id().as_str(), "beta");
    let beta = view.find("beta").unwrap();
    assert!(root::guard(&beta, 0, &clock()).unwrap().is_some());
    assert!(matches!(view.find("gamma"), Err(root::Error::NotFound(_))));
    // The next daemon is told which runs to look at.
    let touched = disk.open_dir(Path::new("/runs/.dormouse/touched")).unwrap();
    assert_eq!(touched.list().unwrap(), ["alpha-1", "alpha-2", "beta"]);
    // A staged run that is dropped leaves nothing behind.
    drop(root.stage(&"gone".parse().unwrap()).unwrap());
    let staging = disk.open_dir(Path::new("/runs/.dormouse/staging")).unwrap();
    assert!(staging.list().unwrap().is_empty());
    drop(root);
    let json = Path::new("/runs/.dormouse/root.json");
    let refused = |disk: &MemoryDisk, label: &str| {
        let error = open_root(disk).unwrap_err().to_string();
        assert!(error.contains(label), "{error}");
    };
    let good = disk.content(json).unwrap();
    disk.tamper(json, |bytes| bytes[20] ^= 1);
    refused(&disk, "R1");
    disk.tamper(json, |bytes| *bytes = good);
    disk.set_owner(Path::new("/runs"), 1000, 0o777);
    refused(&disk, "R5");
    disk.set_owner(Path::new("/runs"), 1000, 0o700);
    disk.open_dir(json.parent().unwrap()).unwrap().unlink("root.json").unwrap();
    refused(&disk, "R1");
}
