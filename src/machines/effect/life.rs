//! The life of one effect: requested, started, uncertain, ended.
//!
//! May not know runs, only the records about this effect. Invariant: a transition that is not in
//! the table is refused and changes nothing.

use serde::{Deserialize, Serialize};

use super::failures::Failures;
use super::{UNCERTAIN_ERROR, Wait, probe};
use crate::codecs::event::{
    CancelOutcome, EffectRequested, EffectResolved, EffectStarted, Event, FailureClass,
    OnUncertain, Policy, Record, Status,
};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, RunId, Seq};
use crate::ground::sabotage::{self, Guard};

/// Where an effect stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EffectStatus {
    /// Asked for; nobody has begun, or all attempts so far are closed.
    Requested,
    /// Someone may be at it.
    Started,
    /// Started, outcome unknown.
    Uncertain,
    /// Ended with a value.
    Ok,
    /// Ended with an error.
    Error,
    /// Given up.
    Cancelled,
}

impl EffectStatus {
    /// Whether an outcome is still to come.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Requested | Self::Started | Self::Uncertain)
    }

    /// The status of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        use EffectStatus::{Cancelled, Error, Ok, Requested, Started, Uncertain};
        let all = [Requested, Started, Uncertain, Ok, Error, Cancelled];
        all.into_iter().find(|status| status.name() == name)
    }

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Started => "started",
            Self::Uncertain => "uncertain",
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How an effect ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The record that ended it.
    pub seq: Seq,
    /// When.
    pub at: Timestamp,
    /// The start it answered.
    pub epoch: Epoch,
    /// Digest of the post that ended it, if it was posted.
    pub post_digest: Option<Digest>,
    /// Digest of its value, if it has one.
    pub value_digest: Option<Digest>,
    /// Nobody knows whether it was done outside.
    pub is_unknown: bool,
    /// Somebody decided it so.
    pub is_decided: bool,
    /// Who.
    pub by: String,
}

/// One effect, folded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Its name in the run.
    pub id: EffectId,
    /// Invocation key.
    pub key: String,
    /// The key's name part.
    pub name: String,
    /// `agent`, `shell`, `breakpoint`, `sleep`…
    pub kind: String,
    /// The task's id.
    pub task_id: Option<String>,
    /// For display.
    pub title: Option<String>,
    /// For display.
    pub label: Option<String>,
    /// For filters and routing.
    pub labels: Vec<String>,
    /// What identifies the call.
    pub args_digest: Digest,
    /// What identifies the work, wherever it is asked for.
    pub def_digest: Digest,
    /// Frozen rules.
    pub policy: Policy,
    /// May run after a cancel request.
    pub cleanup: bool,
    /// What resolves it without anybody's post.
    pub wait: Wait,
    /// The agent that its definition names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The record that asked for it.
    pub requested_seq: Seq,
    /// When.
    pub requested_at: Timestamp,
    /// Input of the turn that asked for it.
    pub cause: Seq,
    /// The last record about it.
    pub seq: Seq,
    /// Where it stands.
    pub status: EffectStatus,
    /// Last start; 0: none.
    pub epoch: Epoch,
    /// Attempts that were started.
    pub attempts: u32,
    /// When the first one was.
    pub first_started_at: Option<Timestamp>,
    /// When the last one was.
    pub started_at: Option<Timestamp>,
    /// Who started it last.
    pub worker: Option<String>,
    /// The claim that this start was given to.
    pub claim: Option<String>,
    /// How long its holder's silence is taken for life.
    pub ttl_ms: u64,
    /// What the last start acts upon.
    pub target: Option<String>,
    /// Names of the limits under which the last start takes a place.
    pub slots: Vec<String>,
    /// Attempts that failed.
    pub failures: Failures,
    /// Budgets of attempts that operators added to the first by letting the run go on.
    pub grants: u32,
    /// No start before this.
    pub not_before: Option<Timestamp>,
    /// Why nobody knows its outcome.
    pub uncertain_cause: Option<String>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncertain_at: Option<Timestamp>,
    /// What is known about the last closed attempt.
    pub closed_as: Option<FailureClass>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// An accepted change of code asked for it anew: its outcome is not fed any more.
    pub superseded: bool,
}

