//! Workers: claims, leases, heartbeats, what becomes of both when nobody speaks, and what a daemon
//! remembers of them. Time is the test's.

#![allow(clippy::disallowed_methods, reason = "these tests read the files of a run")]

use crate::cli::Cli;
use crate::served::{Answer, Served, raw};
use crate::yard::{Ahead, Yard};
use dormouse::ground::id::{EffectId, RunId};
use dormouse::services::manager::Wanted;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::{Arc, Barrier};

/// One task per entry of `inputs.tasks`, with that entry as its options.
const WORK: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", (args) => ({ kind: args.kind ?? "agent", agent: { name: args.agent } }));
export async function process(inputs, ctx) {
  if (inputs.signal) return ctx.waitForSignal("paid", { correlationKey: inputs.signal });
  const asked = inputs.tasks.map((o) => () => ctx.task(t, o.args ?? {}, o.options ?? {}));
  return ctx.parallel.all(asked);
}
"#;

/// How often something is looked at that is on its way.
const LOOKS_MAX: usize = 2_000;

/// A daemon whose clock is the test's.
pub(crate) struct Site {
    pub(crate) served: Served,
    clock: Arc<Ahead>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(Ahead::default());
        let cli = Cli::new();
        cli.file("work.js", WORK);
        let served = Served::at(cli, Arc::clone(&clock) as _, |_| {});
        Self { served, clock }
    }

    /// A run of the process that waits for its tasks.
    pub(crate) fn run(&self, id: &str, inputs: &Value) {
        let entry = self.served.cli.path("work.js").display().to_string();
        let asked = json!({ "source": { "entry": entry }, "inputs": inputs, "runId": id });
        assert_eq!(self.served.post("/v1/runs", &asked).status, 201);
        self.served.rests(id);
    }

    /// The same with one task with these options.
    pub(crate) fn task(&self, id: &str, options: &Value) {
        self.run(id, &json!({ "tasks": [{ "options": options }] }));
    }

    pub(crate) fn deed(&self, task: &str, verb: &str, body: &Value) -> Answer {
        let (run, effect) = task.split_once('/').unwrap();
        self.served.post(&format!("/v1/runs/{run}/tasks/{effect}/{verb}"), body)
    }

    pub(crate) fn show(&self, task: &str) -> Value {
        let (run, effect) = task.split_once('/').unwrap();
        self.served.get(&format!("/v1/runs/{run}/tasks/{effect}")).ok()
    }

    /// What a worker gets at once.
    pub(crate) fn claim(&self, worker: &str, more: &Value) -> Value {
        let mut asked = json!({ "worker": worker, "kinds": ["agent"], "waitMs": 0 });
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.served.post("/v1/tasks/claim", &asked).ok()
    }

    /// Lets time pass in steps after each of which the daemon looks at its clock.
    pub(crate) fn pass(&self, seconds: i64) {
        for _ in 0..seconds / 40 {
            self.jump(40);
        }
        self.jump(seconds % 40);
    }

    /// Lets days pass in which nobody looked.
    pub(crate) fn ahead_by_days(&self, days: i64) {
        self.clock.by_millis(days * 24 * 60 * 60 * 1000);
    }

    pub(crate) fn jump(&self, seconds: i64) {
        self.clock.by_millis(seconds * 1000);
        // The answer to the second may only come after what the first has led to.
        for _ in 0..2 {
            self.served.get("/v1/workers").ok();
        }
    }

    /// Waits until a task stands there.
    #[track_caller]
    pub(crate) fn until(&self, task: &str, status: &str) {
        for _ in 0..LOOKS_MAX {
            if self.show(task)["effect"]["status"] == status {
                return;
            }
        }
        panic!("never {status}: {}", self.show(task));
    }

    pub(crate) fn events(&self, run: &str, kind: &str) -> Vec<Value> {
        let events = self.served.get(&format!("/v1/runs/{run}/events?types={kind}")).ok();
        events["events"].as_array().unwrap().clone()
    }
}

