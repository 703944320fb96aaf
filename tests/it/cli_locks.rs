//! Locks between commands: waiting, giving up, notes that say anything, and never two owners.

#![allow(clippy::disallowed_methods, reason = "these tests hold locks and write notes")]

use crate::cli::{Cli, Ran, same_tree};
use fs2::FileExt as _;
use std::fs::{self, File};
use std::io::Write as _;

/// Holds a lock file as another program would, with `note` in it.
fn hold(cli: &Cli, name: &str, note: &[u8]) -> File {
    let path = cli.root().join(name);
    let mut file = File::options().write(true).truncate(true).open(path).unwrap();
    file.write_all(note).unwrap();
    file.try_lock_exclusive().unwrap();
    file
}

const NOTE: &str = concat!(
    r#"{"v":1,"pid":4242,"boot_id":"b","started":"2026-11-20T12:00:00.000000Z","exe":"/x","#,
    r#""cmd":"dormouse run drive r","host":"elsewhere","state":"open","head_seq":2,"#,
    r#""head_sum":null,"failures":0}"#,
    "\n"
);

/// Notes that are none, or somebody else's.
const NOTES: &[&[u8]] = &[
    b"",
    b"\n",
    b"x",
    b"\0\0\0\0",
    b"\xff\xfe",
    b"{}",
    b"{\"v\":2,\"pid\":1}",
    b"{\"v\":1,\"pid\":-1}",
    b"[[[[[[[[",
    NOTE.as_bytes(),
];

/// Every command that writes to a run.
const WRITERS: &[&str] = &[
    "run iterate r",
    "run drive r",
    "task post r e0001 --status error",
    "task cancel r e0001",
    "run signal r go",
    "run cancel r",
    "run halt r",
    "run pause r",
    "run assign-process r --entry process.js --force",
    "run accept r --entry process.js --yes",
    "run rebuild-state r",
];

#[test]
fn a_command_that_cannot_have_the_lock_names_the_holder() {
    let cli = Cli::waiting();
    let _held = hold(&cli, "r/run.lock", NOTE.as_bytes());
    let before = cli.tree();
    for line in WRITERS {
        let error = cli.run(&format!("{line} --json --lock-timeout 0s")).exits(4).error();
        assert_eq!(error["code"], "lock_busy", "{line}");
        let text = error["message"].as_str().unwrap();
        let holder = "pid 4242 on elsewhere: dormouse run drive r (unverified)";
        assert!(text.contains("runs/r/run.lock") && text.contains(holder), "{line}: {text}");
        assert!(error["nextSteps"].to_string().contains("--lock-timeout"), "{error}");
        same_tree(&before, &cli.tree(), line);
    }
    for line in ["run status r", "run events r", "journal verify r", "task list r", "run list"] {
        cli.run(line).ok();
        same_tree(&before, &cli.tree(), line);
    }
}

#[test]
fn a_held_root_is_named_as_well() {
    let cli = Cli::waiting();
    let _held = hold(&cli, ".dormouse/root.lock", NOTE.as_bytes());
    let before = cli.tree();
    for line in ["run create", "run iterate r", "task post r e0001 --status error"] {
        let error = cli.run(&format!("{line} --json --lock-timeout 0s")).exits(4).error();
        let text = error["message"].as_str().unwrap();
        assert!(text.contains("root.lock") && text.contains("pid 4242"), "{line}: {text}");
        same_tree(&before, &cli.tree(), line);
    }
    cli.run("run list").ok();
    cli.run("run status r").ok();
}

#[test]
fn a_command_waits_for_the_lock() {
    let cli = Cli::waiting();
    let held = hold(&cli, "r/run.lock", NOTE.as_bytes());
    let line = r#"task post r e0001 --status ok --value-inline {"n":1} --lock-timeout 10m"#;
    let mut child = cli.start(line);
    // It waits as soon as it has the root.
    let root = File::open(cli.root().join(".dormouse/root.lock")).unwrap();
    while root.try_lock_exclusive().is_ok() {
        fs2::FileExt::unlock(&root).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    }
    assert!(child.try_wait().unwrap().is_none(), "it did not wait");
    drop(held);
    Ran::of(line, &child.wait_with_output().unwrap()).ok();
    assert_eq!(cli.run("run iterate r --json").ok().json()["reason"], "shell-pending");
}

