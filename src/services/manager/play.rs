//! Letting runs go on: carries messages between engines and hosts.
//!
//! May not decide anything about a run: that is its engine's. Invariant: an instance has at most
//! one message to answer, and its run takes nothing else in meanwhile.

use std::sync::Arc;

use crate::codecs::turn::FromHost;
use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::ground::limits::HOST_FAILURES_MAX;
use crate::machines::effect::plain_error;
use crate::machines::replay::engine::{Input, Rest, StartPlan, TurnPlan};
use crate::ports::telemetry::Metrics;
use crate::services::runs::drive::Step;
use crate::services::runs::hosts::Silence;
use crate::services::runs::{Error, Result};
use crate::shells::commit_log::WriterState;
use crate::shells::host::pool::{HostEvent, InstanceId, Pool, StartError};

use super::asks::no_room;
use super::seat::{Awaiting, Here, Seat};
use super::shelf::Shelf;
use super::{HOST_RETRY_MS, Manager, OUTBOX_MAX, RETRY_MS};

/// Where a run got to.
enum Went {
    /// A host works for it.
    Busy,
    /// It has requested effects.
    Asked,
    /// Nothing to do.
    Rests(Rest),
    /// It needs an instance, and there is no room for one.
    Starved,
}

impl Manager {
    /// Lets a run that is here go on.
    pub(super) fn play(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        if here.is_in_turn() || here.broken {
            return;
        }
        let full = self.parts.committer.state() == WriterState::Full;
        if full || self.outbox.len() > OUTBOX_MAX {
            // A turn asks for more, and there is no room for more.
            for rester in std::mem::take(&mut here.resters) {
                rester(Err(no_room(&self.parts.committer)));
            }
            return self.starve(id);
        }
        self.idle.remove(&here.used);
        self.warm.remove(&here.used);
        self.drive(id, Input::Poll);
    }

    fn drive(&mut self, id: &RunId, mut input: Input) {
        while self.drive_on(id, input) {
            // What may start now is recorded with its request.
            self.dispatch(id);
            input = Input::Poll;
        }
    }

