//! Rot: every bit of every format flipped, every pair of bytes overwritten, every cut, every record
//! gone, doubled, swapped or taken from elsewhere; each is found, under the label it should have.
//!
//! Of zeros among zeros, and of files that are compared as a whole, some bits are flipped; all of
//! them with `DORMOUSE_STORM=full`. Invariant: whoever judges is the product, never this file; a
//! judge that leaves out one check is caught.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dormouse::codecs::event::Record;
use dormouse::codecs::format::line::segment_name;
use dormouse::codecs::json::Json;
use dormouse::ground::id::{RunId, Seq};
use dormouse::ports::disk::memory::MemoryDisk;
use dormouse::ports::disk::{Dir, Disk, Open};
use dormouse::shells::commit_log::label::Label;
use dormouse::shells::commit_log::recover::{self, Failure};
use dormouse::shells::commit_log::scan::{self as log_scan, Scanned};
use dormouse::shells::commit_log::segment_file;
use dormouse::shells::journal::scan::{Around, File, Verdict, scan};
use dormouse::shells::run_dir::blob;
use dormouse::shells::run_dir::dir::RunDir;
use dormouse::shells::run_dir::root_file::{self, RootJson};

use crate::log_by_hand::ByHand;
use crate::play::{Plan, Play, wrap};
use crate::storm::full_size;
use crate::support::{new_run, open_root};

/// One thing that was done to the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Harm {
    /// Bit `.1` of byte `.0`.
    Flip(usize, u8),
    /// Two bytes at `.0` became `.1`.
    Window(usize, u8),
    /// Nothing is left from `.0` on.
    Cut(usize),
    /// Record `.0` is gone.
    Deleted(usize),
    /// Record `.0` stands again behind record `.1`.
    Doubled(usize, usize),
    /// Records `.0` and `.1` have changed places.
    Swapped(usize, usize),
    /// Record `.0` of another run, or a batch of another root, stands in place of ours.
    Foreign(usize),
}

/// Bytes, cut into what is one record of them.
struct Target {
    name: &'static str,
    parts: Vec<Vec<u8>>,
    /// The same of somebody else's.
    foreign: Vec<Vec<u8>>,
    /// It is compared as a whole: one bit of each byte is enough.
    thin: bool,
}

impl Target {
    /// A file that is one record.
    fn whole(name: &'static str, bytes: Vec<u8>) -> Self {
        Self { name, parts: vec![bytes], foreign: Vec::new(), thin: false }
    }

    fn bytes(&self) -> Vec<u8> {
        self.parts.concat()
    }

    fn harms(&self) -> Vec<Harm> {
        let bytes = self.bytes();
        let mut harms = Vec::new();
        for at in 0..bytes.len() {
            // What is zero in the middle of zeros is compared with zero as a whole.
            let around = &bytes[at.saturating_sub(8)..(at + 9).min(bytes.len())];
            let is_padding = around.iter().all(|b| *b == 0) && !full_size();
            let is_thin = self.thin && !full_size();
            let one = is_padding && at % 4 == 0 || is_thin;
            let bits = 0..8_u8;
            let wanted =
                |bit: &u8| !(is_padding || is_thin) || one && usize::from(*bit) == at / 4 % 8;
            harms.extend(bits.filter(wanted).map(|bit| Harm::Flip(at, bit)));
            let window = &bytes[at..(at + 2).min(bytes.len())];
            let cuts_something = bytes[at..].iter().any(|b| *b != 0);
            if cuts_something && (!is_padding && !is_thin || at % 64 == 0) {
                harms.push(Harm::Cut(at));
            }
            for with in [0, 0xff] {
                if !is_padding && !is_thin && window.iter().any(|b| *b != with) {
                    harms.push(Harm::Window(at, with));
                }
            }
        }
        let n = self.parts.len();
        if n > 1 {
            harms.extend((0..n).map(Harm::Deleted));
            harms.extend((0..n).flat_map(|a| (a..n).map(move |b| Harm::Doubled(a, b))));
            harms.extend((0..n).flat_map(|a| (a + 1..n).map(move |b| Harm::Swapped(a, b))));
        }
        harms.extend((0..n.min(self.foreign.len())).map(Harm::Foreign));
        harms
    }

