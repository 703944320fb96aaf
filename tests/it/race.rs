//! Races for effects, and what epochs are whatever happens to clocks, leases and daemons.
//!
//! Invariant: an effect is started once at a time, and its epochs are 1, 2, 3, …

#![allow(clippy::disallowed_methods, reason = "these tests read the files of a run")]

use crate::cli::Cli;
use crate::served::Served;
use crate::storm::full_size;
use crate::yard::{Ahead, Yard};
use dormouse::ground::clock::{Clock, SystemClock};
use dormouse::ground::id::EffectId;
use dormouse::ports::disk::std::StdDisk;
use dormouse::services::manager::{Handle, Wanted};
use dormouse::services::runs::give::Given;
use dormouse::services::torture::book;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};

/// Effects that are raced for: ten thousand with `DORMOUSE_STORM=full`. Most of the time that takes
/// goes into making the files of so many open effects, and removing them.
fn races() -> u32 {
    if full_size() { 10_000 } else { 1_000 }
}

/// The same through the door, where a race takes more.
const RACES_AT_THE_DOOR: u32 = 300;
/// Open effects of one run.
const EACH: u32 = 200;

const MANY: &str = "return ctx.parallel.all(Array.from({ length: inputs }, (_, n) =>
    () => ctx.task(t, { n })));";

fn wanted(worker: &str) -> Wanted {
    Wanted {
        worker: worker.into(),
        kinds: Vec::new(),
        agents: Vec::new(),
        offers: Vec::new(),
        runs: Vec::new(),
        max: 1,
        ttl_ms: 60_000,
        claim_id: None,
        by: "client:test".into(),
    }
}

/// Starts of a run by effect.
fn starts(run: &std::path::Path) -> BTreeMap<String, Vec<u64>> {
    let mut starts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in book::records(&StdDisk, run).unwrap() {
        if record["type"] == "EFFECT_STARTED" {
            let effect = record["data"]["effectId"].as_str().unwrap().to_owned();
            starts.entry(effect).or_default().push(record["data"]["epoch"].as_u64().unwrap());
        }
    }
    starts
}

/// Whether a claim got the effect; if not, because somebody else has it.
fn has_won(claimed: dormouse::services::runs::Result<Given>) -> bool {
    match claimed {
        Ok(given) => {
            assert_eq!((given.task.epoch.0, given.task.repeat), (1, false));
            true
        }
        Err(refused) => {
            assert_eq!(refused.trouble().code, "leased", "{refused}");
            false
        }
    }
}

#[test]
fn two_workers_race_for_thousands_of_effects_and_one_starts_each() {
    let yard = Yard::new();
    let daemon = yard.manager();
    let handle = daemon.handle();
    let ids: Vec<_> = (0..races() / EACH)
        .map(|n| yard.run(&handle, &format!("r{n}"), MANY, &json!(EACH)))
        .collect();
    let gate = Barrier::new(2);
    let race = |worker: &str, handle: Handle| -> Vec<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let all = ids.iter().flat_map(|run| {
            gate.wait();
            // All of a run at once: neither waits for the other between two effects.
            let claims = (1..=EACH).map(|n| {
                let (handle, run, wanted) = (handle.clone(), run.clone(), wanted(worker));
                async move { handle.claim_one(&run, EffectId::new(n), wanted).await }
            });
            let claims: Vec<_> = claims.map(|claim| runtime.spawn(claim)).collect();
            claims.into_iter().map(|claim| has_won(runtime.block_on(claim).unwrap()))
        });
        all.collect()
    };
    let (first, second) = std::thread::scope(|scope| {
        let others = handle.clone();
        let second = scope.spawn(|| race("second", others));
        (race("first", handle.clone()), second.join().unwrap())
    });
    for (n, (first, second)) in first.iter().zip(&second).enumerate() {
        assert_ne!(first, second, "race {n}");
    }
    let won = first.iter().filter(|won| **won).count();
    println!("the first won {won} of {} races", first.len());
    daemon.stop().unwrap();
    for run in ids {
        let starts = starts(&yard.runs.root.join(run.as_str()));
        assert_eq!(starts.len(), EACH as usize);
        assert!(starts.values().all(|epochs| epochs == &[1]), "{run}: {starts:?}");
    }
}