impl Effect {
    /// The effect that a request makes.
    #[must_use]
    pub fn requested(record: &Record, asked: &EffectRequested) -> Self {
        Self {
            id: asked.effect_id,
            key: asked.key.clone(),
            name: asked.name.clone(),
            kind: asked.kind.clone(),
            task_id: asked.task_id.clone(),
            title: asked.title.clone(),
            label: asked.label.clone(),
            labels: asked.labels.clone(),
            args_digest: asked.args_digest,
            def_digest: asked.def_digest,
            policy: asked.policy.clone(),
            cleanup: asked.cleanup,
            wait: Wait::of(&asked.kind, asked.def.as_ref()),
            agent: super::task::agent(&asked.kind, asked.def.as_ref()),
            requested_seq: record.seq,
            requested_at: record.at,
            cause: asked.cause,
            seq: record.seq,
            status: EffectStatus::Requested,
            epoch: Epoch(0),
            attempts: 0,
            first_started_at: None,
            started_at: None,
            worker: None,
            claim: None,
            ttl_ms: 0,
            target: None,
            slots: Vec::new(),
            failures: Failures::default(),
            grants: 0,
            not_before: None,
            uncertain_cause: None,
            uncertain_at: None,
            closed_as: None,
            ended: None,
            superseded: false,
        }
    }

    /// The key under which the outside knows it: the author's, else `<runId>/<effectId>`. The same
    /// over all attempts.
    #[must_use]
    pub fn idempotency_key(&self, run: &RunId) -> String {
        self.policy.idempotency_key.clone().unwrap_or_else(|| format!("{run}/{}", self.id))
    }

    /// One transition of the table in `docs/formats.md`; the default arm refuses.
    pub(in crate::machines) fn apply(
        &mut self,
        record: &Record,
        floor: Epoch,
    ) -> Result<(), String> {
        use EffectStatus::{Cancelled, Error, Ok as Done, Requested, Started, Uncertain};
        let refuse = |why: &str| Err(why.to_owned());
        match (&record.event, self.status) {
            (Event::EffectStarted(start), Requested) => {
                if self.wait.is_never_started() {
                    return refuse("nobody executes it: it is waited for");
                }
                let is_higher = start.epoch > self.epoch && start.epoch >= floor;
                if !is_higher && !sabotage::is_removed(Guard::VolatileEpoch) {
                    return refuse("an epoch only grows");
                }
                self.start(record, start);
            }
            (Event::EffectAttemptFailed(failed), Started | Uncertain) => {
                if failed.epoch != self.epoch {
                    return refuse("it closes another start than the open one");
                }
                self.status = Requested;
                self.not_before = Some(failed.next_attempt_at);
                self.closed_as = Some(failed.class);
                self.failures.note(record, failed);
            }
            (Event::EffectUncertain(unsure), Started | Requested) => {
                let early = match unsure.cause.as_str() {
                    "key_outcome_unknown" => self.status == Requested,
                    "forked" | "repaired" => true,
                    _ => self.status == Started,
                };
                if !early || unsure.epoch != self.epoch {
                    return refuse("its cause or epoch does not fit");
                }
                self.status = Uncertain;
                self.uncertain_cause = Some(unsure.cause.clone());
                self.uncertain_at = Some(record.at);
            }
            (Event::EffectResolved(done), Requested | Started | Uncertain) => {
                if !self.is_answered_by(done) {
                    return refuse("it answers another start than the open one");
                }
                self.status = if done.status == Status::Ok { Done } else { Error };
                self.ended = Some(Ended::resolved(record, done));
            }
            (Event::EffectCancelled(gone), Requested | Started | Uncertain) => {
                if self.status != Requested && gone.outcome == CancelOutcome::NotBegun {
                    return refuse("what was started cannot be known not to have begun");
                }
                self.status = Cancelled;
                let is_unknown = gone.outcome == CancelOutcome::Unknown;
                self.ended = Some(Ended { is_unknown, ..Ended::at(record, gone.epoch, &gone.by) });
            }
            _ => return refuse(&format!("the effect is {}", self.status.name())),
        }
        self.seq = record.seq;
        Ok(())
    }

    fn start(&mut self, record: &Record, start: &EffectStarted) {
        self.status = EffectStatus::Started;
        self.epoch = start.epoch;
        self.attempts = start.attempt;
        self.first_started_at.get_or_insert(record.at);
        self.started_at = Some(record.at);
        self.worker = Some(start.worker.clone());
        self.claim.clone_from(&start.claim);
        self.ttl_ms = start.ttl_ms;
        self.target.clone_from(&start.target);
        self.slots.clone_from(&start.slots);
    }

    /// Whether an outcome belongs to the open start, or to none where none is open. A late value
    /// of an attempt that was closed without knowing counts; a late failure does not.
    fn is_answered_by(&self, done: &EffectResolved) -> bool {
        if self.status != EffectStatus::Requested {
            return done.epoch == self.epoch || sabotage::is_removed(Guard::NoFence);
        }
        let late = done.epoch == self.epoch && done.status == Status::Ok;
        done.epoch == Epoch(0) || (late && !self.is_closed_by_report())
    }

