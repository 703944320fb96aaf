//! A replay, record by record: what the process did with each.
//!
//! May not replay anything. Invariant: every record has exactly one line, in journal order.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::codecs::event::{Event, Record};
use crate::ground::id::Seq;
use crate::machines::replay::check::{Divergence, Side};
use crate::machines::replay::state::{RunState, cause_of};

use super::dry::Fed;

/// What a replay did with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Given to the process.
    Fed,
    /// Put out again, the same.
    Reproduced,
    /// Here process and journal disagree.
    Differs,
    /// After that place: not looked at.
    NotReached,
    /// Of code or a generation that was not played.
    Past,
    /// Nothing that a process is shown.
    Unseen,
}

impl Role {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fed => "fed",
            Self::Reproduced => "reproduced",
            Self::Differs => "differs",
            Self::NotReached => "not reached",
            Self::Past => "past",
            Self::Unseen => "unseen",
        }
    }
}

/// One record of a replay.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The record.
    pub seq: Seq,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: &'static str,
    /// Key of the effect that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What was done with it.
    pub role: Role,
    /// What the process put out for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Side>,
}

/// The steps of a replay.
pub(super) fn of(
    records: &[Arc<Record>],
    state: &RunState,
    fed: &[Fed],
    divergence: Option<&Divergence>,
) -> Vec<Step> {
    let by_record: BTreeMap<Seq, &Fed> = fed.iter().map(|fed| (fed.seq, fed)).collect();
    let mut places: BTreeMap<Seq, usize> = BTreeMap::new();
    let step = |record: &Arc<Record>| {
        let played = by_record.get(&record.seq);
        let role = match (played, cause_of(&record.event)) {
            (Some(_), _) => Role::Fed,
            (None, Some(cause)) => {
                let place = places.entry(cause).or_default();
                let role = role_of_output(fed, divergence, cause, *place);
                *place += 1;
                role
            }
            (None, None) => role_of_input(fed, divergence, record),
        };
        let outputs = played.iter().flat_map(|fed| &fed.outputs);
        let effect = record.event.effect_id().and_then(|id| state.effect(id));
        Step {
            seq: record.seq,
            event_type: record.event.name(),
            key: effect.map(|effect| effect.key.clone()),
            role,
            outputs: outputs.map(|put| put.side.clone()).collect(),
        }
    };
    records.iter().map(step).collect()
}

fn role_of_output(fed: &[Fed], divergence: Option<&Divergence>, cause: Seq, place: usize) -> Role {
    if let Some(found) = divergence.filter(|found| cause >= found.cause) {
        return match (cause == found.cause, place.cmp(&found.position)) {
            (true, std::cmp::Ordering::Less) => Role::Reproduced,
            (true, std::cmp::Ordering::Equal) => Role::Differs,
            _ => Role::NotReached,
        };
    }
    let turns = || fed.iter().map(|fed| fed.cause);
    match turns().any(|turn| turn == cause) {
        true => Role::Reproduced,
        // What a limit cut off comes after all that was played.
        false if turns().max().is_none_or(|last| cause > last) => Role::NotReached,
        false => Role::Past,
    }
}

/// Of a record that is no output and was not fed.
fn role_of_input(fed: &[Fed], divergence: Option<&Divergence>, record: &Record) -> Role {
    let is_input = match &record.event {
        Event::EffectResolved(_)
        | Event::EffectCancelled(_)
        | Event::RunCreated(_)
        | Event::RunCancelRequested(_) => true,
        Event::ProcessAssigned(assigned) => assigned.accepted.is_some(),
        _ => false,
    };
    let first = fed.iter().map(|fed| fed.cause).min();
    match divergence {
        _ if !is_input => Role::Unseen,
        Some(found) if record.seq > found.cause => Role::NotReached,
        _ if first.is_none_or(|first| record.seq < first) => Role::Past,
        _ => Role::Unseen,
    }
}
