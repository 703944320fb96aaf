//! Child runs: made, driven and answered by whoever drives their parent.
//!
//! May not know hosts. Invariant: a child's id follows from its parent and effect, so that a crash
//! between any two steps finds the same child again; locks are taken from parent to child, never
//! back.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use crate::codecs::event::{
    EffectResolved, EffectStarted, ErrorInfo, Event, ParentRef, Payload, ProcessRef,
    RunCancelRequested, RunCreated, Status,
};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId};
use crate::ground::limits::CHILD_DEPTH_MAX;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::effect::{self, Wait, resolution, run as child, sleep};
use crate::machines::replay::engine::Rest;
use crate::machines::replay::state::End;
use crate::shells::pin::PinnedGraph;
use crate::shells::run_dir::root::{self, Root};

use super::create::load_process;
use super::open::{OpenRun, record_at};
use super::trouble::Trouble;
use super::{Error, Result};

/// Silence of a child's holder means nothing: it is driven by its parent's command.
const CHILD_TTL_MS: u64 = 60_000;

/// How far a run got.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Why it rests.
    pub rest: Rest,
    /// When the first sleep ends, its children's included.
    pub sleeps_until: Option<Timestamp>,
}

/// How a child run ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its end.
    pub end: End,
    /// What a completed one gave back.
    pub output: Option<Json>,
    /// What a failed one threw.
    pub error: Option<ErrorInfo>,
    /// Its directory.
    pub path: PathBuf,
}

impl OpenRun {
    /// Lets the run and its child runs go on until all of them rest.
    pub fn go_on(&mut self) -> Result<Progress> {
        loop {
            let rest = self.play()?;
            if matches!(rest, Rest::Held | Rest::Paused | Rest::Bare) {
                return Ok(Progress { rest, sleeps_until: None });
            }
            let before = self.state().head.seq;
            let children = self.drive_children()?;
            if self.state().head.seq == before {
                let open = |e: &&Effect| e.status == EffectStatus::Requested;
                let own = self.state().open_effects().filter(open).filter_map(sleep::awaited);
                return Ok(Progress { rest, sleeps_until: own.chain(children).min() });
            }
        }
    }

    /// One pass over all child runs. Gives the earliest end of a child's sleep.
    pub(super) fn drive_children(&mut self) -> Result<Option<Timestamp>> {
        let children = self.state().effects.values().filter(|e| matches!(e.wait, Wait::Run(_)));
        let ids: Vec<(EffectId, EffectStatus)> = children.map(|e| (e.id, e.status)).collect();
        let mut earliest = None;
        for (id, status) in ids {
            let slept = match status {
                EffectStatus::Requested => self.start_child(id)?,
                EffectStatus::Started => self.drive_child(id)?,
                EffectStatus::Cancelled => self.cancel_child(id)?,
                _ => None,
            };
            earliest = earliest.into_iter().chain(slept).min();
        }
        Ok(earliest)
    }

    fn start_child(&mut self, id: EffectId) -> Result<Option<Timestamp>> {
        if self.begin_child(id, "@direct")?.is_none() {
            return Ok(None);
        }
        self.drive_child(id)
    }

    /// Records that the child run of an effect is started by `worker`, or answers the effect with
    /// why it cannot be. Gives the child's id.
    pub fn begin_child(&mut self, id: EffectId, worker: &str) -> Result<Option<RunId>> {
        let Some((effect, facts)) = self.child(id) else { return Ok(None) };
        if self.is_direct() && effect.policy.idempotency_key.is_some() {
            // Whether another run holds the key, only a daemon knows: the effect waits for one.
            return Ok(None);
        }
        let depth = self.state().parent.as_ref().map_or(0, |p| p.depth) + 1;
        let planned = child::child_id(self.dir.id(), id, &facts).map_err(|e| e.to_string());
        let planned = planned.and_then(|child_id| {
            if depth > CHILD_DEPTH_MAX {
                return Err(format!("child runs are nested deeper than {CHILD_DEPTH_MAX}"));
            }
            self.child_process(&facts)?;
            Ok(child_id)
        });
        let child_id = match planned {
            Ok(child_id) => child_id,
            Err(why) => {
                self.refuse_child(&effect, why)?;
                return Ok(None);
            }
        };
        let started = EffectStarted {
            effect_id: id,
            epoch: effect.epoch.max(self.state().epoch_floor).next(),
            attempt: effect.attempts + 1,
            worker: worker.into(),
            ttl_ms: CHILD_TTL_MS,
            idempotency_key: effect.idempotency_key(self.dir.id()),
            claim: None,
            target: Some(child_id.to_string()),
            slots: Vec::new(),
        };
        self.append(started.into())?;
        Ok(Some(child_id))
    }

    fn refuse_child(&mut self, effect: &Effect, why: String) -> Result<()> {
        let error = effect::plain_error("ChildRunError", why);
        let refused = resolution(effect, Status::Error, "executor:run");
        self.append(EffectResolved { error: Some(error), ..refused }.into())?;
        Ok(())
    }