    fn harmed(&self, harm: &Harm) -> Vec<u8> {
        let mut parts = self.parts.clone();
        match *harm {
            Harm::Deleted(n) => drop(parts.remove(n)),
            Harm::Doubled(n, behind) => parts.insert(behind + 1, parts[n].clone()),
            Harm::Swapped(a, b) => parts.swap(a, b),
            Harm::Foreign(n) => parts[n].clone_from(&self.foreign[n]),
            Harm::Flip(..) | Harm::Window(..) | Harm::Cut(_) => {}
        }
        let mut bytes = parts.concat();
        match *harm {
            Harm::Flip(at, bit) => bytes[at] ^= 1 << bit,
            Harm::Window(at, with) => {
                let end = bytes.len().min(at + 2);
                bytes[at..end].fill(with);
            }
            Harm::Cut(at) => bytes.truncate(at),
            _ => {}
        }
        bytes
    }

    /// The part that a byte belongs to.
    fn part_of(&self, at: usize) -> usize {
        let ends = self.parts.iter().scan(0, |end, part| {
            *end += part.len();
            Some(*end)
        });
        ends.take_while(|end| *end <= at).count()
    }
}

/// What was found of each kind of harm, and how often it was called what.
#[derive(Debug, Default)]
struct Tally {
    flips: u64,
    windows: u64,
    cuts: u64,
    records: u64,
    silent: Vec<Harm>,
    labels: BTreeMap<String, u64>,
    /// Each harm with the label it got, to compare with what was expected.
    found: Vec<(Harm, String)>,
}

impl Tally {
    fn take(&mut self, harm: Harm, label: Option<String>) {
        match harm {
            Harm::Flip(..) => self.flips += 1,
            Harm::Window(..) => self.windows += 1,
            Harm::Cut(_) => self.cuts += 1,
            _ => self.records += 1,
        }
        let Some(label) = label else { return self.silent.push(harm) };
        *self.labels.entry(label.clone()).or_default() += 1;
        self.found.push((harm, label));
    }

    fn print(&self, name: &str) {
        let labels: Vec<String> = self.labels.iter().map(|(l, n)| format!("{l} {n}")).collect();
        println!(
            "{name}: {} bits flipped, {} pairs overwritten, {} cuts, {} records moved; \
             {} silent ({})",
            self.flips,
            self.windows,
            self.cuts,
            self.records,
            self.silent.len(),
            labels.join(", ")
        );
    }
}

/// Does every harm to the target; the judge gives the label of what it finds.
fn every(target: &Target, judge: &(dyn Fn(&[u8]) -> Option<String> + Sync)) -> Tally {
    assert_eq!(judge(&target.bytes()), None, "{}: it is sound before", target.name);
    let mut harms = target.harms();
    // Two copies of a header are the same either way.
    let sound = target.bytes();
    harms.retain(|harm| target.harmed(harm) != sound);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = harms.len().div_ceil(threads);
    let judged = |harm: &Harm| (harm.clone(), judge(&target.harmed(harm)));
    let work = |harms: &[Harm]| harms.iter().map(judged).collect::<Vec<_>>();
    let found: Vec<(Harm, Option<String>)> = std::thread::scope(|scope| {
        let shares: Vec<_> = harms.chunks(share).map(|h| scope.spawn(|| work(h))).collect();
        shares.into_iter().flat_map(|share| share.join().unwrap()).collect()
    });
    let mut tally = Tally::default();
    for (harm, label) in found {
        tally.take(harm, label);
    }
    tally
}

