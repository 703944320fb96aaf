//! Effects that are executed in this daemon: started, watched, brought to their outcome.
//!
//! May not decide what an outcome means: that is the run's. Invariant: an executor begins after the
//! record of its start is durable, and an attempt of an earlier daemon is taken up or closed before
//! its run goes on.

use std::sync::Arc;

use serde_json::Value;

use crate::codecs::event::{ErrorInfo, FailureClass, Payload};
use crate::codecs::json::Json;
use crate::codecs::turn::Output;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, EffectName, Epoch, RunId};
use crate::ground::limits::LEASE_TTL_MS_DEFAULT;
use crate::ground::sabotage::{self, Guard};
use crate::machines::effect::attempt::Report;
use crate::machines::effect::claim::Claim;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::effect::post::PostStatus;
use crate::machines::effect::{Wait, plain_error};
use crate::machines::replay::engine::Input;
use crate::services::executor::{Attempt, Bar, Executor, Heir, Outcome, StopWhy, Stopper};
use crate::services::runs::attempt::{Directive, TaskClaim};
use crate::services::runs::open::OpenRun;
use crate::services::runs::post::Posting;
use crate::services::runs::{Error, Result};

use super::attend::Attended;
use super::desk::{Place, Work};
use super::gate::Admission;
use super::handle::Flow;
use super::seat::{Answer, Ask, Seat};
use super::{Manager, Message};

/// How workers in daemons are called, each with a number of its own.
pub(super) const WORKERS_NAME: &str = "@daemon/";

impl Manager {
    /// Looks after the effects of a run that are executed here. True when one of them got an
    /// outcome by that, which its process may have to hear of.
    pub(super) fn dispatch(&mut self, id: &RunId) -> bool {
        let now = self.runs.clock.now();
        let may_start = match self.seats.get(id) {
            Some(Seat::Here(here)) => {
                let state = here.run.state();
                !self.stopping && state.is_open() && state.standing(now).stopped.is_none()
            }
            _ => false,
        };
        let mut answered = may_start && self.settle_keys(id);
        self.look_after_places(id);
        if !may_start {
            self.gate.slots.give_back_all(id);
        }
        let Some(Seat::Here(here)) = self.seats.get(id).filter(|_| may_start) else {
            return answered;
        };
        let standing = here.run.state().standing(now);
        let ready: Vec<EffectId> = here
            .run
            .state()
            .open_effects()
            .filter(|e| e.status == EffectStatus::Requested && matches!(e.wait, Wait::Outside))
            .filter(|e| self.desk.registry.get(&e.kind).is_some() && !standing.gives_up(e))
            .filter(|e| here.run.is_due(e.id, now))
            .map(|e| e.id)
            .collect();
        for effect in ready {
            answered |= self.consider(id, effect);
        }
        answered
    }

    /// Forgets effects that need no place any more, and stops attempts that nobody wants.
    fn look_after_places(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get(id) else { return };
        let (mut gone, mut unwanted) = (Vec::new(), Vec::new());
        for (effect, place) in self.desk.of_run(id) {
            match place {
                Place::Working(work) => {
                    let beat = here.run.heartbeat(effect, work.epoch);
                    if !beat.is_ok_and(|beat| beat.directive != Directive::Cancel) {
                        unwanted.push(Arc::clone(&work.stopper));
                    }
                }
                _ if here.run.ready_at(effect).is_none() => gone.push(effect),
                Place::Held { .. } => {}
            }
        }
        for stopper in unwanted {
            stopper.stop(StopWhy::Cancelled);
        }
        let is_over = |effect: &EffectId| here.run.ready_at(*effect).is_none();
        let unstarted = self.gate.slots.unstarted_of(id).into_iter().filter(is_over);
        unstarted.for_each(|effect| self.gate.slots.give_back(id, effect));
        for effect in gone {
            self.desk.release(id, effect);
        }
    }

    /// Starts an effect if it may start now; otherwise it is held, or waits.
    fn consider(&mut self, id: &RunId, effect: EffectId) -> bool {
        if self.desk.place(id, effect).is_some() || self.gate.slots.waits(id, effect) {
            return false;
        }
        let Some(Seat::Here(here)) = self.seats.get(id) else { return false };
        let Some(its) = here.run.state().effect(effect) else { return false };
        if self.gate.look(id, its, self.runs.clock.now()) != Admission::Free {
            return false;
        }
        self.start_if_agreed(id, effect).unwrap_or_else(|e| {
            self.broke(id, &e);
            false
        })
    }

