//! Shapes for the contract, of values that are made below this door.
//!
//! May not hold anything: the values come from `services::runs::view` and from records. Invariant:
//! a shape names every member that is always there.
#![expect(dead_code, reason = "these are read by the contract alone")]

use serde_json::Value;
use utoipa::ToSchema;

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