pub(crate) fn names(claimed: &Value) -> Vec<String> {
    let name = |task: &Value| {
        format!("{}/{}", task["runId"].as_str().unwrap(), task["effectId"].as_str().unwrap())
    };
    claimed["tasks"].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn e09_of_64_claims_at_once_one_starts_the_effect() {
    let site = Site::new();
    site.task("r", &json!({}));
    let barrier = Barrier::new(64);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let claims: Vec<_> = (0..64)
            .map(|n| {
                let (site, barrier) = (&site, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    site.deed("r/e0001", "claim", &json!({ "worker": format!("w{n}") }))
                })
            })
            .collect();
        claims.into_iter().map(|claim| claim.join().unwrap()).collect()
    });
    let (won, lost): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 63));
    let task = won[0].ok();
    assert_eq!((&task["epoch"], &task["attempt"]), (&json!(1), &json!(1)));
    assert_eq!(task["idempotencyKey"], "r/e0001");
    assert_eq!(task["definition"]["kind"], "agent");
    for refused in lost {
        let problem = refused.is_problem(409, "leased");
        assert_eq!((&problem["worker"], &problem["epoch"]), (&task["worker"], &json!(1)));
        assert!(problem["leaseUntil"].is_string(), "{problem}");
    }
    assert_eq!(site.events("r", "EFFECT_STARTED").len(), 1);
    let shown = site.show("r/e0001");
    assert_eq!((&shown["lease"]["worker"], &shown["lease"]["epoch"]), (&task["worker"], &json!(1)));
}

#[test]
fn who_waits_gets_what_comes_and_nothing_is_given_twice() {
    let site = Site::new();
    let asked = |n: usize| {
        let worker = format!("w{n}");
        json!({ "worker": worker, "kinds": ["agent"], "waitMs": 60_000, "max": 2 })
    };
    let got: Vec<Value> = std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..4)
            .map(|n| {
                let site = &site;
                scope.spawn(move || site.served.post("/v1/tasks/claim", &asked(n)).ok())
            })
            .collect();
        for n in 0..4 {
            site.run(&format!("r{n}"), &json!({ "tasks": [{}, {}] }));
        }
        waiting.into_iter().map(|waiting| waiting.join().unwrap()).collect()
    });
    let all: Vec<String> = got.iter().flat_map(names).collect();
    let different: BTreeSet<&String> = all.iter().collect();
    assert_eq!(all.len(), different.len(), "{all:?}");
    assert!(got.iter().all(|got| (1..=2).contains(&names(got).len())), "{got:?}");
    // What nobody has got yet is there for the next.
    let rest = names(&site.claim("w9", &json!({ "max": 64 })));
    assert_eq!(all.len() + rest.len(), 8);
    assert_eq!(site.claim("w9", &json!({}))["tasks"], json!([]));
}

#[test]
fn a_claim_that_is_asked_again_gives_the_same_and_never_more() {
    let site = Site::new();
    site.run("r", &json!({ "tasks": [{}, {}, {}] }));
    let named = json!({ "claimId": "c1", "max": 2 });
    let first = site.claim("w", &named);
    assert_eq!(names(&first), ["r/e0001", "r/e0002"]);
    site.pass(20);
    let again = site.claim("w", &named);
    assert_eq!(names(&again), names(&first));
    assert_eq!(again["tasks"][0]["epoch"], 1);
    assert_eq!(again["tasks"][0]["repeat"], true);
    assert!(again["tasks"][0]["leaseUntil"].as_str() > first["tasks"][0]["leaseUntil"].as_str());
    // The same words of somebody else are another claim.
    assert_eq!(names(&site.claim("x", &named)), ["r/e0003"]);
    let ok = json!({ "status": "ok", "value": 1, "epoch": 1 });
    site.deed("r/e0001", "result", &ok).ok();
    assert_eq!(names(&site.claim("w", &named)), ["r/e0002"]);
    site.deed("r/e0002", "result", &ok).ok();
    let spent = site.claim("w", &named);
    assert_eq!(spent, json!({ "tasks": [], "spent": true }));
    assert_eq!(site.events("r", "EFFECT_STARTED").len(), 3);
    let one = json!({ "worker": "x", "claimId": "c1" });
    assert_eq!(site.deed("r/e0003", "claim", &one).ok()["repeat"], true);
    let other = json!({ "worker": "x", "claimId": "c2" });
    site.deed("r/e0003", "claim", &other).is_problem(409, "leased");
}