const TASKS: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", (args) => ({ kind: "agent", agent: args }));
export async function process(inputs, ctx) {
  const asked = Array.from({ length: inputs.tasks }, (_, n) => () =>
    ctx.task(t, { n }, inputs.options));
  return ctx.parallel.all(asked);
}
"#;

/// A door to a run `r` that waits for so many tasks.
fn door(clock: Arc<dyn Clock>, tasks: u32, options: &Value) -> Served {
    let cli = Cli::new();
    let entry = cli.file("tasks.js", TASKS).display().to_string();
    let served = Served::at(cli, clock, |_| {});
    let inputs = json!({ "tasks": tasks, "options": options });
    let asked = json!({ "source": { "entry": entry }, "inputs": inputs, "runId": "r" });
    assert_eq!(served.post("/v1/runs", &asked).status, 201);
    served.rests("r");
    served
}

#[test]
fn two_workers_race_at_the_door_and_one_is_told_who_has_it() {
    let served = door(Arc::new(SystemClock), RACES_AT_THE_DOOR, &json!({}));
    let gate = Barrier::new(2);
    let race = |worker: &str| -> Vec<u16> {
        let one = |n| {
            gate.wait();
            let path = format!("/v1/runs/r/tasks/{}/claim", EffectId::new(n));
            let answer = served.post(&path, &json!({ "worker": worker }));
            if answer.status != 200 {
                answer.is_problem(409, "leased");
            }
            answer.status
        };
        (1..=RACES_AT_THE_DOOR).map(one).collect()
    };
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| race("second"));
        (race("first"), second.join().unwrap())
    });
    assert!(first.iter().zip(&second).all(|(one, other)| one != other));
    let starts = starts(&served.cli.root().join("r"));
    assert!(starts.len() == RACES_AT_THE_DOOR as usize && starts.values().all(|e| e == &[1]));
}

/// Less than the time to live of a lease.
const STEP: i64 = 20;

/// What happens to an effect.
#[derive(Debug, Clone)]
enum Act {
    /// One of two workers wants it, perhaps under the id of its last claim.
    Claim { worker: u8, again: bool },
    /// A sign of life, under the current epoch or one so much older.
    Beat { older: u64 },
    /// Given back.
    Release { older: u64, began: bool },
    /// The attempt failed.
    Fail { older: u64 },
    /// Nobody knows how it ended.
    Unknown { older: u64 },
    /// An operator lets it be done again.
    Retry,
    /// Nobody says anything for so long.
    Silence { seconds: i64 },
    /// The wall clock jumps.
    Jump { minutes: i64 },
    /// Another daemon.
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let older = || prop_oneof![4 => Just(0_u64), 1 => 1_u64..4];
    prop_oneof![
        6 => (0_u8..2, any::<bool>()).prop_map(|(worker, again)| Act::Claim { worker, again }),
        2 => older().prop_map(|older| Act::Beat { older }),
        2 => (older(), any::<bool>()).prop_map(|(older, began)| Act::Release { older, began }),
        2 => older().prop_map(|older| Act::Fail { older }),
        1 => older().prop_map(|older| Act::Unknown { older }),
        2 => Just(Act::Retry),
        3 => (1_i64..200).prop_map(|seconds| Act::Silence { seconds }),
        2 => (-300_i64..300).prop_map(|minutes| Act::Jump { minutes }),
        1 => Just(Act::Restart),
    ]
}

/// An effect, and what was told of it.
struct Told {
    served: Served,
    clock: Arc<Ahead>,
    /// The newest epoch that was given out.
    epoch: u64,
    claims: u64,
}

