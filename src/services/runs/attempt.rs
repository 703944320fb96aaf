//! Attempts: claiming an effect, reporting what became of it, deciding what nobody knows.
//!
//! May not know leases: how long silence is taken for life is for whoever has a clock running.
//! Invariant: an epoch is compared in the same call that appends; nothing is executed before its
//! start is durable.

use crate::codecs::event::{Event, Payload, Policy};
use crate::codecs::trace::TraceContext;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Epoch, RunId, Seq};
use crate::ground::limits::INLINE_BYTES_MAX;
use crate::machines::effect::attempt::{Report, close, fence, is_its_holders};
use crate::machines::effect::claim::{Claim, Claimed, claim};
use crate::machines::effect::decide::{Choice, Decision, Outcome, decide};
use crate::machines::effect::failures::Failure;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::effect::refusal::Refusal;
use crate::machines::effect::standing::Standing;

use super::open::{OpenRun, record_at};
use super::post::value_fits;
use super::trouble::Trouble;
use super::{Error, Result, Runs};

/// An effect as its executor needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskClaim {
    /// The run.
    pub run_id: RunId,
    /// The effect.
    pub effect_id: EffectId,
    /// Invocation key.
    pub key: String,
    /// What can execute it.
    pub kind: String,
    /// The task's id.
    pub task_id: Option<String>,
    /// For display.
    pub title: Option<String>,
    /// For display.
    pub label: Option<String>,
    /// For filters and routing.
    pub labels: Vec<String>,
    /// What is to be done.
    pub definition: Option<Payload>,
    /// The arguments of the call.
    pub args: Option<Payload>,
    /// Frozen rules.
    pub policy: Policy,
    /// Number of the present start; 0: never started.
    pub epoch: Epoch,
    /// Which attempt it is.
    pub attempt: u32,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// Who holds it.
    pub worker: Option<String>,
    /// How long its holder's silence is taken for life.
    pub ttl_ms: u64,
    /// The key under which the outside knows it, over all attempts.
    pub idempotency_key: String,
    /// Where its work stands in the run's trace.
    pub traceparent: TraceContext,
    /// When all of it has to be over.
    pub deadline: Option<Timestamp>,
    /// The last attempts before, oldest first.
    pub previous: Vec<Failure>,
    /// The same claim was answered before.
    pub repeat: bool,
}

/// What the holder of an effect is told when it says that it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Where the effect stands: started, or uncertain after a silence.
    pub status: EffectStatus,
    /// What its holder is to do.
    pub directive: Directive,
    /// Why, if it is not to go on.
    pub reason: Option<String>,
    /// Who has the start.
    pub holder: Option<String>,
}

/// What a holder is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Go on.
    Continue,
    /// End it soon and report: nobody wants the outcome any more.
    Cancel,
    /// Stop: its time is over.
    Stop,
}

impl Directive {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Cancel => "cancel",
            Self::Stop => "stop",
        }
    }
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionDone {
    /// Where the effect stands now.
    pub status: EffectStatus,
    /// The record that holds the decision.
    pub seq: Seq,
    /// It stood there already.
    pub repeat: bool,
}

impl Runs {
    /// Starts an effect for a worker, where no daemon serves the root.
    pub fn claim(&self, reference: &str, id: EffectId, claim: &Claim) -> Result<TaskClaim> {
        let mut run = self.open(reference)?;
        let claimed = run.claim(id, claim);
        run.close_after(claimed)
    }

    /// Records how an attempt ended that brought no value.
    pub fn end_attempt(
        &self,
        reference: &str,
        id: EffectId,
        epoch: Epoch,
        report: &Report,
    ) -> Result<EffectStatus> {
        let mut run = self.open(reference)?;
        let ended = run.end_attempt(id, epoch, report);
        run.close_after(ended)
    }

    /// Decides about an effect whose outcome nobody knows.
    pub fn decide(
        &self,
        reference: &str,
        id: EffectId,
        decision: &Decision,
    ) -> Result<DecisionDone> {
        let mut run = self.open(reference)?;
        let decided = run.decide(id, decision);
        run.close_after(decided)
    }
}

impl OpenRun {
    /// Whether a claim of an effect would be granted, and how.
    pub fn judge_claim(&self, id: EffectId, asked: &Claim) -> Result<Claimed> {
        let mut effect = self.known(id)?;
        if self.hurried.contains(&id) {
            effect.not_before = None;
        }
        let now = self.runs.clock.now();
        let claimed = claim(&self.standing(id, now), &effect, asked, now);
        let claimed = claimed.map_err(|refusal| self.name_them(id, refusal.into()))?;
        let has_key = effect.policy.idempotency_key.is_some();
        if matches!(claimed, Claimed::Start(_)) && has_key && self.is_direct() {
            // Whether another run holds the key, only a daemon knows.
            let what = format!("effect {id} has an idempotency key: only a daemon starts it");
            return Err(Error::NotFound(Trouble::new("no_daemon", what).next("dormouse serve")));
        }
        Ok(claimed)
    }

    /// Starts an effect for a worker; it may begin when the record is durable.
    pub fn claim(&mut self, id: EffectId, asked: &Claim) -> Result<TaskClaim> {
        match self.judge_claim(id, asked)? {
            Claimed::Again => Ok(TaskClaim { repeat: true, ..self.task(id)? }),
            Claimed::Start(started) => {
                self.append((*started).into())?;
                self.hurried.remove(&id);
                self.task(id)
            }
        }
    }