#[test]
fn what_was_given_back_is_somebody_elses_and_its_old_number_is_dead() {
    let site = Site::new();
    site.task("r", &json!({}));
    site.deed("r/e0001", "claim", &json!({ "worker": "w1" })).ok();
    let back = json!({ "epoch": 1, "began": false, "reason": "no room" });
    assert_eq!(site.deed("r/e0001", "release", &back).ok()["state"], "requested");
    site.deed("r/e0001", "release", &back).is_problem(409, "attempt_closed");
    let taken = site.claim("w2", &json!({}));
    assert_eq!(taken["tasks"][0]["epoch"], 2);
    let before = &taken["tasks"][0]["previousAttempts"][0];
    assert_eq!((&before["class"], &before["cause"]), (&json!("not_begun"), &json!("released")));
    let late = json!({ "status": "ok", "value": 1, "epoch": 1 });
    let problem = site.deed("r/e0001", "result", &late).is_problem(409, "stale_lease");
    assert_eq!((&problem["yourEpoch"], &problem["currentEpoch"]), (&json!(1), &json!(2)));
    assert_eq!((&problem["heldBy"], &problem["state"]), (&json!("w2"), &json!("started")));
    let kept = site.served.cli.root().join("r").join(problem["evidence"].as_str().unwrap());
    let kept: Value = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
    assert_eq!((&kept["value"], &kept["code"]), (&json!(1), &json!("stale_lease")));
    let beat = site.deed("r/e0001", "heartbeat", &json!({ "epoch": 1 }));
    assert_eq!(beat.is_problem(409, "stale_lease")["directive"], "stop");
    site.deed("r/e0001", "heartbeat", &json!({ "epoch": 3 })).is_problem(409, "unknown_epoch");
    let own = json!({ "status": "ok", "value": 2, "epoch": 2 });
    let done = site.deed("r/e0001", "result", &own).ok();
    assert_eq!((&done["state"], &done["repeat"]), (&json!("ok"), &json!(false)));
    assert_eq!(site.deed("r/e0001", "result", &own).ok()["repeat"], true);
    let ended = site.deed("r/e0001", "claim", &json!({ "worker": "w3" }));
    assert_eq!(ended.is_problem(409, "effect_ended")["outcome"], "ok");
}

#[test]
fn silence_makes_an_effect_uncertain_and_its_holder_may_still_say_what_happened() {
    let site = Site::new();
    site.task("r", &json!({}));
    site.deed("r/e0001", "claim", &json!({ "worker": "w" })).ok();
    site.pass(80);
    assert_eq!(site.show("r/e0001")["effect"]["status"], "started", "there is a grace");
    assert_eq!(site.show("r/e0001")["lease"]["lapsed"], true);
    assert_eq!(names(&site.served.get("/v1/tasks?overdue=true").ok()), ["r/e0001"]);
    let beat = site.deed("r/e0001", "heartbeat", &json!({ "epoch": 1, "worker": "w" })).ok();
    assert_eq!((&beat["directive"], &beat["state"]), (&json!("continue"), &json!("started")));
    site.pass(80);
    assert_eq!(site.show("r/e0001")["effect"]["status"], "started");
    site.pass(20);
    site.until("r/e0001", "uncertain");
    let uncertain = site.events("r", "EFFECT_UNCERTAIN");
    assert_eq!(uncertain[0]["data"]["cause"], "lease_expired");
    site.deed("r/e0001", "claim", &json!({ "worker": "x" })).is_problem(409, "effect_uncertain");
    assert_eq!(site.claim("x", &json!({}))["tasks"], json!([]));
    let listed = site.served.get("/v1/tasks?state=uncertain&worker=w").ok();
    assert_eq!(names(&listed), ["r/e0001"]);
    let beat = site.deed("r/e0001", "heartbeat", &json!({ "epoch": 1 })).ok();
    assert_eq!((&beat["directive"], &beat["state"]), (&json!("continue"), &json!("uncertain")));
    let late = json!({ "status": "ok", "value": 7, "epoch": 1 });
    assert_eq!(site.deed("r/e0001", "result", &late).ok()["state"], "ok");
    site.served.rests("r");
    assert_eq!(site.served.get("/v1/runs/r").ok()["state"], "completed");
}