impl Told {
    fn new(idempotent: bool) -> Self {
        let clock = Arc::new(Ahead::default());
        let retry = json!({ "maxAttempts": 100, "maxNotBegun": 100, "initial": 1, "max": 1 });
        let options = json!({ "idempotent": idempotent, "retry": retry });
        let served = door(Arc::clone(&clock) as _, 1, &options);
        Self { served, clock, epoch: 0, claims: 0 }
    }

    fn deed(&self, verb: &str, body: &Value) -> crate::served::Answer {
        self.served.post(&format!("/v1/runs/r/tasks/e0001/{verb}"), body)
    }

    /// A deed under an epoch counts if that is the newest, and never otherwise.
    fn under(&self, verb: &str, older: u64, mut body: Value) {
        let epoch = self.epoch.saturating_sub(older);
        body["epoch"] = json!(epoch);
        let answer = self.deed(verb, &body);
        if answer.status == 200 {
            assert_eq!(epoch, self.epoch, "{verb} {body}: {}", answer.text());
        } else {
            assert_eq!(answer.status, 409, "{verb} {body}: {}", answer.text());
        }
        if answer.status == 409 && 0 < epoch && epoch < self.epoch {
            let problem = answer.is_problem(409, "stale_lease");
            assert_eq!(problem["yourEpoch"], epoch);
            assert_eq!(problem["currentEpoch"], self.epoch);
        }
    }

    fn claim(&mut self, worker: u8, again: bool) {
        // A time that the wall clock moved away is not what this is about.
        self.deed("retry-now", &json!({}));
        self.claims += u64::from(!again);
        let claim = format!("claim {}", self.claims);
        let body = json!({ "worker": format!("w{worker}"), "ttlMs": 30_000, "claimId": claim });
        let answer = self.deed("claim", &body);
        if answer.status != 200 {
            assert_eq!(answer.status, 409, "{}", answer.text());
            return;
        }
        let task = answer.ok();
        let epoch = task["epoch"].as_u64().unwrap();
        if task["repeat"] == true {
            assert_eq!(epoch, self.epoch, "an old epoch was handed out: {task}");
        } else {
            assert_eq!(epoch, self.epoch + 1, "{task}");
            self.epoch = epoch;
        }
    }

    fn perform(&mut self, act: &Act) {
        match act {
            Act::Claim { worker, again } => self.claim(*worker, *again),
            Act::Beat { older } => self.under("heartbeat", *older, json!({})),
            Act::Release { older, began } => self.under("release", *older, json!({"began": began})),
            Act::Fail { older } => {
                let error = json!({ "message": "again" });
                self.under("result", *older, json!({ "status": "error", "error": error }));
            }
            Act::Unknown { older } => self.under("result", *older, json!({ "status": "unknown" })),
            Act::Retry => {
                let body = json!({ "decision": "retry", "reason": "seen" });
                self.under("decide", 0, body);
            }
            Act::Silence { seconds } => {
                // In steps, after each of which the daemon looks: it was not asleep.
                for step in (0..*seconds).step_by(20).map(|at| (seconds - at).min(STEP)) {
                    self.clock.by_millis(step * 1000);
                    for _ in 0..2 {
                        self.served.get("/v1/workers").ok();
                    }
                }
            }
            Act::Jump { minutes } => {
                self.clock.set_back(minutes * 60_000);
            }
            Act::Restart => self.served.restart(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_old_epoch_is_ever_handed_out(
        idempotent in any::<bool>(),
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let mut told = Told::new(idempotent);
        for act in &acts {
            told.perform(act);
        }
        let starts = starts(&told.served.cli.root().join("r"));
        let epochs = starts.get("e0001").cloned().unwrap_or_default();
        prop_assert_eq!(epochs, (1..=told.epoch).collect::<Vec<_>>());
    }
}
