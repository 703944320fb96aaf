//! Explicit idempotency keys: one live holder in the root, whoever asks and wherever they are
//! executed, before and after daemons die.

#![allow(clippy::disallowed_methods, reason = "these tests kill daemons and remove their files")]

use crate::claims::{Site, names};
use crate::executor_shell::{Place, all, only};
use crate::served::raw;
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;

const KEY: &str = "order-7";

fn keyed() -> Value {
    json!({ "idempotencyKey": KEY })
}

impl Site {
    /// Runs with one task each, all with the same key.
    fn sharing(runs: &[&str]) -> Self {
        let site = Self::new();
        for run in runs {
            site.task(run, &keyed());
        }
        site
    }

    fn begin(&self, task: &str) {
        self.deed(task, "claim", &json!({ "worker": "w" })).ok();
    }

    fn post(&self, task: &str, value: &Value) {
        let post = json!({ "status": "ok", "epoch": 1, "value": value });
        assert_eq!(self.deed(task, "result", &post).ok()["state"], "ok");
    }

    /// The data of the only event of a type.
    #[track_caller]
    fn only(&self, run: &str, kind: &str) -> Value {
        let events = self.events(run, kind);
        assert_eq!(events.len(), 1, "{kind} of {run}: {events:?}");
        events[0]["data"].clone()
    }

    /// Who keeps a task from being started.
    #[track_caller]
    fn holder(&self, task: &str) -> String {
        let held = self.deed(task, "claim", &json!({ "worker": "w" })).is_problem(409, "held");
        assert_eq!(held["by"], "key", "{held}");
        held["holder"].as_str().unwrap().to_owned()
    }

    /// `a/e0001` has begun, and nobody will ever know what became of it.
    fn lost(runs: &[&str]) -> Self {
        let site = Self::sharing(runs);
        site.begin("a/e0001");
        let cancel = json!({ "abandon": true, "reason": "lost" });
        site.deed("a/e0001", "cancel", &cancel).ok();
        assert_eq!(site.only("a", "EFFECT_CANCELLED")["outcome"], "unknown");
        site
    }

    fn metric(&self, name: &str) -> Option<String> {
        let metrics = self.served.send_socket(&raw("GET /metrics", "", b"")).text();
        let line = metrics.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next().map(str::to_owned))
    }
}

#[test]
fn t04_whoever_does_not_hold_the_key_is_not_started() {
    let site = Site::sharing(&["a", "b"]);
    site.begin("a/e0001");
    assert_eq!(site.holder("b/e0001"), "a/e0001");
    assert_eq!(names(&site.claim("other", &json!({}))), Vec::<String>::new());
    let why = site.served.get("/v1/runs/b/why").ok();
    let reason = &why["reasons"][0];
    assert_eq!((&reason["code"], &reason["heldBy"]), (&json!("held_key"), &json!("a/e0001")));
    let unblock = reason["unblock"].to_string();
    assert!(unblock.contains("dormouse task cancel a e0001 --abandon"), "{unblock}");
    // What holds the key is its own: its next attempt is let in.
    site.deed("a/e0001", "release", &json!({ "epoch": 1, "began": false })).ok();
    assert_eq!(site.holder("b/e0001"), "a/e0001");
    assert_eq!(names(&site.claim("other", &json!({ "max": 9 }))), ["a/e0001"]);
    assert!(site.events("b", "EFFECT_STARTED").is_empty());
}

