//! Runs that are taken out, brought in and deleted: nothing is lost, forged or done twice, whatever
//! the file says and wherever a command dies.

#![allow(clippy::disallowed_methods, reason = "these tests read and write exports")]

use crate::cli::{Cli, same_tree};
use dormouse::codecs::event::Head;
use dormouse::codecs::format::export::{self, Entry, Manifest};
use dormouse::codecs::format::line;
use dormouse::codecs::json::Json;
use dormouse::ground::clock::{ManualClock, Timestamp};
use dormouse::ground::digest::Digest;
use dormouse::ground::id::Seq;
use dormouse::ports::disk::Disk;
use dormouse::ports::disk::memory::{Fault, MemoryDisk};
use dormouse::services::export::archive::Archive;
use dormouse::services::export::import::Imported;
use dormouse::services::export::write::Target;
use dormouse::services::runs::create::{NewRun, host_limits};
use dormouse::services::runs::delete::{Deleted, Deletion};
use dormouse::services::runs::hosts::ChildHosts;
use dormouse::services::runs::steer::{FinalStatus, Signal};
use dormouse::services::runs::{Error, Runs};
use dormouse::services::telemetry::Telemetry;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const FILE: &str = "/runs/x.dormouse";

/// The service over a memory disk.
pub(crate) fn runs(disk: &MemoryDisk) -> Runs {
    Runs {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000))),
        hosts: Arc::new(ChildHosts { exe: "/nowhere".into() }),
        root: "/runs".into(),
        lock_wait_ms: 0,
        allow_fs: None,
        limits: host_limits(),
        turn_wall_max_ms: 1,
        by: "operator:test".into(),
        telemetry: Telemetry::default(),
        kinds: dormouse::services::runs::kinds::KnownKinds::default(),
    }
}

/// A disk with a bare run `r` that has a large value, and the bytes of its export.
pub(crate) fn exported(ended: bool) -> (MemoryDisk, Vec<u8>) {
    let disk = MemoryDisk::new(1);
    let runs = runs(&disk);
    let new = NewRun { run_id: Some("r".parse().unwrap()), ..NewRun::default() };
    runs.create(&new).unwrap();
    let signal = Signal {
        name: "n".into(),
        correlation_key: None,
        signal_id: Some("s".into()),
        payload: Json::of(&"large ".repeat(15_000)),
    };
    runs.signal("r", signal).unwrap();
    if ended {
        runs.halt("r", "enough", FinalStatus::Completed).unwrap();
    }
    let mut bytes = Vec::new();
    runs.export("r", false, None, Target::Stream(&mut bytes)).unwrap();
    (disk, bytes)
}

/// A disk with an empty root and a file.
fn with_file(bytes: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new(7);
    disk.create_dirs(Path::new("/runs")).unwrap();
    disk.tamper(Path::new(FILE), |content| *content = bytes.to_vec());
    disk.open_dir(Path::new("/runs")).unwrap().sync().unwrap();
    disk
}

fn open(disk: &MemoryDisk) -> Result<Archive, Error> {
    Archive::open(disk, Path::new(FILE), None)
}

fn import(disk: &MemoryDisk, archive: &Archive) -> Result<Imported, Error> {
    let runs = runs(disk);
    runs.import(&runs, archive)
}

fn delete(disk: &MemoryDisk, how: Deletion) -> Result<Deleted, Error> {
    let runs = runs(disk);
    runs.delete(&runs, "r", how)
}

fn verify(bytes: &[u8]) -> Result<(), Error> {
    open(&with_file(bytes))?.verify().map(|_| ())
}

/// With a digest at the end that fits.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

