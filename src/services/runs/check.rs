//! Checking a run against code: its journal is replayed in a throw-away instance.
//!
//! May not append anything. Invariant: what a check says would happen is what the run would do.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use crate::codecs::event::{Accepted, ProcessAssigned, ProcessRef, Record};
use crate::codecs::turn::Output;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Seq};
use crate::machines::replay::check::{Divergence, Mark};
use crate::machines::replay::engine::Rest;
use crate::shells::pin::PinnedGraph;

use super::create::Source;
use super::dry::Dry;
use super::open::SeenRun;
use super::trouble::Trouble;
use super::{Error, Result, Runs};

/// How one recorded call fares under other code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// `kept`, `args-changed`, `kind-changed`, `removed`, `new`, `reordered`.
    pub change: &'static str,
    /// Invocation key.
    pub key: String,
    /// The recorded effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect_id: Option<EffectId>,
    /// Kind of the effect.
    pub kind: String,
    /// Where the recorded effect stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
}

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// The code that was checked.
    pub process: ProcessRef,
    /// The journal is reproduced strictly.
    pub strict: bool,
    /// Where it is not.
    pub divergence: Option<Divergence>,
    /// What came in the way, where it is neither: a limit, a host that failed.
    pub held: Option<String>,
    /// What the code would ask for next.
    pub next: Vec<Mark>,
    /// How each recorded call fares, by key.
    pub lines: Vec<Line>,
    /// Remarks.
    pub warnings: Vec<String>,
}

impl Runs {
    /// Replays a run against its pinned code, or against `source`.
    pub fn check(&self, reference: &str, source: Option<&Source>) -> Result<Checked> {
        let seen = self.look(reference)?;
        let graph = source.map(|source| self.pin(source)).transpose()?.map(|(graph, _)| graph);
        self.check_seen(&seen, graph.as_ref(), source.and_then(|s| s.process_id.clone()))
    }

    pub(super) fn check_seen(
        &self,
        seen: &SeenRun,
        graph: Option<&PinnedGraph>,
        process_id: Option<String>,
    ) -> Result<Checked> {
        let process = process_of(seen, graph, process_id)?;
        let strict = self.dry(&seen.dir, &seen.records, graph, &process)?;
        let by_key = match graph {
            Some(graph) if strict.divergence().is_some() && seen.state.is_open() => {
                let mut records = before_end(seen);
                let accept = pretend_accept(seen, &records, &process);
                records.push(Arc::new(accept));
                Some(self.dry(&seen.dir, &records, Some(graph), &process)?)
            }
            _ => None,
        };
        let lines = match &by_key {
            Some(dry) => reconcile(seen, dry),
            None if strict.divergence().is_none() => {
                seen.state.effects.values().map(|e| line("kept", e)).collect()
            }
            None => Vec::new(),
        };
        Ok(Checked {
            strict: strict.divergence().is_none() && strict.rest != Rest::Held,
            held: strict
                .engine
                .hold_reason()
                .or_else(|| by_key.as_ref().and_then(|dry| dry.engine.hold_reason()))
                .map(str::to_owned),
            divergence: strict.divergence().cloned(),
            next: strict.next.iter().map(Mark::of_output).collect(),
            lines,
            warnings: strict.engine.warnings().to_vec(),
            process,
        })
    }
}

/// What a run is checked against: its pinned process, or the same run with other code.
pub(super) fn process_of(
    seen: &SeenRun,
    graph: Option<&PinnedGraph>,
    process_id: Option<String>,
) -> Result<ProcessRef> {
    let Some(pinned) = seen.state.process.clone() else {
        let what = format!("run {} has no process yet", seen.dir.id());
        let next = format!("dormouse run assign-process {} --entry FILE", seen.dir.id());
        return Err(Error::Refused(Trouble::new("run_is_bare", what).next(next)));
    };
    Ok(match graph {
        None => pinned,
        Some(graph) => ProcessRef {
            process_id: process_id.unwrap_or(pinned.process_id),
            // The profile of a run never changes.
            api: pinned.api,
            ..graph.process_ref(None)
        },
    })
}

/// The records up to the run's end: a run that has ended takes no other code, but one may ask.
fn before_end(seen: &SeenRun) -> Vec<Arc<Record>> {
    let open = |r: &&Arc<Record>| seen.state.end.is_none_or(|(_, seq)| r.seq < seq);
    seen.records.iter().take_while(open).cloned().collect()
}

/// The record that an accept would append, without its decisions.
fn pretend_accept(seen: &SeenRun, records: &[Arc<Record>], process: &ProcessRef) -> Record {
    let digest = Digest::of(b"");
    let accepted = Accepted {
        old_digest: seen.state.process.as_ref().map_or(digest, |p| p.digest),
        new_digest: process.digest,
        plan_digest: digest,
        decisions: Vec::new(),
    };
    let assigned = ProcessAssigned {
        process: process.clone(),
        previous: seen.state.process.clone(),
        force: false,
        accepted: Some(accepted),
        inputs: None,
        inputs_blob: None,
        reason: None,
        by: "check".into(),
    };
    let (seq, sum) = records.last().map_or((Seq(0), seen.state.head.sum), |r| (r.seq, r.sum));
    Record { seq: seq.next(), at: seen.state.last_at, event: assigned.into(), sum }
}

fn line(change: &'static str, effect: &crate::machines::effect::life::Effect) -> Line {
    Line {
        change,
        key: effect.key.clone(),
        effect_id: Some(effect.id),
        kind: effect.kind.clone(),
        status: Some(effect.status.name()),
    }
}

/// The recorded calls beside those that the new code makes, by key.
fn reconcile(seen: &SeenRun, dry: &Dry) -> Vec<Line> {
    let bound = dry.engine.bound();
    let recorded = seen
        .state
        .effects
        .values()
        .filter(|e| e.requested_seq > seen.state.generation_start && !e.superseded);
    let mut lines: Vec<Line> = recorded
        .map(|effect| match bound.get(&effect.id) {
            None => line("removed", effect),
            Some(mark) if mark.kind != effect.kind => line("kind-changed", effect),
            Some(mark) if mark.args_digest != effect.args_digest.to_string() => {
                line("args-changed", effect)
            }
            Some(_) => line("kept", effect),
        })
        .collect();
    let order: Vec<EffectId> = dry.engine.bound_order().to_vec();
    let sorted: BTreeSet<EffectId> = order.iter().copied().collect();
    if !order.iter().eq(sorted.iter()) {
        for (place, id) in order.iter().enumerate() {
            let moved = sorted.iter().nth(place) != Some(id);
            let kept = lines.iter_mut().find(|l| l.effect_id == Some(*id) && l.change == "kept");
            if let Some(line) = kept.filter(|_| moved) {
                line.change = "reordered";
            }
        }
    }
    lines.extend(dry.next.iter().filter_map(|output| match output {
        Output::Request(request) => Some(Line {
            change: "new",
            key: request.key.clone(),
            effect_id: None,
            kind: request.kind.clone(),
            status: None,
        }),
        _ => None,
    }));
    lines
}