#[test]
fn what_may_be_done_twice_is_open_again_after_silence() {
    let site = Site::new();
    site.task("r", &json!({ "idempotent": true }));
    site.deed("r/e0001", "claim", &json!({ "worker": "w", "ttlMs": 60_000 })).ok();
    site.pass(100);
    site.until("r/e0001", "requested");
    // The delay before the next attempt passes as well.
    site.pass(10);
    let next = site.claim("x", &json!({ "waitMs": 60_000 }));
    assert_eq!((names(&next), &next["tasks"][0]["epoch"]), (vec!["r/e0001".into()], &json!(2)));
    assert_eq!(next["tasks"][0]["previousAttempts"][0]["class"], "unknown");
}

#[test]
fn after_a_sleep_of_the_machine_everybody_gets_a_whole_lease() {
    let site = Site::new();
    site.task("r", &json!({}));
    site.deed("r/e0001", "claim", &json!({ "worker": "w" })).ok();
    site.jump(3_600);
    site.pass(80);
    assert_eq!(site.show("r/e0001")["effect"]["status"], "started");
    site.pass(20);
    site.until("r/e0001", "uncertain");
}

#[test]
fn another_daemon_keeps_the_number_and_gives_a_whole_lease() {
    let mut site = Site::new();
    site.task("r", &json!({}));
    let named = json!({ "claimId": "c" });
    let first = site.claim("w", &named);
    site.pass(80);
    site.served.restart();
    let lease = site.show("r/e0001")["lease"].clone();
    assert_eq!((&lease["epoch"], &lease["lapsed"]), (&json!(1), &json!(false)));
    site.pass(80);
    assert_eq!(site.show("r/e0001")["effect"]["status"], "started");
    let again = site.claim("w", &named);
    assert_eq!(names(&again), names(&first));
    let workers = site.served.get("/v1/workers").ok();
    assert_eq!(
        (&workers["workers"][0]["name"], &workers["workers"][0]["leases"]),
        (&json!("w"), &json!(1))
    );
    let beat = site.deed("r/e0001", "heartbeat", &json!({ "epoch": 1 })).ok();
    assert_eq!(beat["directive"], "continue");
    site.served.restart();
    site.pass(120);
    site.until("r/e0001", "uncertain");
}

#[test]
fn whoever_works_for_a_cancelled_run_is_told_and_then_given_up() {
    let site = Site::new();
    site.run("r", &json!({ "tasks": [{}, {}] }));
    assert_eq!(site.claim("w", &json!({ "max": 2 }))["tasks"].as_array().unwrap().len(), 2);
    site.served.post("/v1/runs/r/cancel", &json!({ "reason": "enough" })).ok();
    let beat = site.deed("r/e0001", "heartbeat", &json!({ "epoch": 1 })).ok();
    assert_eq!((&beat["directive"], &beat["reason"]), (&json!("cancel"), &json!("enough")));
    let stopped = json!({ "status": "error", "epoch": 1, "error": { "message": "stopped" } });
    assert_eq!(site.deed("r/e0002", "result", &stopped).ok()["state"], "error");
    site.pass(40);
    site.until("r/e0001", "cancelled");
    let both = json!({ "worker": "w", "tasks": [
        { "runId": "r", "effectId": "e0001", "epoch": 1 },
        { "runId": "r", "effectId": "e0009", "epoch": 1 },
    ] });
    let beats = site.served.post("/v1/tasks/heartbeat", &both).ok();
    let codes = |n: usize| beats["tasks"][n]["problem"]["code"].clone();
    assert_eq!((codes(0), codes(1)), (json!("effect_ended"), json!("effect_not_found")));
    assert_eq!(beats["tasks"][0]["problem"]["directive"], "stop");
}