#[test]
fn every_flipped_bit_and_every_cut_of_an_export_is_found() {
    let (_, good) = exported(true);
    verify(&good).unwrap();
    let disk = with_file(&good);
    for at in 0..good.len() {
        disk.tamper(Path::new(FILE), |bytes| bytes[at] ^= 1 << (at % 8));
        assert!(open(&disk).is_err(), "byte {at}");
        disk.tamper(Path::new(FILE), |bytes| bytes[at] ^= 1 << (at % 8));
    }
    for cut in 0..good.len() {
        disk.tamper(Path::new(FILE), |bytes| bytes.truncate(cut));
        let found = open(&disk).map(|_| ()).unwrap_err();
        assert!(matches!(found, Error::Damaged(_)), "cut at {cut}: {found:?}");
        disk.tamper(Path::new(FILE), |bytes| bytes.clone_from(&good));
    }
    let longer = [good.as_slice(), b"x"].concat();
    assert!(verify(&longer).is_err());
}

/// Whoever forges the digest at the end as well meets the manifest: what is taken for sound unfolds
/// to the same files.
#[test]
fn a_forged_digest_hides_nothing() {
    let (_, good) = exported(true);
    let body = good[..good.len() - 32].to_vec();
    let content = |bytes: &[u8]| -> Result<Vec<Vec<u8>>, Error> {
        let archive = open(&with_file(bytes))?;
        let mut all = Vec::new();
        archive.each(&mut |_, from| {
            let mut file = Vec::new();
            // What cannot be read is found by the archive.
            let _ = from.read_to_end(&mut file);
            all.push(file);
            Ok(())
        })?;
        archive.verify()?;
        Ok(all)
    };
    let right = content(&good).unwrap();
    let mut found = 0;
    for at in 0..body.len() {
        let mut bad = body.clone();
        bad[at] ^= 1 << (at % 8);
        match content(&sealed(bad)) {
            Err(_) => found += 1,
            Ok(files) => assert_eq!(files, right, "byte {at}"),
        }
    }
    assert!(found * 10 > body.len() * 9, "{found} of {}", body.len());
}

/// An archive as somebody might make one.
fn crafted(files: &[(&str, &[u8])], change: impl FnOnce(&mut Manifest), content: &[u8]) -> Vec<u8> {
    let sum = |files: &[(&str, &[u8])]| {
        let last = files.iter().rev().find(|(path, _)| path.starts_with("journal/"));
        last.and_then(|(_, bytes)| line::split(bytes)).map(|(_, sum)| sum)
    };
    let head =
        Head { seq: Seq(1), sum: sum(files).unwrap_or(line::genesis(&"r".parse().unwrap())) };
    let entry = |(path, bytes): &(&str, &[u8])| Entry {
        path: (*path).to_owned(),
        bytes: bytes.len() as u64,
        digest: Digest::of(bytes),
    };
    let mut manifest = Manifest {
        run_id: "r".parse().unwrap(),
        head,
        exported_at: Timestamp::default(),
        version: "0".into(),
        files: files.iter().map(entry).collect(),
    };
    change(&mut manifest);
    let mut bytes = export::head(&manifest, None);
    bytes.extend(zstd::encode_all(content, 3).unwrap());
    sealed(bytes)
}

/// The first line of run `id`, alone.
fn journal(id: &str) -> Vec<u8> {
    let disk = MemoryDisk::new(1);
    let new = NewRun { run_id: Some(id.parse().unwrap()), ..NewRun::default() };
    runs(&disk).create(&new).unwrap();
    let path = format!("/runs/{id}/journal/0000000001.jsonl");
    disk.content(Path::new(&path)).unwrap()
}

const SEGMENT: &str = "journal/0000000001.jsonl";

