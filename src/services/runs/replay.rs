//! Replaying a run offline: its recorded past, played again and compared record by record.
//!
//! May not write, lock, ask the time or start anything but a process host. Invariant: `identical`
//! means that every recorded output was put out again, the same, in every generation; what the
//! process then waits for are the effects that are open, for each was asked for again and none has
//! an outcome.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::codecs::event::{Event, ProcessRef, Record};
use crate::codecs::turn::Output;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::machines::replay::check::{self, ArgsDiff, Divergence, Mark, Side};
use crate::machines::replay::drafts;
use crate::machines::replay::engine::Rest;
use crate::machines::replay::state::{RunState, cause_of};
use crate::shells::pin::PinnedGraph;

use super::check::process_of;
use super::create::Source;
use super::dry::{Dry, Fed};
use super::open::{SeenRun, record_at};
use super::steps::{self, Step};
use super::trouble::Trouble;
use super::{Error, Result, Runs};

/// What came of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The process did again what is recorded.
    Identical,
    /// It did something else.
    Diverged,
    /// Journal, blobs or pinned code are damaged.
    Damaged,
    /// A limit or a host came in the way.
    Held,
}

impl Verdict {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Diverged => "diverged",
            Self::Damaged => "damaged",
            Self::Held => "held",
        }
    }
}

/// An effect that the process waits for after the replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The effect.
    pub effect_id: EffectId,
    /// Its key.
    pub key: String,
    /// Its kind.
    pub kind: String,
}

/// A definition that the code builds otherwise than it did: recorded, not compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// The record of the request.
    pub seq: Seq,
    /// The effect.
    pub effect_id: EffectId,
    /// Its key.
    pub key: String,
    /// The recorded digest.
    pub expected: String,
    /// The digest of what was built now.
    pub observed: String,
}

/// The first place where process and journal disagree.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FirstDivergence {
    /// The record that was expected; where none was, the input that led there.
    pub seq: Seq,
    /// That input.
    pub cause: Seq,
    /// How they disagree.
    pub class: &'static str,
    /// What is recorded.
    pub expected: Option<Side>,
    /// What the process did.
    pub observed: Option<Side>,
    /// How the arguments differ, where key and kind are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_diff: Option<Vec<ArgsDiff>>,
    /// Where the call stands in the code, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl FirstDivergence {
    /// Of a divergence of these records.
    #[must_use]
    pub(super) fn of(records: &[Arc<Record>], found: &Divergence) -> Self {
        let mut outputs = records.iter().filter(|r| cause_of(&r.event) == Some(found.cause));
        let expected = found.expected.as_ref().and_then(|_| outputs.nth(found.position));
        Self {
            seq: expected.map_or(found.cause, |record| record.seq),
            cause: found.cause,
            class: found.class,
            expected: found.expected.clone(),
            observed: found.observed.clone(),
            args_diff: found.args_diff.clone(),
            source: found.observed.as_ref().and_then(|side| side.site.clone()),
        }
    }
}

/// What is wrong with data that cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Its code.
    pub code: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub next: Vec<String>,
}

impl From<&Trouble> for Problem {
    fn from(trouble: &Trouble) -> Self {
        let Trouble { code, what, next, .. } = trouble.clone();
        // The text of a damaged file names its case already.
        let what = what.trim_end_matches(&format!("[{code}]")).trim_end().to_owned();
        Self { code, what, next }
    }
}

/// The report of a replay.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    /// What came of it.
    pub verdict: Verdict,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The code that was played.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessRef>,
    /// Records that were looked at.
    pub records: usize,
    /// Recorded requests that the process made again, the same.
    pub requests_compared: u64,
    /// What the process waits for.
    pub waiting_on: Vec<Waiting>,
    /// Digest of what the process returned.
    pub output_digest: Option<String>,
    /// Where process and journal disagree.
    pub first_divergence: Option<FirstDivergence>,
    /// Definitions that are built otherwise.
    pub drift: Vec<Drift>,
    /// What the process would put out next: nobody has let the run go on since.
    pub next: Vec<Mark>,
    /// What came in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// What is damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// Remarks of the host.
    pub warnings: Vec<String>,
    /// Every record, and what the process did with it.
    #[serde(skip)]
    pub steps: Vec<Step>,
}

