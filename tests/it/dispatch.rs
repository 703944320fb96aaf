//! Effects that a daemon executes itself: one commit for request and start, limits and priorities,
//! and what the next daemon makes of attempts that this one did not end.

#![allow(clippy::disallowed_methods, reason = "these tests start programs and read their files")]

use crate::executor_shell::{Place, all, only};
use crate::served::runs;
use dormouse::codecs::format::log_entry::find_append;
use dormouse::ground::id::EffectId;
use dormouse::machines::effect::claim::Claim;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use std::fs;

const PROCESS: &str = r#"
import { defineTask } from "dormouse";
const command = defineTask("command", (def) => ({ title: "Something", ...def }));
export async function process(inputs, ctx) {
  return await ctx.task(command, inputs.def, inputs.options);
}
"#;

const ECHO: &str = "[executors.echo]\nkinds = [\"agent\"]\n";

fn shell(script: &str, options: &Value) -> Value {
    json!({ "def": { "kind": "shell", "argv": ["sh", "-c", script] }, "options": options })
}

/// Lines of each unit of the commit log, oldest first.
fn units(place: &Place) -> Vec<String> {
    let mut units = Vec::new();
    for entry in fs::read_dir(place.cli.root().join(".dormouse/commit-log")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let mut rest = bytes.as_slice();
        while let Some((at, append, length)) = find_append(rest) {
            units.push(String::from_utf8(append.lines).unwrap());
            rest = &rest[at + length..];
        }
    }
    units
}

#[test]
fn request_and_start_are_one_unit_of_the_log() {
    let place = Place::new(PROCESS);
    let (ready, go) = (place.fifo("ready"), place.fifo("go"));
    let daemon = place.serve("[executors.shell]\nenabled = true\nallow = \"any\"");
    let script = format!("echo >{}; cat {}", ready.display(), go.display());
    place.create("r", &shell(&script, &json!({})));
    fs::read(&ready).unwrap();
    // Killed, the daemon leaves its log as it is.
    drop(daemon);
    let units = units(&place);
    let asked: Vec<_> = units.iter().filter(|u| u.contains("\"EFFECT_REQUESTED\"")).collect();
    assert_eq!(asked.len(), 1, "{units:#?}");
    assert!(asked[0].contains("\"EFFECT_STARTED\""), "{}", asked[0]);
    fs::write(&go, "").unwrap();
}

