//! Limits of effects: slots, rates, whose turn it is, what operators set and see. Time is the
//! test's.

#![allow(clippy::disallowed_methods, reason = "these tests read and write the files of a root")]

use crate::cli::Cli;
use crate::executor_shell::{Place, all, only};
use crate::served::{Answer, Served};
use crate::yard::Ahead;
use serde_json::{Value, json};
use std::fs;
use std::sync::Arc;

/// One task per entry of `inputs.tasks`, with that entry as its options.
const WORK: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", (args) => ({ kind: args.kind ?? "agent", agent: { name: args.agent } }));
export async function process(inputs, ctx) {
  const asked = inputs.tasks.map((o) => () => ctx.task(t, o.args ?? {}, o.options ?? {}));
  return ctx.parallel.all(asked);
}
"#;

struct Site {
    served: Served,
    clock: Arc<Ahead>,
}

impl Site {
    fn new() -> Self {
        let clock = Arc::new(Ahead::default());
        let cli = Cli::new();
        cli.file("work.js", WORK);
        let served = Served::at(cli, Arc::clone(&clock) as _, |_| {});
        Self { served, clock }
    }

    /// A run with tasks of these options.
    fn run(&self, id: &str, options: &[Value]) {
        let entry = self.served.cli.path("work.js").display().to_string();
        let tasks: Vec<Value> = options.iter().map(|o| json!({ "options": o })).collect();
        let inputs = json!({ "tasks": tasks });
        let asked = json!({ "source": { "entry": entry }, "inputs": inputs, "runId": id });
        assert_eq!(self.served.post("/v1/runs", &asked).status, 201);
        self.served.rests(id);
    }

    fn put(&self, place: &str, limit: &Value) -> Answer {
        let (line, body) = (format!("PUT /v1/limits/{place}"), limit.to_string());
        let kind = "Content-Type: application/json\r\n";
        self.served.send(&self.served.request(&line, kind, body.as_bytes()))
    }

    fn limit(&self, place: &str) -> Value {
        self.served.get(&format!("/v1/limits/{place}")).ok()
    }

    /// What a worker gets at once, up to so many.
    fn claim(&self, max: usize) -> Vec<String> {
        let asked = json!({ "worker": "w", "kinds": ["agent"], "waitMs": 0, "max": max });
        names(&self.served.post("/v1/tasks/claim", &asked).ok())
    }

    fn claim_one(&self, task: &str) -> Answer {
        self.deed(task, "claim", &json!({ "worker": "w" }))
    }

    fn deed(&self, task: &str, verb: &str, body: &Value) -> Answer {
        let (run, effect) = task.split_once('/').unwrap();
        self.served.post(&format!("/v1/runs/{run}/tasks/{effect}/{verb}"), body)
    }

    fn done(&self, task: &str) {
        self.deed(task, "result", &json!({ "status": "ok", "value": 1, "epoch": 1 })).ok();
    }

    fn pass(&self, millis: i64) {
        self.clock.by_millis(millis);
        for _ in 0..2 {
            self.served.get("/v1/workers").ok();
        }
    }

    /// The reasons why a run does not go on.
    fn why(&self, run: &str) -> Value {
        self.served.get(&format!("/v1/runs/{run}/why")).ok()["reasons"].clone()
    }
}