#[test]
fn a_crafted_export_is_refused_before_anything_is_written() {
    let line = journal("r");
    let good: &[(&str, &[u8])] = &[(SEGMENT, &line)];
    let same = |_: &mut Manifest| {};
    verify(&crafted(good, same, &line)).unwrap();
    let zeros = vec![0; 4 * 1024 * 1024];
    let longer = [line.as_slice(), &zeros].concat();
    let foreign = journal("s");
    let trailing = |extra: &[u8]| {
        let mut bytes = crafted(good, same, &line);
        bytes.truncate(bytes.len() - 32);
        bytes.extend_from_slice(extra);
        sealed(bytes)
    };
    let path = |name: &'static str| crafted(&[(SEGMENT, &line), (name, b"x")], same, &longer);
    let newer = {
        let text = crafted(good, same, &line);
        sealed([b"dormouse-export/2\n", &text[18..text.len() - 32]].concat())
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a bomb", crafted(good, same, &longer), "export_damaged"),
        ("too little", crafted(good, same, &line[..9]), "export_damaged"),
        ("other content", crafted(good, same, &foreign), "export_damaged"),
        ("bytes behind", trailing(b"x"), "export_damaged"),
        ("a second frame", trailing(&zstd::encode_all(&b"x"[..], 3).unwrap()), "export_damaged"),
        ("no zstd", trailing(&[]).replace_content(), "export_damaged"),
        ("absolute", path("/tmp/x"), "export_refused"),
        ("upwards", path("tasks/../../x"), "export_refused"),
        ("a lock", path("run.lock"), "export_refused"),
        ("unknown", path("zz"), "export_refused"),
        ("twice", path(SEGMENT), "export_refused"),
        ("huge", crafted(good, |m| m.files[0].bytes = u64::MAX, &line), "export_refused"),
        ("longer", crafted(good, |m| m.files[0].bytes += 1, &line), "export_damaged"),
        ("another head", crafted(good, |m| m.head.seq = Seq(2), &line), "J15"),
        ("foreign", crafted(&[(SEGMENT, &foreign)], same, &foreign), "J22"),
        ("newer", newer, "export_newer"),
        ("nothing", Vec::new(), "export_damaged"),
        ("text", b"hello\n".repeat(20), "export_damaged"),
    ];
    for (what, bytes, code) in cases {
        let disk = with_file(&bytes);
        let runs = runs(&disk);
        let done = open(&disk).and_then(|archive| runs.import(&runs, &archive));
        let error = done.map(|done| done.head).unwrap_err();
        assert_eq!(error.trouble().code, code, "{what}: {error:?}");
        let names = disk.open_dir(Path::new("/runs")).unwrap().list().unwrap();
        assert_eq!(names, ["x.dormouse"], "{what}");
    }
}

trait ReplaceContent {
    fn replace_content(self) -> Vec<u8>;
}

impl ReplaceContent for Vec<u8> {
    /// The same head over content that nobody compressed.
    fn replace_content(self) -> Vec<u8> {
        let ends = self.iter().enumerate().filter(|(_, b)| **b == b'\n');
        let head = ends.map(|(at, _)| at).nth(2).unwrap();
        sealed([&self[..=head], b"not compressed at all"].concat())
    }
}

/// What stands under the run's name after an import that may have died.
pub(crate) fn stands(disk: &MemoryDisk, least: u64) -> bool {
    let runs = runs(disk);
    let ids = runs.view_root().unwrap().run_ids().unwrap();
    if ids.is_empty() {
        return false;
    }
    let verified = runs.verify("r").unwrap();
    assert_eq!(verified.verdict, "clean", "{:?}", verified.scan.main);
    assert!(verified.scan.head.seq.0 >= least, "{:?}", verified.scan.head);
    let seen = runs.look("r").unwrap();
    for blob in seen.records.iter().flat_map(|record| record.event.blobs()) {
        seen.dir.get_blob(blob).unwrap();
    }
    true
}

