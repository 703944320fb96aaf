//! The judge of the simulation: compares what clients were told with what stands on the disk.
//!
//! Knows JSON lines and nothing of the program. Invariant: what it holds against the daemon it can
//! show in the bytes.

use std::collections::{BTreeMap, BTreeSet};

use dormouse::ground::id::{EffectId, RunId};
use dormouse::ports::disk::memory::MemoryDisk;
use serde_json::Value;

use super::daemon::{Ask, Call, STEPS, Told};
use super::history::Histories;
use crate::commit_log_support::truth;

/// Something that must stand in the journal for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Promise {
    Made,
    Started { effect: String, epoch: u64, claim: String },
    Taken { effect: String, value: u64 },
    Noted { text: String },
    Seen { seq: u64, sum: String },
    NotNoted { text: String },
}

#[derive(Default)]
pub(super) struct Judge {
    promises: BTreeSet<(RunId, Promise)>,
    /// What each claim was given: an epoch is given once.
    given: BTreeMap<(RunId, EffectId, u64), String>,
    /// How often each start was done, outside.
    done: BTreeMap<(RunId, String), Vec<u64>>,
    /// Bytes of each run as they stood after a recovery.
    stood: BTreeMap<RunId, Vec<u8>>,
    histories: Histories,
    starts: u64,
    wrongs: Vec<String>,
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let parse = |line: &[u8]| serde_json::from_slice(line).unwrap();
    bytes.split_inclusive(|b| *b == b'\n').map(parse).collect()
}

fn of_effect<'a>(lines: &'a [Value], effect: &'a str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |line| line["data"]["effectId"] == effect)
}

impl Judge {
    pub(super) fn wrong(&mut self, what: String) {
        self.wrongs.push(what);
    }

    pub(super) fn starts(&self) -> u64 {
        self.starts
    }

    pub(super) fn into_wrongs(self) -> Vec<String> {
        self.wrongs
    }

    /// Somebody asks.
    pub(super) fn asked(&mut self, calls: &[Call]) {
        for call in calls {
            self.histories.asked(call);
        }
    }

    /// What was asked and told about each effect could have happened one after the other. Gives how
    /// many effects that was looked at for.
    pub(super) fn linear(&mut self) -> u64 {
        let (seen, broken) = self.histories.check();
        self.wrongs.extend(broken.into_iter().map(|what| format!("S10: {what}")));
        seen
    }

    /// Somebody did something outside.
    pub(super) fn done(&mut self, run: &RunId, effect: EffectId, epoch: u64) {
        self.done.entry((run.clone(), effect.to_string())).or_default().push(epoch);
    }

    /// Somebody was told something.
    pub(super) fn heard(&mut self, call: &Call, told: &Told) {
        self.histories.told(call, told);
        let promise = match (&call.ask, told) {
            (_, Told::Made) => Promise::Made,
            (Ask::Claim { id, .. }, Told::Started { effect, epoch }) => {
                let before = self.given.insert((call.run.clone(), *effect, *epoch), id.clone());
                if before.is_some_and(|before| before != *id) {
                    self.wrong(format!("K4: {} {effect}: epoch {epoch} was given twice", call.run));
                }
                Promise::Started { effect: effect.to_string(), epoch: *epoch, claim: id.clone() }
            }
            (Ask::Post { effect, value, .. }, Told::Taken) => {
                Promise::Taken { effect: effect.to_string(), value: *value }
            }
            (Ask::Note { text }, Told::Noted) => Promise::Noted { text: text.clone() },
            (Ask::Note { text }, Told::NotWritten) => Promise::NotNoted { text: text.clone() },
            (_, Told::Seen { seq, sum, .. }) => Promise::Seen { seq: seq.0, sum: sum.to_string() },
            _ => return,
        };
        self.promises.insert((call.run.clone(), promise));
    }

    /// Looks at everything that stands on the disk.
    pub(super) fn look(&mut self, disk: &MemoryDisk) {
        let stands = truth(disk);
        for (run, before) in &self.stood {
            if !stands.get(run).is_some_and(|now| now.starts_with(before)) {
                self.wrongs.push(format!("K6: {run} is not what it was, and more"));
            }
        }
        for (run, bytes) in &stands {
            let lines = lines(bytes);
            let promised = self.promises.iter().filter(|(of, _)| of == run);
            let broken = promised.filter_map(|(_, promise)| broken(&lines, promise));
            let broken: Vec<String> = broken.map(|why| format!("{why} ({run})")).collect();
            self.wrongs.extend(broken);
            self.laws(run, &lines);
        }
        for (run, promise) in &self.promises {
            if !stands.contains_key(run) && !matches!(promise, Promise::NotNoted { .. }) {
                self.wrongs.push(format!("K1: {run} is gone: {promise:?}"));
            }
        }
        self.stood = stands;
        self.wrongs.truncate(20);
    }

