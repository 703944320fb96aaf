//! The life of one effect: requested, started, uncertain, ended.
//!
//! May not know runs, only the records about this effect. Invariant: a transition that is not in
//! the table is refused and changes nothing.

use serde::{Deserialize, Serialize};

use super::Wait;
use crate::codecs::event::{
    CancelOutcome, EffectRequested, Event, FailureClass, Policy, Record, Status,
};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, RunId, Seq};

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
    /// Where it stands.
    pub status: EffectStatus,
    /// Last start; 0: none.
    pub epoch: Epoch,
    /// Attempts that were started.
    pub attempts: u32,
    /// Who started it last.
    pub worker: Option<String>,
    /// What the last start acts upon.
    pub target: Option<String>,
    /// No start before this.
    pub not_before: Option<Timestamp>,
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
            policy: asked.policy.clone(),
            cleanup: asked.cleanup,
            wait: Wait::of(&asked.kind, asked.def.as_ref()),
            agent: super::task::agent(&asked.kind, asked.def.as_ref()),
            requested_seq: record.seq,
            requested_at: record.at,
            cause: asked.cause,
            status: EffectStatus::Requested,
            epoch: Epoch(0),
            attempts: 0,
            worker: None,
            target: None,
            not_before: None,
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
                if start.epoch <= self.epoch || start.epoch < floor {
                    return refuse("an epoch only grows");
                }
                self.status = Started;
                self.epoch = start.epoch;
                self.attempts = start.attempt;
                self.worker = Some(start.worker.clone());
                self.target.clone_from(&start.target);
            }
            (Event::EffectAttemptFailed(failed), Started | Uncertain) => {
                if failed.epoch != self.epoch {
                    return refuse("it closes another start than the open one");
                }
                self.status = Requested;
                self.not_before = Some(failed.next_attempt_at);
                self.closed_as = Some(failed.class);
            }
            (Event::EffectUncertain(unsure), Started | Requested) => {
                let early =
                    matches!(unsure.cause.as_str(), "key_outcome_unknown" | "forked" | "repaired");
                if (self.status == Requested && !early) || unsure.epoch != self.epoch {
                    return refuse("its cause or epoch does not fit");
                }
                self.status = Uncertain;
            }
            (Event::EffectResolved(done), Requested | Started | Uncertain) => {
                let unclaimed = done.epoch == Epoch(0) && self.status == Requested;
                let current = done.epoch == self.epoch && !self.is_closed_by_report();
                if !unclaimed && !current {
                    return refuse("it answers another start than the open one");
                }
                self.status = if done.status == Status::Ok { Done } else { Error };
                self.end(record, done.epoch, done.post_digest, &done.by);
            }
            (Event::EffectCancelled(gone), Requested | Started | Uncertain) => {
                if self.status != Requested && gone.outcome == CancelOutcome::NotBegun {
                    return refuse("what was started cannot be known not to have begun");
                }
                self.status = Cancelled;
                self.end(record, gone.epoch, None, &gone.by);
            }
            _ => return refuse(&format!("the effect is {}", self.status.name())),
        }
        Ok(())
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

    /// When the runtime itself has something to do about it: a sleep ends, a limit passes.
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        if self.status != EffectStatus::Requested {
            return None;
        }
        let after = |from: Timestamp, ms: Option<u64>| {
            ms.map(|ms| from.plus_millis(i64::try_from(ms).unwrap_or(i64::MAX)))
        };
        let ready = self.not_before.map_or(self.requested_at, |t| t.max(self.requested_at));
        let start = after(ready, self.policy.start_timeout_ms);
        let total = after(self.requested_at, self.policy.total_timeout_ms);
        self.wait.due_at(start.into_iter().chain(total).min())
    }

    fn end(&mut self, record: &Record, epoch: Epoch, post: Option<Digest>, by: &str) {
        self.ended = Some(Ended {
            seq: record.seq,
            at: record.at,
            epoch,
            post_digest: post,
            by: by.to_owned(),
        });
    }
}