#[test]
fn t09_an_outcome_is_taken_over_in_the_moment_that_it_is_there() {
    let site = Site::sharing(&["a", "b"]);
    site.begin("a/e0001");
    assert_eq!(site.holder("b/e0001"), "a/e0001");
    site.post("a/e0001", &json!({ "n": 1.50 }));
    site.until("b/e0001", "resolved_ok");
    let (theirs, ours) =
        (&site.events("a", "EFFECT_RESOLVED")[0], site.only("b", "EFFECT_RESOLVED"));
    assert_eq!(
        ours["reusedFrom"],
        json!({
            "runId": "a", "effectId": "e0001", "seq": theirs["seq"],
            "valueDigest": theirs["data"]["valueDigest"],
        })
    );
    assert_eq!(
        (&ours["value"], &ours["valueDigest"]),
        (&theirs["data"]["value"], &theirs["data"]["valueDigest"])
    );
    assert_eq!((&ours["epoch"], &ours["by"]), (&json!(0), &json!("ledger")));
    assert!(site.events("b", "EFFECT_STARTED").is_empty());
    site.served.rests("b");
    assert_eq!(site.served.get("/v1/runs/b").ok()["state"], "completed");
    // Also at once, and with no claim at all.
    site.task("c", &keyed());
    site.until("c/e0001", "resolved_ok");
    assert_eq!(site.only("c", "EFFECT_RESOLVED")["reusedFrom"]["runId"], "a");
    assert_eq!(site.metric("dormouse_key_reuses_total").as_deref(), Some("2"));
    let ledger = site.served.get(&format!("/v1/ledger/{KEY}")).ok();
    let rows = ledger["rows"].as_array().unwrap();
    assert!(rows.len() == 3 && rows.iter().all(|row| row["explicit"] == true), "{ledger}");
    assert_eq!(rows.iter().filter(|row| row["reusedFrom"]["runId"] == "a").count(), 2);
}

#[test]
fn t09_a_large_value_is_copied_into_the_run_that_takes_it_over() {
    let site = Site::sharing(&["a", "b"]);
    site.begin("a/e0001");
    site.post("a/e0001", &json!("x".repeat(100_000)));
    site.until("b/e0001", "resolved_ok");
    let blob = site.only("b", "EFFECT_RESOLVED")["valueBlob"].clone();
    assert_eq!(blob, site.only("a", "EFFECT_RESOLVED")["valueBlob"]);
    let name = blob["digest"].as_str().unwrap().trim_start_matches("b3:");
    let blobs = site.served.cli.root().join("b/blobs");
    let found = files(&blobs).into_iter().find(|path| path.contains(&name[4..]));
    assert!(found.is_some(), "{name} in {:?}", files(&blobs));
}

