//! Who asks something of the daemon during a storm: each keeps what was promised.
//!
//! Knows nothing of the program but its HTTP door, which is reached through a proxy that drops
//! answers and repeats requests. Invariant: whoever got no answer asks the same again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::client::{Client, pause};
use super::counter::Counter;
use super::dice::Dice;
use super::judge::{Promise, Variant};
use super::locked;

/// How long a worker's silence is taken for life: the shortest there is.
pub(super) const TTL_MS: u64 = 5_000;

/// How often an operator looks before they help a daemon that asks by itself.
const PROBED_LOOKS: usize = 20;

/// A run that is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) run: String,
    pub(super) variant: Variant,
    /// It also does two things at once, and waits for a signal.
    pub(super) wide: bool,
}

/// What everybody in a storm shares.
pub(super) struct Town {
    pub(super) client: Client,
    pub(super) counter: Counter,
    pub(super) entry: String,
    pub(super) wanted: Vec<Wanted>,
    pub(super) seed: u64,
    /// How many of the wanted runs exist.
    pub(super) created: AtomicUsize,
    /// How many may be created by now.
    pub(super) due: AtomicUsize,
    pub(super) promises: Mutex<Vec<Promise>>,
    /// Runs that have ended.
    pub(super) ended: Mutex<BTreeSet<String>>,
    pub(super) over: AtomicBool,
    /// Answers that nobody expected.
    pub(super) surprises: Mutex<Vec<String>>,
}

impl Town {
    /// The answer to a request, if one came that is no "come back later".
    fn ask(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let method = if body.is_null() { "GET" } else { "POST" };
        match self.client.call(method, path, body) {
            Ok((429 | 503 | 507, _)) | Err(_) => {
                pause();
                None
            }
            Ok(answer) => Some(answer),
        }
    }

    fn promised(&self, promise: Promise) {
        locked(&self.promises).push(promise);
    }