    /// Lets a run go on. True if it has requested effects and is to go on after those.
    fn drive_on(&mut self, id: &RunId, input: Input) -> bool {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return false };
        if here.broken {
            return false;
        }
        here.rest = None;
        let before = here.instance;
        let metrics = &self.runs.telemetry.metrics;
        let went = advance(here, input, &mut self.parts.pool, &mut self.shelf, metrics);
        let now = here.instance;
        if before != now {
            if let Some(gone) = before {
                self.instances.remove(&gone);
            }
            if let Some(new) = now {
                self.instances.insert(new, id.clone());
            }
        }
        match went {
            Ok(Went::Asked) => return true,
            Ok(Went::Busy) => self.gather(id),
            Ok(Went::Rests(rest)) => self.rested(id, rest),
            Ok(Went::Starved) => self.starve(id),
            Err(e) => self.broke(id, &e),
        }
        false
    }

    /// Has a run wait for room. It is woken when there is some.
    pub(super) fn starve(&mut self, id: &RunId) {
        if !self.starved.contains(id) {
            self.starved.push_back(id.clone());
        }
    }

    /// A run came to rest: its children are looked after, whoever waited for this is told.
    fn rested(&mut self, id: &RunId, rest: Rest) {
        if self.tend_children(id) || self.dispatch(id) {
            // What came of that concerns the process.
            return self.drive(id, Input::Poll);
        }
        self.tend_probes(id);
        let used = self.next_use();
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        here.used = used;
        self.idle.insert(used, id.clone());
        if here.instance.is_some() {
            self.warm.insert(used, id.clone());
        }
        let bytes = here.run.journal_bytes();
        self.loaded_bytes = self.loaded_bytes + bytes - here.bytes;
        here.bytes = bytes;
        let wake_at = here.run.wake_at().into_iter().chain(self.probes.next(id)).min();
        self.timers.set(id, wake_at);
        let ended = matches!(rest, Rest::Ended(_));
        here.rest = Some(rest);
        if ended {
            self.drop_instance(id);
            self.tell_parent(id);
        }
        self.hand_over(id);
        self.report(id);
        self.unfiled.push_back(id.clone());
        self.answer(id);
    }

    /// Writes files for people about runs that came to rest. Runs that go on quickly have few.
    pub(super) fn file(&mut self) {
        for id in std::mem::take(&mut self.unfiled) {
            let Some(Seat::Here(here)) = self.seats.get_mut(&id) else { continue };
            if here.rest.is_none() {
                continue;
            }
            if here.durable != here.run.written().seq {
                self.unfiled.push_back(id);
                continue;
            }
            let files = here.run.files_since(std::mem::replace(&mut here.filed, here.durable));
            if !files.is_empty() {
                self.workers.run(move || files.write());
            }
        }
    }

    /// Tells whoever waits for a run to rest where it does. A run rests when its child runs do.
    pub(super) fn report(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get(id) else { return };
        let parent = here.run.state().parent.as_ref().map(|p| p.run_id.clone());
        let children_rest = here.children.values().all(|child| match self.seats.get(child) {
            Some(Seat::Here(child)) => child.rest.is_some(),
            Some(_) => false,
            None => true,
        });
        if !children_rest && !here.resters.is_empty() {
            self.with_children.insert(id.clone());
        }
        if let Some(Seat::Here(here)) = self.seats.get_mut(id)
            && let Some(rest) = here.rest.clone()
            && children_rest
        {
            let seq = here.run.written().seq;
            for rester in std::mem::take(&mut here.resters) {
                let report = here.run.report(&rest);
                let files = here.run.files_since(std::mem::replace(&mut here.filed, seq));
                let workers = self.workers.clone();
                // The report names files: they are there when it is read.
                let answer = move |durable: Result<()>| {
                    workers.run(move || {
                        files.write();
                        rester(durable.and(report));
                    });
                };
                here.answers.push_back((seq, Box::new(answer)));
            }
            self.answer(id);
        }
        if let Some(parent) = parent {
            self.report(&parent);
        }
    }

    /// A run went away: somebody may have waited for it to rest.
    pub(super) fn report_parents(&mut self) {
        for parent in std::mem::take(&mut self.with_children) {
            self.report(&parent);
        }
    }

    /// When a run is opened again that could not go on, if that may help.
    pub(super) fn retry_at(&self, why: &Error) -> Option<Timestamp> {
        let may_pass = matches!(why, Error::Storage { .. } | Error::Conflict(_));
        may_pass.then(|| self.now().plus_millis(RETRY_MS))
    }

    /// A run cannot go on as it is. What it has made so far stands; it is opened anew the next
    /// time somebody wants something of it.
    pub(super) fn broke(&mut self, id: &RunId, why: &Error) {
        let trouble = why.trouble();
        tracing::warn!(run = %id, code = trouble.code, "the run cannot go on: {}", trouble.what);
        self.drop_instance(id);
        self.say_damaged(id, why);
        self.desk.lose(id);
        self.probes.forget(id);
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        here.end_replay("failed", &self.runs.telemetry.metrics);
        here.broken = true;
        here.awaiting = Awaiting::Nothing;
        here.rest = None;
        for rester in std::mem::take(&mut here.resters) {
            rester(Err(why.clone()));
        }
        for ask in std::mem::take(&mut here.asks) {
            ask.refuse(why.clone());
        }
        self.timers.set(id, self.retry_at(why));
        self.hand_over(id);
        self.leave_when_durable(id);
    }

    /// A host said something, or died.
    pub(super) fn heard(&mut self, event: HostEvent) {
        match event {
            HostEvent::Answer { instance, answer, .. } => self.answered(instance, answer),
            HostEvent::Lost { instances, guilty, why } => {
                let absent = matches!(why, Silence::Absent(_));
                for instance in instances {
                    self.lost(instance, (guilty == Some(instance)).then(|| why.clone()), absent);
                }
            }
        }
    }

    fn answered(&mut self, instance: InstanceId, answer: FromHost) {
        // An instance that was dropped may have said something before.
        let Some(id) = self.instances.get(&instance).cloned() else { return };
        if matches!(answer, FromHost::Limit { .. } | FromHost::LoadFailed(_)) {
            self.instances.remove(&instance);
        }
        let Some(Seat::Here(here)) = self.seats.get_mut(&id) else { return };
        if matches!(answer, FromHost::Limit { .. } | FromHost::LoadFailed(_)) {
            here.instance = None;
        }
        let awaited = std::mem::replace(&mut here.awaiting, Awaiting::Nothing);
        let turn = if let Awaiting::Turn(turn) = &awaited { Some(&**turn) } else { None };
        if matches!(answer, FromHost::Turn(_)) {
            here.failures = 0;
        }
        match here.stage.heard(turn, answer) {
            Ok(input) => self.drive(&id, input),
            Err(e) => self.broke(&id, &e),
        }
        self.perform_waiting(&id);
    }

    /// Does what was asked while a host worked.
    fn perform_waiting(&mut self, id: &RunId) {
        while let Some(Seat::Here(here)) = self.seats.get_mut(id)
            && !here.is_in_turn()
            && !here.broken
            && let Some(ask) = here.asks.pop_front()
        {
            self.perform(id, ask);
        }
    }

    /// An instance is gone. `guilty` says how, if it was the one that its host was working for.
    fn lost(&mut self, instance: InstanceId, guilty: Option<Silence>, absent: bool) {
        let Some(id) = self.instances.remove(&instance) else { return };
        let Some(Seat::Here(here)) = self.seats.get_mut(&id) else { return };
        here.instance = None;
        here.end_replay("failed", &self.runs.telemetry.metrics);
        self.warm.remove(&here.used);
        let worked = here.is_in_turn();
        here.awaiting = Awaiting::Nothing;
        let input = match guilty {
            Some(Silence::Cpu(detail)) => Some(Input::Limit { name: "cpu".into(), detail }),
            Some(Silence::Absent(detail) | Silence::Died(detail)) => {
                here.failures += 1;
                (here.failures >= HOST_FAILURES_MAX).then_some(Input::HostFailed(detail))
            }
            None => None,
        };
        if let Some(input) = input {
            self.drive(&id, input);
        } else {
            here.stale = true;
            if absent {
                // The machine has no room for a host: it is tried again, and not at once.
                let again = self.runs.clock.now().plus_millis(HOST_RETRY_MS);
                self.timers.set(&id, Some(again));
            } else if worked {
                self.play(&id);
            }
        }
        self.perform_waiting(&id);
    }

    /// Frees the memory of a run's instance; the run is replayed when it goes on.
    pub(super) fn drop_instance(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        if let Some(instance) = here.instance.take() {
            self.warm.remove(&here.used);
            self.instances.remove(&instance);
            self.parts.pool.drop_instance(instance);
            here.stale = true;
        }
    }
}