#[test]
fn heartbeats_of_many_tasks_are_answered_each_for_itself() {
    let site = Site::new();
    site.run("r", &json!({ "tasks": [{}, {}] }));
    site.claim("w", &json!({ "max": 2, "ttlMs": 30_000 }));
    let tasks = json!([
        { "runId": "r", "effectId": "e0001", "epoch": 1 },
        { "runId": "r", "effectId": "e0002", "epoch": 2 },
    ]);
    let asked = json!({ "worker": "w", "tasks": tasks });
    let beats = site.served.post("/v1/tasks/heartbeat", &asked).ok();
    assert_eq!(
        (&beats["tasks"][0]["directive"], &beats["tasks"][0]["ttlMs"]),
        (&json!("continue"), &json!(30_000))
    );
    assert_eq!(beats["tasks"][1]["problem"]["code"], "unknown_epoch");
    let stranger = json!({ "worker": "x", "tasks": tasks });
    let beats = site.served.post("/v1/tasks/heartbeat", &stranger).ok();
    assert_eq!(beats["tasks"][0]["problem"]["code"], "leased");
    let many = vec![tasks[0].clone(); 257];
    let many = site.served.post("/v1/tasks/heartbeat", &json!({ "worker": "w", "tasks": many }));
    many.is_problem(400, "bad_request");
}

#[test]
fn workers_get_what_they_can_do_in_order_of_priority() {
    let site = Site::new();
    let task = |agent: &str, priority: u32, needs: &[&str]| {
        json!({
            "args": { "agent": agent },
            "options": { "priority": priority, "executorLabels": needs },
        })
    };
    site.run("a", &json!({ "tasks": [task("ann", 500, &[]), task("bob", 400, &[])] }));
    site.run("b", &json!({ "tasks": [task("ann", 500, &["gpu"]), task("ann", 900, &[])] }));
    let bob = site.claim("w", &json!({ "agents": ["bob"], "max": 9 }));
    assert_eq!(names(&bob), ["a/e0002"]);
    let ann = site.claim("w", &json!({ "runs": ["b"], "max": 9 }));
    assert_eq!(names(&ann), ["b/e0002"]);
    for task in ["a/e0002", "b/e0002"] {
        site.deed(task, "release", &json!({ "epoch": 1, "began": false })).ok();
    }
    let first = site.claim("w", &json!({ "offers": ["gpu"] }));
    assert_eq!(names(&first), ["b/e0002"]);
    let rest = site.claim("w", &json!({ "offers": ["gpu", "fast"], "max": 9 }));
    assert_eq!(names(&rest), ["a/e0001", "b/e0001", "a/e0002"]);
    site.run("p", &json!({ "tasks": [{}] }));
    site.served.post("/v1/runs/p/pause", &json!({})).ok();
    assert_eq!(names(&site.claim("w", &json!({ "runs": ["p"] }))), Vec::<String>::new());
    let held = site.deed("p/e0001", "claim", &json!({ "worker": "w" }));
    assert_eq!(held.is_problem(409, "held")["by"], "pause");
    site.served.post("/v1/runs/p/resume", &json!({})).ok();
    let resumed = site.claim("w", &json!({ "runs": ["p"], "waitMs": 60_000 }));
    assert_eq!(names(&resumed), ["p/e0001"]);
}