    /// Something was answered that must not be: everybody goes home.
    fn surprised(&self, what: String) {
        locked(&self.surprises).push(what);
        self.over.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn has_ended(&self, run: &str) -> bool {
        locked(&self.ended).contains(run)
    }

    /// Runs that exist, as far as somebody wants to look after them.
    fn mine(&self, is_mine: impl Fn(&Wanted) -> bool) -> Vec<&Wanted> {
        let made = &self.wanted[..self.created.load(Ordering::Relaxed)];
        made.iter().filter(|wanted| is_mine(wanted) && !self.has_ended(&wanted.run)).collect()
    }

    /// Creates all runs that are wanted, not faster than is due.
    pub(super) fn submit(&self) {
        for (n, wanted) in self.wanted.iter().enumerate() {
            while n >= self.due.load(Ordering::Relaxed) && !self.is_over() {
                pause();
            }
            let body = json!({
                "source": { "entry": self.entry }, "runId": wanted.run,
                "inputs": self.inputs(wanted), "idempotencyKey": format!("key of {}", wanted.run),
            });
            while !self.is_over() {
                match self.ask("/v1/runs", &body) {
                    Some((200 | 201, _)) => break,
                    // The host that was to load the process was killed.
                    Some((422, answer)) if answer.to_string().contains("host ended") => pause(),
                    Some((status, answer)) => {
                        self.surprised(format!("create {}: {status} {answer}", wanted.run));
                    }
                    None => {}
                }
            }
            self.promised(Promise::Created { run: wanted.run.clone() });
            self.created.store(n + 1, Ordering::Relaxed);
        }
    }

    fn inputs(&self, wanted: &Wanted) -> Value {
        let url = format!("{}/hit/${{runId}}/${{effectId}}/0", self.counter.origin());
        let def = match wanted.variant {
            Variant::Http => {
                json!({ "kind": "http", "http": { "method": "POST", "url": url } })
            }
            Variant::Shell => {
                let argv = ["bash", &super::storm::hit_script(&self.entry)];
                json!({ "kind": "shell", "argv": argv, "output": "json" })
            }
            Variant::Plain => json!({ "kind": "plain" }),
            _ => json!({ "kind": "chore" }),
        };
        let again = json!({
            "idempotent": true, "retry": { "maxAttempts": 50, "initial": 50, "max": 200 },
        });
        let place = format!("{}/seen/${{runId}}/${{effectId}}", self.counter.origin());
        let probe = json!({ "kind": "http", "def": { "url": place }, "after": 1_000 });
        let options = match wanted.variant {
            Variant::Again => again,
            Variant::Http => json!({ "probe": probe }),
            _ => json!({}),
        };
        json!({ "def": def, "options": options, "wide": wanted.wide })
    }

    /// Sends the signals that runs wait for, and cancels those that are to be cancelled.
    pub(super) fn shout(&self) {
        let mut dice = Dice::of(self.seed, "shouts");
        let (mut told, mut cancelled) = (BTreeSet::new(), BTreeSet::new());
        while !self.is_over() {
            for wanted in self.mine(|wanted| wanted.wide || wanted.variant == Variant::Cancel) {
                let run = &wanted.run;
                if wanted.wide && !told.contains(run) && dice.one_in(3) {
                    let body = json!({ "name": "go", "signalId": format!("go {run}") });
                    match self.ask(&format!("/v1/runs/{run}/signals"), &body) {
                        Some((200, _)) => {
                            told.insert(run.clone());
                            let id = format!("go {run}");
                            self.promised(Promise::Signalled { run: run.clone(), id });
                        }
                        // It was cancelled before.
                        Some((409, _)) => drop(told.insert(run.clone())),
                        Some((status, answer)) => {
                            self.surprised(format!("signal {run}: {status} {answer}"));
                        }
                        None => {}
                    }
                }
                if wanted.variant == Variant::Cancel && !cancelled.contains(run) && dice.one_in(9) {
                    match self.ask(&format!("/v1/runs/{run}/cancel"), &json!({})) {
                        Some((202, _)) => {
                            cancelled.insert(run.clone());
                            self.promised(Promise::Cancelled { run: run.clone() });
                        }
                        // It was faster.
                        Some((409, _)) => drop(cancelled.insert(run.clone())),
                        Some((status, answer)) => {
                            self.surprised(format!("cancel {run}: {status} {answer}"));
                        }
                        None => {}
                    }
                }
            }
            dice.pause(60);
        }
    }

    /// An orchestrator: does what runs wait for, and posts it without a claim.
    pub(super) fn orchestrate(&self) {
        let mut done: BTreeMap<(String, String), u64> = BTreeMap::new();
        while !self.is_over() {
            for wanted in self.mine(|wanted| wanted.variant == Variant::Plain) {
                let run = &wanted.run;
                let path = format!("/v1/runs/{run}/iterate");
                let Some((200, report)) = self.ask(&path, &json!({})) else { continue };
                for action in report["nextActions"].as_array().into_iter().flatten() {
                    if action["kind"] != "plain" {
                        continue;
                    }
                    let effect = action["effectId"].as_str().unwrap_or_default().to_owned();
                    let its = done.entry((run.clone(), effect.clone()));
                    let serial = *its
                        .or_insert_with(|| self.counter.hit(run, &effect, 0).unwrap_or_default());
                    let value = json!({ "serial": serial });
                    let body = json!({ "status": "ok", "value": value });
                    let path = format!("/v1/runs/{run}/tasks/{effect}/result");
                    match self.ask(&path, &body) {
                        Some((200, _)) => {
                            self.promised(Promise::Posted { run: run.clone(), effect, value });
                        }
                        Some((status, answer)) => {
                            self.surprised(format!("post {run} {effect}: {status} {answer}"));
                        }
                        None => {}
                    }
                }
            }
            pause();
        }
    }
}

/// What somebody claimed, did, and says later.
struct Held {
    run: String,
    effect: String,
    epoch: u64,
    value: Value,
    /// It is said only when the daemon has given up on us.
    late: bool,
}

impl Town {
    /// A worker that often falls silent after its work, and comes back when others had time to act.
    pub(super) fn come_back_late(&self, name: &str) {
        let (mut dice, mut held, mut claims) = (Dice::of(self.seed, name), Vec::new(), 0);
        while !self.is_over() || !held.is_empty() {
            if !self.is_over() && held.len() < 4 {
                claims += 1;
                held.extend(self.claim(name, claims, &mut dice));
            }
            held.retain(|held| !self.speak(held));
            dice.pause(150);
        }
    }

    /// Claims something and does it. A claim is asked until it is answered, under one id.
    fn claim(&self, name: &str, number: u64, dice: &mut Dice) -> Option<Held> {
        let body = json!({
            "worker": name, "kinds": ["chore"], "waitMs": 0, "ttlMs": TTL_MS,
            "claimId": format!("{name} {number}"),
        });
        let given = loop {
            match self.ask("/v1/tasks/claim", &body) {
                Some((200, given)) => break given,
                Some((status, answer)) => {
                    self.surprised(format!("claim: {status} {answer}"));
                    return None;
                }
                None if self.is_over() => return None,
                None => {}
            }
        };
        let task = given["tasks"].get(0)?;
        let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
        let (run, effect) = (text("runId"), text("effectId"));
        let epoch = task["epoch"].as_u64()?;
        let serial = self.counter.hit(&run, &effect, epoch)?;
        let value = json!({ "serial": serial, "by": format!("{name} {number}") });
        Some(Held { run, effect, epoch, value, late: dice.one_in(2) })
    }

