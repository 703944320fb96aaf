//! Workers on the command line: a verb for each step, and a worker that does them all.

#![allow(clippy::disallowed_methods, reason = "these tests start the program and read its files")]

use crate::cli::{Cli, Ran, code};
use crate::daemon_cli::Daemon;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::process::{Child, Stdio};

const TASKS: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", (args) => ({ kind: "agent", title: "T", agent: args }));
export async function process(inputs, ctx) {
  return ctx.parallel.all(inputs.map((args) => () => ctx.task(t, args)));
}
"#;

/// How often something is looked at that is on its way.
const LOOKS_MAX: usize = 400;

fn site() -> Cli {
    let cli = Cli::new();
    cli.file("tasks.js", TASKS);
    cli
}

fn run(cli: &Cli, id: &str, inputs: &Value) {
    cli.file("inputs.json", inputs.to_string());
    cli.run(&format!("run create --entry tasks.js --inputs inputs.json --run-id {id}")).ok();
    cli.run(&format!("run iterate {id}")).ok();
}

fn said(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

/// Waits until a run stands there.
#[track_caller]
fn until(cli: &Cli, run: &str, state: &str) -> Value {
    for _ in 0..LOOKS_MAX {
        let shown = said(&cli.run(&format!("run show {run} --json")));
        if shown["state"] == state {
            return shown;
        }
    }
    panic!("never {state}: {:?}", cli.run(&format!("run events {run}")));
}

fn worker(cli: &Cli, script: &str) -> Child {
    let words = ["worker", "run", "--kind", "agent", "--name", "w", "--concurrency", "2", "--"];
    let args = [&words[..], &["sh", "-c", script]].concat();
    let mut command = cli.command(&args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn end(mut worker: Child, signal: Signal) -> i32 {
    let pid = Pid::from_raw(i32::try_from(worker.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
    let status = worker.wait().unwrap();
    code(&std::process::Output { status, stdout: Vec::new(), stderr: Vec::new() })
}

#[test]
fn every_step_of_a_worker_is_a_verb() {
    let cli = site();
    // Without a daemon a start can be written, and nothing keeps time.
    run(&cli, "a", &json!([{}]));
    let given = said(&cli.run("task claim a e0001 --worker w --json"));
    assert_eq!(given["tasks"][0]["epoch"], 1);
    assert_eq!(cli.run("task claim a e0001 --worker x").code, 4);
    assert_eq!(cli.run("task heartbeat a e0001 --epoch 1").code, 3);
    assert_eq!(cli.run("task claim --kind agent --worker w").code, 3);
    assert_eq!(cli.run("worker list").code, 3);
    cli.run("task release a e0001 --epoch 1 --began no").ok();
    let daemon = Daemon::start(&cli, &[]);
    let given = said(&cli.run("task claim --kind agent --worker w --claim-id c --json"));
    let task = &given["tasks"][0];
    assert_eq!((&task["runId"], &task["epoch"]), (&json!("a"), &json!(2)));
    assert_eq!(cli.run("task claim --kind agent --worker x").code, 1);
    let beat = said(&cli.run("task heartbeat a e0001 --epoch 2 --worker w --json"));
    assert_eq!(beat["directive"], "continue");
    assert_eq!(cli.run("task heartbeat a e0001 --epoch 1").code, 4);
    let shown = said(&cli.run("task show a e0001 --json"));
    assert_eq!(shown["lease"]["worker"], "w");
    assert_eq!(said(&cli.run("worker list --json"))["workers"][0]["leases"], 1);
    assert_eq!(cli.run("task retry-now a e0001").code, 4);
    cli.run("task post a e0001 --epoch 2 --status unknown").ok();
    cli.run("task decide a e0001 done --epoch 2 --reason seen --value-inline 5").ok();
    let ledger = said(&cli.run("ledger show a/e0001 --json"));
    let row = &ledger["rows"][0];
    assert_eq!((&row["state"], &row["decision"]["reason"]), (&json!("ok"), &json!("seen")));
    assert_eq!(cli.run("ledger show nothing").code, 3);
    let listed = said(&cli.run("ledger list --worker w --json"));
    assert_eq!(listed["rows"].as_array().unwrap().len(), 1);
    until(&cli, "a", "completed");
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn a_worker_does_tasks_with_a_command_and_ends_when_it_is_told() {
    let cli = site();
    let daemon = Daemon::start(&cli, &[]);
    run(&cli, "ok", &json!([{ "name": "a" }, { "name": "b" }, { "name": "c" }]));
    let value = r#"printf '{"e":"%s","n":1.50}' "$DORMOUSE_EFFECT_ID""#;
    let script = &format!(r#"read -r task; {value} > "$DORMOUSE_OUTPUTS""#);
    let one = worker(&cli, script);
    until(&cli, "ok", "completed");
    let value = cli.run("task show ok e0003 --json").out;
    assert!(value.contains(r#""value":{"e":"e0003","n":1.5"#), "{value}");
    assert_eq!(end(one, Signal::TERM), 0);
    run(&cli, "bad", &json!([{}]));
    let two = worker(&cli, "exit 3");
    until(&cli, "bad", "failed");
    let shown = said(&cli.run("task show bad e0001 --json"));
    assert_eq!(shown["result"]["error"]["data"]["exitCode"], 3);
    assert_eq!(end(two, Signal::TERM), 0);
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn what_a_killed_worker_had_begun_is_unknown_and_said_by_the_next() {
    let cli = site();
    let daemon = Daemon::start(&cli, &[]);
    run(&cli, "r", &json!([{}]));
    // The command tells that it runs, and then only waits.
    let one = worker(&cli, "echo $$ > pid; mv pid begun; exec sleep 1000");
    while !cli.path("begun").exists() {}
    end(one, Signal::KILL);
    // Nobody else ends its command.
    let pid = std::fs::read_to_string(cli.path("begun")).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    assert_eq!(said(&cli.run("task show r e0001 --json"))["effect"]["status"], "started");
    let two = worker(&cli, "echo 1");
    let status = || said(&cli.run("task show r e0001 --json"))["effect"]["status"].clone();
    assert!((0..LOOKS_MAX).any(|_| status() == "uncertain"));
    assert_eq!(end(two, Signal::TERM), 0);
    cli.run("task decide r e0001 retry --epoch 1 --reason looked").ok();
    let three = worker(&cli, "echo 1");
    until(&cli, "r", "completed");
    assert_eq!(end(three, Signal::TERM), 0);
    assert_eq!(daemon.stop().0, 0);
}
