//! The life of one effect, told step by step: whatever somebody does to it, and what came of it as
//! one line of words.
//!
//! Invariant: every record goes through the engine's fold, and every deed through the function that
//! the product uses for it.

use std::sync::Arc;

use dormouse::codecs::event::{
    CancelOutcome, EffectCancelled, EffectRequested, EffectUncertain, ErrorInfo, Event,
    FailureClass, Policy, Record, Retry, RunCancelRequested, RunPaused, RunResumed, Status,
};
use dormouse::codecs::json::Json;
use dormouse::ground::clock::Timestamp;
use dormouse::ground::digest::Digest;
use dormouse::ground::id::{EffectId, Epoch, Seq};
use dormouse::machines::effect::attempt::{Report, close, fence, unanswered};
use dormouse::machines::effect::claim::{Claim, Claimed, claim};
use dormouse::machines::effect::decide::{Choice, Decision, Outcome, decide};
use dormouse::machines::effect::life::Effect;
use dormouse::machines::effect::plain_error;
use dormouse::machines::effect::policy::RETRY_DEFAULT;
use dormouse::machines::effect::post::{Post, PostStatus, Verdict, judge};
use dormouse::machines::effect::probe::{Answer, answered};
use dormouse::machines::effect::refusal::Refusal;
use dormouse::machines::replay::engine::{Action, Engine, Input};
use dormouse::machines::replay::state::RunState;
use dormouse::services::runs::Error;

use crate::support::{at, created_with, process, run_id};

/// A run with one effect.
pub(crate) struct Story {
    engine: Engine,
    /// The time of the next deed.
    pub now: Timestamp,
    /// Records so far.
    pub records: Vec<Arc<Record>>,
}

/// Five attempts, a second between them.
pub(crate) fn retries() -> Retry {
    Retry { factor: 1.0, jitter: 0.0, ..RETRY_DEFAULT }
}

/// The author's `retry: true`.
pub(crate) fn tried_again() -> Policy {
    Policy { retry: Some(retries()), ..Policy::default() }
}

/// The same, with somebody outside who can be asked.
pub(crate) fn probed(policy: Policy) -> Policy {
    let def = serde_json::json!({ "url": "http://a" });
    let said = serde_json::json!({ "kind": "http", "def": def });
    Policy { probe: Some(dormouse::machines::effect::probe::read(&said).unwrap()), ..policy }
}

/// The author's `idempotent: true`.
pub(crate) fn harmless() -> Policy {
    let on_uncertain = dormouse::codecs::event::OnUncertain::Retry;
    Policy { idempotent: true, on_uncertain, ..tried_again() }
}

pub(crate) fn failed(name: &str) -> Report {
    let error = plain_error(name, "no".into());
    let class = FailureClass::Reported;
    Report::Failed { class, error, is_final: false, retry_after_ms: None }
}

pub(crate) fn not_begun() -> Report {
    let error = plain_error("ConnectError", "refused".into());
    let class = FailureClass::NotBegun;
    Report::Failed { class, error, is_final: false, retry_after_ms: None }
}

pub(crate) fn unsure(cause: &'static str) -> Report {
    Report::Unknown { cause, evidence: None, error: None }
}

pub(crate) fn released(began: bool) -> Report {
    Report::Released { began, reason: None }
}

fn id() -> EffectId {
    EffectId::new(1)
}

pub(crate) fn created() -> Event {
    created_with(&run_id(), Some(process()))
}

/// The request of the effect, asked for by the run's first turn.
pub(crate) fn requested(kind: &str, policy: Policy, cleanup: bool) -> Event {
    let def = serde_json::json!({ "kind": kind, "signal": { "name": "s" } });
    EffectRequested {
        effect_id: id(),
        key: "k".into(),
        name: "k".into(),
        scope: String::new(),
        cause: Seq(1),
        kind: kind.into(),
        task_id: None,
        title: None,
        label: None,
        labels: Vec::new(),
        def: Some(Json::of(&def)),
        def_blob: None,
        def_digest: Digest::of(b"def"),
        args: None,
        args_blob: None,
        args_digest: Digest::of(b""),
        policy,
        cleanup,
    }
    .into()
}