#[test]
fn an_effect_that_echoes_is_answered_with_its_arguments() {
    let place = Place::new(PROCESS);
    let daemon = place.serve(ECHO);
    let def = json!({ "kind": "agent", "agent": { "name": "a", "prompt": "p" } });
    place.create("r", &json!({ "def": def, "options": {} }));
    let events = place.ended("r");
    let resolved = only(&events, "EFFECT_RESOLVED");
    assert_eq!((&resolved["value"], &resolved["by"]), (&def, &json!("executor:agent")));
    let worker = only(&events, "EFFECT_STARTED")["worker"].as_str().unwrap();
    assert!(worker.starts_with("@daemon/"), "{worker}");
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn one_at_a_time_and_the_most_urgent_first() {
    let place = Place::new(PROCESS);
    let (ready, go) = (place.fifo("ready"), place.fifo("go"));
    let order = place.cli.path("order");
    let daemon = place.serve(
        "[executors.shell]\nenabled = true\nallow = \"any\"\n[limits.kind.shell]\nconcurrency = 1",
    );
    let first = format!("echo >{}; cat {}", ready.display(), go.display());
    place.create("first", &shell(&first, &json!({})));
    fs::read(&ready).unwrap();
    for (id, priority) in [("low", 1), ("high", 900), ("middle", 500)] {
        let script = format!("echo {id} >>{}", order.display());
        place.create(id, &shell(&script, &json!({ "priority": priority })));
        // It rests: there is no place for it.
        place.cli.run(&format!("run iterate {id}"));
        assert!(all(&place.events(id), "EFFECT_STARTED").is_empty(), "{id}");
    }
    fs::write(&go, "").unwrap();
    for id in ["first", "low", "high", "middle"] {
        let events = place.ended(id);
        assert_eq!(only(&events, "EFFECT_STARTED")["slots"], json!(["kind:shell"]), "{id}");
    }
    assert_eq!(fs::read_to_string(&order).unwrap(), "high\nmiddle\nlow\n");
    drop(daemon);
}

#[test]
fn what_may_be_repeated_is_repeated_under_the_same_key() {
    let place = Place::new(PROCESS);
    let (ready, go) = (place.fifo("ready"), place.fifo("go"));
    let keys = place.cli.path("keys");
    let daemon = place.serve("[executors.shell]\nenabled = true\nallow = \"any\"");
    let script = format!(
        "echo $DORMOUSE_EPOCH $DORMOUSE_IDEMPOTENCY_KEY >>{}
        test $DORMOUSE_EPOCH != 1 || {{ echo >{}; cat {}; }}",
        keys.display(),
        ready.display(),
        go.display()
    );
    let options = json!({ "idempotent": true, "retry": { "maxAttempts": 2, "initial": 1 } });
    place.create("r", &shell(&script, &options));
    fs::read(&ready).unwrap();
    let runner = place.runner("r");
    drop(daemon);
    kill_process(runner, Signal::KILL).unwrap();
    let daemon = place.serve("[executors.shell]\nenabled = true\nallow = \"any\"");
    let events = place.ended("r");
    let failed = only(&events, "EFFECT_ATTEMPT_FAILED");
    assert_eq!((&failed["class"], &failed["cause"]), (&json!("unknown"), &json!("executor_lost")));
    assert_eq!(only(&events, "EFFECT_RESOLVED")["epoch"], 2);
    assert_eq!(fs::read_to_string(&keys).unwrap(), "1 r/e0001\n2 r/e0001\n");
    drop(daemon);
}

/// A run whose effect was started by a daemon that is gone, and that left nothing else.
fn left_by_another(place: &Place, options: &Value) {
    let def = json!({ "kind": "agent", "agent": { "name": "a", "prompt": "p" } });
    place.create("r", &json!({ "def": def, "options": options }));
    place.cli.run("run iterate r");
    let claim = Claim {
        worker: "@daemon/another".into(),
        ttl_ms: 60_000,
        claim_id: None,
        target: None,
        slots: Vec::new(),
    };
    runs(place.cli.root()).claim("r", EffectId::new(1), &claim).unwrap();
}

#[test]
fn an_attempt_that_nobody_can_know_of_is_uncertain() {
    let place = Place::new(PROCESS);
    left_by_another(&place, &json!({}));
    let daemon = place.serve(ECHO);
    place.cli.run("run iterate r");
    let events = place.events("r");
    let uncertain = only(&events, "EFFECT_UNCERTAIN");
    assert_eq!((&uncertain["cause"], &uncertain["epoch"]), (&json!("daemon_stopped"), &json!(1)));
    assert_eq!(all(&events, "EFFECT_STARTED").len(), 1);
    drop(daemon);
}

#[test]
fn an_attempt_that_nobody_can_know_of_is_followed_by_another_if_that_does_no_harm() {
    let place = Place::new(PROCESS);
    let retry = json!({ "maxAttempts": 2, "initial": 1 });
    left_by_another(&place, &json!({ "idempotent": true, "retry": retry }));
    let daemon = place.serve(ECHO);
    let events = place.ended("r");
    assert_eq!(only(&events, "EFFECT_ATTEMPT_FAILED")["cause"], "daemon_stopped");
    let started = all(&events, "EFFECT_STARTED");
    assert_eq!(started[0]["idempotencyKey"], started[1]["idempotencyKey"]);
    assert_eq!((&started[1]["epoch"], started.len()), (&json!(2), 2));
    assert_eq!(only(&events, "EFFECT_RESOLVED")["epoch"], 2);
    drop(daemon);
}

/// Effects in a row.
const ROW: usize = 40;
const SEQUENCE: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", (n) => ({ kind: "agent", agent: { name: "a", prompt: "p" } }));
export async function process(inputs, ctx) {
  for (let n = 0; n < inputs; n++) await ctx.task(t, n);
}
"#;

/// How many commits hold records of effects.
fn commits(place: &Place) -> usize {
    units(place).iter().filter(|unit| unit.contains("\"EFFECT_")).count()
}

#[test]
fn an_effect_in_a_row_costs_one_commit_where_it_is_executed_here() {
    let place = Place::new(SEQUENCE);
    let daemon = place.serve(ECHO);
    place.create("r", &json!(ROW));
    let events = place.ended("r");
    assert_eq!(all(&events, "EFFECT_RESOLVED").len(), ROW);
    drop(daemon);
    // The last outcome and the end are one as well. A turn that is kept waiting by the machine for
    // very long has its outcome go first.
    let commits = commits(&place);
    assert!((ROW + 1..=ROW + ROW / 4).contains(&commits), "{commits}");
}

#[test]
fn an_effect_in_a_row_costs_two_commits_where_a_worker_does_it() {
    let place = Place::new(SEQUENCE);
    let daemon = place.serve("");
    place.create("r", &json!(ROW));
    for n in 1..=ROW {
        let effect = EffectId::new(u32::try_from(n).unwrap());
        place.cli.run(&format!("task claim r {effect} --worker w")).ok();
        place.cli.run(&format!("task post r {effect} --epoch 1 --status ok --value-inline 1")).ok();
    }
    place.ended("r");
    drop(daemon);
    // One for the start. One for the outcome and the request that follows, which are two where the
    // turn between them takes longer than whoever posted is kept waiting for.
    let commits = commits(&place);
    assert!((2 * ROW..=3 * ROW + 1).contains(&commits), "{commits}");
}