    /// An effect as its executor needs it.
    pub fn task(&self, id: EffectId) -> Result<TaskClaim> {
        let effect = self.known(id)?;
        let (definition, args) = match record_at(self.records(), effect.requested_seq) {
            Some(record) => match &record.event {
                Event::EffectRequested(asked) => (
                    Payload::join(asked.def.as_ref(), asked.def_blob.as_ref()),
                    Payload::join(asked.args.as_ref(), asked.args_blob.as_ref()),
                ),
                _ => (None, None),
            },
            None => (None, None),
        };
        let (idempotency_key, deadline) =
            (effect.idempotency_key(self.dir.id()), effect.deadline());
        Ok(TaskClaim {
            run_id: self.dir.id().clone(),
            effect_id: id,
            key: effect.key,
            kind: effect.kind,
            task_id: effect.task_id,
            title: effect.title,
            label: effect.label,
            labels: effect.labels,
            definition,
            args,
            policy: effect.policy,
            epoch: effect.epoch,
            attempt: effect.attempts,
            started_at: effect.started_at,
            worker: effect.worker,
            ttl_ms: effect.ttl_ms,
            idempotency_key,
            traceparent: self.state().trace().attempt(id, effect.epoch),
            deadline,
            previous: effect.failures.last,
            repeat: false,
        })
    }

    /// Records how the attempt `epoch` ended, which brought no value. Gives where the effect stands
    /// now.
    pub fn end_attempt(
        &mut self,
        id: EffectId,
        epoch: Epoch,
        report: &Report,
    ) -> Result<EffectStatus> {
        let effect = self.known(id)?;
        fence(&effect, epoch)
            .and_then(|()| is_its_holders(&effect, &self.runs.by))
            .map_err(|refusal| self.name_them(id, refusal.into()))?;
        let now = self.runs.clock.now();
        for event in close(&self.standing(id, now), &effect, report, now, &self.runs.by) {
            self.append(event)?;
        }
        Ok(self.known(id)?.status)
    }

    /// What the holder of `epoch` is to do. Nothing is recorded: a lease is renewed in memory.
    pub fn heartbeat(&self, id: EffectId, epoch: Epoch) -> Result<Beat> {
        let effect = self.known(id)?;
        fence(&effect, epoch).map_err(|refusal| self.name_them(id, refusal.into()))?;
        let now = self.runs.clock.now();
        let (directive, reason) = if let Some(why) = self.engine.given_up_for(id) {
            (Directive::Cancel, Some(why.to_owned()))
        } else if self.state().standing(now).gives_up(&effect) {
            let why = self.state().cancel.as_ref().and_then(|cancel| cancel.reason.clone());
            (Directive::Cancel, Some(why.unwrap_or_else(|| "run cancelled".into())))
        } else if effect.deadline().is_some_and(|at| at <= now) {
            (Directive::Stop, Some("its deadline has passed".into()))
        } else {
            (Directive::Continue, None)
        };
        Ok(Beat { status: effect.status, directive, reason, holder: effect.worker })
    }

    /// Decides about an effect whose outcome nobody knows.
    pub fn decide(&mut self, id: EffectId, decision: &Decision) -> Result<DecisionDone> {
        let effect = self.known(id)?;
        if decision.evidence.as_ref().is_some_and(|e| e.as_str().len() > INLINE_BYTES_MAX) {
            let what = format!("evidence has at most {INLINE_BYTES_MAX} bytes");
            return Err(Error::Refused(Trouble::new("value_too_large", what)));
        }
        if let Choice::Done(value) = &decision.what {
            value_fits(value)?;
            let why = self.schema_errors(id, value)?;
            if !why.is_empty() {
                return Err(self.name_them(id, Refusal::ValueInvalid { id, why }.into()));
            }
        }
        let now = self.runs.clock.now();
        let outcome = decide(&self.standing(id, now), &effect, decision, now, &self.runs.by);
        let outcome = outcome.map_err(|refusal| self.name_them(id, refusal.into()))?;
        let (seq, repeat) = match outcome {
            Outcome::Repeat { seq } => (seq, true),
            Outcome::Append(events) => {
                let mut seq = effect.seq;
                for event in events {
                    seq = self.append(event)?.seq;
                }
                (seq, false)
            }
        };
        Ok(DecisionDone { status: self.known(id)?.status, seq, repeat })
    }

    /// Lets the next attempt begin at once, until the effect is started or the run is closed.
    pub fn retry_now(&mut self, id: EffectId) -> Result<()> {
        let effect = self.known(id)?;
        if effect.status != EffectStatus::Requested || effect.wait.is_never_started() {
            let (status, why) = (effect.status.name(), "no attempt of it waits");
            return Err(self.name_them(id, Refusal::WrongState { id, status, why }.into()));
        }
        self.hurried.insert(id);
        Ok(())
    }

    /// When an effect may be started; nothing while it cannot be. May lie in the past.
    #[must_use]
    pub fn ready_at(&self, id: EffectId) -> Option<Timestamp> {
        let effect = self.state().effect(id)?;
        let ready = effect.ready_at()?;
        Some(if self.hurried.contains(&id) { effect.requested_at } else { ready })
    }

    /// Whether the delay before an effect's next attempt, if it has one, is over.
    #[must_use]
    pub fn is_due(&self, id: EffectId, now: Timestamp) -> bool {
        let delay = self.state().effect(id).and_then(Effect::delayed_until);
        self.hurried.contains(&id) || delay.is_none_or(|until| until <= now)
    }

    /// The run as one of its effects sees it.
    pub(super) fn standing(&self, id: EffectId, now: Timestamp) -> Standing<'_> {
        let is_unwanted = self.engine.given_up_for(id).is_some();
        Standing { is_unwanted, ..self.state().standing(now) }
    }

    pub(super) fn known(&self, id: EffectId) -> Result<Effect> {
        let effect = self.state().effect(id).cloned();
        effect.ok_or_else(|| self.name_them(id, Refusal::UnknownEffect(id).into()))
    }
}
