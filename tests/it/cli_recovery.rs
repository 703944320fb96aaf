//! Commands beside a root whose daemon died: looking changes nothing, writing recovers first.

#![allow(clippy::disallowed_methods, reason = "these tests look at files and damage them")]

use crate::cli::{Cli, same_tree};
use crate::log_by_hand::{ByHand, End, own_on, recover_on};
use dormouse::codecs::event::Head;
use dormouse::codecs::format::line;
use dormouse::ground::id::{RunId, Seq};
use dormouse::ports::disk::Disk;
use dormouse::ports::disk::std::StdDisk;
use dormouse::shells::commit_log::segment_file;
use std::fs;
use std::sync::Arc;

/// A daemon that commits a note in run r and a new run, and dies before it copies either.
fn die(cli: &Cli) {
    let disk: Arc<dyn Disk> = Arc::new(StdDisk);
    let root = own_on(&disk, &cli.root()).unwrap();
    recover_on(&root).unwrap();
    let mut daemon = ByHand::begin(root).unwrap();
    let r: RunId = "r".parse().unwrap();
    let bytes = fs::read(cli.root().join("r/journal/0000000001.jsonl")).unwrap();
    let last = bytes[..bytes.len() - 1].rsplit(|b| *b == b'\n').next().unwrap();
    let sum = line::split(&[last, b"\n"].concat()).unwrap().1;
    let count = bytes.split(|b| *b == b'\n').count() as u64 - 1;
    let head = Head { seq: Seq(count), sum };
    daemon.ends.insert(r.clone(), End { head, file: Seq(1), off: bytes.len() as u64 });
    daemon.without_copies = true;
    daemon.append(&[(&r, 1)]).unwrap();
    daemon.append(&[(&"fresh".parse().unwrap(), 1)]).unwrap();
}

#[test]
fn looking_beside_a_dead_daemon_shows_what_is_durable_and_writes_nothing() {
    let cli = Cli::waiting();
    die(&cli);
    let before = cli.tree();
    let events = cli.run("run events r").ok();
    assert!(events.out.contains("OPERATOR_NOTE"), "{}", events.out);
    let list = cli.run("run list").ok();
    assert!(list.out.contains("fresh") && list.out.contains("created"));
    for line in ["run show r", "run status r", "journal verify r", "task list r"] {
        cli.run(line).ok();
    }
    let error = cli.run("run show fresh --json").exits(4).error();
    assert_eq!(error["code"], "root_needs_recovery");
    same_tree(&before, &cli.tree(), "looking");
}

#[test]
fn the_first_command_that_writes_recovers_the_root() {
    let cli = Cli::waiting();
    die(&cli);
    cli.run("run pause r").ok();
    let journal = fs::read_to_string(cli.root().join("r/journal/0000000001.jsonl")).unwrap();
    let types: Vec<&str> = journal
        .lines()
        .filter_map(|line| line.split("\"type\":\"").nth(1)?.split('"').next())
        .collect();
    assert_eq!(types[types.len() - 2..], ["OPERATOR_NOTE", "RUN_PAUSED"]);
    let json = fs::read_to_string(cli.root().join(".dormouse/root.json")).unwrap();
    assert!(json.contains("\"state\":\"at_rest\""), "{json}");
    assert!(cli.root().join("fresh/run.json").exists());
    cli.run("journal verify fresh").ok();
    // A run that has no directory yet, and one that is opened by its path.
    fs::remove_dir_all(cli.root().join("fresh")).unwrap();
    die(&cli);
    cli.run("run pause fresh").ok();
    fs::remove_dir_all(cli.root().join("fresh")).unwrap();
    die(&cli);
    let path = cli.root().join("r");
    cli.run(&format!("run resume {}", path.display())).ok();
    cli.run("journal verify r").ok();
}

#[test]
fn a_log_that_lost_a_batch_stops_commands_that_write() {
    let cli = Cli::waiting();
    die(&cli);
    let segment = cli.root().join(".dormouse/commit-log").join(segment_file(1));
    let mut bytes = fs::read(&segment).unwrap();
    bytes[8192 + 200] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let error = cli.run("run pause r --json").exits(5).error();
    assert_eq!(error["code"], "L5");
    assert!(error["nextSteps"].to_string().contains("dormouse explain L5"), "{error}");
    cli.run("explain L5").ok();
    cli.run("run show r").ok();
    // It is not forgotten by trying again.
    cli.run("run pause r").exits(5);
}
