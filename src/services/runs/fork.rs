//! Forking: a new run that shares the past of another one, up to a record.
//!
//! May not touch the run that it is made of. Invariant: a fork appears whole, verified and
//! replayed, or not at all; what its source went on with after that record is executed once more
//! only if its author or an operator says so.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use crate::codecs::event::{
    BlobRef, Edit, EffectAttemptFailed, EffectUncertain, Event, FailureClass, ForkedFrom,
    ProcessRef, Record, RunForkedFrom,
};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::ground::limits::SHELL_LOG_BYTES_MAX;
use crate::machines::effect::Wait;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::replay::check::Divergence;
use crate::machines::replay::engine::Rest;
use crate::ports::disk;
use crate::shells::run_dir::code;
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::make;
use crate::shells::run_dir::root::Staged;

use super::create::{load_process, pinned_files, taken};
use super::open::{OpenRun, SeenRun};
use super::replay::{FirstDivergence, until};
use super::trouble::Trouble;
use super::{Error, Result, Runs};

/// Why an attempt is closed, or uncertain, in a fork.
const FORKED: &str = "forked";

/// What a fork is to be.
#[derive(Debug, Clone)]
pub struct NewFork {
    /// Its id.
    pub run_id: RunId,
    /// The last record that it shares.
    pub at: Seq,
    /// Outcomes that it sees otherwise than they are recorded.
    pub edits: Vec<Edit>,
    /// Open effects that it executes, whatever its source did with them.
    pub rerun: Vec<EffectId>,
}

/// A fork that was made.
#[derive(Debug)]
pub struct Forked {
    /// Its directory.
    pub dir: RunDir,
    /// Where it left its source.
    pub from: ForkedFrom,
    /// Its last record.
    pub head: Seq,
    /// Effects that wait for a decision: its source went on with them.
    pub uncertain: Vec<EffectId>,
}

impl Runs {
    /// Makes a run that shares the records of another one up to a place.
    ///
    /// # Errors
    /// The place is not one to leave from, the process does something else than the shared records
    /// say, or a run of the new id exists.
    pub fn fork(&self, reference: &str, new: &NewFork) -> Result<Forked> {
        let seen = self.look(reference)?;
        let records = until(&seen, Some(new.at))?;
        must_be_open(&seen, new.at)?;
        let from = ForkedFrom {
            run_id: seen.state.run_id.clone(),
            seq: new.at,
            sum: records.last().map_or(seen.state.head.sum, |last| last.sum),
        };
        let root = self.open_root(true)?;
        let mut staged = root.stage(&new.run_id).map_err(|e| not_again(e, &new.run_id))?;
        let events: Vec<(Timestamp, Event)> =
            records.iter().map(|record| (record.at, record.event.clone())).collect();
        staged.journal(&events)?;
        copy(&seen, records, &mut staged)?;
        let mut run = self.open_dir(staged.dir(), None)?;
        let left = run.leave(&seen, &from, new);
        let left = left.and_then(|uncertain| run.rebuild().map(|()| uncertain));
        let uncertain = run.close_after(left)?;
        let made = self.look_dir(staged.dir())?;
        self.must_go_on(&made, &from)?;
        make::sync(&made.dir)?;
        let dir = staged.publish().map_err(|e| not_again(e, &new.run_id))?;
        Ok(Forked { dir, from, head: made.state.head.seq, uncertain })
    }

    /// Refuses a fork whose process does something else than its records say.
    fn must_go_on(&self, made: &SeenRun, from: &ForkedFrom) -> Result<()> {
        let Some(process) = &made.state.process else { return Ok(()) };
        let dry = self.dry(&made.dir, &made.records, None, process)?;
        if let Some(found) = dry.divergence() {
            return Err(diverges(made, found));
        }
        if dry.rest != Rest::Held {
            return Ok(());
        }
        let why = dry.engine.hold_reason().unwrap_or("it was held");
        let what = format!("the shared records cannot be replayed: {why}");
        let next = format!("dormouse run replay {} --to {}", from.run_id, from.seq);
        Err(Error::Refused(Trouble::new("fork_not_replayed", what).next(next)))
    }
}

