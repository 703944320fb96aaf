//! Comparing two runs: what they share, where they part, and what came of both.
//!
//! May not write, nor say which of them is right. Invariant: two runs are equal exactly when their
//! records say the same, one by one, and their processes saw the same; when it was said, by whom
//! and under which ids is set aside.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::codecs::event::{Event, ForkedFrom, ProcessRef, Record};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::machines::effect::life::Effect;
use crate::machines::replay::check::Mark;

use super::open::{SeenRun, record_at};
use super::{Result, Runs, view};

/// Fields of records that differ between runs which do the same: names, times, places in journals.
const ASIDE: [&str; 14] = [
    "by",
    "cause",
    "claim",
    "finishedAt",
    "idempotency",
    "idempotencyKey",
    "nextAttemptAt",
    "parent",
    "postDigest",
    "runId",
    "signalSeq",
    "startedAt",
    "target",
    "traceparent",
];

/// One of the two runs.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compared {
    /// Its id.
    pub run_id: RunId,
    /// Where it stands.
    pub state: &'static str,
    /// How many records it has.
    pub records: usize,
    /// Its code.
    pub process: Option<ProcessRef>,
    /// How it ended, with the digest of what it ended with.
    pub end: Option<Mark>,
    /// Set in a fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ForkedFrom>,
}

/// What one record says.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// The record.
    pub seq: Seq,
    /// When.
    pub at: Timestamp,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: &'static str,
    /// Key of the effect that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What is compared of it.
    pub data: Value,
}

/// The first place where two runs do not say the same; nothing where a run has no record there.
#[derive(Debug, Clone, Serialize)]
pub struct Parting {
    /// The first run's record.
    pub a: Option<Said>,
    /// The second's.
    pub b: Option<Said>,
}

/// Where an effect stands in one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stand {
    /// Its name there.
    pub effect_id: EffectId,
    /// Its status.
    pub status: &'static str,
    /// Digest of its arguments.
    pub args_digest: Digest,
    /// Digest of the value that the process sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_digest: Option<Digest>,
    /// An operator put that value in place of the recorded one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
}

/// An effect that is not the same in both runs.
#[derive(Debug, Clone, Serialize)]
pub struct Parted {
    /// Its key.
    pub key: String,
    /// Its kind.
    pub kind: String,
    /// In the first run.
    pub a: Option<Stand>,
    /// In the second.
    pub b: Option<Stand>,
}

/// Two runs, compared.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// Whether they are the same.
    pub equal: bool,
    /// The first run.
    pub a: Compared,
    /// The second.
    pub b: Compared,
    /// The last record that both have, the very same: a fork shares the past of its source.
    pub shared: Seq,
    /// Where they part.
    pub first_difference: Option<Parting>,
    /// Effects that differ, by key in order of request; effects of one run alone come last.
    pub effects: Vec<Parted>,
}

impl Runs {
    /// Compares two runs.
    pub fn diff(&self, a: &str, b: &str) -> Result<Diff> {
        let (a, b) = (self.look(a)?, self.look(b)?);
        let same = |(a, b): &(&Arc<Record>, &Arc<Record>)| a.at == b.at && a.event == b.event;
        let shared = a.records.iter().zip(&b.records).take_while(same).count();
        let first_difference = parting(&a, &b, shared);
        let effects = parted(&a, &b);
        let (one, other) = (compared(&a), compared(&b));
        let equal = first_difference.is_none()
            && effects.is_empty()
            && one.end == other.end
            && one.process == other.process;
        let shared = Seq(shared as u64);
        Ok(Diff { equal, a: one, b: other, shared, first_difference, effects })
    }
}

fn compared(seen: &SeenRun) -> Compared {
    let state = &seen.state;
    let end = state.end.and_then(|(_, seq)| record_at(&seen.records, seq));
    Compared {
        run_id: state.run_id.clone(),
        state: view::state_name(state),
        records: seen.records.len(),
        process: state.process.clone(),
        end: end.map(|record| Mark::of_event(&record.event)),
        forked_from: state.origin.as_ref().map(|origin| origin.from.clone()),
    }
}

/// Compares what follows on the `shared` first records.
fn parting(a: &SeenRun, b: &SeenRun, shared: usize) -> Option<Parting> {
    let after = |seen: &SeenRun| {
        let rest = seen.records.iter().skip(shared).cloned().collect::<Vec<_>>();
        // Where a run comes from is no deed of it.
        rest.into_iter().filter(|record| !matches!(record.event, Event::RunForkedFrom(_)))
    };
    let (mut left, mut right) = (after(a), after(b));
    loop {
        let (one, other) = (left.next(), right.next());
        if one.is_none() && other.is_none() {
            return None;
        }
        let (one, other) = (one.map(|r| said(a, &r)), other.map(|r| said(b, &r)));
        let words = |said: &Option<Said>| said.as_ref().map(|s| (s.event_type, s.data.clone()));
        if words(&one) != words(&other) {
            return Some(Parting { a: one, b: other });
        }
    }
}

fn said(seen: &SeenRun, record: &Record) -> Said {
    let mut data = record.event.data().to_value();
    if let Value::Object(fields) = &mut data {
        fields.retain(|name, _| !ASIDE.contains(&name.as_str()));
    }
    let effect = record.event.effect_id().and_then(|id| seen.state.effect(id));
    Said {
        seq: record.seq,
        at: record.at,
        event_type: record.event.name(),
        key: effect.map(|effect| effect.key.clone()),
        data,
    }
}

/// The effects that differ.
fn parted(a: &SeenRun, b: &SeenRun) -> Vec<Parted> {
    let mut others: BTreeMap<_, _> = named(b).collect();
    let mut parted = Vec::new();
    let mut tell = |effect: &Effect, a: Option<Stand>, b: Option<Stand>| {
        let of = |s: &Option<Stand>| s.as_ref().map(|s| (s.status, s.args_digest, s.value_digest));
        if of(&a) != of(&b) {
            parted.push(Parted { key: effect.key.clone(), kind: effect.kind.clone(), a, b });
        }
    };
    for (name, effect) in named(a) {
        let other = others.remove(&name).map(|other| stand(b, other));
        tell(effect, Some(stand(a, effect)), other);
    }
    let mut alone: Vec<&Effect> = others.into_values().collect();
    alone.sort_by_key(|effect| effect.id);
    for effect in alone {
        tell(effect, None, Some(stand(b, effect)));
    }
    parted
}

/// Every effect by its key and how many before it had the same: each generation counts anew.
fn named(seen: &SeenRun) -> impl Iterator<Item = ((&str, usize), &Effect)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    seen.state.effects.values().map(move |effect| {
        let count = counts.entry(&effect.key).or_default();
        *count += 1;
        ((effect.key.as_str(), *count), effect)
    })
}

fn stand(seen: &SeenRun, effect: &Effect) -> Stand {
    let edited = seen.state.patches.get(&effect.id);
    let recorded = effect.ended.as_ref().and_then(|ended| ended.value_digest);
    Stand {
        effect_id: effect.id,
        status: effect.status.name(),
        args_digest: effect.args_digest,
        value_digest: edited.map(|value| Digest::of(value.as_str().as_bytes())).or(recorded),
        edited: edited.is_some(),
    }
}