    /// What holds for every journal.
    fn laws(&mut self, run: &RunId, lines: &[Value]) {
        let effects: BTreeSet<&str> =
            lines.iter().filter_map(|line| line["data"]["effectId"].as_str()).collect();
        for effect in effects {
            let mut epoch = 0;
            let (mut outcomes, mut decided, mut is_open) = (0, 0, false);
            for line in of_effect(lines, effect) {
                let data = &line["data"];
                match line["type"].as_str().unwrap() {
                    "EFFECT_STARTED" => {
                        if data["epoch"].as_u64().unwrap() != epoch + 1 {
                            self.wrongs.push(format!("K4: {run} {effect}: {data} after {epoch}"));
                        }
                        epoch = data["epoch"].as_u64().unwrap();
                        is_open = true;
                    }
                    "EFFECT_RESOLVED" => {
                        outcomes += 1;
                        let value = data["value"]["n"].as_u64();
                        let own = value.map(|value| value % 1_000);
                        if own.is_some_and(|own| own != epoch) {
                            self.wrongs.push(format!("K5: {run} {effect}: {data} under {epoch}"));
                        }
                        is_open = false;
                    }
                    "EFFECT_UNCERTAIN" => {
                        if !is_open {
                            self.wrongs.push(format!("K9: {run} {effect}: nobody was at it"));
                        }
                        is_open = false;
                    }
                    "EFFECT_ATTEMPT_FAILED" => {
                        decided += u64::from(data["cause"] == "decided_retry");
                        is_open = false;
                    }
                    _ => {}
                }
            }
            if outcomes > 1 {
                self.wrongs.push(format!("K3: {run} {effect} has {outcomes} outcomes"));
            }
            self.outside(run, effect, epoch, decided);
        }
    }

    /// What was done outside against what the journal allows.
    fn outside(&mut self, run: &RunId, effect: &str, epoch: u64, decided: u64) {
        let Some(done) = self.done.get(&(run.clone(), effect.to_owned())) else { return };
        let unknown = done.iter().filter(|n| **n > epoch).count();
        if unknown > 0 {
            self.wrongs.push(format!("K2: {run} {effect} was done before its start was durable"));
        }
        // Each decision of an operator allows it once more.
        if done.len() as u64 > 1 + decided {
            let why = format!("{done:?}, {decided} decisions");
            self.wrongs.push(format!("K2: {run} {effect} was done twice: {why}"));
        }
    }

    /// At the end, after a clean stop.
    pub(super) fn finish(&mut self, disk: &MemoryDisk) {
        let stands = truth(disk);
        for (run, bytes) in &stands {
            let lines = lines(bytes);
            let last = lines.last().unwrap();
            let asked = lines.iter().filter(|line| line["type"] == "EFFECT_REQUESTED").count();
            if last["type"] != "RUN_COMPLETED" && lines.iter().all(|l| l["type"] != "RUN_COMPLETED")
            {
                self.wrongs.push(format!("K8: {run} ends with {last}"));
            }
            if asked != STEPS as usize {
                self.wrongs.push(format!("K8: {run} asked for {asked} effects"));
            }
            self.starts += lines.iter().filter(|l| l["type"] == "EFFECT_STARTED").count() as u64;
            let sum: u64 = lines
                .iter()
                .filter(|line| line["type"] == "EFFECT_RESOLVED")
                .filter_map(|line| line["data"]["value"]["n"].as_u64())
                .sum();
            let output = lines.iter().find(|l| l["type"] == "RUN_COMPLETED").map(|l| &l["data"]);
            if output.is_some_and(|data| data["output"] != sum) {
                self.wrongs.push(format!("K7: {run} has seen other values than it was given"));
            }
        }
    }
}

/// Why a promise does not hold, if it does not.
fn broken(lines: &[Value], promise: &Promise) -> Option<String> {
    let named = |name: &'static str| lines.iter().filter(move |line| line["type"] == name);
    let holds = match promise {
        Promise::Made => !lines.is_empty(),
        Promise::Started { effect, epoch, .. } => of_effect(lines, effect)
            .any(|l| l["type"] == "EFFECT_STARTED" && l["data"]["epoch"] == *epoch),
        Promise::Taken { effect, value } => of_effect(lines, effect)
            .any(|l| l["type"] == "EFFECT_RESOLVED" && l["data"]["value"]["n"] == *value),
        Promise::Noted { text } => named("OPERATOR_NOTE").any(|l| l["data"]["text"] == **text),
        Promise::Seen { seq, sum } => {
            let shown = lines.iter().any(|l| l["seq"] == *seq && l["sum"] == **sum);
            return (!shown).then(|| format!("K10: record {seq} was shown and is gone"));
        }
        Promise::NotNoted { text } => {
            let stands = named("OPERATOR_NOTE").any(|l| l["data"]["text"] == **text);
            return stands.then(|| format!("K11: {text:?} was not written, and stands"));
        }
    };
    (!holds).then(|| format!("K1: {promise:?}"))
}
