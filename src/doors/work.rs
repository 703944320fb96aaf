//! What doors answer about claims, leases and who is at what.
//!
//! May not print or know HTTP. Invariant: the members are those of the command line's `--json`.

use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::codecs::event::{BlobRef, ErrorInfo, FailureClass, Payload};
use crate::codecs::json::Json;
use crate::codecs::trace::TraceContext;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::machines::effect::failures::Failure;
use crate::machines::effect::life::EffectStatus;
use crate::machines::lease::Progress;
use crate::services::manager::{Held, Probed, Renewed, Seen};
use crate::services::runs::attempt::DecisionDone;
use crate::services::runs::give::Given;
use crate::shells::run_dir::task_key::TaskKey;

/// How many heartbeats fit into a lease.
const HEARTBEATS_PER_LEASE: u64 = 3;

/// What a claim got
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClaimDone {
    /// What there is to do; empty: nothing
    pub(crate) tasks: Vec<TaskGiven>,
    /// Everything that this claim was ever given has ended
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub(crate) spent: bool,
}

/// A task that was given to a worker
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TaskGiven {
    /// The run
    #[schema(value_type = String)]
    run_id: RunId,
    /// The effect
    #[schema(value_type = String)]
    effect_id: EffectId,
    /// Its kind
    kind: String,
    /// The task that was asked for
    #[schema(required)]
    task_id: Option<String>,
    /// Its invocation key
    invocation_key: String,
    /// Its title
    #[schema(required)]
    title: Option<String>,
    /// Words for finding it
    labels: Vec<String>,
    /// What is to be done
    #[schema(required, value_type = Value)]
    definition: Option<Json>,
    /// With what; `{"$blob": digest, "bytes": n}` if it has a link
    #[schema(required, value_type = Value)]
    args: Option<Json>,
    /// Where arguments are that are too long for this answer
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    args_link: Option<String>,
    /// The number of this start: heartbeats and the result name it
    epoch: u64,
    /// Which attempt this is
    attempt: u32,
    /// For the outside; the same over all attempts
    idempotency_key: String,
    /// Where its work stands in the run's trace, as W3C `traceparent`
    #[schema(value_type = String)]
    traceparent: TraceContext,
    /// Whose it is now
    worker: String,
    /// Until when without a heartbeat
    #[schema(value_type = String)]
    lease_until: Timestamp,
    /// How long that is
    ttl_ms: u64,
    /// How often a heartbeat should come
    heartbeat_every_ms: u64,
    /// How long the attempt may take
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt_timeout_ms: Option<u64>,
    /// When the effect ends whatever happens
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    deadline: Option<Timestamp>,
    /// What became of the last attempts
    previous_attempts: Vec<ClosedAttempt>,
    /// Lets its bearer send heartbeats, blobs and the result of this attempt, and nothing else;
    /// from a daemon alone
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    task_token: Option<String>,
    /// It had been given before, under the same claim
    repeat: bool,
}

impl From<Given> for TaskGiven {
    fn from(given: Given) -> Self {
        let Given { task, definition, args, lease_until } = given;
        let (args, args_link) = told(&task.run_id, task.effect_id, args);
        Self {
            args_link,
            run_id: task.run_id,
            effect_id: task.effect_id,
            kind: task.kind,
            task_id: task.task_id,
            invocation_key: task.key,
            title: task.title.or(task.label),
            labels: task.labels,
            definition,
            args,
            epoch: task.epoch.0,
            attempt: task.attempt,
            idempotency_key: task.idempotency_key,
            traceparent: task.traceparent,
            worker: task.worker.unwrap_or_default(),
            lease_until,
            ttl_ms: task.ttl_ms,
            heartbeat_every_ms: task.ttl_ms / HEARTBEATS_PER_LEASE,
            attempt_timeout_ms: task.policy.attempt_timeout_ms,
            deadline: task.deadline,
            previous_attempts: task.previous.iter().map(ClosedAttempt::from).collect(),
            task_token: None,
            repeat: task.repeat,
        }
    }
}

/// Arguments themselves, or what they are and where.
fn told(run: &RunId, effect: EffectId, args: Option<Payload>) -> (Option<Json>, Option<String>) {
    match args {
        None => (None, None),
        Some(Payload::Inline(args)) => (Some(args), None),
        Some(Payload::Blob(BlobRef { digest, bytes })) => {
            let link = format!("/v1/runs/{run}/tasks/{effect}/blobs/{digest}");
            (Some(Json::of(&json!({ "$blob": digest, "bytes": bytes }))), Some(link))
        }
    }
}

impl TaskGiven {
    /// The same with the token of its attempt.
    pub(crate) fn by(given: Given, key: &TaskKey) -> Self {
        let task = &given.task;
        let token = key.token(&task.run_id, task.effect_id, task.epoch);
        Self { task_token: Some(token), ..Self::from(given) }
    }
}