/// All harms are found, and each is called what `expected` allows for it.
fn all_found(
    target: &Target,
    judge: &(dyn Fn(&[u8]) -> Option<String> + Sync),
    expected: &dyn Fn(&Harm) -> &'static [&'static str],
) {
    let tally = every(target, judge);
    tally.print(target.name);
    assert!(tally.silent.is_empty(), "{}: not found: {:?}", target.name, tally.silent);
    let wrong: Vec<_> =
        tally.found.iter().filter(|(h, label)| !expected(h).contains(&label.as_str())).collect();
    assert!(wrong.is_empty(), "{}: another label: {:?}", target.name, &wrong[..wrong.len().min(9)]);
}

fn lines_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

fn fixture(name: &str) -> Vec<u8> {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/runs/v1");
    std::fs::read(runs.join(name).join("journal.jsonl")).unwrap()
}

/// Three journals that earlier versions wrote, with the records of a fourth.
fn journals() -> Vec<Target> {
    let other: RunId = "another".parse().unwrap();
    let foreign = crate::support::journal(&other, 12, &[]).0;
    ["held", "halted", "parallel-parked"]
        .map(|name| Target {
            name,
            parts: lines_of(&fixture(name)),
            foreign: lines_of(&foreign[0].bytes),
            thin: false,
        })
        .into()
}

/// Cuts the lines into segments of three records.
fn segments(bytes: &[u8], is_split: bool) -> Vec<File> {
    let size = if is_split { 3 } else { usize::MAX };
    let lines = lines_of(bytes);
    let files = lines.chunks(size).enumerate().map(|(n, chunk)| File {
        name: segment_name(Seq(n as u64 * 3 + 1)),
        bytes: chunk.concat(),
    });
    files.collect()
}

fn judge_journal(files: &[File], witness: u64, truth: &[Record]) -> Option<String> {
    let around = Around { has_other_files: true, witness: Some(Seq(witness)) };
    let found = scan(&"run-1".parse().unwrap(), files, around);
    assert!(found.records.len() <= truth.len(), "records out of nowhere");
    assert_eq!(found.records, truth[..found.records.len()], "other data");
    (found.verdict() >= Verdict::Torn).then(|| found.main.case.label().to_owned())
}

fn truth_of(bytes: &[u8]) -> Vec<Record> {
    scan(&"run-1".parse().unwrap(), &segments(bytes, false), Around::default()).records
}

#[test]
fn s06_s07_all_damage_to_three_journals_is_found() {
    for target in journals() {
        let truth = truth_of(&target.bytes());
        let last = target.parts.len() - 1;
        let all = truth.len() as u64;
        // Somebody vouches for every record, as a state cache or a closing note does.
        let judge = |bytes: &[u8]| judge_journal(&segments(bytes, false), all, &truth);
        let expected = |harm: &Harm| -> &'static [&'static str] {
            let in_part = |at: usize| target.part_of(at);
            match *harm {
                Harm::Cut(0) => &["J02"],
                Harm::Cut(_) => &["J15"],
                Harm::Flip(at, _) if in_part(at + 1) >= last => &["J14", "J15", "J20", "J21"],
                Harm::Window(at, _) if in_part(at + 2) >= last => &["J14", "J15", "J20", "J21"],
                Harm::Flip(..) | Harm::Window(..) => &["J20"],
                Harm::Deleted(n) if n == last => &["J15"],
                Harm::Doubled(_, behind) if behind == last => &["J12", "J14"],
                Harm::Foreign(n) if n == last => &["J15"],
                Harm::Doubled(..) => &["J14", "J20", "J21"],
                Harm::Deleted(_) => &["J20", "J21"],
                Harm::Foreign(0) => &["J20", "J22"],
                Harm::Swapped(..) | Harm::Foreign(_) => &["J15", "J20", "J21"],
            }
        };
        all_found(&target, &judge, &expected);
    }
}

