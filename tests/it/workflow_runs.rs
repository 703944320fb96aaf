//! Workflow documents as runs: created, driven, answered and replayed through the command line.

#![allow(clippy::disallowed_methods, reason = "these tests read their own data")]

use crate::cli::{Cli, Ran};
use crate::daemon_cli::Daemon;
use serde_json::Value;

const FLOW: &str = include_str!("../../fixtures/workflows/release.yaml");

fn created(cli: &Cli, run: &str) {
    let flow = cli.file("flow.yaml", FLOW).display().to_string();
    let inputs = cli.file("inputs.json", r#"{"version": "1.2"}"#).display().to_string();
    let words = ["run", "create", "--entry", &flow, "--inputs", &inputs, "--run-id", run];
    cli.args(&words).exits(0);
}

fn value(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {}", ran.out))
}

fn post(cli: &Cli, run: &str, effect: &str, given: &str) {
    let words = ["task", "post", run, effect, "--status", "ok", "--value-inline", given];
    cli.args(&words).exits(0);
}

fn snapshot(cli: &Cli, run: &str) -> Value {
    value(&cli.run(&format!("--json run show {run} --snapshot")).exits(0))
}

/// Every step is a command of its own: each replays all that came before.
#[test]
fn a_document_runs_like_any_process() {
    let cli = Cli::new();
    released(&cli);
    let checked = value(&cli.run("--json run check r").exits(0));
    assert_eq!(checked["strict"], true, "{checked}");
}

#[test]
fn a_daemon_runs_documents_as_well() {
    let cli = Cli::new();
    let daemon = Daemon::start(&cli, &[]);
    released(&cli);
    daemon.stop();
    let checked = value(&cli.run("--json run check r").exits(0));
    assert_eq!(checked["strict"], true, "{checked}");
}

fn released(cli: &Cli) {
    created(cli, "r");
    cli.run("run drive r").exits(0);
    assert_eq!(snapshot(cli, "r")["progress"], "0/2");
    let error = cli.file("error.json", r#"{"name": "Down", "message": "no"}"#);
    let error = error.display().to_string();
    cli.args(&["task", "post", "r", "e0002", "--status", "error", "--error", &error]).exits(0);
    cli.run("run drive r").exits(0);
    post(cli, "r", "e0003", "{}");
    cli.run("run drive r").exits(0);
    post(cli, "r", "e0004", r#"{"size": 1}"#);
    cli.run("run drive r").exits(0);
    post(cli, "r", "e0005", r#"{"size": 2}"#);
    cli.run("run drive r").exits(0);
    let shown = snapshot(cli, "r");
    assert_eq!(
        (shown["progress"].as_str(), shown["status"].as_str()),
        (Some("4/6"), Some("Running"))
    );
    assert_eq!(shown["x-dormouse"]["parked"][0], "main/ask");
    assert_eq!(shown["tasks"][1]["retryCount"], 1);
    cli.run("breakpoint approve r e0006").exits(0);
    cli.run("run drive r").exits(0);
    post(cli, "r", "e0007", r#"{"at": "noon"}"#);
    cli.run("run drive r").exits(0);
    let shown = snapshot(cli, "r");
    assert_eq!(
        (shown["progress"].as_str(), shown["status"].as_str()),
        (Some("7/7"), Some("Succeeded"))
    );
    assert_eq!(shown["outputs"]["parameters"][0]["value"], "noon");
    let status = value(&cli.run("--json run status r").exits(0));
    assert_eq!(status["state"], "completed", "{status}");
}

#[test]
fn what_cannot_run_is_not_created() {
    let cli = Cli::new();
    let bad = cli.file("bad.yaml", FLOW.replace("executor", "executer")).display().to_string();
    let ran = cli.args(&["run", "create", "--entry", &bad, "--run-id", "x"]).exits(6);
    assert!(
        ran.err.contains("workflow_invalid") && ran.err.contains("did you mean"),
        "{}",
        ran.err
    );
    let flow = cli.file("flow.yaml", FLOW).display().to_string();
    let inputs = cli.file("inputs.json", r#"{"versoin": 1}"#).display().to_string();
    let words = ["run", "create", "--entry", &flow, "--inputs", &inputs, "--run-id", "x"];
    let ran = cli.args(&words).exits(6);
    assert!(ran.err.contains("workflow_inputs") && ran.err.contains("\"version\""), "{}", ran.err);
    cli.run("run show x").exits(3);
}

const SIGNATURES: &str = r#"{"builder": {"inputs": {"version": "int", "target": "string"},
    "outputs": {"size": "int"}}}"#;

fn refused(cli: &Cli, verb: &[&str]) {
    let flow = cli.file("flow.yaml", FLOW).display().to_string();
    let ran = cli.args(&[verb, &[flow.as_str()]].concat()).exits(6);
    let told = format!("{}{}", ran.out, ran.err);
    assert!(told.contains("E-EXECUTOR-SCHEMA") && told.contains("\"target\""), "{told}");
}

/// Whoever executes a kind may say what it takes: documents are held against it before they run.
#[test]
fn work_is_checked_against_what_executors_say_of_it() {
    let cli = Cli::new();
    let said = cli.file("said.json", SIGNATURES).display().to_string();
    let config = cli.file("config.toml", format!("[executors]\nsignatures = {said:?}\n"));
    let config = config.display().to_string();
    refused(&cli, &["--config", &config, "workflow", "validate"]);
    refused(&cli, &["--config", &config, "run", "create", "--entry"]);
    let flow = cli.file("flow.yaml", FLOW).display().to_string();
    cli.args(&["workflow", "validate", &flow]).exits(0);
    let daemon = Daemon::start(&cli, &[]);
    cli.args(&["workflow", "validate", &flow]).exits(0);
    let claim = ["task", "claim", "--kind", "builder", "--worker", "w", "--signatures", &said];
    cli.args(&claim);
    refused(&cli, &["workflow", "validate"]);
    refused(&cli, &["run", "create", "--entry"]);
    daemon.stop();
    let wrong = cli.file("said.json", "{\"a\": 1}");
    let ran = cli.args(&["--config", &config, "workflow", "validate", &flow]).exits(2);
    assert!(ran.err.contains(&wrong.display().to_string()), "{}", ran.err);
}

#[test]
fn a_cancelled_document_ends_as_cancelled() {
    let cli = Cli::new();
    created(&cli, "c");
    cli.run("run drive c").exits(0);
    cli.run("run cancel c").exits(0);
    cli.run("run drive c").exits(1);
    let status = value(&cli.run("--json run status c").exits(0));
    assert_eq!(status["state"], "cancelled", "{status}");
    assert_eq!(snapshot(&cli, "c")["status"], "Cancelled");
}

#[test]
fn a_changed_document_is_found_out() {
    let cli = Cli::new();
    created(&cli, "d");
    cli.run("run drive d").exits(0);
    let other = FLOW.replace("type: builder", "type: maker");
    let other = cli.file("other.yaml", other).display().to_string();
    let ran = cli.args(&["run", "check", "d", "--entry", &other]).exits(7);
    assert!(
        ran.out.contains("main/build") || ran.err.contains("main/build"),
        "{} {}",
        ran.out,
        ran.err
    );
}

/// What was asked for stays; what the new document asks for instead comes in its place.
#[test]
fn a_changed_document_can_be_taken_over() {
    let cli = Cli::new();
    created(&cli, "t");
    cli.run("run drive t").exits(0);
    let other = FLOW.replace("type: packer", "type: wrapper");
    let other = cli.file("flow.yaml", other).display().to_string();
    cli.args(&["run", "accept", "t", "--entry", &other, "--yes"]).exits(0);
    cli.run("run drive t").exits(0);
    post(&cli, "t", "e0002", "{}");
    cli.run("run drive t").exits(0);
    let shown = value(&cli.run("--json run show t").exits(0));
    let last = shown["tasks"].as_array().unwrap().last().unwrap();
    assert_eq!(last["kind"], "wrapper", "{last}");
    assert_eq!(snapshot(&cli, "t")["progress"], "1/4");
    let checked = value(&cli.run("--json run check t").exits(0));
    assert_eq!(checked["strict"], true, "{checked}");
}