impl OpenRun {
    /// Says where the run comes from, and what becomes of the effects that are open there. Gives
    /// those that wait for a decision.
    fn leave(&mut self, seen: &SeenRun, from: &ForkedFrom, new: &NewFork) -> Result<Vec<EffectId>> {
        if [&seen.state.run_id, seen.state.process_run_id(), &self.state().run_id]
            .contains(&&new.run_id)
        {
            // Also in another root: outside both would be known under the same keys.
            return Err(taken(&new.run_id));
        }
        self.must_be_sensible(new)?;
        let by = self.runs.by.clone();
        let forked = RunForkedFrom {
            run_id: new.run_id.clone(),
            forked_from: from.clone(),
            rerun: new.rerun.clone(),
            edits: new.edits.clone(),
            by: by.clone(),
        };
        self.append(forked.into())?;
        let open: Vec<Effect> = self.state().open_effects().cloned().collect();
        let mut uncertain = Vec::new();
        for effect in &open {
            let later = seen.state.effect(effect.id);
            match fate(effect, later, new.rerun.contains(&effect.id)) {
                Fate::Stays => {}
                Fate::Again => {
                    let again = again(effect, self.runs.clock.now(), &by);
                    self.append(again.into())?;
                }
                Fate::Uncertain => {
                    let unsure = unsure(effect, later, from);
                    self.append(unsure.into())?;
                    uncertain.push(effect.id);
                }
                Fate::Nested => return Err(nested(effect, from)),
            }
        }
        Ok(uncertain)
    }

    /// Refuses words that name effects for which they mean nothing.
    fn must_be_sensible(&self, new: &NewFork) -> Result<()> {
        let (state, at) = (self.state(), new.at);
        let invalid = |what: String, next: &str| {
            let next = next.replace("RUN", state.run_id.as_str());
            Err(Error::Invalid(Trouble::new("fork_invalid", what).next(next)))
        };
        if let Some(id) = new.rerun.iter().find(|id| !state.open.contains(id)) {
            let what = format!("effect {id} is not open at record {at}: there is nothing to rerun");
            return invalid(what, "dormouse task list RUN");
        }
        let mut known = BTreeSet::new();
        for Edit { effect_id: id, .. } in &new.edits {
            if !known.insert(id) {
                return invalid(format!("two edits of effect {id}"), "give one value");
            }
            if !state.effect(*id).is_some_and(|effect| state.may_edit(effect)) {
                let what = format!("effect {id} has no outcome at record {at} that is still used");
                return invalid(what, "dormouse run events RUN");
            }
        }
        Ok(())
    }
}

/// What becomes of an effect that is open where a fork begins.
enum Fate {
    /// It is as it was.
    Stays,
    /// What was started is offered anew.
    Again,
    /// Somebody has to say whether it was done.
    Uncertain,
    /// It is a child run that its source has begun.
    Nested,
}

/// `later` is the same effect as its source knows it by now.
fn fate(effect: &Effect, later: Option<&Effect>, rerun: bool) -> Fate {
    let is_started = effect.status == EffectStatus::Started;
    let went_on = later.is_some_and(|later| {
        let ended = matches!(later.status, EffectStatus::Ok | EffectStatus::Error);
        // What became uncertain may have been done: in a fork, by the run that it left.
        later.epoch > effect.epoch || later.uncertain_at > effect.uncertain_at || ended
    });
    let is_child = matches!(effect.wait, Wait::Run(_));
    match effect.status {
        _ if !is_child && !matches!(effect.wait, Wait::Outside) => Fate::Stays,
        EffectStatus::Requested if rerun => Fate::Stays,
        _ if rerun => Fate::Again,
        EffectStatus::Uncertain => Fate::Stays,
        _ if !is_started && !went_on => Fate::Stays,
        _ if is_child => Fate::Nested,
        EffectStatus::Started if effect.policy.idempotent => Fate::Again,
        _ if effect.policy.idempotent => Fate::Stays,
        _ => Fate::Uncertain,
    }
}

/// The record that opens a started effect again.
fn again(effect: &Effect, now: Timestamp, by: &str) -> EffectAttemptFailed {
    EffectAttemptFailed {
        effect_id: effect.id,
        epoch: effect.epoch,
        attempt: effect.attempts,
        class: FailureClass::Unknown,
        cause: FORKED.to_owned(),
        error: None,
        post_digest: None,
        stdout: None,
        stderr: None,
        counted: false,
        next_attempt_at: now,
        decision: None,
        by: by.to_owned(),
    }
}