#[test]
fn s07_without_the_chain_and_without_a_witness_damage_passes() {
    let target = &journals()[0];
    let truth = truth_of(&target.bytes());
    // A reader that trusts whatever parses.
    let parses = |bytes: &[u8]| {
        let is_json = |line: &Vec<u8>| serde_json::from_slice::<Json>(line).is_ok();
        (!lines_of(bytes).iter().all(is_json)).then(|| "syntax".to_owned())
    };
    let unchained = every(target, &parses);
    assert!(unchained.silent.len() > 1_000, "{}", unchained.silent.len());
    // Nobody vouches for the last record: what ends with a whole record is a whole journal.
    let alone = |bytes: &[u8]| judge_journal(&segments(bytes, false), 0, &truth);
    let silent = every(target, &alone).silent;
    let is_end = |harm: &Harm| matches!(harm, Harm::Cut(_) | Harm::Deleted(_));
    assert!(!silent.is_empty() && silent.iter().all(is_end), "{silent:?}");
}

/// A daemon that wrote two batches and a mark and died; its journals are still cached.
fn died(seed: u64) -> (MemoryDisk, usize) {
    let disk = MemoryDisk::new(seed);
    let mut daemon = ByHand::start(&disk).unwrap();
    let (a, b): (RunId, RunId) = ("a".parse().unwrap(), "b".parse().unwrap());
    daemon.append(&[(&a, 1)]).unwrap();
    daemon.append(&[(&a, 1), (&b, 1)]).unwrap();
    daemon.commit(&[]).unwrap();
    let end = usize::try_from(daemon.offset).unwrap();
    drop(daemon);
    disk.kill();
    (disk, end)
}

fn segment_path() -> PathBuf {
    PathBuf::from(format!("/runs/.dormouse/commit-log/{}", segment_file(1)))
}

/// Its log, block by block, and what its `root.json` says.
fn log(seed: u64) -> (Vec<Vec<u8>>, RootJson) {
    let (disk, end) = died(seed);
    let meta = disk.open_dir(Path::new("/runs/.dormouse")).unwrap();
    let json = root_file::read(&*meta).unwrap().unwrap();
    let bytes = disk.content(&segment_path()).unwrap();
    assert!(bytes[end..].iter().all(|b| *b == 0));
    (bytes[..end].chunks(4096).map(<[u8]>::to_vec).collect(), json)
}

/// The blocks of such a log.
pub(crate) fn log_bytes(seed: u64) -> Vec<u8> {
    log(seed).0.concat()
}

fn root_dir(disk: &MemoryDisk) -> Arc<dyn Dir> {
    disk.open_dir(Path::new("/")).unwrap()
}

fn whole_segment(bytes: &[u8]) -> Vec<u8> {
    let mut whole = bytes.to_vec();
    whole.resize(usize::try_from(crate::log_by_hand::SEGMENT_BYTES).unwrap(), 0);
    whole
}

/// Reads a log whose only segment begins with these bytes, and is zero from there on.
fn read_log(bytes: &[u8], json: &RootJson) -> Result<Scanned, log_scan::Error> {
    let disk = MemoryDisk::new(0);
    let meta = root_dir(&disk);
    let dir = meta.ensure_dir("commit-log").unwrap();
    dir.create_excl(&segment_file(1)).unwrap().write_at(0, &whole_segment(bytes)).unwrap();
    log_scan::scan(&*meta, json, Open::Read)
}

/// What the next daemon says, which asks the journals too, and an index that has seen everything.
fn next_daemon(bytes: &[u8], seen: u64) -> Option<String> {
    let (disk, _) = died(1);
    disk.tamper(&segment_path(), |file| *file = whole_segment(bytes));
    let root = crate::log_by_hand::own(&disk).unwrap();
    let patience = crate::log_by_hand::patience();
    match recover::recover(&root, Some(seen), &patience, &crate::support::clock()) {
        Err(Failure::Log(log_scan::Error::Corrupt(found))) => Some(found.label.to_string()),
        Err(e) => panic!("{e}"),
        Ok(_) => None,
    }
}

