//! A workflow document of 200 tasks and three loops whose daemon is killed again and again: it ends
//! as if nothing had happened, and each command ran once.
//!
//! `DORMOUSE_STORM=full` kills it after nearly every command.

#![allow(clippy::disallowed_methods, reason = "these tests read what commands wrote")]

use crate::cli::Cli;
use crate::daemon_cli::Daemon;
use crate::storm::full_size;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const TASKS: usize = 200;
const LOOPS: usize = 3;
const ROUNDS: usize = 4;
/// Commands in all: tasks that are no loops, and rounds.
const COMMANDS: usize = TASKS - LOOPS + LOOPS * ROUNDS;
/// Tasks that go on side by side.
const LANES: usize = 8;
/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_mins(3);

/// Each task writes its path into the file, once for each time that it is executed.
fn document(file: &Path) -> Value {
    let command = |path: &str| format!("echo {path} >> {}", file.display());
    let shell = |path: &str| json!({ "type": "shell", "config": { "command": command(path) } });
    let node = |i: usize| {
        let name = format!("t{i}");
        let needs: Vec<String> =
            i.checked_sub(LANES).map(|n| format!("t{n}")).into_iter().collect();
        let mut node = json!({ "name": name, "dependencies": needs });
        match (0..LOOPS).find(|l| i == 40 + 50 * l) {
            Some(l) => node["template"] = format!("loop{l}").into(),
            None => node["executor"] = shell(&name),
        }
        node
    };
    let nodes: Vec<Value> = (0..TASKS).map(node).collect();
    let codes = |l: usize| {
        let path = format!("tasks.t{}.outputs.parameters.exit-code", 40 + 50 * l);
        json!({ "name": format!("codes{l}"), "valueFrom": { "parameter": path } })
    };
    let outputs: Vec<Value> = (0..LOOPS).map(codes).collect();
    let dag = json!({ "name": "main", "tasks": nodes, "outputs": { "parameters": outputs } });
    let mut templates = vec![json!({ "dag": dag })];
    for l in 0..LOOPS {
        let items: Vec<usize> = (0..ROUNDS).collect();
        let aggregate = json!({ "strategy": "list", "parameters": ["exit-code"] });
        let name = format!("loop{l}");
        templates.push(json!({ "loop": {
            "name": name, "body": format!("round{l}"), "items": items, "concurrency": l + 1,
            "aggregate": aggregate,
        } }));
        let path = format!("t{}.{{{{loop_iter.index}}}}", 40 + 50 * l);
        templates
            .push(json!({ "task": { "name": format!("round{l}"), "executor": shell(&path) } }));
    }
    let spec = json!({ "entrypoint": "main", "timeout": "0s", "templates": templates });
    json!({ "apiVersion": "aether/v1", "kind": "Workflow", "metadata": { "name": "many" },
        "spec": spec })
}

/// How often each command was executed.
fn executed(file: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(file).unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// Waits for something that the daemon does by itself.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_document_whose_daemon_is_killed_again_and_again_does_each_task_once() {
    let cli = Cli::new();
    let file = cli.path("executed");
    let flow = cli.file("flow.json", document(&file).to_string()).display().to_string();
    let config =
        "[executors.shell]\nenabled = true\nallow = \"any\"\nallow_command_strings = true\n";
    let config = cli.file("config.toml", config).display().to_string();
    let serve = || Daemon::with(&cli, &["--config", &config], &[]);
    let kills = if full_size() { COMMANDS - 10 } else { 15 };
    let mut daemon = serve();
    cli.args(&["run", "create", "--entry", &flow, "--run-id", "r"]).exits(0);
    for kill in 1..=kills {
        let wanted = kill * COMMANDS / (kills + 1);
        until("enough commands", || executed(&file).len() >= wanted);
        daemon.signal(Signal::KILL);
        daemon.ends();
        daemon = serve();
    }
    let state = || cli.run("--json run status r").json()["state"].clone();
    until("the end", || !matches!(state().as_str(), Some("created" | "waiting")));
    let status = cli.run("--json run status r").exits(0).json();
    assert_eq!(status["state"], "completed", "{status}");
    let counts = executed(&file);
    let twice: Vec<_> = counts.iter().filter(|(_, n)| **n != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(counts.len(), COMMANDS);
    let shown = cli.run("--json run show r --snapshot").exits(0).json();
    let all = 1 + TASKS + LOOPS * ROUNDS;
    assert_eq!(
        (&shown["status"], &shown["progress"]),
        (&json!("Succeeded"), &json!(format!("{all}/{all}")),)
    );
    for outputs in shown["outputs"]["parameters"].as_array().unwrap() {
        assert_eq!(outputs["value"], json!([0, 0, 0, 0]), "{outputs}");
    }
    daemon.stop();
    let checked = cli.run("--json run check r").exits(0).json();
    assert_eq!(checked["strict"], true, "{checked}");
}