    /// Posts what was done, unless it is not late enough yet. True when that is settled.
    fn speak(&self, held: &Held) -> bool {
        let Held { run, effect, epoch, value, late } = held;
        let task = format!("/v1/runs/{run}/tasks/{effect}");
        if *late {
            let Some((200, shown)) = self.ask(&task, &Value::Null) else { return false };
            let its = &shown["effect"];
            if its["status"] == "started" && its["epoch"] == *epoch {
                return false;
            }
        }
        let body = json!({ "status": "ok", "value": value, "epoch": epoch });
        let (run, effect, value) = (run.clone(), effect.clone(), value.clone());
        match self.ask(&format!("{task}/result"), &body) {
            Some((200, _)) => self.promised(Promise::Posted { run, effect, value }),
            Some((409, answer)) if answer["code"] == "stale_lease" => {
                let number = |name: &str| answer[name].as_u64().unwrap_or_default();
                let (epoch, current) = (number("yourEpoch"), number("currentEpoch"));
                self.promised(Promise::Refused { run, effect, epoch, current, value });
            }
            // Somebody decided, or cancelled.
            Some((409, _)) => {}
            Some((status, answer)) => {
                self.surprised(format!("post {run} {effect}: {status} {answer}"));
            }
            None => return false,
        }
        true
    }

    /// An operator: finds out what became of what nobody knows, and says so. Looks twice before:
    /// what is on its way arrives meanwhile. Where the daemon asks by itself it may take longer.
    pub(super) fn operate(&self) {
        let mut before = BTreeMap::new();
        while !self.is_over() {
            let mut now = BTreeMap::new();
            let path = "/v1/tasks?state=uncertain&pageSize=1000";
            let tasks = self.ask(path, &Value::Null).map(|(_, page)| page["tasks"].clone());
            for task in tasks.iter().filter_map(Value::as_array).flatten() {
                let text = |name: &str| task[name].as_str().unwrap_or_default().to_owned();
                let name = (text("runId"), text("effectId"), task["epoch"].as_u64().unwrap_or(0));
                let looks = before.get(&name).map_or(1, |looks| looks + 1);
                if looks > if name.0.starts_with("a-") { PROBED_LOOKS } else { 1 } {
                    self.decide(&name.0, &name.1, name.2);
                }
                now.insert(name, looks);
            }
            before = now;
            for _ in 0..100 {
                pause();
            }
        }
    }

    fn decide(&self, run: &str, effect: &str, epoch: u64) {
        let mut body = json!({ "epoch": epoch, "reason": "looked at the counter" });
        // Requests do not say their epoch: they have arrived by now, or never will.
        let seen = if run.starts_with("a-") {
            self.counter.seen(run, effect)
        } else {
            self.counter.close(run, effect, epoch)
        };
        match seen {
            Some(serial) => {
                body["decision"] = json!("done");
                body["value"] = json!({ "serial": serial });
            }
            None => body["decision"] = json!("retry"),
        }
        let path = format!("/v1/runs/{run}/tasks/{effect}/decide");
        if let Some((200, _)) = self.ask(&path, &body) {
            let (run, effect) = (run.to_owned(), effect.to_owned());
            self.promised(Promise::Decided { run, effect, epoch });
        }
    }

    /// Notes which runs have ended.
    pub(super) fn look_around(&self) {
        while !self.is_over() {
            let made = self.created.load(Ordering::Relaxed);
            for wanted in &self.wanted[..made] {
                if !self.has_ended(&wanted.run) && !self.is_over() {
                    let shown = self.ask(&format!("/v1/runs/{}", wanted.run), &Value::Null);
                    let state = shown.map(|(_, shown)| shown["state"].clone()).unwrap_or_default();
                    match state.as_str() {
                        Some("completed" | "failed" | "cancelled" | "halted") => {
                            locked(&self.ended).insert(wanted.run.clone());
                        }
                        // Its hosts were killed too often: somebody looks, and lets it go on.
                        Some("held") => {
                            let resume = format!("/v1/runs/{}/resume", wanted.run);
                            self.ask(&resume, &json!({ "reason": "looked at it" }));
                        }
                        _ => {}
                    }
                }
            }
            for _ in 0..20 {
                pause();
            }
        }
    }
}