/// A record in a few words.
pub(crate) fn said(event: &Event) -> String {
    match event {
        Event::EffectRequested(_) => "REQUESTED".into(),
        Event::EffectStarted(e) => format!("STARTED {}", e.epoch),
        Event::EffectAttemptFailed(e) => {
            let class = serde_json::to_value(e.class).unwrap();
            let free = if e.counted { "" } else { " uncounted" };
            format!("FAILED {} {} {}{free}", e.epoch, class.as_str().unwrap(), e.cause)
        }
        Event::EffectUncertain(e) => format!("UNCERTAIN {} {}", e.epoch, e.cause),
        Event::EffectResolved(e) if e.status == Status::Ok => format!("OK {}", e.epoch),
        Event::EffectResolved(e) => format!("ERROR {} {}", e.epoch, e.error.as_ref().unwrap().name),
        Event::EffectCancelled(e) => {
            let outcome = serde_json::to_value(e.outcome).unwrap();
            format!("CANCELLED {} {}", e.epoch, outcome.as_str().unwrap())
        }
        Event::RunPaused(e) => format!("PAUSED {}", e.reason),
        other => other.name().to_owned(),
    }
}

fn refused(refusal: Refusal) -> String {
    format!("refused: {}", Error::from(refusal).trouble().code)
}

impl Story {
    /// A run whose process has asked for an `agent`.
    pub(crate) fn asked(policy: Policy) -> Self {
        Self::of(requested("agent", policy, false))
    }

    /// A run whose first turn put out `request`.
    pub(crate) fn of(request: Event) -> Self {
        let mut story = Self { engine: Engine::new(), now: at(0), records: Vec::new() };
        story.append(created());
        story.append(request);
        story
    }

    /// The same, with an attempt that `worker` has begun.
    pub(crate) fn started(policy: Policy) -> Self {
        let mut story = Self::asked(policy);
        assert_eq!(story.claim("w"), "STARTED 1");
        story
    }

    /// The same, and nobody knows what became of it.
    pub(crate) fn uncertain(policy: Policy) -> Self {
        let mut story = Self::started(policy);
        assert_eq!(story.report(1, &Report::Lapsed), "UNCERTAIN 1 lease_expired");
        story
    }

    pub(crate) fn state(&self) -> &RunState {
        self.engine.state().unwrap()
    }

    pub(crate) fn effect(&self) -> &Effect {
        self.state().effect(id()).unwrap()
    }