impl Replayed {
    fn damaged(trouble: &Trouble) -> Self {
        Self {
            verdict: Verdict::Damaged,
            run_id: None,
            process: None,
            records: 0,
            requests_compared: 0,
            waiting_on: Vec::new(),
            output_digest: None,
            first_divergence: None,
            drift: Vec::new(),
            next: Vec::new(),
            held: None,
            problem: Some(trouble.into()),
            warnings: Vec::new(),
            steps: Vec::new(),
        }
    }
}

/// Generations that were played: the last of them is in `dry`.
struct Past {
    fed: Vec<Fed>,
    compared: u64,
    dry: Dry,
    divergence: Option<Divergence>,
}

impl Runs {
    /// Replays a run up to a record, or all of it, with its pinned code or with `source`. Other
    /// code is played to the last generation only: earlier ones are past.
    pub fn replay(
        &self,
        reference: &str,
        source: Option<&Source>,
        to: Option<Seq>,
    ) -> Result<Replayed> {
        let graph = source.map(|source| self.pin(source)).transpose()?.map(|(graph, _)| graph);
        let process_id = source.and_then(|source| source.process_id.clone());
        let replayed = self.look(reference).and_then(|seen| {
            let records = until(&seen, to)?;
            let process = process_of(&seen, graph.as_ref(), process_id)?;
            let past = self.play_past(&seen, records, graph.as_ref(), &process)?;
            Ok(report(&seen, records, process, past))
        });
        match replayed {
            Err(Error::Damaged(trouble)) => Ok(Replayed::damaged(&trouble)),
            other => other,
        }
    }

    /// Plays every generation, until one disagrees.
    fn play_past(
        &self,
        seen: &SeenRun,
        records: &[Arc<Record>],
        graph: Option<&PinnedGraph>,
        process: &ProcessRef,
    ) -> Result<Past> {
        let (mut fed, mut compared) = (Vec::new(), 0);
        let pinned = if graph.is_none() { records } else { &[] };
        let continued = |r: &Record| matches!(r.event, Event::RunContinued(_));
        for (end, next) in pinned.iter().enumerate().filter(|(_, r)| continued(r)) {
            let dry = self.dry(&seen.dir, &records[..end], None, process)?;
            let divergence = dry.divergence().cloned().or_else(|| goes_on(&dry, records, next));
            if divergence.is_some() || dry.rest == Rest::Held {
                return Ok(Past { fed, compared, dry, divergence });
            }
            compared += dry.engine.compared();
            fed.extend(dry.fed);
        }
        let dry = self.dry(&seen.dir, records, graph, process)?;
        let divergence = dry.divergence().cloned();
        Ok(Past { fed, compared, dry, divergence })
    }
}

/// The records up to and with one.
pub(super) fn until(seen: &SeenRun, to: Option<Seq>) -> Result<&[Arc<Record>]> {
    let Some(to) = to else { return Ok(&seen.records) };
    if seen.record(to).is_none() {
        let (run, last) = (seen.dir.id(), seen.state.head.seq);
        let what = format!("run {run} has no record {to}; its last one is {last}");
        let next = format!("dormouse run events {run}");
        return Err(Error::NotFound(Trouble::new("record_not_found", what).next(next)));
    }
    Ok(&seen.records[..seen.records.partition_point(|r| r.seq <= to)])
}