    /// Starts an effect as far as its executor agrees today. True when that gave it an outcome.
    fn start_if_agreed(&mut self, id: &RunId, effect: EffectId) -> Result<bool> {
        let Some(Seat::Here(here)) = self.seats.get(id) else { return Ok(false) };
        let task = here.run.task(effect)?;
        let Some(executor) = self.desk.registry.get(&task.kind).cloned() else { return Ok(false) };
        let definition = definition(&here.run, &task)?;
        match executor.may_run(&definition, here.run.state().cwd.as_deref()) {
            Ok(()) => self.start(id, effect, executor, definition)?,
            Err(Bar::Elsewhere) => {}
            Err(Bar::Held { why, allow }) => {
                tracing::warn!(run = %id, %effect, code = "held_policy", "{why}; set {allow}");
                self.leave_to_others(EffectName::of(id, effect), why, allow);
            }
            Err(Bar::Never(error)) => return Ok(self.refuse(id, effect, error)),
        }
        Ok(false)
    }

    /// Configuration keeps an effect from being started here: whoever works outside may claim it.
    fn leave_to_others(&mut self, name: EffectName, why: String, allow: String) {
        let Some(Seat::Here(here)) = self.seats.get(&name.run) else { return };
        let Some(its) = here.run.state().effect(name.effect) else { return };
        let kind = its.kind.clone();
        self.claims.book.ready(&kind, &name);
        self.desk.hold(name, kind, why, allow);
    }