#[test]
fn an_operator_decides_what_nobody_knows() {
    let site = Site::new();
    site.run("r", &json!({ "tasks": [{}, {}, {}] }));
    site.claim("w", &json!({ "max": 3 }));
    let decide = |task: &str, body: &Value| site.deed(task, "decide", body);
    let retry = json!({ "decision": "retry", "epoch": 1, "reason": "seen" });
    decide("r/e0001", &retry).is_problem(409, "wrong_state");
    let unsure = json!({ "status": "unknown", "epoch": 1 });
    assert_eq!(site.deed("r/e0001", "result", &unsure).ok()["state"], "uncertain");
    assert_eq!(decide("r/e0001", &retry).ok()["state"], "requested");
    let began = json!({ "epoch": 1, "began": true });
    assert_eq!(site.deed("r/e0002", "release", &began).ok()["state"], "uncertain");
    let done = json!({ "decision": "done", "epoch": 1, "reason": "seen", "value": { "n": 1 } });
    let decided = decide("r/e0002", &done).ok();
    assert_eq!((&decided["state"], &decided["repeat"]), (&json!("ok"), &json!(false)));
    assert_eq!(decide("r/e0002", &done).ok()["repeat"], true);
    decide("r/e0002", &json!({ "decision": "done", "epoch": 1, "reason": "" }))
        .is_problem(400, "bad_request");
    let stale = json!({ "decision": "retry", "epoch": 0, "reason": "x" });
    decide("r/e0003", &stale).is_problem(409, "stale_lease");
    let open = site.served.get("/v1/ledger").ok();
    assert_eq!(
        (open["rows"].as_array().unwrap().len(), &open["rows"][0]["key"]),
        (2, &json!("r/e0001"))
    );
    let lost = json!({
        "decision": "failed", "epoch": 1, "reason": "burnt", "force": true,
        "error": { "name": "Burnt", "message": "the machine is gone" },
    });
    assert_eq!(decide("r/e0003", &lost).ok()["state"], "error");
    let ledger = site.served.get("/v1/ledger?run=r&state=ok").ok();
    assert_eq!(ledger["rows"][0]["decision"]["reason"], "seen");
    let one = site.served.get("/v1/ledger/r%2Fe0003").ok();
    assert_eq!(
        (&one["rows"][0]["state"], &one["rows"][0]["worker"]),
        (&json!("error"), &json!("w"))
    );
    site.served.get("/v1/ledger/nothing").is_problem(404, "key_not_found");
}

#[test]
fn a_failed_attempt_waits_for_its_time_unless_somebody_hurries_it() {
    let site = Site::new();
    site.task("r", &json!({ "retry": { "maxAttempts": 3, "initial": "10m", "max": "10m" } }));
    site.claim("w", &json!({}));
    let failed = json!({ "status": "error", "epoch": 1, "error": { "message": "again" } });
    assert_eq!(site.deed("r/e0001", "result", &failed).ok()["state"], "requested");
    assert_eq!(names(&site.claim("w", &json!({}))), Vec::<String>::new());
    let held = site.deed("r/e0001", "claim", &json!({ "worker": "w" })).is_problem(409, "held");
    assert!(held["by"] == "backoff" && held["until"].is_string(), "{held}");
    site.deed("r/e0001", "retry-now", &json!({})).ok();
    let second = site.claim("w", &json!({ "waitMs": 60_000 }));
    assert_eq!(second["tasks"][0]["epoch"], 2);
    let last =
        json!({ "status": "error", "epoch": 2, "error": { "message": "no", "retryable": false } });
    assert_eq!(site.deed("r/e0001", "result", &last).ok()["state"], "error");
    site.deed("r/e0001", "retry-now", &json!({})).is_problem(409, "wrong_state");
}

