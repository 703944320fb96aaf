//! Shapes for the contract, of values that are made below this door.
//!
//! May not hold anything: the values come from `services::runs::view` and from records. Invariant:
//! a shape names every member that is always there.
#![expect(dead_code, reason = "these are read by the contract alone")]

use serde_json::Value;
use utoipa::ToSchema;

/// The schedule that made a run
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct ScheduledBy {
    /// Where its name belongs
    namespace: String,
    /// Its name
    name: String,
    /// The time that the run is for
    scheduled_at: String,
}

/// The pinned program of a run
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Pinned {
    /// Its name
    process_id: String,
    /// Path of the entry module below the process root
    entry: String,
    /// The export to call
    #[schema(nullable = false)]
    export_name: Option<String>,
    /// The profile: `dormouse` or `babysitter`
    api: String,
    /// Digest over all pinned files
    digest: String,
}

/// Where a journal ends
#[derive(ToSchema)]
pub(crate) struct Head {
    /// The last record
    seq: u64,
    /// Its sum
    sum: String,
}

/// The effect that a child run belongs to
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Parent {
    /// The parent
    run_id: String,
    /// Its effect
    effect_id: String,
    /// How many runs stand above
    depth: u32,
}

/// One effect of a list
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct ListedTask {
    /// The run, in lists over several
    #[schema(nullable = false)]
    run_id: Option<String>,
    /// Its id
    effect_id: String,
    /// The task that was asked for
    task_id: String,
    /// The invocation key
    step_id: String,
    /// The invocation key
    invocation_key: String,
    /// `requested`, `started`, `uncertain`, `resolved_ok`, `resolved_error`, `cancelled`
    status: String,
    /// Its kind
    kind: String,
    /// What people call it
    #[schema(required)]
    label: Option<String>,
    /// Words for finding it
    labels: Vec<String>,
    /// Run-relative file of its definition
    task_def_ref: String,
    /// Run-relative file of its arguments
    inputs_ref: String,
    /// Run-relative file of its outcome
    #[schema(required)]
    result_ref: Option<String>,
    /// Run-relative file of what it printed
    #[schema(required)]
    stdout_ref: Option<String>,
    /// Run-relative file of what it printed as errors
    #[schema(required)]
    stderr_ref: Option<String>,
    /// When it was asked for
    requested_at: String,
    /// When it ended
    #[schema(required)]
    resolved_at: Option<String>,
    /// Attempts so far
    attempts: u32,
    /// The number of its last start
    epoch: u64,
    /// Who executes it
    #[schema(required)]
    leased_by: Option<String>,
    /// Its title
    #[schema(required)]
    title: Option<String>,
}

/// What someone outside could do now
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct NextAction {
    /// The effect
    effect_id: String,
    /// Its invocation key
    invocation_key: String,
    /// Its kind
    kind: String,
    /// What people call it
    #[schema(required)]
    label: Option<String>,
    /// Its definition
    task_def: Value,
    /// Its arguments
    args: Value,
    /// The task that was asked for
    task_id: String,
    /// Where it stands
    status: String,
    /// The number of its last start
    epoch: u64,
}

/// Where a run rests
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Turns so far
    iteration: u64,
    /// The same
    iteration_count: u64,
    /// `waiting`, `held`, `completed`, `failed`, `cancelled`, `halted`
    status: String,
    /// Always `none`: nothing is executed for the caller
    action: String,
    /// Why it rests
    reason: String,
    /// How many things somebody could do
    count: u64,
    /// Those things
    next_actions: Vec<NextAction>,
    /// What the process returned
    output: Value,
    /// Remarks
    warnings: Vec<String>,
    /// Names
    #[schema(value_type = Object)]
    metadata: Value,
    /// The finer state
    native_state: String,
    /// What it waits for
    reasons: Vec<String>,
    /// The generation
    generation: u32,
    /// Where its journal ends
    head: Head,
    /// When its first timer is due
    #[schema(required)]
    wake_at: Option<String>,
}

/// One run of a list
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct ListedRun {
    /// Its id
    run_id: String,
    /// Its state; `damaged` if it cannot be read
    state: String,
    /// Finer state
    #[schema(nullable = false)]
    native_state: Option<String>,
    /// Its process
    #[schema(nullable = false)]
    process_id: Option<String>,
    /// When it was created
    #[schema(nullable = false)]
    created_at: Option<String>,
    /// Its last record
    #[schema(nullable = false)]
    last_at: Option<String>,
    /// Effects without an outcome
    pending: u64,
    /// Words for finding it
    #[schema(nullable = false)]
    tags: Option<Vec<String>>,
    /// Its parent
    #[schema(nullable = false)]
    parent: Option<String>,
    /// What is wrong with it
    #[schema(nullable = false)]
    problem: Option<String>,
}