    /// Records a start; its executor begins when that is durable.
    fn start(
        &mut self,
        id: &RunId,
        effect: EffectId,
        executor: Arc<dyn Executor>,
        definition: Value,
    ) -> Result<()> {
        let now = self.runs.clock.now();
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return Ok(()) };
        let Some(its) = here.run.state().effect(effect) else { return Ok(()) };
        let heir = executor.heir(&definition);
        let ours = || Heir { worker: self.desk.worker.clone(), ttl_ms: LEASE_TTL_MS_DEFAULT };
        // Whoever takes it over has its lease from the start: a daemon that ends in between leaves
        // it to them.
        let Heir { worker, ttl_ms } = heir.unwrap_or_else(ours);
        let claim = Claim {
            worker,
            ttl_ms,
            claim_id: None,
            target: executor.target(&definition),
            slots: self.gate.slots.names(its),
        };
        match here.run.judge_claim(effect, &claim) {
            // The run has other plans for it.
            Err(Error::Conflict(_) | Error::Refused(_)) => return Ok(()),
            judged => judged?,
        };
        let Some(its) = here.run.state().effect(effect) else { return Ok(()) };
        if !self.gate.admit_or_call(id, its, now) {
            return Ok(());
        }
        let task = here.run.claim(effect, &claim)?;
        self.gate.slots.began(id, effect);
        let mut attended = attended(&here.run, executor, &task, definition, now);
        attended.read_inline_args(&here.run, task.args.clone())?;
        let (epoch, work) = (task.epoch, work(&task.kind, &attended));
        let (inbox, runtime, run) = (self.inbox.clone(), self.runtime.clone(), id.clone());
        let begin = move |durable: Result<()>| {
            if durable.is_ok() {
                runtime.spawn(bring(inbox, run, attended));
            } else {
                // What was not written was not started.
                let forget = move |manager: &mut Self| {
                    manager.desk.release(&run, effect);
                    manager.gate.slots.lose(&run, effect);
                };
                let _ = inbox.send(Message::Look(Box::new(forget)));
            }
        };
        if sabotage::is_removed(Guard::NoIntent) {
            begin(Ok(()));
        } else {
            here.answers.push_back((here.run.written().seq, Box::new(begin)));
        }
        tracing::debug!(run = %id, %effect, %epoch, "started");
        self.desk.works(id, effect, work);
        Ok(())
    }

    /// Answers an effect that can never be started.
    fn refuse(&mut self, id: &RunId, effect: EffectId, error: ErrorInfo) -> bool {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return false };
        let kind = here.run.state().effect(effect).map_or("", |e| e.kind.as_str()).to_owned();
        let posting = Posting {
            status: PostStatus::Error,
            value: None,
            error: Some(error),
            ..Posting::ok(effect, Json::null())
        };
        let by = format!("executor:{kind}");
        if let Err(e) = here.run.acting_as(&by, |run| run.post(posting)) {
            self.broke(id, &e);
            return false;
        }
        true
    }

    /// An attempt has an outcome: its place is free, and its run hears of it.
    fn finished(&mut self, id: &RunId, effect: EffectId, epoch: Epoch, outcome: Outcome) {
        let kind = match self.desk.place(id, effect) {
            Some(Place::Working(work)) if work.epoch == epoch => work.kind.clone(),
            _ => return,
        };
        self.desk.release(id, effect);
        if matches!(outcome, Outcome::HandedOver) {
            tracing::debug!(run = %id, %effect, %epoch, "somebody outside has taken it over");
            return;
        }
        let run = id.clone();
        let unknown = match &outcome {
            Outcome::Unknown { cause, .. } => Some(*cause),
            _ => None,
        };
        let act = move |opened: Result<&mut OpenRun>| -> Answer {
            let done = opened.and_then(|opened| take(opened, effect, epoch, outcome));
            Box::new(move |durable| match (done.and(durable), unknown) {
                (Err(e), _) => {
                    tracing::warn!(%run, %effect, "an outcome was not taken: {e}");
                }
                (Ok(()), Some(code)) => {
                    tracing::warn!(%run, %effect, code, "the outcome of an attempt is unknown");
                }
                (Ok(()), None) => {}
            })
        };
        let (by, flow) = (format!("executor:{kind}"), Flow::Report);
        self.admit(id.clone(), Ask::Deed { by, flow, act: Box::new(act) });
    }

    /// A run has come: attempts that an earlier daemon began are taken up, or closed.
    pub(super) fn adopt(&mut self, id: &RunId) -> Result<()> {
        let Some(Seat::Here(here)) = self.seats.get(id) else { return Ok(()) };
        let left: Vec<Effect> = here
            .run
            .state()
            .open_effects()
            .filter(|e| e.status == EffectStatus::Started)
            .filter(|e| e.worker.as_ref().is_some_and(|w| w.starts_with(WORKERS_NAME)))
            .filter(|e| e.worker.as_ref() != Some(&self.desk.worker))
            .filter(|e| self.desk.place(id, e.id).is_none())
            .cloned()
            .collect();
        for effect in left {
            self.adopt_one(id, &effect)?;
        }
        Ok(())
    }

    fn adopt_one(&mut self, id: &RunId, effect: &Effect) -> Result<()> {
        let now = self.runs.clock.now();
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return Ok(()) };
        let task = here.run.task(effect.id)?;
        let executor = self.desk.registry.left_by(&task.kind).cloned();
        let resumed = match executor {
            None => None,
            Some(executor) => {
                let definition = definition(&here.run, &task)?;
                let attended = attended(&here.run, executor, &task, definition, now);
                let resumed = attended.executor.resume(&attended.attempt, &attended.stop);
                resumed.map(|working| Attended { resumed: Some(working), ..attended })
            }
        };
        let Some(attended) = resumed else {
            let report = Report::Unknown { cause: "daemon_stopped", evidence: None, error: None };
            let close = |run: &mut OpenRun| run.end_attempt(effect.id, effect.epoch, &report);
            return here.run.acting_as("recovery", close).map(|_| ());
        };
        tracing::info!(run = %id, effect = %effect.id, "an attempt of an earlier daemon goes on");
        self.desk.works(id, effect.id, work(&task.kind, &attended));
        self.runtime.spawn(bring(self.inbox.clone(), id.clone(), attended));
        Ok(())
    }

    /// Adds what executors say about effects that were just asked for, where their author said
    /// nothing, so that it is frozen with the request.
    pub(super) fn advise(&self, input: &mut Input) {
        let Input::Turned(done) = input else { return };
        for output in &mut done.outputs {
            let Output::Request(request) = output else { continue };
            let executor = self.desk.registry.get(&request.kind);
            let Some(mut options) = executor.and_then(|e| e.options(&request.def)) else {
                continue;
            };
            let said = request.options.as_ref().map(Json::to_value);
            let said = said.as_ref().and_then(Value::as_object).into_iter().flatten();
            options.extend(said.map(|(name, value)| (name.clone(), value.clone())));
            if let Some(key) = executor.and_then(|e| e.limit_key(&request.def)) {
                let keys = options.entry("limitKeys").or_insert_with(|| Value::Array(Vec::new()));
                let keys = keys.as_array_mut().filter(|keys| !keys.contains(&key.as_str().into()));
                if let Some(keys) = keys {
                    keys.push(key.as_str().into());
                }
            }
            request.options = Some(Json::of(&Value::Object(options)));
        }
    }

    /// Lets runs go on whose effects have got slots, and claims look again.
    pub(super) fn wake_for_slots(&mut self) {
        if self.stopping {
            return;
        }
        let called = self.gate.slots.call();
        if called.has_room {
            self.claims.book.rouse();
        }
        for holder in called.holders {
            self.count_wake("slot");
            self.wake(&holder.run);
        }
    }
}