/// Steps a run until a host works for it or it rests.
fn advance(
    here: &mut Here,
    mut input: Input,
    pool: &mut Pool,
    shelf: &mut Shelf,
    metrics: &Metrics,
) -> Result<Went> {
    loop {
        if here.stale {
            here.run.reload()?;
            here.stale = false;
            input = Input::Poll;
        }
        match here.run.step(input)? {
            Step::Start(plan) => match start(here, &plan, pool, shelf)? {
                Begun::Busy => {
                    here.begin_replay();
                    return Ok(Went::Busy);
                }
                Begun::Not(failed) => input = failed,
                Begun::Starved => return Ok(Went::Starved),
            },
            Step::Asked => return Ok(Went::Asked),
            Step::Turn(plan) => {
                here.replay_turn(&plan, metrics);
                turn(here, &plan, pool)?;
                return Ok(Went::Busy);
            }
            Step::Rest(Rest::Restart) => {
                if let Some(gone) = here.instance.take() {
                    pool.drop_instance(gone);
                }
                here.stale = true;
                input = Input::Poll;
            }
            Step::Rest(rest) => {
                here.replay_rest(&rest, metrics);
                return Ok(Went::Rests(rest));
            }
        }
    }
}

/// What became of starting an instance.
enum Begun {
    /// A host is at it.
    Busy,
    /// The engine is to be told this instead.
    Not(Input),
    /// There is no room for it now.
    Starved,
}

fn start(here: &mut Here, plan: &StartPlan, pool: &mut Pool, shelf: &mut Shelf) -> Result<Begun> {
    let graph = match shelf.find(&plan.process) {
        Some(graph) => graph,
        None => match here.stage.code(plan)? {
            Ok(graph) => {
                let graph = Arc::new(graph);
                shelf.keep(&plan.process, &graph);
                graph
            }
            Err(input) => return Ok(Begun::Not(input)),
        },
    };
    let message = here.stage.start(plan, &graph, &plan.process)?;
    if let Some(gone) = here.instance.take() {
        pool.drop_instance(gone);
    }
    match pool.start(message) {
        Ok(instance) => {
            here.instance = Some(instance);
            here.awaiting = Awaiting::Start;
            Ok(Begun::Busy)
        }
        Err(e @ StartError::TooLong(_)) => {
            Ok(Begun::Not(Input::LoadFailed(plain_error("LoadError", e.to_string()))))
        }
        Err(StartError::Full { .. } | StartError::Absent(_)) => {
            // The engine believes that an instance is being started.
            here.stale = true;
            Ok(Begun::Starved)
        }
    }
}

fn turn(here: &mut Here, plan: &TurnPlan, pool: &mut Pool) -> Result<()> {
    let input = here.stage.turn(plan)?;
    if let Some(instance) = here.instance {
        pool.turn(instance, input.clone());
        here.awaiting = Awaiting::Turn(Box::new(input));
    }
    Ok(())
}