fn unsure(effect: &Effect, later: Option<&Effect>, from: &ForkedFrom) -> EffectUncertain {
    let seq = later.map_or(effect.seq, |later| later.seq);
    let evidence = json!({ "runId": from.run_id, "seq": seq });
    EffectUncertain {
        effect_id: effect.id,
        epoch: effect.epoch,
        cause: FORKED.to_owned(),
        evidence: Some(Json::of(&evidence)),
    }
}

/// Only a run that has not ended goes on.
fn must_be_open(seen: &SeenRun, at: Seq) -> Result<()> {
    let Some((end, seq)) = seen.state.end.filter(|(_, seq)| at >= *seq) else { return Ok(()) };
    let (run, end) = (&seen.state.run_id, end.name());
    let what = format!("run {run} is {end} since record {seq}: a fork there has nothing to do");
    let next = format!("dormouse run fork {run} --at {}", seq.0.saturating_sub(1));
    Err(Error::Refused(Trouble::new("fork_ended", what).next(next)))
}

fn nested(effect: &Effect, from: &ForkedFrom) -> Error {
    let (id, run, at) = (effect.id, &from.run_id, from.seq);
    let what = format!("effect {id} is a child run that {run} has begun: it is never shared");
    let earlier = format!("dormouse run fork {run} --at SEQ, with SEQ before the child's request");
    let anew = format!("dormouse run fork {run} --at {at} --rerun {id}, for a child of its own");
    Error::Refused(Trouble::new("fork_nested", what).next(earlier).next(anew))
}

fn diverges(made: &SeenRun, found: &Divergence) -> Error {
    let first = FirstDivergence::of(&made.records, found);
    let what =
        format!("the process does something else than record {} says ({})", first.seq, first.class);
    // There the process has heard what it heard, and nothing is recorded of its answer.
    let next = format!("the same with --at {}", first.cause);
    let trouble = Trouble::new("fork_diverges", what).next(next);
    Error::Refused(trouble.fact("firstDivergence", json!(first)))
}

fn not_again(error: crate::shells::run_dir::root::Error, id: &RunId) -> Error {
    match Error::from(error) {
        Error::Conflict(t) if t.code == "run_exists" => taken(id),
        other => other,
    }
}

/// Copies what the records name: values, code, what attempts printed.
fn copy(seen: &SeenRun, records: &[Arc<Record>], staged: &mut Staged) -> Result<()> {
    let mut known: BTreeSet<String> = BTreeSet::new();
    let blobs = records.iter().flat_map(|record| record.event.blobs());
    let blobs: Vec<&BlobRef> = blobs.filter(|blob| known.insert(blob.digest.hex())).collect();
    for blob in blobs {
        staged.blob(&seen.dir.get_blob(blob)?)?;
    }
    let processes = records.iter().filter_map(|record| named_process(&record.event));
    let processes: Vec<_> = processes.filter(|p| known.insert(p.digest.to_string())).collect();
    for (nth, process) in processes.into_iter().enumerate() {
        let graph = load_process(&seen.dir, process)?;
        let place = &code::places(&process.digest)[nth.min(1)];
        for (path, bytes) in pinned_files(&graph) {
            staged.file(&format!("{place}/{path}"), &bytes)?;
        }
    }
    for path in records.iter().flat_map(|record| printed(&record.event)) {
        if known.insert(path.to_owned())
            && let Some(bytes) = disk::optional(seen.dir.read_relative(path, SHELL_LOG_BYTES_MAX))?
        {
            staged.file(path, &bytes)?;
        }
    }
    Ok(())
}

fn named_process(event: &Event) -> Option<&ProcessRef> {
    match event {
        Event::RunCreated(created) => created.process.as_ref(),
        Event::ProcessAssigned(assigned) => Some(&assigned.process),
        Event::RunContinued(continued) => Some(&continued.process),
        _ => None,
    }
}

/// Files with what an attempt printed, below the run directory.
fn printed(event: &Event) -> impl Iterator<Item = &str> {
    let files = match event {
        Event::EffectResolved(e) => [e.stdout.as_deref(), e.stderr.as_deref()],
        Event::EffectAttemptFailed(e) => [e.stdout.as_deref(), e.stderr.as_deref()],
        _ => [None, None],
    };
    files.into_iter().flatten()
}
