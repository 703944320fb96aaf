//! A new operator, who knows nothing but what the tools print: damaged and diverged runs are mended
//! by running every printed command to the letter, without a daemon and beside one.
//!
//! Invariant under test: each command that finds something wrong prints the next one, and the trail
//! ends with a run that goes on.

#![allow(clippy::disallowed_methods, reason = "these tests damage files")]

use std::fs;
use std::path::PathBuf;

use crate::cli::{Cli, Ran};
use crate::daemon_cli::Daemon;

/// Longest trail: more is a circle.
const STEPS_MAX: usize = 10;

/// The command that what was printed says to run next, the program's name left out.
fn next(ran: &Ran) -> Option<String> {
    let lines = ran.out.lines().chain(ran.err.lines()).map(str::trim);
    let commands = lines.filter_map(|line| line.strip_prefix("next: dormouse "));
    commands.map(str::to_owned).next()
}

/// Runs commands until one prints no further one. Gives them all.
fn walk(cli: &Cli, first: &str) -> Vec<String> {
    let mut trail = vec![first.to_owned()];
    while let Some(command) = next(&cli.run(&trail[trail.len() - 1])) {
        trail.push(command);
        assert!(trail.len() < STEPS_MAX, "{trail:#?}");
    }
    trail
}

fn journal(cli: &Cli) -> PathBuf {
    cli.root().join("r/journal/0000000001.jsonl")
}