#[test]
fn an_import_is_there_whole_or_not_at_all_wherever_it_dies() {
    for ended in [true, false] {
        let (_, bytes) = exported(ended);
        // A note and a pause follow in an open run.
        let least = if ended { 3 } else { 4 };
        let (mut absent, mut there) = (0, 0);
        for nth in 1.. {
            let disk = with_file(&bytes);
            let archive = open(&disk).unwrap();
            disk.fail_at(nth, Fault::Die);
            let done = import(&disk, &archive);
            let survived = !disk.is_dead();
            if nth % 2 == 0 {
                disk.kill();
            } else {
                disk.power_cut();
            }
            drop(archive);
            if stands(&disk, least) {
                there += 1;
            } else {
                assert!(done.is_err(), "{nth}");
                absent += 1;
            }
            let again = import(&disk, &open(&disk).unwrap());
            match again {
                Ok(_) => assert!(stands(&disk, least)),
                Err(e) => assert_eq!(e.trouble().code, "run_exists", "{nth}"),
            }
            if survived {
                done.unwrap();
                break;
            }
        }
        assert!(absent > 20 && there > 0, "{absent} {there}");
    }
}

#[test]
fn a_deletion_that_dies_leaves_a_whole_run_or_none() {
    let how = Deletion { force: false, keys_kept_ms: 1, dry_run: false };
    let (mut absent, mut there) = (0, 0);
    for nth in 1.. {
        let (disk, _) = exported(true);
        disk.power_cut();
        disk.fail_at(nth, Fault::Die);
        let done = delete(&disk, how);
        let survived = !disk.is_dead();
        if nth % 2 == 0 {
            disk.kill();
        } else {
            disk.power_cut();
        }
        if stands(&disk, 3) {
            assert!(done.is_err(), "{nth}");
            there += 1;
            delete(&disk, how).unwrap();
        } else {
            absent += 1;
        }
        let touched = runs(&disk).view_root().unwrap().touched().unwrap();
        assert_eq!(touched, ["r".parse().unwrap()], "{nth}: the index must forget it");
        if survived {
            assert!(done.unwrap().is_gone);
            break;
        }
    }
    assert!(absent > 3 && there > 3, "{absent} {there}");
}

#[test]
fn an_ended_run_comes_back_with_the_same_bytes() {
    let cli = Cli::completed();
    cli.run("run export r -o x").ok();
    let sound = cli.run("run verify-export x --json").ok().json();
    assert_eq!((sound["runId"].as_str(), sound["end"].as_str()), (Some("r"), Some("completed")));
    cli.run("run export r -o x").exits(4).says("file_exists");
    let stream = cli.command(&["run", "export", "r", "-o", "-"]).output().unwrap();
    fs::write(cli.path("y"), &stream.stdout).unwrap();
    assert_eq!(cli.run("run verify-export y --json").ok().json()["head"], sound["head"]);
    cli.run("run import x").exits(4).says("run_exists");

    let before = cli.tree();
    cli.run("run delete r").exits(1);
    same_tree(&before, &cli.tree(), "run delete without --yes");
    cli.run("run delete r --yes").ok();
    cli.run("run show r").exits(3);
    cli.run("audit").ok();
    cli.run("run import x").ok();
    let after = cli.tree();
    let files = |tree: &crate::cli::Tree| -> Vec<(String, String)> {
        let ours = |path: &str| path.contains("runs/r/") && !path.ends_with("cache.mpk");
        tree.iter().filter(|(p, _)| ours(p)).map(|(p, c)| (p.clone(), c.clone())).collect()
    };
    let (before, after) = (files(&before), files(&after));
    assert!(before.len() > 8, "{before:?}");
    let missing: Vec<_> =
        before.iter().filter(|f| !after.contains(f) && !f.0.ends_with("run.lock")).collect();
    assert!(missing.is_empty(), "{missing:?}");
    cli.run("fsck").ok();
    cli.run("audit").ok();
    assert_eq!(cli.run("run iterate r --json").ok().json()["status"], "completed");
}