/// All files below a directory.
fn files(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[test]
fn t03_a_key_that_stands_for_other_work_is_a_conflict() {
    let site = Site::sharing(&["a"]);
    site.begin("a/e0001");
    let other = json!({ "args": { "agent": "somebody else" }, "options": keyed() });
    site.run("b", &json!({ "tasks": [other] }));
    let resolved = site.only("b", "EFFECT_RESOLVED");
    let error = &resolved["error"];
    assert_eq!((&error["name"], &resolved["epoch"]), (&json!("KeyConflict"), &json!(0)));
    let digest = |run: &str| site.only(run, "EFFECT_REQUESTED")["defDigest"].clone();
    let data = &error["data"];
    assert_eq!((&data["key"], &data["defDigest"]), (&json!(KEY), &digest("b")));
    assert_eq!(
        data["holder"],
        json!({ "runId": "a", "effectId": "e0001", "defDigest": digest("a") })
    );
    let seq = |kind: &str| site.events("b", kind)[0]["seq"].as_u64().unwrap();
    assert_eq!(seq("EFFECT_RESOLVED"), seq("EFFECT_REQUESTED") + 1);
    assert_eq!(site.metric("dormouse_key_conflicts_total").as_deref(), Some("1"));
    assert_eq!(site.served.get("/v1/runs/b").ok()["state"], "failed");
}

#[test]
fn t10_an_outcome_that_nobody_knows_is_nobodys_to_repeat() {
    let site = Site::lost(&["a", "b"]);
    site.until("b/e0001", "uncertain");
    let uncertain = site.only("b", "EFFECT_UNCERTAIN");
    assert_eq!(
        (&uncertain["cause"], &uncertain["epoch"]),
        (&json!("key_outcome_unknown"), &json!(0))
    );
    assert_eq!(uncertain["evidence"]["holder"], json!({ "runId": "a", "effectId": "e0001" }));
    site.deed("b/e0001", "claim", &json!({ "worker": "w" })).is_problem(409, "effect_uncertain");
    // Whoever decides to do it holds the key.
    let retry = json!({ "decision": "retry", "epoch": 0, "reason": "it did not happen" });
    assert_eq!(site.deed("b/e0001", "decide", &retry).ok()["state"], "requested");
    site.task("c", &keyed());
    assert_eq!(site.holder("c/e0001"), "b/e0001");
    site.begin("b/e0001");
    site.post("b/e0001", &json!(2));
    site.until("c/e0001", "resolved_ok");
    assert_eq!(site.only("c", "EFFECT_RESOLVED")["reusedFrom"]["runId"], "b");
    assert_eq!(site.events("b", "EFFECT_UNCERTAIN").len(), 1);
}

#[test]
fn t33_who_does_not_want_to_wait_for_a_person_fails_in_the_same_breath() {
    let site = Site::lost(&["a"]);
    site.task("b", &json!({ "idempotencyKey": KEY, "onUncertain": "error" }));
    let seq = |kind: &str| site.events("b", kind)[0]["seq"].as_u64().unwrap();
    assert_eq!(seq("EFFECT_RESOLVED"), seq("EFFECT_UNCERTAIN") + 1);
    let error = site.only("b", "EFFECT_RESOLVED")["error"].clone();
    assert_eq!(error["name"], "UncertainEffectError", "{error}");
    // That says nothing about the work: it is as unknown as before.
    site.task("c", &keyed());
    site.until("c/e0001", "uncertain");
    assert_eq!(
        site.only("c", "EFFECT_UNCERTAIN")["evidence"]["holder"],
        json!({ "runId": "a", "effectId": "e0001" })
    );
}

#[test]
fn t10_a_decision_about_the_outcome_settles_it_for_everybody_after() {
    for (decision, state) in [
        (json!({ "decision": "done", "value": 3 }), "ok"),
        (json!({ "decision": "failed", "error": { "message": "no" } }), "error"),
    ] {
        let mut site = Site::lost(&["a", "b"]);
        site.until("b/e0001", "uncertain");
        let mut decide = json!({ "epoch": 0, "reason": "seen" });
        decide.as_object_mut().unwrap().extend(decision.as_object().unwrap().clone());
        assert_eq!(site.deed("b/e0001", "decide", &decide).ok()["state"], state);
        // The same from the index of the next daemon.
        site.served.restart();
        site.task("c", &keyed());
        if state == "ok" {
            site.until("c/e0001", "resolved_ok");
            assert_eq!(site.only("c", "EFFECT_RESOLVED")["reusedFrom"]["runId"], "b");
        } else {
            site.begin("c/e0001");
        }
    }
}

#[test]
fn a_key_is_free_again_once_it_is_known_that_nothing_was_done() {
    let site = Site::sharing(&["a", "b", "c"]);
    site.begin("a/e0001");
    assert_eq!(site.holder("b/e0001"), "a/e0001");
    let waits = json!({ "waitMs": 60_000, "runs": ["b"] });
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| site.claim("patient", &waits));
        let failed = json!({ "status": "error", "epoch": 1, "error": { "message": "no" } });
        assert_eq!(site.deed("a/e0001", "result", &failed).ok()["state"], "error");
        assert_eq!(names(&waiting.join().unwrap()), ["b/e0001"]);
    });
    assert_eq!(site.holder("c/e0001"), "b/e0001");
    let late = site.task_with_other_work("d");
    assert_eq!(late, "KeyConflict");
}

impl Site {
    /// A run with the same key for other work. Gives the name of its task's error.
    fn task_with_other_work(&self, run: &str) -> Value {
        let other = json!({ "args": { "agent": "another" }, "options": keyed() });
        self.run(run, &json!({ "tasks": [other] }));
        self.only(run, "EFFECT_RESOLVED")["error"]["name"].clone()
    }
}