fn under_way() -> Cli {
    let cli = Cli::waiting();
    cli.run(r#"task post r e0001 --status ok --value-inline {"n":1}"#).ok();
    cli.run("run iterate r").ok();
    cli
}

/// As `kill -9` in the middle of a write leaves it.
fn tear(cli: &Cli) {
    let bytes = fs::read(journal(cli)).unwrap();
    fs::write(journal(cli), &bytes[..bytes.len() - 30]).unwrap();
    fs::remove_file(cli.root().join("r/run.lock")).unwrap();
    fs::remove_dir_all(cli.root().join("r/state")).unwrap();
}

/// As a disk that rots leaves it.
fn flip(cli: &Cli) {
    let mut bytes = fs::read(journal(cli)).unwrap();
    let second = bytes.iter().position(|b| *b == b'\n').unwrap() + 100;
    bytes[second] ^= 1;
    fs::write(journal(cli), bytes).unwrap();
}

#[test]
fn a_torn_run_is_mended_by_what_is_printed() {
    let cli = under_way();
    tear(&cli);
    let trail = walk(&cli, "fsck");
    let expected =
        ["fsck", "run repair-journal r", "run repair-journal r --yes", "fsck r"].map(str::to_owned);
    assert_eq!(trail, expected);
    cli.run("fsck").ok();
    assert_eq!(cli.run("run iterate r --json").ok().json()["nextActions"][0]["effectId"], "e0002");
    cli.run("run check r").ok();
}

#[test]
fn a_flipped_run_is_mended_by_what_is_printed() {
    let cli = under_way();
    flip(&cli);
    cli.run("run iterate r").exits(5);
    let trail = walk(&cli, "journal verify r");
    assert_eq!(trail.last().unwrap(), "fsck r", "{trail:?}");
    cli.run("fsck").ok();
    // Its only open request was in the lost part: it is asked for again and may have been done.
    cli.run("run iterate r").ok();
    let why = cli.run("run why r").ok();
    let decide = why.out.lines().find_map(|line| line.trim().strip_prefix("→ dormouse "));
    assert!(decide.unwrap().contains("r e0001"), "{why:?}");
    cli.run("run check r").ok();
}

#[test]
fn a_diverged_run_is_mended_by_what_is_printed() {
    let cli = under_way();
    let other = fs::read_to_string(cli.path("process.js")).unwrap();
    let other = other.replace("ctx.task(plan, { goal: inputs.goal })", "ctx.task(plan, {})");
    cli.file("other.js", other);
    cli.run("run assign-process r --entry other.js --force").ok();
    cli.run("run iterate r").exits(7);
    let why = cli.run("run why r").ok();
    let said = why.out.lines().skip_while(|line| !line.starts_with("diverged:")).skip(1);
    let commands = said.map_while(|line| line.trim().strip_prefix("→ dormouse "));
    // FILE is what the operator has to give: the code that fits.
    let commands: Vec<String> =
        commands.map(|command| command.replace("FILE", "process.js")).collect();
    assert!(commands.len() >= 2, "{why:?}");
    for command in &commands {
        cli.run(command);
    }
    assert_eq!(cli.run("run iterate r --json").ok().json()["nextActions"][0]["effectId"], "e0002");
    cli.run("fsck").ok();
    cli.run("run check r").ok();
}

#[test]
fn the_same_beside_a_daemon_that_takes_the_run_up_again() {
    let cli = under_way();
    cli.run("run create --entry process.js --inputs inputs.json --run-id other").ok();
    let pristine = fs::read(journal(&cli)).unwrap();
    flip(&cli);
    let damaged = fs::read(journal(&cli)).unwrap();
    let daemon = Daemon::start(&cli, &[]);
    cli.run("run iterate other").ok();
    cli.run("run iterate r").exits(5);
    let trail = walk(&cli, "fsck");
    assert!(trail.iter().any(|step| step.contains("--yes --accept-loss")), "{trail:?}");
    assert_eq!(trail.last().unwrap(), "fsck r", "{trail:?}");
    // The daemon has it again, and knows what was lost.
    cli.run("run iterate r").ok();
    let tasks = cli.run("task list r --pending --json").ok().json();
    assert_eq!(tasks["tasks"][0]["status"], "uncertain", "{tasks:#}");
    cli.run("run list").ok();

    // It went on by itself, so the repair can no longer be taken back.
    cli.run("repair undo r").exits(4).says("would be lost");

    // A copy of the run gives everything back.
    let backup = cli.path("backup/r/journal");
    fs::create_dir_all(&backup).unwrap();
    fs::write(backup.join("0000000001.jsonl"), &pristine).unwrap();
    let (code, said) = daemon.stop();
    assert_eq!(code, 0, "{said}");
    cli.run("fsck").ok();
    cli.run("run pause r").ok();
    for segment in fs::read_dir(cli.root().join("r/journal")).unwrap() {
        fs::remove_file(segment.unwrap().path()).unwrap();
    }
    fs::write(journal(&cli), &damaged).unwrap();
    let daemon = Daemon::start(&cli, &[]);
    let copy = cli.path("backup").display().to_string();
    cli.run(&format!("run repair-journal r --from {copy} --yes --accept-loss unknown")).ok();
    assert_eq!(cli.run("run show r --json").ok().json()["runId"], "r");
    cli.run("journal verify r").ok();
    drop(daemon);
}

#[test]
fn a_repair_beside_a_daemon_is_taken_back_beside_it() {
    let cli = Cli::new();
    // A run without a process does nothing by itself once it is mended.
    cli.run("run create --run-id r").ok();
    cli.run("run pause r").ok();
    let mut damaged = fs::read(journal(&cli)).unwrap();
    let at = damaged.len() - 60;
    damaged[at] ^= 1;
    fs::write(journal(&cli), &damaged).unwrap();
    let daemon = Daemon::start(&cli, &[]);
    cli.run("run show r").exits(5);
    cli.run("run repair-journal r --yes").exits(6).says("--accept-loss");
    cli.run("run repair-journal r --yes --accept-loss 1").ok();
    assert_eq!(cli.run("run show r --json").ok().json()["state"], "created");
    cli.run("repair undo r").ok();
    assert_eq!(fs::read(journal(&cli)).unwrap(), damaged);
    cli.run("run show r").exits(5);
    cli.run("run repair-journal r --yes --accept-loss 1").ok();
    cli.run("run pause r").ok();
    cli.run("run rebuild-state r").ok();
    cli.run("index rebuild").ok();
    let (code, said) = daemon.stop();
    assert_eq!(code, 0, "{said}");
    cli.run("fsck").ok();
}