fn judge_log(bytes: &[u8], json: &RootJson, truth: &Scanned) -> Option<String> {
    match read_log(bytes, json) {
        Err(log_scan::Error::Corrupt(found)) => Some(found.label.to_string()),
        Err(log_scan::Error::OtherRoot(_)) => Some("R2".into()),
        Err(log_scan::Error::Unreadable(e)) => panic!("{e}"),
        Ok(found) if found.last_seq == truth.last_seq => {
            assert_eq!(found.entries, truth.entries, "other data");
            let label = found.torn.as_ref().map(|_| Label::L1);
            let label = label.or(found.notes.first().map(|note| note.label));
            label.map(|label| label.to_string())
        }
        // The log alone cannot know: a batch may have been cut short, or none was written.
        Ok(found) => {
            assert!(truth.entries.starts_with(&found.entries), "other data");
            next_daemon(bytes, truth.last_seq)
        }
    }
}

#[test]
fn s06_s07_all_damage_to_a_segment_of_the_log_is_found() {
    let (parts, json) = log(1);
    let foreign = log(2).0;
    let target = Target { name: "log segment", parts, foreign, thin: false };
    let truth = read_log(&target.bytes(), &json).unwrap();
    let judge = |bytes: &[u8]| judge_log(bytes, &json, &truth);
    // Two copies of the header, two batches, a mark. A mark is nobody's promise.
    let expected = |harm: &Harm| -> &'static [&'static str] {
        match *harm {
            // Across a border it harms what is on both sides.
            Harm::Window(at, _) if target.part_of(at) == 0 && target.part_of(at + 1) == 1 => {
                &["L4"]
            }
            Harm::Window(at, _) if target.part_of(at + 1) == 2 => &["L5", "L7", "L9"],
            Harm::Flip(at, _) | Harm::Window(at, _) if target.part_of(at) < 2 => &["L9"],
            Harm::Flip(..) | Harm::Window(..) => &["L5", "L7", "L9"],
            Harm::Foreign(0) => &["R2"],
            Harm::Foreign(1) => &["L9"],
            // A batch behind the last one, which does not fit there, is one that was cut short.
            Harm::Doubled(..) => &["L1", "L5", "L7", "L8", "L9"],
            _ => &["L4", "L5", "L7", "L8", "L9"],
        }
    };
    all_found(&target, &judge, &expected);
    // Sums without a seed of their place would let a batch stand where another one stood.
    let unsworn = |bytes: &[u8]| {
        let magic = |n: usize| bytes.get(n * 4096..n * 4096 + 4) == Some(b"DFRM");
        (!(2..5).all(magic)).then(|| "magic".to_owned())
    };
    assert!(every(&target, &unsworn).silent.len() > 10_000);
}

pub(crate) fn root_json_bytes() -> Vec<u8> {
    let disk = MemoryDisk::new(3);
    root_file::make(&*root_dir(&disk), &disk).unwrap();
    disk.content(Path::new("/root.json")).unwrap()
}

#[test]
fn s06_s07_all_damage_to_root_json_is_found() {
    let target = Target::whole("root.json", root_json_bytes());
    let judge = |bytes: &[u8]| {
        let disk = MemoryDisk::new(0);
        let dir = root_dir(&disk);
        dir.create_excl("root.json").unwrap().write_at(0, bytes).unwrap();
        match root_file::read(&*dir) {
            Ok(found) => found.is_none().then(|| "none".to_owned()),
            Err(root_file::Error::NotOurs { .. }) => Some("R1".into()),
            Err(e) => panic!("{e}"),
        }
    };
    all_found(&target, &judge, &|_| &["R1"]);
    let parses = |bytes: &[u8]| serde_json::from_slice::<Json>(bytes).err().map(|e| e.to_string());
    assert!(!every(&target, &parses).silent.is_empty());
}