#[test]
fn a_key_is_known_as_long_as_it_is_to_be_and_no_longer() {
    let mut site = Site::sharing(&["a"]);
    site.begin("a/e0001");
    site.post("a/e0001", &json!(1));
    site.ahead_by_days(29);
    site.served.restart();
    assert_eq!(site.task_with_other_work("b"), "KeyConflict");
    site.ahead_by_days(2);
    site.task("c", &keyed());
    site.begin("c/e0001");
}

#[test]
fn one_key_is_one_execution_inside_the_daemon_too() {
    let place = Place::new(PROCESS);
    let (ready, go) = (place.fifo("ready"), place.fifo("go"));
    let daemon = place.serve("[executors.shell]\nenabled = true\nallow = \"any\"");
    let script = format!("echo >{}; cat {}", ready.display(), go.display());
    let inputs = json!({
        "def": { "kind": "shell", "argv": ["sh", "-c", script] }, "options": keyed(),
    });
    place.create("a", &inputs);
    fs::read(&ready).unwrap();
    place.create("b", &inputs);
    place.cli.run("run iterate b").ok();
    assert!(all(&place.events("b"), "EFFECT_STARTED").is_empty());
    fs::write(&go, "hello").unwrap();
    let (a, b) = (place.ended("a"), place.ended("b"));
    assert!(all(&b, "EFFECT_STARTED").is_empty(), "{b:#?}");
    let (theirs, ours) = (only(&a, "EFFECT_RESOLVED"), only(&b, "EFFECT_RESOLVED"));
    assert_eq!((&ours["value"], &ours["reusedFrom"]["runId"]), (&theirs["value"], &json!("a")));
    assert_eq!(daemon.stop().0, 0);
}

/// Parents of a child run that waits, or one such child alone.
const FAMILY: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", () => ({ kind: "agent", agent: { name: "a", prompt: "p" } }));
export async function child(inputs, ctx) {
  return await ctx.task(t, {});
}
export async function process(inputs, ctx) {
  const child = { process: "process.js", exportName: "child" };
  return await ctx.run(child, { idempotencyKey: "child" });
}
"#;

#[test]
fn a_child_run_is_made_for_one_of_those_who_ask_for_it_under_a_key() {
    let place = Place::new(FAMILY);
    place.create("a", &json!({}));
    // Without a daemon nobody knows whether it is free.
    place.cli.run("run iterate a").ok();
    assert!(all(&place.events("a"), "EFFECT_STARTED").is_empty());
    let daemon = place.serve("");
    place.cli.run("run iterate a").ok();
    place.create("b", &json!({}));
    place.cli.run("run iterate b").ok();
    assert_eq!(only(&place.events("a"), "EFFECT_STARTED")["target"], "a.e0001");
    assert!(all(&place.events("b"), "EFFECT_STARTED").is_empty());
    let why = place.cli.run("why b --json").ok().json();
    assert_eq!(why["reasons"][0]["code"], "held_key", "{why}");
    place.cli.run("task post a.e0001 e0001 --status ok --value-inline 4").ok();
    let (a, b) = (place.ended("a"), place.ended("b"));
    let (theirs, ours) = (only(&a, "EFFECT_RESOLVED"), only(&b, "EFFECT_RESOLVED"));
    assert_eq!((&ours["value"], &ours["reusedFrom"]["runId"]), (&theirs["value"], &json!("a")));
    assert!(!place.cli.root().join("b.e0001").exists());
    assert_eq!(daemon.stop().0, 0);
}

const PROCESS: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", (def) => ({ title: "Something", ...def }));
export async function process(inputs, ctx) {
  return await ctx.task(t, inputs.def, inputs.options);
}
"#;

/// A run of one task for agents outside.
fn outside(place: &Place, run: &str) {
    let def = json!({ "kind": "agent", "agent": { "name": "a", "prompt": "p" } });
    place.create(run, &json!({ "def": def, "options": keyed() }));
    place.cli.run(&format!("run iterate {run}")).ok();
}