#[test]
fn a_claim_that_makes_no_sense_is_refused() {
    let site = Site::new();
    site.task("r", &json!({}));
    for (name, value) in [
        ("worker", json!("@daemon/1")),
        ("worker", json!("")),
        ("kinds", json!([])),
        ("max", json!(0)),
        ("max", json!(65)),
        ("waitMs", json!(60_001)),
        ("ttlMs", json!(4_999)),
        ("ttlMs", json!(86_400_001)),
        ("claimId", json!("a\nb")),
        ("kinds", json!(vec!["k"; 65])),
    ] {
        let mut asked = json!({ "worker": "w", "kinds": ["agent"], "waitMs": 0 });
        asked[name] = value.clone();
        let refused = site.served.post("/v1/tasks/claim", &asked);
        assert_eq!(refused.status, 400, "{name} {value}: {refused:?}");
    }
    site.served
        .post("/v1/tasks/claim", &json!({ "worker": "w", "kinds": ["agent"], "x": 1 }))
        .is_problem(422, "unknown_field");
    site.deed("r/e0009", "claim", &json!({ "worker": "w" })).is_problem(404, "effect_not_found");
    assert!(site.events("r", "EFFECT_STARTED").is_empty());
}

/// T17.
#[test]
fn a_start_that_nobody_was_told_of_is_taken_back() {
    let yard = Yard::new();
    let daemon = yard.manager();
    let handle = daemon.handle();
    let run: RunId = yard.run(&handle, "r", "return ctx.task(t, {});", &json!({}));
    let wanted = Wanted {
        worker: "w".into(),
        kinds: Vec::new(),
        agents: Vec::new(),
        offers: Vec::new(),
        runs: Vec::new(),
        max: 1,
        ttl_ms: 60_000,
        claim_id: None,
        by: "client:test".into(),
    };
    let effect = EffectId::new(1);
    yard.wait(async {
        let claim = handle.claim_one(&run, effect, wanted.clone());
        tokio::select! {
            biased;
            answered = claim => panic!("{answered:?}"),
            () = std::future::ready(()) => {}
        }
    });
    let taken_back = || {
        let status = yard.wait(handle.read(&run, move |look| {
            let effect = look.state.effect(effect).unwrap();
            Ok((effect.epoch.0, effect.status.name()))
        }));
        status.unwrap() == (1, "requested")
    };
    assert!((0..LOOKS_MAX).any(|_| taken_back()));
    let given = yard.wait(handle.claim_one(&run, effect, wanted)).unwrap();
    assert_eq!((given.task.epoch.0, given.task.previous[0].cause.as_str()), (2, "undelivered"));
    daemon.stop().unwrap();
}

#[test]
fn a_client_that_hung_up_while_it_waited_gets_nothing() {
    let site = Site::new();
    let waiting = || {
        let metrics = site.served.send_socket(&raw("GET /metrics", "", b"")).text();
        let line =
            metrics.lines().find(|l| l.starts_with("dormouse_claims_waiting ")).map(str::to_owned);
        line.and_then(|line| line.split(' ').nth(1).map(str::to_owned))
    };
    let body = json!({ "worker": "gone", "kinds": ["agent"], "waitMs": 60_000 }).to_string();
    let kind = "Content-Type: application/json\r\n";
    let mut stream = site.served.socket();
    stream.write_all(&raw("POST /v1/tasks/claim", kind, body.as_bytes())).unwrap();
    while waiting().as_deref() != Some("1") {}
    drop(stream);
    while waiting().as_deref() != Some("0") {}
    site.task("r", &json!({}));
    assert_eq!(site.claim("w", &json!({}))["tasks"][0]["epoch"], 1);
}

#[test]
fn a_claim_that_waits_hears_of_a_stop_at_once() {
    let mut site = Site::new();
    let body = json!({ "worker": "w", "kinds": ["agent"], "waitMs": 60_000 }).to_string();
    let kind = "Content-Type: application/json\r\n";
    let mut stream = site.served.socket();
    stream.write_all(&raw("POST /v1/tasks/claim", kind, body.as_bytes())).unwrap();
    let waits = |text: &str| text.lines().any(|line| line == "dormouse_claims_waiting 1");
    while !waits(&site.served.send_socket(&raw("GET /metrics", "", b"")).text()) {}
    site.served.stop();
    // The door would have cut it off without an answer.
    let answer = Answer::read(&mut stream);
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("shutting_down")));
}