fn names(claimed: &Value) -> Vec<String> {
    let name = |task: &Value| {
        format!("{}/{}", task["runId"].as_str().unwrap(), task["effectId"].as_str().unwrap())
    };
    claimed["tasks"].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn a_kind_has_no_more_at_work_than_its_limit_and_what_ends_makes_room() {
    let site = Site::new();
    let set = site.put("kind/agent", &json!({ "concurrency": 2 })).ok();
    assert_eq!((&set["concurrency"], &set["changed"]), (&json!(2), &json!(true)));
    site.run("a", &[json!({}), json!({}), json!({})]);
    assert_eq!(site.claim(64), ["a/e0001", "a/e0002"]);
    let refused = site.claim_one("a/e0003").is_problem(409, "held");
    assert_eq!((&refused["by"], &refused["limit"]), (&json!("limit"), &json!("kind:agent")));
    assert_eq!(refused["holder"], "a/e0001");
    assert_eq!(refused["until"], Value::Null);
    let shown = site.limit("kind/agent");
    assert_eq!((&shown["inUse"], &shown["waiting"]), (&json!(2), &json!(1)));
    assert_eq!(shown["waiters"][0]["effectId"], "e0003");
    let listed = site.served.get("/v1/limits").ok();
    assert_eq!(listed["limits"], json!([shown]));
    let slots = json!(["kind:agent"]);
    let events = site.served.get("/v1/runs/a/events?types=EFFECT_STARTED").ok();
    assert_eq!(events["events"][0]["data"]["slots"], slots);
    site.done("a/e0001");
    assert_eq!(site.claim(64), ["a/e0003"]);
}

#[test]
fn e24_whoever_has_the_slot_is_named_and_a_decision_frees_it_at_once() {
    let site = Site::new();
    site.put("kind/agent", &json!({ "concurrency": 1 })).ok();
    site.run("stuck", &[json!({})]);
    site.run("next", &[json!({})]);
    assert_eq!(site.claim(1), ["stuck/e0001"]);
    let why = site.why("next");
    assert_eq!((&why[0]["code"], &why[0]["heldBy"]), (&json!("held_limit"), &json!("stuck/e0001")));
    assert_eq!(why[0]["unblock"][0], "dormouse why stuck");
    assert_eq!(site.claim(1), [""; 0]);
    let decision = json!({ "epoch": 1, "decision": "failed", "reason": "stuck", "force": true,
        "error": { "message": "stuck" } });
    let decided = site.deed("stuck/e0001", "decide", &decision);
    assert_eq!(decided.status, 200, "{}", decided.text());
    assert_eq!(site.claim(1), ["next/e0001"]);
}

#[test]
fn what_is_cancelled_frees_its_slot() {
    let site = Site::new();
    site.put("kind/agent", &json!({ "concurrency": 1 })).ok();
    site.run("a", &[json!({})]);
    site.run("b", &[json!({})]);
    assert_eq!(site.claim(1), ["a/e0001"]);
    site.deed("a/e0001", "cancel", &json!({ "abandon": true })).ok();
    assert_eq!(site.claim(1), ["b/e0001"]);
}

#[test]
fn keys_are_limited_each_for_itself_and_what_is_held_keeps_nobody_else() {
    let site = Site::new();
    site.put("key/deploy:*", &json!({ "concurrency": 1 })).ok();
    let on = |key: &str| json!({ "limitKeys": [key] });
    let mut tasks = vec![on("deploy:prod"); 300];
    tasks.push(on("deploy:test"));
    tasks.push(json!({}));
    site.run("a", &tasks);
    assert_eq!(site.claim(1), ["a/e0001"]);
    let mut rest = site.claim(64);
    rest.sort();
    assert_eq!(rest, ["a/e0301", "a/e0302"], "300 that wait are passed over");
    assert_eq!(site.claim(64), [""; 0]);
    let why = site.why("a");
    let held = why.as_array().unwrap().iter().find(|r| r["code"] == "held_limit").unwrap();
    assert!(held["what"].as_str().unwrap().contains("key:deploy:* for \"deploy:prod\""), "{held}");
    assert_eq!(site.limit("key/deploy:*")["waiting"], 299);
    site.done("a/e0001");
    assert_eq!(site.claim(64), ["a/e0002"]);
}

#[test]
fn an_effect_of_unknown_outcome_gives_its_kind_back_and_keeps_its_key_over_a_restart() {
    let mut site = Site::new();
    site.put("kind/agent", &json!({ "concurrency": 1 })).ok();
    site.put("key/deploy", &json!({ "concurrency": 1 })).ok();
    let deploy = json!({ "limitKeys": ["deploy"] });
    site.run("a", &[deploy.clone(), deploy, json!({})]);
    assert_eq!(site.claim(1), ["a/e0001"]);
    site.served.restart();
    assert_eq!(site.claim(1), [""; 0], "the slots of a start are counted after a restart");
    let unsure = json!({ "status": "unknown", "epoch": 1 });
    site.deed("a/e0001", "result", &unsure).ok();
    assert_eq!(site.claim(64), ["a/e0003"]);
    site.done("a/e0003");
    site.served.restart();
    assert_eq!(site.claim(64), [""; 0], "the key is kept");
    site.put("key/deploy", &json!({ "concurrency": 1, "holdUncertain": false })).ok();
    site.served.restart();
    assert_eq!(site.claim(64), ["a/e0002"]);
}

#[test]
fn a_rate_starts_empty_and_says_until_when() {
    let mut site = Site::new();
    site.put("kind/agent", &json!({ "rate": "60/h", "burst": 1 })).ok();
    site.run("a", &[json!({}), json!({})]);
    assert_eq!(site.claim(64), [""; 0]);
    let refused = site.claim_one("a/e0001").is_problem(409, "held");
    assert!(refused["until"].is_string(), "{refused}");
    let why = site.why("a");
    assert_eq!(why[0]["code"], "held_limit");
    assert!(why[0]["nextAt"].is_string() && why[0]["heldBy"].is_null(), "{why}");
    site.pass(60_000);
    assert_eq!(site.claim(64), ["a/e0001"]);
    site.pass(59_000);
    assert_eq!(site.claim(64), [""; 0]);
    site.served.restart();
    site.pass(30_000);
    assert_eq!(site.claim(64), [""; 0], "a daemon that begins has no tokens");
    site.pass(31_000);
    assert_eq!(site.claim(64), ["a/e0002"]);
    let text = site.served.get("/metrics").text();
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let in_use = line("dormouse_limit_in_use{");
    assert!(in_use.contains("\"kind\"") && in_use.ends_with(" 2"), "{in_use}");
    let waits = line("dormouse_limit_wait_seconds_count{");
    assert!(waits.ends_with(" 1"), "{waits}");
}

#[test]
fn three_runs_with_many_effects_are_served_in_turn() {
    let site = Site::new();
    site.put("kind/agent", &json!({ "concurrency": 1 })).ok();
    for run in ["a", "b", "c"] {
        site.run(run, &vec![json!({}); 300]);
    }
    let mut order = Vec::new();
    for _ in 0..9 {
        let [task] = &site.claim(64)[..] else { panic!("one slot, one task") };
        order.push(task.split_once('/').unwrap().0.to_owned());
        site.done(task);
    }
    assert_eq!(order, ["a", "b", "c", "a", "b", "c", "a", "b", "c"]);
    site.run("d", &[json!({ "priority": 501 })]);
    assert_eq!(site.claim(64), ["d/e0001"], "priority comes first");
}

#[test]
fn an_operators_brake_holds_and_a_raised_limit_starts_what_waits_at_once() {
    let site = Site::new();
    site.put("kind/agent", &json!({ "concurrency": 0 })).ok();
    site.run("a", &[json!({})]);
    let why = site.why("a");
    assert_eq!(why[0]["unblock"][1], "dormouse limits set --concurrency 1 kind -- agent");
    let asked = json!({ "worker": "w", "kinds": ["agent"], "waitMs": 60_000 });
    let got = std::thread::scope(|scope| {
        let waits = scope.spawn(|| site.served.post("/v1/tasks/claim", &asked).ok());
        while !site.served.get("/metrics").text().contains("dormouse_claims_waiting 1") {}
        site.put("kind/agent", &json!({ "concurrency": 1 })).ok();
        waits.join().unwrap()
    });
    assert_eq!(names(&got), ["a/e0001"]);
    let back = site.put("kind/agent", &json!({})).ok();
    assert_eq!((&back["concurrency"], &back["changed"]), (&Value::Null, &json!(false)));
    assert_eq!(site.served.get("/v1/limits").ok(), json!({ "limits": [] }));
}

#[test]
fn a_limit_that_makes_no_sense_is_refused_and_changes_nothing() {
    let site = Site::new();
    for (place, limit) in [
        ("run/agent", json!({})),
        ("key/a*", json!({ "concurrency": 1 })),
        ("kind/agent", json!({ "rate": "10" })),
        ("kind/agent", json!({ "burst": 0 })),
        ("kind/agent", json!({ "concurrency": 1_000_001 })),
    ] {
        site.put(place, &limit).is_problem(400, "limit_invalid");
    }
    site.put("kind/agent", &json!({ "concurency": 1 })).is_problem(422, "unknown_field");
    assert_eq!(site.served.get("/v1/limits").ok(), json!({ "limits": [] }));
}

const COMMANDS: &str = r#"
import { defineTask } from "dormouse";
const command = defineTask("command", (def) => ({ title: "Something", ...def }));
export async function process(inputs, ctx) {
  return ctx.parallel.all(inputs.defs.map((def) => () => ctx.task(command, def, inputs.options)));
}
"#;

const SHELL: &str = "[executors.shell]\nenabled = true\nallow = \"any\"\n";

fn echo(word: &str, file: &std::path::Path) -> Value {
    json!({ "kind": "shell", "argv": ["sh", "-c", format!("echo {word} >>{}", file.display())] })
}

#[test]
fn runs_take_turns_inside_the_daemon_too() {
    let place = Place::new(COMMANDS);
    let (ready, go) = (place.fifo("ready"), place.fifo("go"));
    let order = place.cli.path("order");
    let daemon = place.serve(&format!("{SHELL}[limits.kind.shell]\nconcurrency = 1"));
    let script = format!("echo >{}; cat {}", ready.display(), go.display());
    let first = json!({ "kind": "shell", "argv": ["sh", "-c", script] });
    place.create("first", &json!({ "defs": [first], "options": {} }));
    fs::read(&ready).unwrap();
    for run in ["a", "b", "c"] {
        let defs = vec![echo(run, &order); 3];
        place.create(run, &json!({ "defs": defs, "options": {} }));
        place.cli.run(&format!("run iterate {run}"));
    }
    let shown: Value = place.cli.run("limits show kind shell --json").json();
    assert_eq!((&shown["inUse"], &shown["waiting"]), (&json!(1), &json!(9)));
    let why: Value = place.cli.run("why a --json").json();
    assert_eq!(why["reasons"][0]["heldBy"], "first/e0001", "{why}");
    fs::write(&go, "").unwrap();
    for run in ["first", "a", "b", "c"] {
        place.ended(run);
    }
    let order = fs::read_to_string(&order).unwrap();
    assert_eq!(order.split_whitespace().collect::<String>(), "abcabcabc");
    drop(daemon);
}

#[test]
fn a_raised_limit_starts_what_waits_inside_and_is_kept_by_the_next_daemon() {
    let place = Place::new(COMMANDS);
    let order = place.cli.path("order");
    let config = format!("{SHELL}[limits.kind.shell]\nconcurrency = 0");
    let daemon = place.serve(&config);
    place.create("a", &json!({ "defs": [echo("a", &order)], "options": {} }));
    place.cli.run("run iterate a");
    assert!(all(&place.events("a"), "EFFECT_STARTED").is_empty());
    place.cli.run("limits set --concurrency 1 kind shell");
    only(&place.ended("a"), "EFFECT_STARTED");
    drop(daemon);
    let daemon = place.serve(&config);
    place.create("b", &json!({ "defs": [echo("b", &order)], "options": {} }));
    place.ended("b");
    drop(daemon);
    let file = place.cli.root().join(".dormouse/limits.json");
    fs::write(&file, "{ \"kind\": 3 }").unwrap();
    let refused = place.cli.run("serve").exits(6);
    assert!(refused.err.contains("[limits_invalid]"), "{refused:?}");
    assert!(refused.err.contains(&format!("rm {}", file.display())), "{refused:?}");
}

#[test]
fn what_the_configuration_refuses_is_named_with_the_line_that_would_allow_it() {
    let place = Place::new(COMMANDS);
    let order = place.cli.path("order");
    let daemon = place.serve("[executors.shell]\nenabled = true\nallow = [\"git\"]");
    place.create("a", &json!({ "defs": [echo("a", &order)], "options": {} }));
    place.cli.run("run iterate a");
    let why: Value = place.cli.run("why a --json").json();
    let reason = &why["reasons"][0];
    assert_eq!(reason["code"], "held_policy", "{why}");
    assert!(reason["what"].as_str().unwrap().contains("executors.shell.allow"), "{reason}");
    drop(daemon);
}
