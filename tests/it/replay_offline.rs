//! Replaying runs offline and trying new code on all open ones, as an operator does.
//!
//! Invariant under test: nothing is written, and what is told of a run is where it really differs.

#![allow(clippy::disallowed_methods, reason = "these tests start programs and read their files")]

use crate::cli::{Cli, Ran};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/replay").join(name)
}

/// Run `r` of `base.js`: its first task has its outcome, the second and a sleep wait. Run `s` of
/// the same process waits for its first task.
fn two_runs() -> Cli {
    let cli = Cli::new();
    for name in ["base.js", "strict.js", "accept.js", "diverges.js"] {
        cli.file(name, fs::read(fixture(name)).unwrap());
    }
    for run in ["r", "s"] {
        cli.run(&format!("run create --entry base.js --process-id p --run-id {run}")).ok();
        cli.run(&format!("run iterate {run}")).ok();
    }
    cli.run(r#"task post r e0001 --status ok --value-inline "one""#).ok();
    cli.run("run iterate r").ok();
    cli
}

#[test]
fn every_record_is_told_with_what_the_process_did_with_it() {
    let cli = two_runs();
    let before = cli.tree();
    for (line, exit, name) in [
        ("run replay r --step", 0, "step.txt"),
        ("run replay r --step --entry diverges.js", 7, "step-diverges.txt"),
        ("replay --job r --step --to 3", 0, "step-to.txt"),
    ] {
        let ran = cli.run(line).exits(exit);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(fixture(name), &ran.out).unwrap();
        }
        assert_eq!(ran.out, fs::read_to_string(fixture(name)).unwrap(), "{line}");
    }
    assert_eq!(cli.tree(), before);
}

#[test]
fn a_replay_reports_what_was_compared_and_what_is_waited_for() {
    let cli = two_runs();
    let report = cli.run("run replay r --json").json();
    assert_eq!(report["verdict"], "identical");
    assert_eq!((&report["records"], &report["requestsCompared"]), (&5.into(), &3.into()));
    let waiting: Vec<_> =
        report["waitingOn"].as_array().unwrap().iter().map(|w| w["key"].clone()).collect();
    assert_eq!(waiting, ["p0[0]/t#0", "p0[1]/@sleep#0"]);
    // Other definitions under the same calls drift, and do not diverge.
    let report = cli.run("run replay r --entry strict.js --json").json();
    assert_eq!(report["drift"].as_array().unwrap().len(), 2, "{report}");
    let report = cli.run("run replay r --entry diverges.js --json").exits(7).json();
    let first = &report["firstDivergence"];
    assert_eq!((&report["verdict"], &first["seq"]), (&"diverged".into(), &4.into()));
    assert_eq!(
        (&first["class"], &first["source"]),
        (&"args-changed".into(), &"diverges.js:5:55".into())
    );
    assert_ne!(first["expected"]["argsDigest"], first["observed"]["argsDigest"]);
    cli.run("run replay r --to 6").exits(3).says("record_not_found");
}

#[test]
fn a_copy_in_an_empty_place_replays_and_a_damaged_one_says_so() {
    let cli = two_runs();
    let away = tempfile::tempdir().unwrap();
    let copy = away.path().join("copy");
    let copied = Command::new("cp").arg("-r").arg(cli.root().join("r")).arg(&copy).status();
    assert!(copied.unwrap().success());
    let there = Cli { dir: away };
    let before = there.tree();
    assert_eq!(there.run("run replay ./copy --json").json()["verdict"], "identical");
    assert_eq!(there.tree(), before, "no root was made either");
    spoil(&copy);
    let report = there.run("run replay ./copy --json").exits(5).json();
    assert_eq!(report["verdict"], "damaged");
    assert!(report["problem"]["code"].as_str().unwrap().starts_with('J'), "{report}");
}

/// Flips a bit of a run's first record: no torn end.
fn spoil(run: &Path) {
    let journal = fs::read_dir(run.join("journal")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&journal).unwrap();
    bytes[40] ^= 1;
    fs::write(&journal, bytes).unwrap();
}

fn fates(ran: &Ran) -> Vec<(String, String)> {
    let runs = ran.json()["runs"].as_array().unwrap().clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    runs.iter().map(|run| (text(&run["runId"]), text(&run["fate"]))).collect()
}

#[test]
fn a_deploy_is_checked_over_all_open_runs_of_its_process() {
    let cli = two_runs();
    cli.run("run create --entry base.js --process-id other --run-id x").ok();
    cli.run("run create --entry base.js --process-id p --run-id gone").ok();
    cli.run("run halt gone --reason over").ok();
    let before = cli.tree();
    for (entry, exit, r, s) in [
        ("base.js", 0, "strict", "strict"),
        ("strict.js", 0, "strict", "strict"),
        ("accept.js", 1, "accept", "accept"),
        ("diverges.js", 7, "diverges", "strict"),
    ] {
        let line = format!("deploy check --entry {entry} --process-id p --json");
        let ran = cli.run(&line).exits(exit);
        let expected = [("r", r), ("s", s)].map(|(run, fate)| (run.to_owned(), fate.to_owned()));
        assert_eq!(fates(&ran), expected, "{entry}");
    }
    let text = cli.run("deploy check --entry diverges.js --process-id p").exits(7).out;
    assert!(text.contains("diverges.js:5:55") && text.contains("1 strict, 1 diverges"), "{text}");
    assert_eq!(cli.tree(), before);
    // What is damaged is named, and the rest is told all the same.
    spoil(&cli.root().join("s"));
    let ran = cli.run("deploy check --entry accept.js --process-id p --json").exits(5);
    let told = [("r", "accept"), ("s", "damaged")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(fates(&ran), told);
}