/// An attempt that brought no outcome
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClosedAttempt {
    /// The number of its start
    epoch: u64,
    /// Which one it was
    attempt: u32,
    /// What is known of it: `not_begun`, `reported`, `unknown`
    #[schema(value_type = String)]
    class: FailureClass,
    /// Why it is over
    cause: String,
    /// What was reported
    #[schema(required, value_type = Option<Object>)]
    error: Option<ErrorInfo>,
    /// When
    #[schema(value_type = String)]
    at: Timestamp,
}

impl From<&Failure> for ClosedAttempt {
    fn from(failure: &Failure) -> Self {
        Self {
            epoch: failure.epoch.0,
            attempt: failure.attempt,
            class: failure.class,
            cause: failure.cause.clone(),
            error: failure.error.clone(),
            at: failure.at,
        }
    }
}

/// The answer to a heartbeat
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BeatDone {
    /// Until when no other is needed
    #[schema(value_type = String)]
    lease_until: Timestamp,
    /// How long that is
    ttl_ms: u64,
    /// `started`, or `uncertain` once the lease has lapsed
    #[schema(value_type = String)]
    state: EffectStatus,
    /// What the worker is to do: `continue`, `cancel`, `stop`
    directive: &'static str,
    /// Why
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<Renewed> for BeatDone {
    fn from(renewed: Renewed) -> Self {
        Self {
            lease_until: renewed.lease_until,
            ttl_ms: renewed.ttl_ms,
            state: renewed.status,
            directive: renewed.directive.name(),
            reason: renewed.reason,
        }
    }
}

/// Where an effect stands after something was done to it
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stands {
    /// The effect
    #[schema(value_type = String)]
    effect_id: EffectId,
    /// `requested`, `started`, `uncertain`, `ok`, `error`, `cancelled`
    #[schema(value_type = String)]
    state: EffectStatus,
}

impl Stands {
    pub(crate) const fn of(effect_id: EffectId, state: EffectStatus) -> Self {
        Self { effect_id, state }
    }
}

/// What a decision made of an effect
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decided {
    /// The effect
    #[schema(value_type = String)]
    effect_id: EffectId,
    /// Where it stands now
    #[schema(value_type = String)]
    state: EffectStatus,
    /// The record
    #[schema(value_type = u64)]
    seq: Seq,
    /// It stood there already
    repeat: bool,
    /// What the outside said, if it was asked
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    probe: Option<Said>,
}

/// What the outside said about an effect
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Said {
    /// `done`, `not_done`, `failed` or `unsure`
    answer: &'static str,
    /// Why it is not known
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// The file with the answer, below the run's directory
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

impl Decided {
    pub(crate) fn of(effect_id: EffectId, done: &DecisionDone) -> Self {
        let (state, seq, repeat) = (done.status, done.seq, done.repeat);
        Self { effect_id, state, seq, repeat, probe: None }
    }

    /// What an answer of the outside made of it.
    pub(crate) fn asked(effect_id: EffectId, said: Probed) -> Self {
        let Probed { status, seq, answer, why, file } = said;
        let probe = Some(Said { answer, why, file });
        Self { effect_id, state: status, seq, repeat: false, probe }
    }
}

/// A lease
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeaseShown {
    /// Whose
    worker: String,
    /// The number of the start
    epoch: u64,
    /// Until when
    #[schema(value_type = String)]
    lease_until: Timestamp,
    /// It was not renewed in time
    lapsed: bool,
    /// How far its holder said that it is
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    progress: Option<ProgressShown>,
}

/// How far a worker said that it is
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProgressShown {
    /// Of a hundred
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    percent: Option<f64>,
    /// In a few words
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    label: Option<String>,
}

impl From<Held> for LeaseShown {
    fn from(held: Held) -> Self {
        Self {
            worker: held.worker,
            epoch: held.epoch.0,
            lease_until: held.until,
            lapsed: held.is_late,
            progress: held
                .progress
                .map(|Progress { percent, label }| ProgressShown { percent, label }),
        }
    }
}

/// Workers that were heard of
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Workers {
    /// By name
    pub(crate) workers: Vec<WorkerShown>,
    /// What is known of kinds of work: their inputs and outputs
    #[schema(value_type = Object)]
    pub(crate) signatures: serde_json::Value,
}

/// A worker
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkerShown {
    /// Its name
    name: String,
    /// The kinds that it asked for last
    kinds: Vec<String>,
    /// When it was last heard of; null: not since the daemon began
    #[schema(required, value_type = Option<String>)]
    last_seen: Option<Timestamp>,
    /// How many effects it is at
    leases: usize,
}

impl From<Seen> for WorkerShown {
    fn from(seen: Seen) -> Self {
        let Seen { name, kinds, last_seen, leases } = seen;
        Self { name, kinds, last_seen, leases }
    }
}