/// Whether a generation ended as the next one says it did: nothing if so.
fn goes_on(dry: &Dry, records: &[Arc<Record>], next: &Record) -> Option<Divergence> {
    let (state, cause) = (dry.engine.state()?, cause_of(&next.event)?);
    let observed: Vec<&Output> = dry.next.iter().collect();
    let before = |r: &&Arc<Record>| r.seq < next.seq && cause_of(&r.event) == Some(cause);
    let position = records.iter().filter(before).count();
    let compared = check::compare(state.generation, cause, &[next], &observed, false);
    if let Err(found) = compared {
        return Some(Divergence { position, ..*found });
    }
    // Its inputs and its code have no digest: the whole record is compared.
    let again = observed.first().map(|output| drafts::end(state, output, cause, &[]).event);
    let differs = again.as_ref() != Some(&next.event);
    differs.then(|| check::other_outcome(state.generation, cause, position, next, &observed))
}

/// Whether an output would be recorded: a run that has ended, or is held for the end of its
/// process, takes no more.
fn is_news(state: &RunState, output: &Output) -> bool {
    let is_known = |reason: &str| reason == "process_error";
    let fails = matches!(output, Output::Failed { .. });
    let is_held_for_it = fails && state.held.as_ref().is_some_and(|held| is_known(&held.reason));
    state.is_open() && !is_held_for_it
}

fn report(seen: &SeenRun, records: &[Arc<Record>], process: ProcessRef, past: Past) -> Replayed {
    let Past { mut fed, compared, dry, divergence } = past;
    let held = dry.engine.hold_reason().map(str::to_owned);
    let state = dry.engine.state().unwrap_or(&seen.state);
    fed.extend(dry.fed);
    let verdict = match (&divergence, dry.rest == Rest::Held) {
        (Some(_), _) => Verdict::Diverged,
        (None, true) => Verdict::Held,
        (None, false) => Verdict::Identical,
    };
    let next = dry.next.iter().filter(|output| divergence.is_none() && is_news(state, output));
    let waits = if divergence.is_none() { waiting_on(state, &fed) } else { Vec::new() };
    Replayed {
        verdict,
        run_id: Some(seen.dir.id().clone()),
        records: records.len(),
        requests_compared: compared + dry.engine.compared(),
        waiting_on: waits,
        output_digest: output_digest(&fed),
        drift: drift(records, state, &fed),
        next: next.map(Mark::of_output).collect(),
        held,
        problem: None,
        warnings: dry.engine.warnings().to_vec(),
        steps: steps::of(records, state, &fed, divergence.as_ref()),
        first_divergence: divergence.map(|found| FirstDivergence::of(records, &found)),
        process: Some(process),
    }
}

/// The open effects that the process has asked for.
fn waiting_on(state: &RunState, fed: &[Fed]) -> Vec<Waiting> {
    let puts = fed.iter().flat_map(|fed| &fed.outputs);
    let asked: BTreeSet<EffectId> =
        puts.filter_map(|put| put.asked.as_ref()).map(|asked| asked.0).collect();
    let open = state.open_effects().filter(|effect| asked.contains(&effect.id));
    open.map(|e| Waiting { effect_id: e.id, key: e.key.clone(), kind: e.kind.clone() }).collect()
}

/// Of a process that has returned.
fn output_digest(fed: &[Fed]) -> Option<String> {
    let mut puts = fed.iter().rev().flat_map(|fed| &fed.outputs);
    let end = puts.find(|put| put.side.mark.output_type == "RUN_COMPLETED")?;
    Some(end.side.mark.args_digest.clone())
}

/// The same calls with other definitions.
fn drift(records: &[Arc<Record>], state: &RunState, fed: &[Fed]) -> Vec<Drift> {
    let puts = fed.iter().flat_map(|fed| &fed.outputs);
    puts.filter_map(|put| {
        let (effect_id, observed) = put.asked.clone()?;
        let effect = state.effect(effect_id)?;
        let record = record_at(records, effect.requested_seq)?;
        let Event::EffectRequested(asked) = &record.event else { return None };
        if Mark::of_event(&record.event) != put.side.mark {
            return None;
        }
        let (seq, key) = (effect.requested_seq, effect.key.clone());
        let expected = asked.def_digest.to_string();
        (expected != observed).then_some(Drift { seq, effect_id, key, expected, observed })
    })
    .collect()
}