#[test]
fn what_a_free_lock_says_does_not_matter() {
    for note in NOTES {
        let cli = Cli::waiting();
        for name in ["r/run.lock", ".dormouse/root.lock"] {
            fs::write(cli.root().join(name), note).unwrap();
        }
        let shown = String::from_utf8_lossy(note);
        let report = cli.run("run iterate r --json --lock-timeout 0s").ok().json();
        assert_eq!(report["nextActions"][0]["effectId"], "e0001", "{shown}");
        let busy = {
            let _held = hold(&cli, "r/run.lock", note);
            cli.run("run iterate r --json --lock-timeout 0s").exits(4).error()
        };
        assert_eq!(busy["code"], "lock_busy", "{shown}");
        cli.run("journal verify r").ok();
    }
}

#[test]
fn of_many_posts_exactly_one_wins() {
    const POSTS: usize = 12;
    let cli = Cli::waiting();
    let start = |n: usize| {
        let value = format!(r#"{{"n":{n}}}"#);
        cli.start(&format!(
            "task post r e0001 --status ok --value-inline {value} --json --lock-timeout 10m"
        ))
    };
    let children: Vec<_> = (0..POSTS).map(start).collect();
    let ended = children.into_iter().map(|child| child.wait_with_output().unwrap());
    let ran: Vec<Ran> = ended.map(|output| Ran::of("task post", &output)).collect();
    let winners: Vec<usize> = (0..POSTS).filter(|n| ran[*n].code == 0).collect();
    assert_eq!(winners.len(), 1, "{ran:?}");
    for loser in ran.iter().filter(|ran| ran.code != 0) {
        assert_eq!((loser.code, &loser.error()["code"]), (4, &"effect_ended".into()));
    }
    let verified = cli.run("journal verify r --json").ok().json();
    assert_eq!(verified["head"]["seq"], 3);
    let events = cli.run("run events r --json --filter-type EFFECT_RESOLVED").ok().json();
    assert_eq!(events["events"][0]["data"]["value"]["n"], winners[0]);
}

#[test]
fn many_iterates_write_one_history() {
    let cli = Cli::with_run();
    let line = "run iterate r --json --lock-timeout 10m";
    let children: Vec<_> = (0..8).map(|_| cli.start(line)).collect();
    for child in children {
        let report = Ran::of(line, &child.wait_with_output().unwrap()).ok().json();
        assert_eq!(report["head"]["seq"], 2);
        assert_eq!(report["nextActions"][0]["effectId"], "e0001");
    }
    assert_eq!(cli.run("journal verify r --json").ok().json()["records"], 2);
}

#[test]
fn of_many_creations_of_one_id_exactly_one_wins() {
    let cli = Cli::new();
    let create = "run create --run-id r --json --lock-timeout 10m";
    let children: Vec<_> = (0..8).map(|_| cli.start(create)).collect();
    let ended = children.into_iter().map(|child| child.wait_with_output().unwrap());
    let codes: Vec<i32> = ended.map(|output| Ran::of(create, &output).code).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, 0 | 4)), "{codes:?}");
    // With a key all of them get the same run.
    let create = "run create --idempotency-key k --json --lock-timeout 10m";
    let children: Vec<_> = (0..8).map(|_| cli.start(create)).collect();
    let mut made = 0;
    for child in children {
        let created = Ran::of(create, &child.wait_with_output().unwrap()).ok().json();
        made += usize::from(created["existed"] == false);
    }
    assert_eq!(made, 1);
    assert_eq!(cli.run("run list --json").ok().json()["runs"].as_array().unwrap().len(), 2);
    let staging = cli.root().join(".dormouse/staging");
    assert_eq!(fs::read_dir(staging).unwrap().count(), 0, "nothing half-made is left");
}