    /// The child run that an open effect waits for, once it is started.
    #[must_use]
    pub fn child_of(&self, id: EffectId) -> Option<RunId> {
        target(self.state().effect(id)?)
    }

    /// Whether the child of an effect goes on by itself: its parent waits only for its creation.
    #[must_use]
    pub fn child_is_detached(&self, id: EffectId) -> bool {
        self.child(id).is_some_and(|(_, facts)| facts.detached)
    }

    /// Whether the child of an effect outlives it.
    #[must_use]
    pub fn child_is_abandoned(&self, id: EffectId) -> bool {
        self.child(id).is_some_and(|(_, facts)| {
            facts.detached || facts.on_parent_end.as_deref() == Some("abandon")
        })
    }

    /// Answers an effect whose child run exists and goes on by itself.
    pub fn detach_child(&mut self, id: EffectId, child_id: &RunId) -> Result<()> {
        if let Some((effect, _)) = self.child(id).filter(|(e, _)| e.status.is_open()) {
            self.append(child::child_detached(&effect, child_id))?;
        }
        Ok(())
    }

    /// Makes sure that the child exists, lets it go on, and takes its outcome.
    fn drive_child(&mut self, id: EffectId) -> Result<Option<Timestamp>> {
        let Some((effect, facts)) = self.child(id) else { return Ok(None) };
        let Some(child_id) = target(&effect) else { return Ok(None) };
        let root = self.own_root()?;
        let dir = match root.view().run(&child_id) {
            Ok(dir) => dir,
            Err(root::Error::NotFound(_)) => match self.make_child(&root, &child_id, &effect)? {
                Some(dir) => dir,
                None => return Ok(None),
            },
            Err(e) => return Err(e.into()),
        };
        if facts.detached {
            self.append(child::child_detached(&effect, &child_id))?;
            return Ok(None);
        }
        let runs = super::Runs { lock_wait_ms: 0, ..self.runs.clone() };
        let mut opened = match runs.open_dir(dir, Some(root)) {
            Ok(opened) => opened,
            // Somebody else drives it, or it is set aside: its outcome is taken the next time.
            Err(Error::Conflict(_) | Error::Damaged(_)) => return Ok(None),
            Err(e) => return Err(e),
        };
        let ours = opened.state().parent.as_ref();
        if !ours.is_some_and(|p| p.run_id == *self.dir.id() && p.effect_id == id) {
            opened.close()?;
            self.foreign_child(id, &child_id)?;
            return Ok(None);
        }
        let went = opened.go_on();
        let taken = match &went {
            Ok(Progress { rest: Rest::Ended(_), .. }) => {
                opened.look().how_it_ended().and_then(|outcome| match outcome {
                    Some(outcome) => self.take_outcome(id, &child_id, &outcome),
                    None => Ok(()),
                })
            }
            _ => Ok(()),
        };
        opened.close()?;
        match taken.and(went) {
            Ok(progress) => Ok(progress.sleeps_until),
            // Its own trouble: it is set aside, and its parent and siblings go on.
            Err(Error::Damaged(_) | Error::Refused(_) | Error::Conflict(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Answers an effect whose child run turned out to be somebody else's.
    pub fn foreign_child(&mut self, id: EffectId, child_id: &RunId) -> Result<()> {
        let Some((effect, _)) = self.child(id).filter(|(e, _)| e.status.is_open()) else {
            return Ok(());
        };
        self.refuse_child(&effect, format!("run {child_id} exists and is no child of this effect"))
    }

    /// Answers an effect with the outcome of its child run.
    pub fn take_outcome(&mut self, id: EffectId, child_id: &RunId, outcome: &Ended) -> Result<()> {
        let Some((effect, facts)) = self.child(id).filter(|(e, _)| e.status.is_open()) else {
            return Ok(());
        };
        let mut output = None;
        if outcome.end == End::Completed {
            let value = outcome.output.clone().unwrap_or_else(Json::null);
            output = Some(if facts.subprocess {
                let place = &outcome.path;
                Json::of(&json!({ "runId": child_id, "runDir": place, "output": value }))
            } else {
                value
            });
        }
        let (end, error) = (outcome.end.name(), outcome.error.as_ref());
        self.append(child::child_ended(&effect, child_id, end, output, error).into())?;
        Ok(())
    }

    /// The effect was given up: so is its child, unless it was to outlive its parent.
    fn cancel_child(&mut self, id: EffectId) -> Result<Option<Timestamp>> {
        let Some((effect, facts)) = self.child(id) else { return Ok(None) };
        let Some(child_id) = target(&effect) else { return Ok(None) };
        if facts.on_parent_end.as_deref() == Some("abandon") || facts.detached {
            return Ok(None);
        }
        let root = self.own_root()?;
        let Ok(dir) = root.view().run(&child_id) else { return Ok(None) };
        let runs = super::Runs { lock_wait_ms: 0, ..self.runs.clone() };
        // One that is set aside, or driven by somebody else, is told the next time.
        let mut opened = match runs.look_dir(dir.clone()) {
            Ok(seen) if seen.state.is_open() => match runs.open_dir(dir, Some(root)) {
                Ok(opened) => opened,
                Err(Error::Conflict(_) | Error::Damaged(_)) => return Ok(None),
                Err(e) => return Err(e),
            },
            Ok(_) | Err(Error::Damaged(_)) => return Ok(None),
            Err(e) => return Err(e),
        };
        if opened.state().is_open() && opened.state().cancel.is_none() {
            let reason = Some(format!("parent {} gave up effect {id}", self.dir.id()));
            let by = format!("parent:{}", self.dir.id());
            opened.append(RunCancelRequested { reason, now: false, by }.into())?;
        }
        let went = opened.go_on();
        opened.close()?;
        match went {
            Ok(progress) => Ok(progress.sleeps_until),
            Err(Error::Damaged(_) | Error::Refused(_) | Error::Conflict(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes the child's directory. Nothing when the effect had to be answered with an error.
    fn make_child(
        &mut self,
        root: &Root,
        child_id: &RunId,
        effect: &Effect,
    ) -> Result<Option<crate::shells::run_dir::dir::RunDir>> {
        let Some((created, graph)) = self.child_to_make(effect.id, child_id)? else {
            return Ok(None);
        };
        match self.runs.build(root, created, Some(&graph)) {
            Ok(dir) => Ok(Some(dir)),
            Err(Error::Conflict(t)) if t.code == "run_exists" => {
                Ok(Some(root.view().run(child_id)?))
            }
            Err(e) => Err(e),
        }
    }

    /// The first event of an effect's child run, and its code.
    pub fn child_to_make(
        &self,
        id: EffectId,
        child_id: &RunId,
    ) -> Result<Option<(RunCreated, PinnedGraph)>> {
        let Some((effect, facts)) = self.child(id) else { return Ok(None) };
        let (graph, process) = match self.child_process(&facts) {
            Ok(found) => found,
            Err(why) => return Err(Error::Damaged(Trouble::new("J52", why))),
        };
        let asked = record_at(self.records(), effect.requested_seq);
        let inputs = match asked.map(|r| &r.event) {
            Some(Event::EffectRequested(e)) => Payload::join(e.args.as_ref(), e.args_blob.as_ref()),
            _ => None,
        };
        let inputs = inputs.map(|p| self.value(&p)).transpose()?;
        let depth = self.state().parent.as_ref().map_or(0, |p| p.depth) + 1;
        let parent = ParentRef { run_id: self.dir.id().clone(), effect_id: effect.id, depth };
        let created = RunCreated {
            run_id: child_id.clone(),
            process: Some(process),
            inputs,
            inputs_blob: None,
            parent: Some(parent),
            schedule: None,
            idempotency: None,
            generation: 1,
            tags: Vec::new(),
            cwd: self.state().cwd.clone(),
            non_interactive: self.state().non_interactive,
            system: None,
            traceparent: Some(self.state().trace().attempt(effect.id, effect.epoch)),
            by: "executor:run".into(),
        };
        Ok(Some((created, graph)))
    }

    /// The child's program: another entry into the parent's pinned files.
    fn child_process(
        &self,
        facts: &child::Facts,
    ) -> std::result::Result<(PinnedGraph, ProcessRef), String> {
        let process = self.state().process.clone().ok_or("the parent has no process")?;
        let graph = load_process(&self.dir, &process).map_err(|e| e.to_string())?;
        let path = graph
            .resolve(&process.entry, &facts.process)
            .or_else(|| graph.file(&facts.process).map(|f| f.path.as_str()))
            .map(str::to_owned);
        let entry = path.ok_or_else(|| {
            format!(
                "{:?} is not among the pinned modules: name it in an import, or create the run \
                 with --pin",
                facts.process
            )
        })?;
        let graph = graph
            .with_entry(&entry, facts.export_name.clone())
            .ok_or_else(|| format!("{entry:?} is not among the pinned modules"))?;
        let process = graph.process_ref(facts.process_id.clone());
        Ok((graph, process))
    }

    fn child(&self, id: EffectId) -> Option<(Effect, child::Facts)> {
        let effect = self.state().effect(id)?;
        match &effect.wait {
            Wait::Run(facts) => Some((effect.clone(), facts.clone())),
            _ => None,
        }
    }

    fn own_root(&self) -> Result<Arc<Root>> {
        self.root.clone().ok_or_else(|| {
            let what = "a run outside a runs root cannot have child runs";
            Error::Refused(Trouble::new("child_needs_root", what))
        })
    }
}

fn target(effect: &Effect) -> Option<RunId> {
    effect.target.as_ref()?.parse().ok()
}
