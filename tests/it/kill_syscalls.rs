//! Every command of a run's life, killed at its system calls or refused by the disk: what was
//! acknowledged stands, and the run goes on to the same end.
//!
//! strace kills the command before the N-th call of a name, for every name that changes files and
//! every N until the command survives; or it lets that call fail. Without `DORMOUSE_KILL_ALL=1`
//! only every fifth `openat` is met. Not traced is the process host: it keeps nothing.

#![allow(clippy::disallowed_methods, reason = "these tests start strace")]

use crate::cli::{Cli, Ran};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Stdio;

/// Calls that change files, or stand before such a call.
const CALLS: &[&str] = &[
    "openat",
    "write",
    "pwrite64",
    "fdatasync",
    "fsync",
    "renameat2",
    "renameat",
    "rename",
    "mkdirat",
    "mkdir",
    "unlinkat",
    "unlink",
    "ftruncate",
    "fallocate",
    "linkat",
    "flock",
];

const PROCESS: &str = r#"
import { defineTask } from "dormouse";
const step = defineTask("step", () => ({ kind: "node", title: "Step", node: { entry: "x" } }));
export async function process(inputs, ctx) {
  const a = await ctx.task(step, { n: inputs.n });
  const b = await ctx.task(step, { n: a });
  return { a, b };
}
"#;

/// The commands of the life; each appends one record.
const LIFE: &[&str] = &[
    "run create --entry p.js --inputs i.json --run-id r",
    "run iterate r",
    "task post r e0001 --status ok --value-inline 10",
    "run iterate r",
    "task post r e0002 --status ok --value-inline 20",
    "run iterate r",
];

fn place() -> Cli {
    let cli = Cli::new();
    cli.file("p.js", PROCESS);
    cli.file("i.json", r#"{"n":1}"#);
    cli
}

/// Runs the first `steps` commands of the life.
fn lived(steps: usize) -> Cli {
    let cli = place();
    for line in &LIFE[..steps] {
        cli.run(line).ok();
    }
    cli
}

/// Runs a command under strace.
fn under_strace(cli: &Cli, options: &[&str], line: &str) -> Ran {
    let trace = cli.path("trace").display().to_string();
    let before: Vec<&str> =
        ["strace", "-qq", "-o", &trace].into_iter().chain(options.iter().copied()).collect();
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut command = cli.wrapped(&before, &words);
    let output = command.stdin(Stdio::null()).output();
    let output = output.expect("strace is needed for this test: install it (tests/run does)");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("ptrace"), "{output:?}");
    Ran::of(line, &output)
}

/// Runs a command and does something to its `n`-th call of a name.
fn inject(cli: &Cli, line: &str, name: &str, fault: &str, n: usize) -> Ran {
    let (trace, fault) = (format!("trace={name}"), format!("inject={name}:{fault}:when={n}"));
    under_strace(cli, &["-e", &trace, "-e", &fault], line)
}

const KILL: &str = "signal=KILL";
const KILLED: i32 = 128 + 9;

/// How often each call is made by a command that lives.
fn calls(steps: usize) -> BTreeMap<&'static str, usize> {
    let cli = lived(steps);
    let names = format!("trace={}", CALLS.join(","));
    let line = LIFE[steps];
    under_strace(&cli, &["-e", &names], line).ok();
    let trace = std::fs::read_to_string(cli.path("trace")).unwrap();
    let mut counts = BTreeMap::new();
    for name in CALLS {
        let count = trace.lines().filter(|l| l.starts_with(&format!("{name}("))).count();
        if count > 0 {
            counts.insert(*name, count);
        }
    }
    counts
}

/// Which of `count` calls to kill at.
fn chosen(name: &str, count: usize) -> Vec<usize> {
    let all = std::env::var_os("DORMOUSE_KILL_ALL").is_some_and(|v| v == "1");
    // Most files are opened to read a program or a journal; the others all matter.
    let step = if all || name != "openat" { 1 } else { 5 };
    (1..=count).step_by(step).collect()
}

/// What the journal says, one word for an event and its effect.
fn history(cli: &Cli) -> Vec<String> {
    let events = cli.run("run events r --json").ok().json();
    let word = |event: &Value| {
        let effect = event["data"]["effectId"].as_str().unwrap_or("");
        format!("{} {effect}", event["type"].as_str().unwrap()).trim().to_owned()
    };
    let mut all: Vec<String> = events["events"].as_array().unwrap().iter().map(word).collect();
    all.retain(|event| event != "JOURNAL_REPAIRED");
    all
}

fn words(history: &[String]) -> Vec<&str> {
    history.iter().map(String::as_str).collect()
}

/// The life's whole history, without what repairs add.
const WHOLE: &[&str] = &[
    "RUN_CREATED",
    "EFFECT_REQUESTED e0001",
    "EFFECT_RESOLVED e0001",
    "EFFECT_REQUESTED e0002",
    "EFFECT_RESOLVED e0002",
    "RUN_COMPLETED",
];

