//! The index as operators look after it: broken on purpose, found, mended, made anew.

#![allow(clippy::disallowed_methods, reason = "these tests damage files")]

use crate::cli::Cli;
use crate::daemon_cli::Daemon;
use serde_json::Value;

fn break_index(cli: &Cli, how: &str) {
    let path = cli.root().join(".dormouse/index.db");
    let changed = rusqlite::Connection::open(path).unwrap().execute(how, []).unwrap();
    assert_eq!(changed, 1, "{how}");
}

fn found(audited: &Value) -> Vec<(&str, &str)> {
    let findings = audited["findings"].as_array().unwrap().iter();
    findings.map(|f| (f["runId"].as_str().unwrap(), f["what"].as_str().unwrap())).collect()
}

#[test]
fn an_audit_finds_what_is_wrong_mends_it_and_says_so() {
    let cli = Cli::waiting();
    cli.run("run create --run-id bare").ok();
    let audited = cli.run("audit --json").ok().json();
    assert_eq!((&audited["looked"], found(&audited)), (&2.into(), vec![]));
    break_index(&cli, "DELETE FROM runs WHERE run_id = 'bare'");
    break_index(&cli, "UPDATE runs SET wake_at = 5 WHERE run_id = 'r'");
    let audited = cli.run("audit --json").exits(1).json();
    assert_eq!(found(&audited), [("bare", "missing_row"), ("r", "differs")]);
    cli.run("audit").ok();
    break_index(&cli, "UPDATE runs SET process_id = 'x' WHERE run_id = 'r'");
    let ran = cli.run("audit").exits(1);
    assert!(ran.out.contains("process_id is \"x\" in the index"), "{ran:?}");
    break_index(&cli, "UPDATE runs SET process_id = 'x' WHERE run_id = 'r'");
    let ran = cli.run("index rebuild").ok();
    assert!(ran.out.contains("anew from 2 runs"), "{ran:?}");
    cli.run("audit").ok();
    cli.run("run pause r").ok();
}

#[test]
fn an_audit_beside_a_daemon_looks_at_ended_runs_as_well() {
    let cli = Cli::completed();
    cli.run("audit").ok();
    // The walk that a daemon does by itself passes over rows of ended runs.
    break_index(&cli, "UPDATE runs SET process_id = 'x' WHERE run_id = 'r'");
    let daemon = Daemon::start(&cli, &[]);
    let audited = cli.run("audit --json").exits(1).json();
    assert_eq!(found(&audited), [("r", "differs")]);
    assert_eq!(found(&cli.run("audit --json").ok().json()), []);
    assert_eq!(cli.run("index rebuild --json").ok().json()["rebuilding"], true);
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn a_root_whose_daemons_could_not_write_waits_for_somebody() {
    let cli = Cli::waiting();
    let lock = cli.root().join(".dormouse/root.lock");
    cli.run("root resume").ok();
    let note = std::fs::read_to_string(&lock).unwrap();
    std::fs::write(&lock, note.replace("\"failures\":0", "\"failures\":3")).unwrap();
    let ran = cli.run("serve").exits(74);
    assert!(ran.err.contains("[root_failing]"), "{ran:?}");
    cli.run("serve").exits(74);
    let resumed = cli.run("root resume --json").ok().json();
    assert_eq!(resumed["failures"], 3);
    assert_eq!(Daemon::start(&cli, &[]).stop().0, 0);
}