#[test]
fn s06_s07_all_damage_to_a_blob_is_found() {
    let text: Vec<u8> = (0..600_u32).flat_map(u32::to_le_bytes).collect();
    let disk = MemoryDisk::new(4);
    let named = blob::put(&*root_dir(&disk), &text).unwrap();
    let judge = |bytes: &[u8]| {
        let disk = MemoryDisk::new(0);
        let dir = root_dir(&disk);
        dir.create_excl(&named.digest.hex()).unwrap().write_at(0, bytes).unwrap();
        match blob::get(&*dir, &named) {
            Ok(found) => (found != text).then(|| panic!("other data")),
            Err(blob::Error::Differs(_)) => Some("J51".into()),
            Err(e) => panic!("{e}"),
        }
    };
    let target = Target::whole("blob", text.clone());
    all_found(&target, &judge, &|_| &["J51"]);
    let by_size = |bytes: &[u8]| (bytes.len() != text.len()).then(|| "size".to_owned());
    assert!(every(&target, &by_size).silent.len() > 10_000);
}

const CACHE: &str = "/runs/demo-run/state/cache.mpk";

/// A run with a state cache.
fn cached() -> (MemoryDisk, RunDir) {
    let disk = MemoryDisk::new(5);
    let run = new_run(&open_root(&disk).unwrap()).unwrap();
    let head = crate::support::open_writer(&run).unwrap().writer.head();
    run.write_cache(head, &[7; 200]).unwrap();
    (disk, run)
}

pub(crate) fn state_cache_bytes() -> Vec<u8> {
    cached().0.content(Path::new(CACHE)).unwrap()
}

thread_local! {
    static CACHED: (MemoryDisk, RunDir) = cached();
}

#[test]
fn s06_s07_all_damage_to_a_state_cache_is_found() {
    let truth = cached().1.read_cache().unwrap();
    let judge = |bytes: &[u8]| {
        CACHED.with(|(disk, run)| {
            disk.tamper(Path::new(CACHE), |file| *file = bytes.to_vec());
            match run.read_cache() {
                None => Some("D05".to_owned()),
                Some(found) => (found != truth).then(|| panic!("other data")),
            }
        })
    };
    all_found(&Target::whole("state cache", state_cache_bytes()), &judge, &|_| &["D05"]);
}

thread_local! {
    /// A run that waits for a task, for each thread that judges.
    static WAITING: Play = {
        let inputs = Some(serde_json::json!({ "a": [1, 2.5] }));
        let plan = Plan { inputs, ..Plan::default() };
        let play = Play::of(&wrap("await ctx.task(t, { n: 1 });"), plan);
        play.go_on();
        play.runs.rebuild_state(&play.id).unwrap();
        play
    };
}

/// What the check of everything says first of the waiting run after one of its files changed.
fn judge_file(path: &str, bytes: &[u8]) -> Option<String> {
    WAITING.with(|play| {
        let path = PathBuf::from(format!("/runs/run-1/{path}"));
        let sound = play.disk.content(&path).unwrap();
        play.disk.tamper(&path, |file| *file = bytes.to_vec());
        let report = play.runs.fsck_runs(std::slice::from_ref(&play.id), false).unwrap();
        play.disk.tamper(&path, |file| *file = sound);
        report.defects.first().map(|defect| defect.label.to_owned())
    })
}

#[test]
fn s06_s07_all_damage_to_files_beside_a_journal_is_found() {
    let files: [(&'static str, &'static [&'static str]); 4] = [
        ("run.json", &["D01", "D02", "J62"]),
        ("inputs.json", &["D03"]),
        ("tasks/e0001/task.json", &["D04"]),
        ("process/main.js", &["J52"]),
    ];
    for (name, labels) in files {
        let path = PathBuf::from(format!("/runs/run-1/{name}"));
        let bytes = WAITING.with(|play| play.disk.content(&path).unwrap());
        let target = Target { thin: name != "run.json", ..Target::whole(name, bytes) };
        all_found(&target, &|bytes| judge_file(name, bytes), &|_| labels);
    }
}
