//! One client who asks for one thing after the other, and remembers what it was promised.
//!
//! Whoever gets no answer asks the same again, when a daemon is there again. Knows nothing of the
//! program but its door. Invariant: what it does outside stands in its book before it says so.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::client::Client;
use super::counter::Counter;
use super::dice::Dice;
use super::judge::{Promise, Variant};

/// What became of one round.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// There is more to do.
    More,
    /// Every run has ended.
    Done,
    /// Nobody answers.
    Silence,
    /// The daemon takes nothing.
    Refused,
}

/// How often a worker behaves badly: one time in so many; never if it is 0.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Habits {
    /// It does not know what it did, so that somebody has to decide.
    pub(super) unsure: u64,
    /// It then says something later, under the old epoch.
    pub(super) late: u64,
}

/// A start that somebody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    epoch: u64,
    is_unsure: bool,
}

/// The client.
pub(super) struct Walker {
    client: Client,
    pub(super) counter: Counter,
    entry: String,
    runs: Vec<(String, Variant)>,
    dice: Dice,
    habits: Habits,
    created: BTreeSet<String>,
    ended: BTreeSet<String>,
    /// Claims of an effect so far: they are numbered.
    claims: BTreeMap<String, u64>,
    starts: BTreeMap<String, Start>,
    /// The highest epoch that was told for an effect.
    told: BTreeMap<String, u64>,
    serials: BTreeMap<String, u64>,
    pub(super) promises: Vec<Promise>,
    /// Answers that must not be.
    pub(super) surprises: Vec<String>,
    /// Late posts that were tried.
    pub(super) late_posts: usize,
}

/// The daemon is gone, or takes nothing.
type Step = Result<(), Round>;

impl Walker {
    pub(super) fn new(
        client: Client,
        counter: Counter,
        entry: String,
        runs: &[(&str, Variant)],
        seed: u64,
        habits: Habits,
    ) -> Self {
        Self {
            client,
            counter,
            entry,
            runs: runs.iter().map(|(run, variant)| ((*run).to_owned(), *variant)).collect(),
            dice: Dice::of(seed, "walker"),
            habits,
            created: BTreeSet::new(),
            ended: BTreeSet::new(),
            claims: BTreeMap::new(),
            starts: BTreeMap::new(),
            told: BTreeMap::new(),
            serials: BTreeMap::new(),
            promises: Vec::new(),
            surprises: Vec::new(),
            late_posts: 0,
        }
    }