#[test]
fn a_holder_holds_its_key_after_the_daemon_was_killed() {
    for forgets in [false, true] {
        let place = Place::new(PROCESS);
        let daemon = place.serve("");
        outside(&place, "a");
        outside(&place, "b");
        place.cli.run("task claim a e0001 --worker w").ok();
        drop(daemon);
        if forgets {
            fs::remove_file(place.cli.root().join(".dormouse/index.db")).unwrap();
        }
        let daemon = place.serve("");
        let refused = place.cli.run("task claim b e0001 --worker v --json");
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.err.contains("task show a e0001"), "{refused:?}");
        place.cli.run("task post a e0001 --epoch 1 --status ok --value-inline 5").ok();
        let events = place.ended("b");
        assert_eq!(only(&events, "EFFECT_RESOLVED")["reusedFrom"]["runId"], "a");
        assert_eq!(daemon.stop().0, 0);
    }
}

/// The claim is sent and the daemon killed before it answers: the start is durable or it is not.
#[test]
fn c16_a_key_goes_with_the_start_that_it_was_reserved_for() {
    let place = Place::new(PROCESS);
    let daemon = place.serve("");
    outside(&place, "a");
    outside(&place, "b");
    let body = json!({ "worker": "w" }).to_string();
    let kind = "Content-Type: application/json\r\n";
    let claim = raw("POST /v1/runs/a/tasks/e0001/claim", kind, body.as_bytes());
    let mut stream = UnixStream::connect(place.cli.root().join(".dormouse/socket")).unwrap();
    stream.write_all(&claim).unwrap();
    drop(daemon);
    let daemon = place.serve("");
    let has_begun = !all(&place.events("a"), "EFFECT_STARTED").is_empty();
    let claimed = place.cli.run("task claim b e0001 --worker v");
    assert_eq!(claimed.code, if has_begun { 4 } else { 0 }, "{claimed:?}");
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn without_a_daemon_no_effect_with_a_key_is_started_and_posting_is_fine() {
    let place = Place::new(PROCESS);
    outside(&place, "a");
    let refused = place.cli.run("task claim a e0001 --worker w");
    assert!(refused.code == 3 && refused.err.contains("idempotency key"), "{refused:?}");
    place.cli.run("task post a e0001 --status ok --value-inline 1").ok();
    place.cli.run("run iterate a").ok();
    // The next daemon knows of it.
    let daemon = place.serve("");
    outside(&place, "b");
    let events = place.ended("b");
    assert_eq!(only(&events, "EFFECT_RESOLVED")["reusedFrom"]["runId"], "a");
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn e23_what_is_gone_is_never_answered_with_somebody_elses_outcome() {
    let place = Place::new(PROCESS);
    let daemon = place.serve("");
    outside(&place, "a");
    place.cli.run("task post a e0001 --status ok --value-inline 1").ok();
    place.ended("a");
    assert_eq!(daemon.stop().0, 0);
    // Another run under the same name, with another outcome at the same place.
    fs::rename(place.cli.root().join("a"), place.cli.path("away")).unwrap();
    let place_of_other = Place::new(PROCESS);
    outside(&place_of_other, "a");
    place_of_other.cli.run("task post a e0001 --status ok --value-inline 2").ok();
    place_of_other.cli.run("run iterate a").ok();
    fs::rename(place_of_other.cli.root().join("a"), place.cli.root().join("a")).unwrap();
    let daemon = place.serve("");
    outside(&place, "b");
    let uncertain = loop {
        let events = place.events("b");
        if let Some(found) = all(&events, "EFFECT_UNCERTAIN").first() {
            break (*found).clone();
        }
        assert!(all(&events, "EFFECT_RESOLVED").is_empty(), "{events:#?}");
    };
    assert_eq!(uncertain["cause"], "key_outcome_unknown");
    assert!(uncertain["evidence"]["unreadable"].is_string(), "{uncertain}");
    assert_eq!(daemon.stop().0, 0);
}