/// After a fault in command `steps`: everything before it stands, and what it acknowledged itself,
/// and the life goes on.
fn check(cli: &Cli, steps: usize, acknowledged: bool, what: &str) {
    let exists = cli.root().join("r").exists();
    assert!(exists || steps == 0, "{what}: the run is gone");
    if exists {
        let verified = cli.run("journal verify r --json");
        let verdict = verified.json()["verdict"].clone();
        assert!(verdict == "clean" || verdict == "torn", "{what}: {verified:?}");
        let so_far = history(cli);
        let least = steps + usize::from(acknowledged);
        assert!(so_far.len() >= least && WHOLE.starts_with(&words(&so_far)), "{what}: {so_far:?}");
    }
    for (step, line) in LIFE.iter().enumerate().skip(steps) {
        let again = cli.run(line);
        // The command that was killed may have done its work.
        let is_repeat = step == steps && step == 0 && again.code == 4;
        assert!(again.code == 0 || is_repeat, "{what}, then {line}: {again:?}");
    }
    assert_eq!(history(cli), WHOLE, "{what}");
    let end = cli.run("run iterate r --json").ok().json();
    assert_eq!(end["output"].to_string(), r#"{"a":10,"b":20}"#, "{what}");
    assert_eq!(cli.run("journal verify r --json").ok().json()["verdict"], "clean", "{what}");
    let left = std::fs::read_dir(cli.root().join(".dormouse/staging"));
    assert!(left.map_or(0, Iterator::count) <= 1, "{what}: more than the killed one's staging");
}

/// Kills command `steps` of the life at every chosen call.
fn kill_at_every_call(steps: usize) {
    let line = LIFE[steps];
    let counts = calls(steps);
    assert!(counts.contains_key("pwrite64") && counts.contains_key("flock"), "{counts:?}");
    let mut kills = 0;
    for (name, count) in &counts {
        for n in chosen(name, *count) {
            let cli = lived(steps);
            let what = format!("{line}, killed at {name} {n} of {count}");
            let ran = inject(&cli, line, name, KILL, n).exits(KILLED);
            kills += 1;
            check(&cli, steps, !ran.out.is_empty(), &what);
        }
        // One more than there are: the command survives, so every call was met.
        inject(&lived(steps), line, name, KILL, count + 1).ok();
    }
    println!("{line}: {kills} kills, {counts:?}");
    assert!(kills >= 20, "{line}: only {kills} kills: {counts:?}");
}

/// Lets every call that writes fail once.
fn fail_every_call(steps: usize) {
    let line = LIFE[steps];
    let mut faults = 0;
    for (name, count) in &calls(steps) {
        let errors: &[&str] = match *name {
            "pwrite64" => &["error=ENOSPC", "error=EIO"],
            "fdatasync" | "fsync" | "renameat2" | "mkdirat" | "ftruncate" => &["error=EIO"],
            _ => continue,
        };
        for (error, n) in errors.iter().flat_map(|e| (1..=*count).map(move |n| (e, n))) {
            let cli = lived(steps);
            let what = format!("{line}, {name} {n} of {count} gives {error}");
            let ran = inject(&cli, line, name, error, n);
            // What is derived may fail silently; whatever else fails is said.
            assert!(matches!(ran.code, 0 | 74), "{what}: {ran:?}");
            assert_eq!(ran.code == 0, ran.out.contains('r'), "{what}: {ran:?}");
            assert_eq!(ran.code == 74, ran.err.starts_with("error: "), "{what}: {ran:?}");
            faults += 1;
            check(&cli, steps, ran.code == 0, &what);
        }
    }
    assert!(faults >= 10, "{line}: only {faults} faults");
}

#[test]
fn g1_commands_that_the_disk_refuses_acknowledge_nothing() {
    (0..LIFE.len()).for_each(fail_every_call);
}

#[test]
fn g1_a_command_killed_while_it_mends_what_a_killed_one_left() {
    let cli = lived(1);
    let counts = calls(1);
    let mut kills = 0;
    // Killed after its record was written and before it was synced, then again and again.
    inject(&cli, LIFE[1], "fdatasync", KILL, 1).exits(KILLED);
    for (name, count) in counts.iter().filter(|(name, _)| **name != "openat") {
        for n in 1..=*count {
            let ran = inject(&cli, LIFE[1], name, KILL, n);
            kills += usize::from(ran.code == KILLED);
            let verified = cli.run("journal verify r --json").json();
            assert_eq!(verified["verdict"], "clean", "{name} {n}: {verified}");
        }
    }
    assert!(kills >= 10, "only {kills} kills");
    check(&cli, 1, true, "killed again and again");
}

#[test]
fn g1_create_killed_at_any_call() {
    kill_at_every_call(0);
}

#[test]
fn g1_first_iterate_killed_at_any_call() {
    kill_at_every_call(1);
}

#[test]
fn g1_first_post_killed_at_any_call() {
    kill_at_every_call(2);
}

#[test]
fn g1_second_iterate_killed_at_any_call() {
    kill_at_every_call(3);
}

#[test]
fn g1_second_post_killed_at_any_call() {
    kill_at_every_call(4);
}

#[test]
fn g1_last_iterate_killed_at_any_call() {
    kill_at_every_call(5);
}

#[test]
fn a_fork_killed_at_any_call_leaves_no_half_run() {
    const FORK: &str = "run fork r --at 3 --id f";
    // The source is only read: one life is enough for all kills.
    let cli = lived(4);
    let mut kills = 0;
    for name in ["mkdirat", "pwrite64", "fdatasync", "fsync", "renameat2", "flock"] {
        for n in 1.. {
            let ran = inject(&cli, FORK, name, KILL, n);
            let what = format!("{name} {n}: {ran:?}");
            let is_there = cli.root().join("f").exists();
            if is_there {
                assert_eq!(cli.run("run check f").code, 0, "{what}");
                std::fs::remove_dir_all(cli.root().join("f")).unwrap();
            }
            if ran.code != KILLED {
                assert!(ran.code == 0 && is_there, "{what}");
                break;
            }
            kills += 1;
        }
    }
    assert!(kills >= 20, "only {kills} kills");
    assert_eq!(history(&cli), WHOLE[..4]);
    cli.run(FORK).ok();
    cli.run("run iterate f").ok();
    cli.run("task post f e0002 --status ok --value-inline 30").ok();
    let end = cli.run("run iterate f --json").ok().json();
    assert_eq!(end["output"].to_string(), r#"{"a":10,"b":30}"#);
}
