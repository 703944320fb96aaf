//! Ended runs leave the root and come back: no id is given away, nothing is lost half-way, and what
//! is still needed stays.

#![allow(clippy::disallowed_methods, reason = "these tests look at files")]

use crate::cli::{Cli, same_tree};
use crate::daemon_cli::Daemon;
use crate::served::Served;
use crate::transfer::{exported, runs, stands};
use dormouse::ground::clock::{Clock as _, ManualClock, SystemClock};
use dormouse::machines::replay::state::End;
use dormouse::ports::disk::memory::{Fault, MemoryDisk};
use dormouse::ports::disk::std::StdDisk;
use dormouse::services::retention::Policy;
use dormouse::services::retention::gc::Collected;
use dormouse::services::runs::Runs;
use dormouse::services::runs::create::NewRun;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[test]
fn an_archived_run_is_found_keeps_its_id_and_comes_back_with_the_same_bytes() {
    let cli = Cli::completed();
    let before = cli.tree();
    let done = cli.run("run archive r --json").ok().json();
    let file = done["file"].as_str().unwrap().to_owned();
    assert!(done["fileBytes"].as_u64() < done["bytes"].as_u64(), "{done}");
    assert!(!cli.root().join("r").exists());
    for verb in ["run show r", "run why r", "why r", "run export r", "run archive r"] {
        cli.run(verb).exits(3).says("run_archived").says("dormouse run unarchive r");
    }
    cli.run("run create --run-id r").exits(4).says("run_archived");
    cli.run(&format!("run import {file}")).exits(4).says("run_archived");
    cli.run(&format!("run verify-export {file}")).ok();
    assert_eq!(cli.run("run list --archived").ok().out.trim(), "r");
    assert!(cli.run("du").ok().out.contains("1 archived runs"));
    cli.run("fsck").ok();
    cli.run("audit").ok();

    cli.run("run unarchive x").exits(3).says("not_archived");
    cli.run("run unarchive r").ok();
    assert!(!Path::new(&file).exists());
    let after = cli.tree();
    let ours = |path: &str| {
        path.contains("runs/r/") && !path.ends_with("cache.mpk") && !path.ends_with("run.lock")
    };
    let files = before.iter().filter(|(path, _)| ours(path));
    let missing: Vec<_> =
        files.filter(|(path, content)| after.get(*path) != Some(content)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    cli.run("fsck").ok();
    assert_eq!(cli.run("run iterate r --json").ok().json()["status"], "completed");
}

#[test]
fn only_what_an_import_brings_back_is_archived() {
    let cli = Cli::waiting();
    cli.run("run archive r").exits(4).says("run_open");
    let cli = Cli::completed();
    fs::write(cli.root().join("r/notes.txt"), "mine").unwrap();
    cli.run("run archive r").exits(4).says("archive_incomplete").says("notes.txt");
    assert!(!cli.root().join(".dormouse/archive/r.dormouse").exists());
    fs::remove_file(cli.root().join("r/notes.txt")).unwrap();
    cli.run("run archive r").ok();
    let file = cli.root().join(".dormouse/archive/r.dormouse");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    cli.run("run unarchive r").exits(5).says("export_damaged");
    assert!(file.exists() && !cli.root().join("r").exists());
    assert!(cli.run("fsck").exits(5).out.contains("[D25]"));
}

#[test]
fn the_id_of_a_deleted_run_is_not_given_away_and_the_run_may_come_back() {
    let cli = Cli::completed();
    cli.run("run export r -o x").ok();
    cli.run("run delete r --yes").ok();
    cli.run("run create --run-id r").exits(4).says("run_deleted");
    cli.run("run show r").exits(3).says("was deleted at");
    cli.run("fsck").ok();
    cli.run("run import x").ok();
    cli.run("run create --run-id r").exits(4).says("run_exists");
    assert!(!cli.root().join(".dormouse/removed/r").exists());

    let create = "run create --idempotency-key k --json";
    let id = cli.run(create).ok().json()["runId"].as_str().unwrap().to_owned();
    cli.run(&format!("run halt {id} --reason x")).ok();
    cli.run(&format!("run delete {id} --yes")).ok();
    // Whoever asks again must not take another run for the one that there was.
    cli.run(create).exits(4).says("run_deleted");
}

/// Lets a deed die wherever it can, on a disk with an ended run.
fn dies(prepare: impl Fn(&Runs), deed: impl Fn(&Runs) -> bool, check: impl Fn(&MemoryDisk)) {
    for nth in 1.. {
        let (disk, _) = exported(true);
        prepare(&runs(&disk));
        disk.power_cut();
        disk.fail_at(nth, Fault::Die);
        let done = deed(&runs(&disk));
        let survived = !disk.is_dead();
        if nth % 2 == 0 {
            disk.kill();
        } else {
            disk.power_cut();
        }
        check(&disk);
        if survived {
            assert!(done && nth > 10, "{nth}");
            break;
        }
    }
}

fn is_archived(disk: &MemoryDisk) -> bool {
    runs(disk).archived("r").is_ok()
}

#[test]
fn an_archiving_that_dies_leaves_the_run_or_its_archive() {
    let again = |disk: &MemoryDisk| {
        let runs = &runs(disk);
        if stands(disk, 3) {
            runs.archive(runs, "r", 1, None).unwrap();
        }
        assert!(is_archived(disk) && !stands(disk, 3));
        runs.unarchive(runs, "r").unwrap();
        assert!(stands(disk, 3) && !is_archived(disk));
    };
    dies(|_| {}, |runs| runs.archive(runs, "r", 1, None).is_ok(), again);
}

#[test]
fn a_return_from_the_archive_that_dies_leaves_the_run_or_its_archive() {
    let again = |disk: &MemoryDisk| {
        let runs = &runs(disk);
        if stands(disk, 3) {
            let done = runs.gc(runs, &policy(u64::MAX / 4), false, &|_, _| {}).unwrap();
            assert!(done.runs.is_empty(), "{done:?}");
        } else {
            runs.unarchive(runs, "r").unwrap();
        }
        assert!(stands(disk, 3) && !is_archived(disk));
    };
    let archive = |runs: &Runs| drop(runs.archive(runs, "r", 1, None).unwrap());
    dies(archive, |runs| runs.unarchive(runs, "r").is_ok(), again);
}

fn policy(older_than_ms: u64) -> Policy {
    Policy {
        older_than_ms,
        ends: End::ALL.to_vec(),
        keep: 0,
        archive: false,
        keys_kept_ms: 1,
        left_over_ms: 7 * DAY_MS,
        set_aside_ms: None,
    }
}

#[test]
fn a_collection_that_dies_leaves_whole_runs_or_none() {
    let fresh = |disk: &MemoryDisk| {
        let new = NewRun { run_id: Some("r".parse().unwrap()), ..NewRun::default() };
        let made = runs(disk).create(&new).unwrap_err().trouble().code;
        assert_eq!(made, if stands(disk, 3) { "run_exists" } else { "run_deleted" });
        let all = runs(disk);
        all.gc(&all, &policy(0), false, &|_, _| {}).unwrap();
        assert!(!stands(disk, 3));
        let staging = runs(disk).view_root().unwrap().meta().unwrap().open_dir("staging").unwrap();
        assert_eq!(staging.list().unwrap(), Vec::<String>::new());
    };
    dies(|_| {}, |runs| runs.gc(runs, &policy(0), false, &|_, _| {}).is_ok(), fresh);
}

fn ids(of: &serde_json::Value) -> Vec<&str> {
    of.as_array().unwrap().iter().map(|run| run["runId"].as_str().unwrap()).collect()
}

#[test]
fn a_collection_takes_what_the_policy_says_and_nothing_that_goes_on() {
    let cli = Cli::completed();
    for id in ["old", "open"] {
        cli.run(&format!("run create --run-id {id}")).ok();
    }
    cli.run("run halt old --final-status failed").ok();
    let before = cli.tree();
    assert_eq!(ids(&cli.run("gc --dry-run --json").ok().json()["runs"]), Vec::<&str>::new());
    let plan = cli.run("gc --dry-run --older-than 0s --json").ok().json();
    assert_eq!(ids(&plan["runs"]), ["r", "old"]);
    assert!(plan["runs"][0]["kinds"]["journal"].as_u64() > Some(0), "{plan}");
    cli.run("gc --older-than 0s --status nothing").exits(2);
    same_tree(&before, &cli.tree(), "gc --dry-run");

    let done = cli.run("gc --older-than 0s --status failed --json").ok().json();
    assert_eq!(ids(&done["runs"]), ["old"]);
    cli.run("gc --older-than 0s --keep 1").ok();
    cli.run("run show r").ok();
    let config = "[retention]\nolder_than = \"0s\"\narchive = true\n";
    let config = cli.file("config.toml", config).display().to_string();
    cli.run(&format!("gc --config {config}")).ok();
    cli.run("run show r").exits(3).says("run_archived");
    cli.run("run show open").ok();
    cli.run("fsck").ok();
}

const PARENT: &str = r#"
export async function child(inputs, ctx) { return 1; }
export async function process(inputs, ctx) {
  await ctx.run({ process: "p.js", exportName: "child" });
  return await ctx.waitForSignal("go");
}
"#;

#[test]
fn a_child_of_an_open_run_and_a_run_that_cannot_be_read_stay() {
    let cli = Cli::new();
    cli.file("p.js", PARENT);
    cli.run("run create --entry p.js --run-id r").ok();
    cli.run("run iterate r").ok();
    cli.run("run create --run-id bad").ok();
    cli.run("run halt bad --reason x").ok();
    let journal = cli.root().join("bad/journal/0000000001.jsonl");
    let mut bytes = fs::read(&journal).unwrap();
    bytes[20] ^= 1;
    fs::write(&journal, bytes).unwrap();
    let done = cli.run("gc --older-than 0s --json").ok().json();
    assert_eq!(ids(&done["runs"]), Vec::<&str>::new());
    let staying = done["staying"].as_array().unwrap();
    let codes: Vec<&str> = staying.iter().map(|run| run["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"parent_open") && codes.len() == 2, "{done}");
    assert!(cli.root().join("bad").exists());
}

/// The files of a root as the service finds them some days later.
fn later(cli: &Cli, days: u64, policy: &Policy) -> Collected {
    let now = SystemClock.now().later_by(days * DAY_MS);
    let root = cli.root();
    let runs = Runs {
        disk: Arc::new(StdDisk),
        clock: Arc::new(ManualClock::at(now)),
        root,
        ..runs(&MemoryDisk::new(1))
    };
    runs.gc(&runs, policy, false, &|_, _| {}).unwrap()
}

#[test]
fn what_nothing_names_goes_when_it_is_old_and_what_was_set_aside_only_when_asked() {
    let cli = Cli::waiting();
    let run = cli.root().join("r");
    let large = format!("\"{}\"", "large ".repeat(20_000));
    cli.file("large.json", &large);
    cli.run("run signal r n --value large.json").ok();
    let named = fs::read_dir(run.join("blobs")).unwrap().count();
    assert_eq!(named, 1);
    let unnamed = run.join("blobs").join("0".repeat(64));
    fs::write(&unnamed, "x").unwrap();
    fs::create_dir_all(run.join("quarantine")).unwrap();
    let kept = run.join("quarantine/kept.bin");
    fs::write(&kept, "x").unwrap();
    let none = policy(u64::MAX / 4);
    assert_eq!(later(&cli, 6, &none).swept, []);
    let swept = later(&cli, 8, &none).swept;
    assert_eq!((swept.len(), swept[0].count), (1, 1), "{swept:?}");
    assert!(!unnamed.exists() && kept.exists());
    assert_eq!(fs::read_dir(run.join("blobs")).unwrap().count(), 1);
    let asked = Policy { set_aside_ms: Some(30 * DAY_MS), ..none };
    assert_eq!(later(&cli, 29, &asked).swept, []);
    assert_eq!(later(&cli, 31, &asked).swept.len(), 1);
    assert!(!kept.exists());
    cli.run("fsck").ok();
}

#[test]
fn beside_a_daemon_runs_leave_and_come_back() {
    let mut served = Served::new();
    for id in ["r", "s"] {
        served.create(id);
        served.rests(id);
    }
    let cli = &served.cli;
    cli.run("run archive r").exits(4).says("run_open");
    cli.run("run export r -o x").ok();
    cli.run("run verify-export x").ok();
    for id in ["r", "s"] {
        cli.run(&format!("run halt {id}")).ok();
    }
    cli.run("run archive r").ok();
    cli.run("run show r").exits(3).says("run_archived");
    cli.run("run create --run-id r").exits(4).says("run_archived");
    cli.run("run unarchive r").ok();
    assert_eq!(cli.run("run show r --json").ok().json()["state"], "completed");
    cli.run("run delete s --yes").ok();
    cli.run("run create --run-id s").exits(4).says("run_deleted");
    // The export is of the time when the run was open.
    cli.run("run import x").exits(4).says("run_exists");
    cli.run("run delete r --yes").ok();
    let done = cli.run("run import x --json").ok().json();
    assert_eq!(done["paused"], true);
    cli.run("run resume r").ok();
    cli.run("run halt r").ok();
    cli.run("fsck").ok();
    let gone = cli.run("gc --older-than 0s --json").ok().json();
    assert_eq!(ids(&gone["runs"]), ["r"]);
    cli.run("audit").ok();
    served.restart();
    let cli = &served.cli;
    assert_eq!(cli.run("run list --json").ok().json()["runs"], serde_json::json!([]));
    served.stop();
    served.cli.run("fsck").ok();
}

#[test]
fn what_left_and_what_came_back_beside_a_daemon_outlives_its_death() {
    let cli = Cli::new();
    let daemon = Daemon::start(&cli, &[]);
    for id in ["r", "s", "t"] {
        cli.run(&format!("run create --run-id {id}")).ok();
        cli.run(&format!("run halt {id}")).ok();
    }
    cli.run("run archive r").ok();
    cli.run("run archive t").ok();
    cli.run("run unarchive r").ok();
    cli.run("run delete s --yes").ok();
    daemon.signal(rustix::process::Signal::KILL);
    assert_eq!(daemon.ends().0, 137);
    cli.run("run list").ok();
    // The log is recovered: it says that all three are gone, and of one that it came back.
    cli.run("run create --run-id u").ok();
    cli.run("run show r").ok();
    cli.run("run show s").exits(3);
    cli.run("run show t").exits(3).says("run_archived");
    let labels = cli.run("fsck --json").json()["counts"].as_object().unwrap().clone();
    // The index was not told of everything before it died, nor since.
    assert!(labels.keys().all(|label| ["X1", "D20"].contains(&label.as_str())), "{labels:?}");
    cli.run("run unarchive t").ok();
    cli.run("journal verify t").ok();
}