/// Attends an attempt and tells the manager what came of it.
async fn bring(inbox: std::sync::mpsc::Sender<Message>, run: RunId, attended: Attended) {
    let (effect, epoch) = (attended.attempt.effect_id, attended.attempt.epoch);
    let outcome = attended.attend().await;
    let tell = move |manager: &mut Manager| manager.finished(&run, effect, epoch, outcome);
    // A manager that has ended hears nothing; the next one looks for itself.
    let _ = inbox.send(Message::Look(Box::new(tell)));
}

fn definition(run: &OpenRun, task: &TaskClaim) -> Result<Value> {
    let read = task.definition.as_ref().map(|payload| run.value(payload)).transpose()?;
    Ok(read.map_or(Value::Null, |json| json.to_value()))
}

pub(super) fn attended(
    run: &OpenRun,
    executor: Arc<dyn Executor>,
    task: &TaskClaim,
    definition: Value,
    now: Timestamp,
) -> Attended {
    let left_ms = |at: Timestamp| u64::try_from(at.millis() - now.millis()).unwrap_or(0);
    let its_ms = task.policy.attempt_timeout_ms.or_else(|| executor.timeout_ms(&definition));
    let timeout_ms = its_ms.into_iter().chain(task.deadline.map(left_ms)).min();
    let deadline = timeout_ms.map(|ms| now.plus_millis(i64::try_from(ms).unwrap_or(i64::MAX)));
    let effect = run.state().effect(task.effect_id);
    let attempt = Attempt {
        run_id: task.run_id.clone(),
        effect_id: task.effect_id,
        kind: task.kind.clone(),
        epoch: task.epoch,
        attempt: task.attempt,
        is_last: effect.is_none_or(Effect::is_on_last_attempt),
        definition,
        args: None,
        idempotency_key: task.idempotency_key.clone(),
        deadline,
        timeout_ms,
        dir: run.dir.clone(),
        cwd: run.state().cwd.clone(),
        traceparent: Some(task.traceparent.to_string()),
    };
    let (stopper, stop) = Stopper::new();
    Attended { executor, attempt, args: None, stopper: Arc::new(stopper), stop, resumed: None }
}

impl Attended {
    /// Arguments that stand in the record are at hand; others are read where that may take time.
    pub(super) fn read_inline_args(&mut self, run: &OpenRun, args: Option<Payload>) -> Result<()> {
        match args {
            Some(Payload::Inline(_)) => {
                let read = args.as_ref().map(|payload| run.value(payload)).transpose()?;
                self.attempt.args = read.map(|json| json.to_value());
            }
            blob => self.args = blob,
        }
        Ok(())
    }
}

fn work(kind: &str, attended: &Attended) -> Work {
    Work {
        kind: kind.to_owned(),
        epoch: attended.attempt.epoch,
        stopper: Arc::clone(&attended.stopper),
        outlives: attended.executor.outlives(&attended.attempt.definition),
    }
}

/// Records what came of an attempt.
fn take(run: &mut OpenRun, effect: EffectId, epoch: Epoch, outcome: Outcome) -> Result<()> {
    let report = match outcome {
        Outcome::Ok { value, stdout, stderr } => {
            let epoch = Some(epoch);
            let posting = Posting { epoch, stdout, stderr, ..Posting::ok(effect, value) };
            match run.post(posting) {
                Ok(_) => return Ok(()),
                // It acted, and what it brought cannot be taken: acting again would not help.
                Err(Error::Refused(why) | Error::Invalid(why)) => Report::Failed {
                    class: FailureClass::Reported,
                    error: plain_error("ValueInvalid", why.what),
                    is_final: true,
                    retry_after_ms: None,
                },
                Err(e) => return Err(e),
            }
        }
        Outcome::Failed { class, error, is_final, retry_after_ms } => {
            Report::Failed { class, error, is_final, retry_after_ms }
        }
        Outcome::Unknown { cause, evidence } => Report::Unknown { cause, evidence, error: None },
        // Its outcome is for others to report.
        Outcome::HandedOver => return Ok(()),
    };
    run.end_attempt(effect, epoch, &report).map(|_| ())
}