/// How a recorded call fares under other code
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Call {
    /// `kept`, `args-changed`, `kind-changed`, `removed`, `new`, `reordered`
    change: String,
    /// Invocation key
    key: String,
    /// The recorded effect
    #[schema(nullable = false)]
    effect_id: Option<String>,
    /// Its kind
    kind: String,
    /// Where it stands
    #[schema(nullable = false)]
    status: Option<String>,
}

/// How an effect ended
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Outcome {
    /// The effect
    effect_id: String,
    /// `ok`, `error` or `cancelled`
    status: String,
    /// Who gave it
    by: String,
    /// The record that holds it
    seq: u64,
}

/// Why a run does not go on
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Why {
    /// The run
    run_id: String,
    /// Its finer state; `damaged` if it cannot be read
    state: String,
    /// The most important reason in a sentence
    headline: String,
    /// Since when that has been so
    #[schema(required)]
    since: Option<String>,
    /// Most important first; those of child runs included
    reasons: Vec<Reason>,
    /// Reasons that are left out
    omitted: u64,
    /// What will wake it; null once it has ended
    #[schema(required)]
    wake: Option<Wake>,
    /// The runs that wait for it, nearest first
    parents: Vec<Above>,
}

/// One reason why a run does not go on
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Reason {
    /// `damaged`, `lost_wake`, `no_process`, `diverged`, `process_error`, `host_failed`, `limit`,
    /// `paused`, `cancelling`, `draining`, `runnable`, `uncertain`, `waiting_person`,
    /// `held_policy`, `waiting_signal`, `waiting_worker`, `held_limit`, `held_key`, `backoff`,
    /// `executing`, `waiting_child`, `waiting_timer`
    code: String,
    /// The run it is about: this one, or a child run
    run_id: String,
    /// In words
    what: String,
    /// The effect it is about
    #[schema(nullable = false)]
    effect_id: Option<String>,
    /// Its kind
    #[schema(nullable = false)]
    kind: Option<String>,
    /// Since when
    #[schema(nullable = false)]
    since: Option<String>,
    /// Who is at it, or has what it waits for
    #[schema(nullable = false)]
    held_by: Option<String>,
    /// The number of its last start
    #[schema(nullable = false)]
    epoch: Option<u64>,
    /// Until when its lease runs
    #[schema(nullable = false)]
    lease_until: Option<String>,
    /// Attempts so far
    #[schema(nullable = false)]
    attempts: Option<u32>,
    /// How the last attempts failed, newest first, at most three
    #[schema(nullable = false)]
    last_failures: Option<Vec<FailedAttempt>>,
    /// When time will do something about it
    #[schema(nullable = false)]
    next_at: Option<String>,
    /// Workers that asked for its kind in the last minute
    #[schema(nullable = false)]
    workers_seen: Option<u64>,
    /// The child run that it waits for
    #[schema(nullable = false)]
    child_run_id: Option<String>,
    /// Commands that end it; only the word FILE is to be replaced
    unblock: Vec<String>,
}

/// A failed attempt
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct FailedAttempt {
    /// The number of the start that was closed
    epoch: u64,
    /// `not_begun`, `reported` or `unknown`
    class: String,
    /// Why it was closed
    cause: String,
    /// What was reported
    #[schema(nullable = false)]
    error: Option<String>,
    /// When
    at: String,
}

/// What will wake a run
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Wake {
    /// `runnable`, `timer`, `outside`, `person`, `signal`, `child`, `operator`
    kind: String,
    /// When time alone will
    #[schema(nullable = false)]
    at: Option<String>,
}

/// A run that waits for another
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Above {
    /// The run
    run_id: String,
    /// The effect for which it waits
    effect_id: String,
}

/// A run in brief
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Brief {
    /// Where it stands
    run: Stand,
    /// What has ended, newest last
    done: Vec<DoneEffect>,
    /// Older ends that are left out
    done_omitted: u64,
    /// What has not, by number
    open: Vec<OpenEffect>,
    /// Open effects that are left out
    open_omitted: u64,
}

/// Where a run stands
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct Stand {
    /// The run
    run_id: String,
    /// Its finer state
    state: String,
    /// Its process
    #[schema(required)]
    process_id: Option<String>,
    /// Why it does not go on
    headline: String,
    /// Its last record
    head: u64,
}

/// An effect that has ended
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct DoneEffect {
    /// The effect
    effect_id: String,
    /// What people call it
    title: String,
    /// Its kind
    kind: String,
    /// `ok`, `error` or `cancelled`
    status: String,
    /// Digest of its value
    #[schema(required)]
    value_digest: Option<String>,
    /// The beginning of its value, or what went wrong; at most 1 KiB
    summary: String,
}

/// An effect without an outcome
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct OpenEffect {
    /// The effect
    effect_id: String,
    /// What people call it
    title: String,
    /// Its kind
    kind: String,
    /// `requested`, `started` or `uncertain`
    state: String,
    /// The number of its last start; 0: none
    epoch: u64,
    /// `claim_and_execute`, `post_only`, `decide_first` or `wait`
    safe: String,
    /// The command for that, or what is waited for
    how: String,
}
