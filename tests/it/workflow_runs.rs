//! Workflow documents as runs: created, driven, answered and replayed through the command line.

#![allow(clippy::disallowed_methods, reason = "these tests read their own data")]

use crate::cli::{Cli, Ran};
use serde_json::Value;

const FLOW: &str = "
apiVersion: aether/v1
kind: Workflow
metadata: {name: release, namespace: team}
spec:
  entrypoint: main
  timeout: 7d
  arguments: {parameters: [{name: version, type: string}, {name: files, type: array, default: [a, b]}]}
  templates:
    - dag:
        name: main
        tasks:
          - name: build
            executor: {type: builder}
            retry: {limit: 1}
            arguments: {parameters: [{name: version, valueFrom: {parameter: workflow.parameters.version}}]}
          - {name: each, template: each, dependencies: [build]}
          - {name: ask, dependencies: [each], executor: {type: approval, config: {title: 'Ship it?'}}}
          - {name: ship, dependencies: [ask], executor: {type: shipper}, when: tasks.ask.outputs.parameters.approved == true}
        outputs: {parameters: [{name: at, valueFrom: {parameter: tasks.ship.outputs.parameters.at}}]}
    - loop: {name: each, body: pack, itemsFrom: workflow.parameters.files, aggregate: {strategy: list}}
    - task: {name: pack, executor: {type: packer}}
";

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
    created(&cli, "r");
    cli.run("run drive r").exits(0);
    assert_eq!(snapshot(&cli, "r")["progress"], "0/2");
    let error = cli.file("error.json", r#"{"name": "Down", "message": "no"}"#);
    let error = error.display().to_string();
    cli.args(&["task", "post", "r", "e0002", "--status", "error", "--error", &error]).exits(0);
    cli.run("run drive r").exits(0);
    post(&cli, "r", "e0003", "{}");
    cli.run("run drive r").exits(0);
    post(&cli, "r", "e0004", r#"{"size": 1}"#);
    cli.run("run drive r").exits(0);
    post(&cli, "r", "e0005", r#"{"size": 2}"#);
    cli.run("run drive r").exits(0);
    let shown = snapshot(&cli, "r");
    assert_eq!(
        (shown["progress"].as_str(), shown["status"].as_str()),
        (Some("4/6"), Some("Running"))
    );
    assert_eq!(shown["x-dormouse"]["parked"][0], "main/ask");
    assert_eq!(shown["tasks"][1]["retryCount"], 1);
    cli.run("breakpoint approve r e0006").exits(0);
    cli.run("run drive r").exits(0);
    post(&cli, "r", "e0007", r#"{"at": "noon"}"#);
    cli.run("run drive r").exits(0);
    let shown = snapshot(&cli, "r");
    assert_eq!(
        (shown["progress"].as_str(), shown["status"].as_str()),
        (Some("7/7"), Some("Succeeded"))
    );
    assert_eq!(shown["outputs"]["parameters"][0]["value"], "noon");
    cli.run("run check r").exits(0);
    let checked = value(&cli.run("--json run check r").exits(0));
    assert_eq!(checked["strict"], true, "{checked}");
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