    /// The runs, with who does their effects.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&str, Variant)> {
        self.runs.iter().map(|(run, variant)| (run.as_str(), *variant))
    }

    /// Looks after every run once.
    pub(super) fn round(&mut self) -> Round {
        for (run, variant) in self.runs.clone() {
            if self.ended.contains(&run) {
                continue;
            }
            if let Err(end) = self.look_after(&run, variant) {
                return end;
            }
        }
        if self.ended.len() == self.runs.len() { Round::Done } else { Round::More }
    }

    /// The answer to a request that the daemon took up.
    fn ask(&self, path: &str, body: &Value) -> Result<(u16, Value), Round> {
        let method = if body.is_null() { "GET" } else { "POST" };
        match self.client.call(method, path, body) {
            Ok((429 | 503 | 507, _)) => Err(Round::Refused),
            Ok((500..=599, _)) | Err(_) => Err(Round::Silence),
            Ok(answer) => Ok(answer),
        }
    }

    fn surprised(&mut self, what: &str, status: u16, answer: &Value) {
        self.surprises.push(format!("{what}: {status} {answer}"));
    }

    fn look_after(&mut self, run: &str, variant: Variant) -> Step {
        if !self.created.contains(run) {
            let body = json!({
                "source": { "entry": self.entry }, "runId": run, "inputs": self.inputs(variant),
                "idempotencyKey": format!("key of {run}"),
            });
            match self.ask("/v1/runs", &body)? {
                (200 | 201, _) => {
                    self.created.insert(run.to_owned());
                    self.promises.push(Promise::Created { run: run.to_owned() });
                }
                (status, answer) => self.surprised("create", status, &answer),
            }
        }
        let report = match self.ask(&format!("/v1/runs/{run}/iterate"), &json!({}))? {
            (200, report) => report,
            (status, answer) => {
                self.surprised("iterate", status, &answer);
                return Ok(());
            }
        };
        if report["status"] == "completed" {
            self.ended.insert(run.to_owned());
        }
        if variant == Variant::Http {
            return self.help(run);
        }
        for action in report["nextActions"].as_array().into_iter().flatten() {
            let effect = action["effectId"].as_str().unwrap_or_default();
            match variant {
                Variant::Plain => self.post_unclaimed(run, effect)?,
                _ => self.work(run, effect)?,
            }
        }
        Ok(())
    }

    fn inputs(&self, variant: Variant) -> Value {
        let url = format!("{}/hit/${{runId}}/${{effectId}}/0", self.counter.origin());
        let def = match variant {
            Variant::Http => json!({ "kind": "http", "http": { "method": "POST", "url": url } }),
            Variant::Chore => json!({ "kind": "chore" }),
            _ => json!({ "kind": "plain" }),
        };
        json!({ "def": def, "options": {}, "wide": false })
    }

    /// Does it outside, once for all that is said about it.
    fn hit(&mut self, run: &str, effect: &str, epoch: u64) -> u64 {
        let key = format!("{run}/{effect}");
        if let Some(serial) = self.serials.get(&key) {
            return *serial;
        }
        let serial = self.counter.hit(run, effect, epoch).unwrap_or_default();
        self.serials.insert(key, serial);
        serial
    }

    fn post_unclaimed(&mut self, run: &str, effect: &str) -> Step {
        let value = json!({ "serial": self.hit(run, effect, 0) });
        let body = json!({ "status": "ok", "value": value });
        let path = format!("/v1/runs/{run}/tasks/{effect}/result");
        match self.ask(&path, &body)? {
            (200, _) => self.posted(run, effect, value),
            (status, answer) => self.surprised("post", status, &answer),
        }
        Ok(())
    }

    fn posted(&mut self, run: &str, effect: &str, value: Value) {
        let (run, effect) = (run.to_owned(), effect.to_owned());
        self.promises.push(Promise::Posted { run, effect, value });
    }

    /// Where an effect stands.
    fn standing(&self, run: &str, effect: &str) -> Result<(String, u64), Round> {
        let (_, shown) = self.ask(&format!("/v1/runs/{run}/tasks/{effect}"), &Value::Null)?;
        let its = &shown["effect"];
        let status = its["status"].as_str().unwrap_or_default().to_owned();
        Ok((status, its["epoch"].as_u64().unwrap_or_default()))
    }

    /// Claims an effect, does it, posts it; or does one of these badly.
    fn work(&mut self, run: &str, effect: &str) -> Step {
        let key = format!("{run}/{effect}");
        let (status, shown) = self.standing(run, effect)?;
        if status == "uncertain" {
            return self.decide(run, effect, shown);
        }
        let start = match self.starts.get(&key).copied() {
            Some(start) if !start.is_unsure => start,
            // What it said may not have arrived.
            Some(start) if status == "started" => return self.say_unsure(run, effect, start.epoch),
            _ => match self.claim(run, effect)? {
                Some(start) => start,
                None => return Ok(()),
            },
        };
        if self.habits.unsure > 0 && self.dice.one_in(self.habits.unsure) {
            return self.say_unsure(run, effect, start.epoch);
        }
        let value = json!({ "serial": self.hit(run, effect, start.epoch) });
        let body = json!({ "status": "ok", "value": value, "epoch": start.epoch });
        match self.ask(&format!("/v1/runs/{run}/tasks/{effect}/result"), &body)? {
            (200, _) => self.posted(run, effect, value),
            (status, answer) => {
                let what = format!("post to {key} under the present epoch {}", start.epoch);
                self.surprised(&what, status, &answer);
            }
        }
        Ok(())
    }

    /// Claims an effect under the number of the next claim, until that is answered.
    fn claim(&mut self, run: &str, effect: &str) -> Result<Option<Start>, Round> {
        let key = format!("{run}/{effect}");
        let number = self.claims.get(&key).copied().unwrap_or(1);
        let body = json!({ "worker": "walker", "claimId": format!("{key} {number}") });
        let path = format!("/v1/runs/{run}/tasks/{effect}/claim");
        let (status, given) = self.ask(&path, &body)?;
        if status != 200 {
            self.surprised(&format!("claim {key}"), status, &given);
            return Ok(None);
        }
        self.claims.insert(key.clone(), number + 1);
        let epoch = given["epoch"].as_u64().unwrap_or_default();
        let before = self.told.insert(key.clone(), epoch).unwrap_or_default();
        if epoch <= before {
            let what = format!("K4: {key} was started under {epoch} after {before}");
            self.surprises.push(what);
        }
        let start = Start { epoch, is_unsure: false };
        self.starts.insert(key, start);
        if before > 0 && self.habits.late > 0 && self.dice.one_in(self.habits.late) {
            self.come_late(run, effect, before)?;
        }
        Ok(Some(start))
    }

    /// Says that nobody knows what this start has done; it has done nothing.
    fn say_unsure(&mut self, run: &str, effect: &str, epoch: u64) -> Step {
        self.starts.insert(format!("{run}/{effect}"), Start { epoch, is_unsure: true });
        let body = json!({ "status": "unknown", "epoch": epoch });
        match self.ask(&format!("/v1/runs/{run}/tasks/{effect}/result"), &body)? {
            (200, _) => {}
            (status, answer) => self.surprised("say unknown", status, &answer),
        }
        Ok(())
    }

    /// Posts under an epoch that somebody had before.
    fn come_late(&mut self, run: &str, effect: &str, epoch: u64) -> Step {
        self.late_posts += 1;
        let value = json!({ "serial": 0, "by": format!("late {epoch}") });
        let body = json!({ "status": "ok", "value": value, "epoch": epoch });
        let (run, effect) = (run.to_owned(), effect.to_owned());
        match self.ask(&format!("/v1/runs/{run}/tasks/{effect}/result"), &body)? {
            (409, answer) if answer["code"] == "stale_lease" => {
                let current = answer["currentEpoch"].as_u64().unwrap_or_default();
                self.promises.push(Promise::Refused { run, effect, epoch, current, value });
            }
            (status, answer) => {
                let what = format!("K5: post to {run}/{effect} under {epoch}, which is past");
                self.surprised(&what, status, &answer);
            }
        }
        Ok(())
    }

    /// An operator says what became of an effect: the counter knows.
    fn decide(&mut self, run: &str, effect: &str, epoch: u64) -> Step {
        let mut body = json!({ "epoch": epoch, "reason": "looked at the counter" });
        match self.counter.seen(run, effect) {
            Some(serial) => {
                body["decision"] = json!("done");
                body["value"] = json!({ "serial": serial });
            }
            None => body["decision"] = json!("retry"),
        }
        match self.ask(&format!("/v1/runs/{run}/tasks/{effect}/decide"), &body)? {
            (200, _) => {
                let (run, effect) = (run.to_owned(), effect.to_owned());
                self.promises.push(Promise::Decided { run, effect, epoch });
            }
            (status, answer) => self.surprised("decide", status, &answer),
        }
        Ok(())
    }

    /// What the daemon does itself needs somebody only when nobody knows what became of it.
    fn help(&mut self, run: &str) -> Step {
        let (_, page) = self.ask("/v1/tasks?state=uncertain&pageSize=100", &Value::Null)?;
        for task in page["tasks"].as_array().into_iter().flatten() {
            if task["runId"] == *run {
                let effect = task["effectId"].as_str().unwrap_or_default();
                self.decide(run, effect, task["epoch"].as_u64().unwrap_or_default())?;
            }
        }
        Ok(())
    }
}