    /// Another budget of attempts for an effect that had used up what it had.
    pub(in crate::machines) fn grant(&mut self) {
        if self.status == EffectStatus::Requested && self.is_exhausted() {
            self.grants += 1;
        }
    }

    /// Whether its policy allows no further attempt after those that failed.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        let retry = self.policy.retry_or_once();
        self.failures.began() >= retry.max_attempts.saturating_mul(self.grants + 1)
            || self.failures.not_begun >= self.not_begun_budget()
    }

    /// Whether a reported failure of the attempt that is open, or comes next, would be its last.
    #[must_use]
    pub fn is_on_last_attempt(&self) -> bool {
        let most = self.policy.retry_or_once().max_attempts.saturating_mul(self.grants + 1);
        self.failures.began().saturating_add(1) >= most
    }

    /// Whether it may have been executed without a trace once records were lost: someone outside
    /// does it, and doing it twice matters.
    #[must_use]
    pub fn may_be_lost(&self) -> bool {
        matches!(self.wait, Wait::Outside)
            && !self.policy.idempotent
            && self.status != EffectStatus::Uncertain
    }

    /// Whether the last start was closed by someone who knew, so that no late answer counts.
    #[must_use]
    pub fn is_closed_by_report(&self) -> bool {
        self.status == EffectStatus::Requested
            && self.epoch > Epoch(0)
            && self.closed_as != Some(FailureClass::Unknown)
    }

    /// When it may be started; nothing while it cannot be. May lie in the past.
    #[must_use]
    pub fn ready_at(&self) -> Option<Timestamp> {
        let ready = self.not_before.map_or(self.requested_at, |t| t.max(self.requested_at));
        (self.status == EffectStatus::Requested && !self.wait.is_never_started()).then_some(ready)
    }

    /// When the delay ends before its next attempt, or before the outside is asked about it.
    #[must_use]
    pub fn delayed_until(&self) -> Option<Timestamp> {
        match self.status {
            // What may go on in the moment that it failed has no delay.
            EffectStatus::Requested => self.not_before.filter(|until| {
                self.failures.last.last().is_none_or(|failure| *until > failure.at)
            }),
            EffectStatus::Uncertain => probe::asks_at(self),
            _ => None,
        }
    }

    /// Attempts that may come to nothing before anything began.
    #[must_use]
    pub fn not_begun_budget(&self) -> u32 {
        self.policy.retry_or_once().max_not_begun.saturating_mul(self.grants + 1)
    }

    /// Whether a person is asked what became of it.
    #[must_use]
    pub fn asks_a_person(&self) -> bool {
        self.status == EffectStatus::Uncertain && self.policy.on_uncertain == OnUncertain::Ask
    }

    /// When all of it has to be over, attempts and delays together.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        self.policy.total_timeout_ms.map(|ms| self.requested_at.later_by(ms))
    }

    /// When the runtime itself has something to do about it: a sleep ends, a limit passes.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        match self.status {
            EffectStatus::Requested => {
                let ready = self.not_before.map_or(self.requested_at, |t| t.max(self.requested_at));
                let start = self.policy.start_timeout_ms.map(|ms| ready.later_by(ms));
                self.wait.due_at(start.into_iter().chain(self.deadline()).min())
            }
            // Nobody is waited for whom the author does not want to wait for.
            EffectStatus::Uncertain if !matches!(self.wait, Wait::Outside) => None,
            EffectStatus::Uncertain if self.policy.gives_up_at_once() => Some(self.requested_at),
            EffectStatus::Uncertain => self.deadline(),
            _ => None,
        }
    }
}

impl Ended {
    fn at(record: &Record, epoch: Epoch, by: &str) -> Self {
        Self {
            seq: record.seq,
            at: record.at,
            epoch,
            post_digest: None,
            value_digest: None,
            is_unknown: false,
            is_decided: false,
            by: by.to_owned(),
        }
    }

    fn resolved(record: &Record, done: &EffectResolved) -> Self {
        // What somebody posted under that name is known: they said so.
        let named = done.error.as_ref().is_some_and(|e| e.name == UNCERTAIN_ERROR);
        Self {
            post_digest: done.post_digest,
            value_digest: done.value_digest,
            is_unknown: named && done.post_digest.is_none() && done.decision.is_none(),
            is_decided: done.decision.is_some(),
            ..Self::at(record, done.epoch, &done.by)
        }
    }
}