#[test]
fn a_signal_finds_the_run_that_waits_for_its_key() {
    let site = Site::new();
    for (id, key) in [("a", "o1"), ("b", "o2"), ("c", "o2")] {
        site.run(id, &json!({ "signal": key }));
    }
    let send = |key: &str, deliver: &str| {
        let body =
            json!({ "correlationKey": key, "signalId": "s", "deliver": deliver, "payload": 1 });
        site.served.post("/v1/signals", &body)
    };
    let done = send("o1", "one").ok();
    assert_eq!(
        (&done["delivered"][0]["runId"], &done["delivered"][0]["repeat"]),
        (&json!("a"), &json!(false))
    );
    site.served.rests("a");
    assert_eq!(site.served.get("/v1/runs/a").ok()["state"], "completed");
    send("o2", "one").is_problem(409, "ambiguous");
    assert_eq!(send("o2", "all").ok()["delivered"].as_array().unwrap().len(), 2);
    site.served.rests("b");
    site.served.rests("c");
    send("o2", "all").is_problem(404, "no_waiter");
}

#[test]
fn arguments_that_are_too_long_for_an_answer_come_by_a_link() {
    let site = Site::new();
    let text = "a".repeat(100_000);
    let long = json!({ "args": { "text": text } });
    site.run("r", &json!({ "tasks": [long, {}] }));
    let given = site.claim("w", &json!({ "max": 2 }));
    let (told, short) = (&given["tasks"][0], &given["tasks"][1]);
    assert!(short["argsLink"].is_null() && short["args"].get("$blob").is_none(), "{short}");
    let link = told["argsLink"].as_str().unwrap();
    let bytes = told["args"]["bytes"].as_u64().unwrap();
    assert!(link.ends_with(told["args"]["$blob"].as_str().unwrap()), "{told}");
    let args = site.served.get(link);
    assert_eq!(
        (args.json()["text"].as_str().unwrap().len(), args.text().len() as u64),
        (text.len(), bytes)
    );
    // Whoever asks through the command line gets them whole.
    site.deed("r/e0001", "release", &json!({ "epoch": 1, "began": false })).ok();
    let whole = site.served.cli.run("task claim r e0001 --worker w --json").ok().json();
    let whole = &whole["tasks"][0];
    assert_eq!(whole["args"]["text"].as_str().unwrap().len(), text.len());
    assert!(whole.get("argsLink").is_none());
}

#[test]
fn a_daemon_whose_clock_was_set_back_before_it_started_gives_what_is_older() {
    let mut site = Site::new();
    site.run("r", &json!({ "tasks": [{}, {}] }));
    let one = json!({ "max": 1 });
    let given = site.claim("w", &one);
    let back = json!({ "epoch": 1, "began": false });
    assert_eq!(site.deed("r/e0001", "release", &back).ok()["state"], "requested");
    assert_eq!(names(&given), ["r/e0001"]);
    site.clock.set_back(3_600_000);
    site.served.restart();
    assert_eq!(names(&site.claim("w", &one)), ["r/e0002"]);
    // What was given back had no delay either.
    assert_eq!(names(&site.claim("w", &one)), ["r/e0001"]);
}

#[test]
fn a_clock_that_was_set_back_keeps_nobody_from_starting() {
    let site = Site::new();
    site.run("r", &json!({ "tasks": [{}, {}] }));
    site.clock.set_back(3_600_000);
    // Its records go on from the time that they had.
    assert_eq!(names(&site.claim("w", &json!({}))), ["r/e0001"]);
    let one = json!({ "worker": "w" });
    assert_eq!(site.deed("r/e0002", "claim", &one).ok()["epoch"], 1);
}