    pub(crate) fn status(&self) -> &'static str {
        self.effect().status.name()
    }

    /// The error of the last record.
    pub(crate) fn error(&self) -> ErrorInfo {
        match &self.records.last().unwrap().event {
            Event::EffectResolved(done) => done.error.clone().unwrap(),
            Event::EffectAttemptFailed(failed) => failed.error.clone().unwrap(),
            other => panic!("{} has no error", other.name()),
        }
    }

    /// Folds one record; the fold refuses what is not in the table.
    pub(crate) fn append(&mut self, event: Event) {
        let seq = Seq(self.records.len() as u64 + 1);
        let sum = dormouse::codecs::format::line::genesis(&run_id());
        let record = Arc::new(Record { seq, at: self.now, event, sum });
        self.engine.handle(self.now, Input::Loaded(Arc::clone(&record))).unwrap();
        self.records.push(record);
    }

    fn all(&mut self, events: Vec<Event>) -> String {
        let words: Vec<String> = events.iter().map(said).collect();
        for event in events {
            self.append(event);
        }
        if words.is_empty() { "nothing".into() } else { words.join("; ") }
    }

    /// Lets time pass, and the engine act as long as it does so without a host.
    pub(crate) fn after(&mut self, ms: u64) -> String {
        self.now = self.now.later_by(ms);
        let mut words = Vec::new();
        while let Some(Action::Append(drafts)) = self.engine.handle(self.now, Input::Poll).unwrap()
        {
            for draft in drafts {
                words.push(said(&draft.event));
                self.append(draft.event);
            }
        }
        if words.is_empty() { "nothing".into() } else { words.join("; ") }
    }

    /// What will wake the run, in milliseconds from now.
    pub(crate) fn wakes_in(&self) -> Option<i64> {
        self.engine.wake_at(self.now).map(|at| at.millis() - self.now.millis())
    }

    /// A claim by `worker`; `worker/id` carries a claim id.
    pub(crate) fn claim(&mut self, worker: &str) -> String {
        let (worker, claim_id) =
            worker.split_once('/').map_or((worker, None), |(w, c)| (w, Some(c.to_owned())));
        let asked =
            Claim { worker: worker.into(), ttl_ms: 60_000, claim_id, target: None, slots: vec![] };
        match claim(&self.state().standing(self.now), self.effect(), &asked, self.now) {
            Ok(Claimed::Start(started)) => self.all(vec![(*started).into()]),
            Ok(Claimed::Again) => "again".into(),
            Err(refusal) => refused(refusal),
        }
    }

    /// An attempt that brought no value.
    pub(crate) fn report(&mut self, epoch: u64, report: &Report) -> String {
        if let Err(refusal) = fence(self.effect(), Epoch(epoch)) {
            return refused(refusal);
        }
        let standing = self.state().standing(self.now);
        let events = close(&standing, self.effect(), report, self.now, "worker:w");
        self.all(events)
    }

    /// Whether the holder of `epoch` still holds it.
    pub(crate) fn heartbeat(&self, epoch: u64) -> String {
        fence(self.effect(), Epoch(epoch)).map_or_else(refused, |()| "alive".into())
    }

    /// A post: `ok VALUE`, `error NAME`, `final NAME` or `unknown`; epoch 0: without a claim.
    pub(crate) fn post(&mut self, words: &str, epoch: u64) -> String {
        let (status, rest) = words.split_once(' ').unwrap_or((words, ""));
        let post = Post {
            epoch: (epoch > 0).then_some(Epoch(epoch)),
            status: match status {
                "ok" => PostStatus::Ok,
                "unknown" => PostStatus::Unknown,
                _ => PostStatus::Error,
            },
            value: (status == "ok").then(|| Json::of(rest)),
            error: (!matches!(status, "ok" | "unknown")).then(|| plain_error(rest, "no".into())),
            retryable: (status == "final").then_some(false),
            invocation_key: None,
            by: "worker:w".into(),
        };
        let standing = self.state().standing(self.now);
        match judge(&standing, Some(self.effect()), id(), &post, None, self.now) {
            Ok(Verdict::Accept { resolved, .. }) => self.all(vec![(*resolved).into()]),
            Ok(Verdict::Close(events)) => self.all(events),
            Ok(Verdict::Repeat { seq }) => format!("repeat of {seq}"),
            Err(refusal) => refused(refusal),
        }
    }

    /// A decision: `retry`, `done VALUE` or `failed NAME`.
    pub(crate) fn decide(&mut self, words: &str, epoch: u64, force: bool) -> String {
        let what = match words.split_once(' ') {
            Some(("done", value)) => Choice::Done(Json::of(value)),
            Some((_, name)) => Choice::Failed(plain_error(name, "no".into())),
            None => Choice::Retry,
        };
        let (reason, evidence) = ("looked".into(), Some(Json::of("ticket 7")));
        let decision = Decision { what, epoch: Epoch(epoch), reason, evidence, force };
        let standing = self.state().standing(self.now);
        match decide(&standing, self.effect(), &decision, self.now, "operator:o") {
            Ok(Outcome::Append(events)) => self.all(events),
            Ok(Outcome::Repeat { seq }) => format!("repeat of {seq}"),
            Err(refusal) => refused(refusal),
        }
    }

    /// The outside was asked.
    pub(crate) fn probe(&mut self, answer: &str) -> String {
        let answer = Answer::of(&serde_json::from_str(answer).unwrap());
        let standing = self.state().standing(self.now);
        let events = answered(&standing, self.effect(), &answer, self.now);
        self.all(events)
    }

    /// The outside was asked as often as it is to be, in vain.
    pub(crate) fn leave_unanswered(&mut self) -> String {
        let standing = self.state().standing(self.now);
        let event = unanswered(&standing, self.effect(), self.now, "timer");
        self.all(event.into_iter().collect())
    }

    pub(crate) fn pause(&mut self) {
        self.append(
            RunPaused { reason: "operator".into(), effect_id: None, by: "o".into() }.into(),
        );
    }

    pub(crate) fn resume(&mut self) {
        self.append(RunResumed { reason: None, patch: None, by: "o".into() }.into());
    }

    pub(crate) fn cancel_run(&mut self, now: bool) {
        self.append(RunCancelRequested { reason: None, now, by: "o".into() }.into());
    }

    pub(crate) fn becomes_uncertain(&mut self, cause: &str) {
        let (effect_id, epoch) = (id(), self.effect().epoch);
        let cause = cause.to_owned();
        self.append(EffectUncertain { effect_id, epoch, cause, evidence: None }.into());
    }

    pub(crate) fn given_up(&mut self, outcome: CancelOutcome) {
        let (effect_id, epoch) = (id(), self.effect().epoch);
        let (reason, by) = ("r".into(), "o".into());
        self.append(EffectCancelled { effect_id, epoch, outcome, reason, by }.into());
    }
}