#[test]
fn g4_an_open_run_starts_nothing_where_it_was_imported_until_it_is_resumed() {
    let cli = Cli::waiting();
    cli.run("task claim r e0001 --worker w --ttl 60s").ok();
    cli.run("run export r -o x").ok();
    let there = Cli::new();
    fs::copy(cli.path("x"), there.path("x")).unwrap();
    let done = there.run("run import x --json").ok().json();
    assert_eq!((&done["paused"], &done["startedElsewhere"][0]), (&true.into(), &"e0001".into()));
    there.run("task claim r e0001 --worker v").exits(4);
    let shown = there.run("run show r --json").ok().out;
    assert!(shown.contains("imported") && shown.contains("uncertain"), "{shown}");
    there.run("run why r").ok();
    there.run("fsck").ok();
    there.run("run resume r").ok();
    there.run("task claim r e0001 --worker v").exits(4);
    // The outcome of the attempt that was begun elsewhere is as good here.
    there.run(r#"task post r e0001 --epoch 1 --status ok --value-inline {"n":1}"#).ok();
    there.run("run iterate r").ok();
    there.run("run delete r --yes").exits(4).says("run_open");
    there.run("run delete r --yes --force").ok();
    there.run("run show r").exits(3);
}

#[test]
fn a_signature_is_asked_for_by_its_key() {
    let cli = Cli::completed();
    let public = cli.run("key create k").ok().out.trim().to_owned();
    let other =
        cli.run("key create l --json").ok().json()["publicKey"].as_str().unwrap().to_owned();
    cli.run("key create k").exits(4).says("file_exists");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(cli.path("k")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    cli.run("run export r -o signed --sign k").ok();
    cli.run("run export r -o unsigned").ok();
    cli.run("run export r -o x --sign process.js").exits(2).says("key_invalid");
    let verify = |file: &str, key: &str| cli.run(&format!("run verify-export {file} --key {key}"));
    verify("signed", &public).ok();
    cli.run("run verify-export signed").ok();
    verify("signed", &other).exits(6).says("export_signer");
    verify("unsigned", &public).exits(6).says("export_unsigned");
    verify("signed", "k").exits(2).says("key_invalid");
    cli.run("run delete r --yes").ok();
    cli.run(&format!("run import unsigned --key {public}")).exits(6);
    cli.run("run show r").exits(3);
    cli.run(&format!("run import signed --key {public}")).ok();
}

const KEYED: &str = r#"
import { defineTask } from "dormouse";
const step = defineTask("step", () => ({
  kind: "node", title: "Step", node: { entry: "x" },
}));
export const process = (inputs, ctx) => ctx.task(step, {}, { idempotencyKey: "pay-1" });
"#;

#[test]
fn g4_a_run_whose_keys_count_stays() {
    let cli = Cli::new();
    cli.file("p.js", KEYED);
    cli.run("run create --entry p.js --run-id r").ok();
    cli.run("run iterate r").ok();
    cli.run("task post r e0001 --status ok --value-inline 1").ok();
    cli.run("run iterate r").ok();
    cli.run("run delete r --yes").exits(4).says("keys_held");
    cli.run("run delete r --yes --force").exits(4).says("keys_held");
    cli.run("run show r").ok();
}

const PARENT: &str = r#"
export async function child(inputs, ctx) { return await ctx.waitForSignal("go"); }
export async function process(inputs, ctx) {
  return await ctx.run({ process: "p.js", exportName: "child" });
}
"#;

#[test]
fn a_child_stays_while_its_parent_waits_and_a_parent_while_its_child_is_open() {
    let cli = Cli::new();
    cli.file("p.js", PARENT);
    cli.run("run create --entry p.js --run-id r").ok();
    cli.run("run iterate r").ok();
    let runs = cli.run("run list --json").ok().json();
    let ids: Vec<&str> =
        runs["runs"].as_array().unwrap().iter().map(|r| r["runId"].as_str().unwrap()).collect();
    let child = ids.iter().find(|id| **id != "r").unwrap();
    cli.run(&format!("run delete {child} --yes --force")).exits(4).says("parent_waits");
    cli.run("run delete r --yes").exits(4).says("run_open");
}
