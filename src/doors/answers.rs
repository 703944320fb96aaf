//! What doors answer: one shape of every answer, whoever asks.
//!
//! May not print or know HTTP. Invariant: the members are those of the command line's `--json`.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::shapes;
use super::work::{ClosedAttempt, LeaseShown};
use crate::codecs::event::{Decision, Event as Stored, ProcessRef, Profile, Record};
use crate::codecs::event::{Head, ParentRef, ScheduleRef};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::digest::{Digest, Sum};
use crate::ground::id::{EffectId, RunId, Seq};
use crate::machines::effect::ask;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::effect::post::PostStatus;
use crate::machines::effect::refusal::Refusal;
use crate::machines::replay::check::{Divergence, Mark};
use crate::services::audit::{Audited, Finding};
use crate::services::manager::{Held, Made};
use crate::services::repair::undo::Repair;
use crate::services::repair::{Mended, Outlook};
use crate::services::runs::accept::Plan;
use crate::services::runs::check::{Checked, Line};
use crate::services::runs::post::Posted;
use crate::services::runs::steer::Done;
use crate::services::runs::view::{self, Look, Stream};
use crate::services::runs::{Error, Result};

/// A run that was created
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Created {
    /// Its id
    #[schema(value_type = String)]
    run_id: RunId,
    /// Its directory
    run_dir: String,
    /// Its entry, or `bare-run`
    entry: String,
    /// Its process
    #[schema(required)]
    process_id: Option<String>,
    /// The profile of its process
    #[schema(required, value_type = Option<String>)]
    profile: Option<Profile>,
    /// Digest over all pinned files
    #[schema(required, value_type = Option<String>)]
    digest: Option<Digest>,
    /// It existed already, from the same request under the same key
    pub(crate) existed: bool,
    /// What pinning and loading remarked
    warnings: Vec<String>,
}

impl From<Made> for Created {
    fn from(made: Made) -> Self {
        let entry = made.process.as_ref().map_or("bare-run".to_owned(), |process| {
            let export = process.export_name.as_ref().map_or(String::new(), |e| format!("#{e}"));
            format!("process/{}{export}", process.entry)
        });
        Self {
            run_id: made.run_id,
            run_dir: made.path.display().to_string(),
            entry,
            process_id: made.process.as_ref().map(|p| p.process_id.clone()),
            profile: made.process.as_ref().map(|p| p.api),
            digest: made.process.as_ref().map(|p| p.digest),
            existed: made.existed,
            warnings: made.warnings,
        }
    }
}

/// One record
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    /// Its place
    #[schema(value_type = u64)]
    seq: Seq,
    /// Its type
    #[serde(rename = "type")]
    kind: &'static str,
    /// When it was appended
    #[schema(value_type = String)]
    recorded_at: Timestamp,
    /// What it says
    #[schema(value_type = Object)]
    data: Json,
    /// The sum of the chain up to here
    #[schema(value_type = String)]
    sum: Sum,
}

impl From<&Record> for Event {
    fn from(record: &Record) -> Self {
        Self {
            seq: record.seq,
            kind: record.event.name(),
            recorded_at: record.at,
            data: record.event.data(),
            sum: record.sum,
        }
    }
}

/// Where a run stands
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// `created`, `waiting`, `held`, `completed`, `failed`, `halted`, `cancelled`
    state: &'static str,
    /// Why it ended or is held
    #[schema(required)]
    reason: Option<String>,
    /// What it was halted with
    #[schema(required, value_type = Value)]
    payload: Option<Json>,
    /// The last record
    #[schema(required)]
    last_event: Option<Event>,
    /// Effects without an outcome, by kind
    #[schema(value_type = Object)]
    pending_by_kind: Value,
    /// The same, in the words of the public runtime
    pending_effects_summary: PendingSummary,
    /// Whether the runtime itself could do something
    needs_more_iterations: bool,
    /// Version and head
    metadata: StatusMetadata,
    /// Always null
    #[schema(required, value_type = Value)]
    completion_proof: Option<String>,
    /// The run
    #[schema(value_type = String)]
    run_id: RunId,
    /// Its directory
    run_dir: String,
    /// Its process
    #[schema(required)]
    process_id: Option<String>,
    /// Also `paused`, `parked`, `running`
    native_state: &'static str,
    /// What it waits for
    reasons: Vec<String>,
    /// When its first timer is due
    #[schema(required, value_type = Option<String>)]
    wake_at: Option<Timestamp>,
    /// Breakpoints whose time has passed
    overdue: Vec<String>,
    /// Effects that somebody executes
    leases: Vec<Lease>,
    /// The generation
    generation: u32,
    /// When it was created
    #[schema(value_type = String)]
    created_at: Timestamp,
    /// The effect that it belongs to
    #[schema(required, value_type = Option<shapes::Parent>)]
    parent: Option<ParentRef>,
    /// Words for finding it
    tags: Vec<String>,
}

/// Effects without an outcome
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PendingSummary {
    /// How many
    total_pending: usize,
    /// By kind
    #[schema(value_type = Object)]
    counts_by_kind: Value,
    /// Of kind `node`
    auto_runnable_count: usize,
}

/// Version and head of a run's journal
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusMetadata {
    /// Effects without an outcome, by kind
    #[schema(value_type = Object)]
    pending_effects_by_kind: Value,
    /// The last record
    #[schema(value_type = u64)]
    state_version: Seq,
    /// Where the journal ends
    #[schema(value_type = shapes::Head)]
    journal_head: Head,
}

/// Who executes an effect
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lease {
    /// The effect
    #[schema(value_type = String)]
    effect_id: EffectId,
    /// Who
    #[schema(required)]
    worker: Option<String>,
    /// The number of this start
    epoch: u64,
}

impl Status {
    /// Where a run stands at `now`.
    pub(crate) fn of(look: Look<'_>, now: Timestamp) -> Self {
        let state = look.state;
        let by_kind = view::pending_by_kind(state);
        let auto = by_kind.get("node").copied().unwrap_or(0);
        let counts = serde_json::json!(by_kind);
        let held = state.open_effects().filter(|e| e.status.name() == "started");
        let leases =
            held.map(|e| Lease { effect_id: e.id, worker: e.worker.clone(), epoch: e.epoch.0 });
        Self {
            state: view::state_name(state),
            reason: reason(look),
            payload: payload(look),
            last_event: look.records.last().map(|r| (&**r).into()),
            pending_by_kind: counts.clone(),
            pending_effects_summary: PendingSummary {
                total_pending: state.open.len(),
                counts_by_kind: counts.clone(),
                auto_runnable_count: auto,
            },
            needs_more_iterations: auto > 0,
            metadata: StatusMetadata {
                pending_effects_by_kind: counts,
                state_version: state.head.seq,
                journal_head: state.head,
            },
            completion_proof: None,
            run_id: state.run_id.clone(),
            run_dir: look.dir.path().display().to_string(),
            process_id: state.process.as_ref().map(|p| p.process_id.clone()),
            native_state: view::native_state(state),
            reasons: view::reasons(state),
            wake_at: state.timers.first().map(|(due, _)| *due),
            overdue: view::overdue(state, now),
            leases: leases.collect(),
            generation: state.generation,
            created_at: state.created_at,
            parent: state.parent.clone(),
            tags: state.tags.clone(),
        }
    }
}

fn reason(look: Look<'_>) -> Option<String> {
    let ended = look.records.iter().rev().find_map(|r| match &r.event {
        Stored::RunHalted(halted) => Some(halted.reason.clone()),
        Stored::RunFailed(failed) => {
            Some(failed.seal.as_ref().map_or("failed".into(), |s| s.reason.clone()))
        }
        Stored::RunCompleted(done) => done.seal.as_ref().map(|s| s.reason.clone()),
        Stored::RunCancelled(gone) => Some(gone.reason.clone().unwrap_or("cancelled".into())),
        _ => None,
    });
    ended.or_else(|| look.state.held.as_ref().map(|h| h.reason.clone()))
}

fn payload(look: Look<'_>) -> Option<Json> {
    look.records.iter().rev().find_map(|r| match &r.event {
        Stored::RunHalted(halted) => halted.payload.clone(),
        _ => None,
    })
}

/// A run with everything that is pending
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown {
    #[serde(flatten)]
    status: Status,
    /// Its process
    #[schema(required, value_type = Option<shapes::Pinned>)]
    process: Option<ProcessRef>,
    /// The schedule that made it
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<shapes::ScheduledBy>, nullable = false)]
    schedule: Option<ScheduleRef>,
    /// What someone outside could do now
    #[schema(value_type = Vec<shapes::NextAction>)]
    next_actions: Vec<Value>,
    /// All its effects
    #[schema(value_type = Vec<shapes::ListedTask>)]
    tasks: Vec<Value>,
}

impl Shown {
    /// A run at `now`.
    pub(crate) fn of(look: Look<'_>, now: Timestamp) -> Self {
        Self {
            status: Status::of(look, now),
            process: look.state.process.clone(),
            schedule: look.state.schedule.clone(),
            next_actions: look.next_actions(),
            tasks: look.state.effects.values().map(|e| look.task(e)).collect(),
        }
    }
}

/// What a deed came to that appends one record
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Did {
    /// The run
    #[schema(value_type = String)]
    run_id: RunId,
    /// What was done
    done: &'static str,
    /// The record that stands for it
    #[schema(value_type = u64)]
    seq: Seq,
    /// It stood there already
    repeat: bool,
}

impl Did {
    /// A deed to a run.
    pub(crate) fn of(run: &RunId, word: &'static str, done: &Done) -> Self {
        Self { run_id: run.clone(), done: word, seq: done.seq, repeat: done.repeat }
    }
}

/// A run that was ended from outside
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HaltDone {
    /// Its directory
    pub(crate) run_dir: String,
    /// Always true
    pub(crate) halted: bool,
    /// How it should count
    pub(crate) final_status: &'static str,
    /// Why
    pub(crate) reason: String,
    /// Always null
    #[schema(required, value_type = Value)]
    pub(crate) completion_proof: Option<String>,
    /// The type of the record that ended it before
    #[schema(required)]
    pub(crate) already_terminal: Option<&'static str>,
    /// The record that ended it
    #[schema(required)]
    pub(crate) event: Option<Event>,
}

/// What became of a post
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PostDone {
    /// How the effect ended
    #[schema(value_type = String)]
    status: PostStatus,
    /// A shell task's error was turned into a value
    normalized_shell_failure: bool,
    /// What stands now
    committed: Committed,
    /// Run-relative file of what the task printed
    #[schema(required)]
    stdout_ref: Option<String>,
    /// Run-relative file of what it printed as errors
    #[schema(required)]
    stderr_ref: Option<String>,
    /// Run-relative file of the outcome
    result_ref: String,
    /// The effect
    #[schema(value_type = String)]
    effect_id: EffectId,
    /// It stood there already
    repeat: bool,
    /// The record that holds it
    #[schema(value_type = u64)]
    seq: Seq,
    /// Where the effect stands now
    #[schema(value_type = String)]
    state: EffectStatus,
    /// Where its run stands now
    run_state: &'static str,
    /// Things the poster should know
    warnings: Vec<String>,
}

/// The outcome that stands
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Committed {
    /// Run-relative file of the outcome
    result_ref: String,
    /// Run-relative file of what the task printed
    #[schema(required)]
    stdout_ref: Option<String>,
    /// Run-relative file of what it printed as errors
    #[schema(required)]
    stderr_ref: Option<String>,
    /// When the work began
    started_at: String,
    /// When it ended
    finished_at: String,
}

impl PostDone {
    /// A post to an effect.
    pub(crate) fn of(effect: EffectId, posted: Posted) -> Self {
        Self {
            status: posted.status,
            normalized_shell_failure: posted.normalised_shell_failure,
            committed: Committed {
                result_ref: posted.result_ref.clone(),
                stdout_ref: posted.stdout_ref.clone(),
                stderr_ref: posted.stderr_ref.clone(),
                started_at: posted.started_at,
                finished_at: posted.finished_at,
            },
            stdout_ref: posted.stdout_ref,
            stderr_ref: posted.stderr_ref,
            result_ref: posted.result_ref,
            effect_id: effect,
            repeat: posted.repeat,
            seq: posted.seq,
            state: posted.state,
            run_state: posted.run_state,
            warnings: posted.warnings,
        }
    }
}

/// An effect that was given up
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GivenUp {
    /// The effect
    #[schema(value_type = String)]
    effect_id: EffectId,
    /// `cancelled`
    status: &'static str,
    /// Run-relative file of the outcome
    result_ref: String,
    /// The record that stands for it
    #[schema(value_type = u64)]
    seq: Seq,
}

impl GivenUp {
    /// An effect that was given up by a record.
    pub(crate) fn of(effect: EffectId, seq: Seq) -> Self {
        let result_ref = format!("tasks/{effect}/result.json");
        Self { effect_id: effect, status: "cancelled", result_ref, seq }
    }
}

/// A run whose derived files were made anew
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rebuilt {
    /// Its directory
    run_dir: String,
    /// What they say now
    metadata: RebuiltMetadata,
}

/// What derived files say
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RebuiltMetadata {
    /// Effects without an outcome, by kind
    #[schema(value_type = Object)]
    pending_effects_by_kind: Value,
    /// The last record
    #[schema(value_type = u64)]
    state_version: Seq,
    /// Where the journal ends
    #[schema(value_type = shapes::Head)]
    journal_head: Head,
    /// Always true
    state_rebuilt: bool,
    /// Always `cli_manual`: somebody asked for it
    state_rebuild_reason: &'static str,
}

impl Rebuilt {
    /// A run that was just rebuilt.
    pub(crate) fn of(look: Look<'_>) -> Self {
        Self {
            run_dir: look.dir.path().display().to_string(),
            metadata: RebuiltMetadata {
                pending_effects_by_kind: serde_json::json!(view::pending_by_kind(look.state)),
                state_version: look.state.head.seq,
                journal_head: look.state.head,
                state_rebuilt: true,
                state_rebuild_reason: "cli_manual",
            },
        }
    }
}

/// One effect with its definition, arguments and outcome
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShownTask {
    /// Where it stands
    #[schema(value_type = shapes::ListedTask)]
    effect: Value,
    /// Its definition, byte for byte
    #[schema(required, value_type = Value)]
    task: Option<Json>,
    /// Its arguments, byte for byte
    #[schema(required, value_type = Value)]
    args: Option<Json>,
    /// Its policy
    #[schema(value_type = Object)]
    policy: Value,
    /// Its outcome
    #[schema(required, value_type = Option<shapes::Outcome>)]
    result: Option<view::Outcome>,
    /// Always null
    #[schema(required, value_type = Value)]
    large_result: Option<String>,
    /// The last attempts that brought no outcome
    attempts: Vec<ClosedAttempt>,
    /// Who is at it, as a daemon knows
    #[schema(required)]
    lease: Option<LeaseShown>,
    /// `requested`, `started`, `uncertain`, `ok`, `error`, `cancelled`
    #[schema(value_type = String)]
    state: EffectStatus,
    /// Where what it printed is to be had
    logs: Logs,
    /// Files with posts that were refused, below the run's directory
    stale: Vec<String>,
    /// Files with what the outside said when its outcome was unknown
    probe: Vec<String>,
    /// When time alone will do something about it
    #[schema(required, value_type = Option<String>)]
    wake: Option<Timestamp>,
}

/// Where what a task printed is to be had
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Logs {
    /// What it printed; null: nothing
    #[schema(required)]
    stdout: Option<String>,
    /// What it printed as errors; null: nothing
    #[schema(required)]
    stderr: Option<String>,
}

impl Logs {
    fn of(look: Look<'_>, effect: &Effect) -> Self {
        let link = |stream: Stream| {
            let opened = look.dir.open_relative(&look.log(effect, stream));
            let there = opened.is_ok_and(|file| file.is_some());
            let (run, id, name) = (look.dir.id(), effect.id, stream.name());
            there.then(|| format!("/v1/runs/{run}/tasks/{id}/{name}"))
        };
        Self { stdout: link(Stream::Stdout), stderr: link(Stream::Stderr) }
    }
}

impl ShownTask {
    /// The same with what a daemon knows of its lease.
    pub(crate) fn held(mut self, lease: Option<Held>) -> Self {
        self.lease = lease.map(Into::into);
        self
    }

    /// An effect of a run; a value that cannot be had is an error, not a null.
    pub(crate) fn of(look: Look<'_>, id: EffectId) -> Result<Self> {
        let effect = effect_of(look, id)?;
        look.intact(effect)?;
        let (stale, probe) = look.dir.kept(id);
        Ok(Self {
            stale,
            probe,
            effect: look.task(effect),
            task: look.definition(effect),
            args: look.args(effect),
            policy: serde_json::json!(effect.policy),
            result: look.outcome(effect),
            large_result: None,
            attempts: effect.failures.last.iter().map(ClosedAttempt::from).collect(),
            lease: None,
            state: effect.status,
            logs: Logs::of(look, effect),
            wake: effect.due_at().into_iter().chain(effect.not_before).min(),
        })
    }
}

/// The effect of an id; an error names the last one there is.
pub(crate) fn effect_of(look: Look<'_>, id: EffectId) -> Result<&Effect> {
    if let Some(effect) = look.state.effect(id) {
        return Ok(effect);
    }
    let error = Error::from(Refusal::UnknownEffect(id));
    let error = error.named(look.dir.id().as_str(), &id.to_string());
    let last = look.state.effects.keys().next_back().filter(|last| **last < id);
    Err(match last {
        Some(last) => error.and_next(format!("the last effect of this run is {last}")),
        None => error,
    })
}

/// A breakpoint that waits for a person
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Breakpoint {
    /// The run
    #[schema(value_type = String)]
    run_id: RunId,
    /// The effect
    #[schema(value_type = String)]
    effect_id: EffectId,
    /// Since when
    #[schema(value_type = String)]
    requested_at: Timestamp,
    /// What people call it
    #[schema(required)]
    label: Option<String>,
    /// Its title
    #[schema(required)]
    title: Option<String>,
    /// What is asked
    #[schema(required, value_type = Value)]
    question: Option<Value>,
    /// Everything that is shown
    payload: Value,
}

/// The breakpoints of a run that wait for a person.
pub(crate) fn breakpoints(look: Look<'_>) -> Vec<Breakpoint> {
    if !look.state.is_open() {
        return Vec::new();
    }
    let is_asked = |e: &&Effect| e.kind == "breakpoint" || e.asks_a_person();
    let open = look.state.open_effects().filter(is_asked);
    open.map(|effect| {
        let payload = if effect.asks_a_person() {
            ask::payload(effect)
        } else {
            look.args(effect).map_or(Value::Null, |p| p.to_value())
        };
        Breakpoint {
            run_id: look.dir.id().clone(),
            effect_id: effect.id,
            requested_at: effect.requested_at,
            label: effect.label.clone(),
            title: effect.title.clone(),
            question: payload.get("question").cloned(),
            payload,
        }
    })
    .collect()
}

/// A run that was given its process
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AssignDone {
    /// The run
    #[schema(value_type = String)]
    pub(crate) run_id: RunId,
    /// Its directory
    pub(crate) run_dir: String,
    /// The entry file
    pub(crate) entry: String,
    /// Its process
    pub(crate) process_id: String,
    /// What it had before
    #[schema(required)]
    pub(crate) previous_entrypoint: Option<Entrypoint>,
    /// Always true
    pub(crate) assigned: bool,
    /// Digest over all pinned files
    #[schema(value_type = String)]
    pub(crate) digest: Digest,
}

/// Where a process begins
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entrypoint {
    /// Path of the entry module
    import_path: String,
    /// The export to call
    #[schema(required)]
    export_name: Option<String>,
}

impl From<ProcessRef> for Entrypoint {
    fn from(process: ProcessRef) -> Self {
        Self { import_path: process.entry, export_name: process.export_name }
    }
}

/// What a check found
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckDone {
    /// The journal is reproduced
    strict: bool,
    /// What came in the way
    #[schema(required)]
    held: Option<String>,
    /// The code that was checked
    #[schema(value_type = shapes::Pinned)]
    process: ProcessRef,
    /// Where it is not reproduced
    #[schema(required, value_type = Option<Object>)]
    divergence: Option<Divergence>,
    /// How each recorded call fares
    #[schema(value_type = Vec<shapes::Call>)]
    calls: Vec<Line>,
    /// What the code would ask for next
    #[schema(value_type = Vec<Object>)]
    next: Vec<Mark>,
    /// Remarks
    warnings: Vec<String>,
}

impl From<Checked> for CheckDone {
    fn from(checked: Checked) -> Self {
        Self {
            strict: checked.strict,
            held: checked.held,
            process: checked.process,
            divergence: checked.divergence,
            calls: checked.lines,
            next: checked.next,
            warnings: checked.warnings,
        }
    }
}

/// A change of code, worked out or accepted
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AcceptDone {
    /// Whether it stands
    accepted: bool,
    /// The record that stands for it
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, required = false)]
    seq: Option<Seq>,
    /// The code that was accepted
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = shapes::Pinned, required = false)]
    process: Option<ProcessRef>,
    /// How the recorded calls fare
    check: CheckDone,
    /// What is decided about calls that differ
    #[schema(value_type = Vec<Object>)]
    decisions: Vec<Decision>,
    /// Digest of both
    #[schema(value_type = String)]
    plan_digest: Digest,
}

impl AcceptDone {
    /// A plan, and the record and code if it was accepted.
    pub(crate) fn of(plan: Plan, done: Option<(Seq, ProcessRef)>) -> Self {
        let (seq, process) = done.unzip();
        Self {
            accepted: seq.is_some(),
            seq,
            process,
            check: plan.checked.into(),
            decisions: plan.decisions,
            plan_digest: plan.digest,
        }
    }
}

/// What comparing the index with all journals came to
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditDone {
    /// Runs that were looked at
    looked: usize,
    /// What was wrong, and is mended
    findings: Vec<AuditFinding>,
}

/// One thing that was wrong in the index
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AuditFinding {
    /// With which run
    #[schema(value_type = String)]
    run_id: RunId,
    /// A word for it, such as `missing_row` or `lost_timer`
    what: &'static str,
    /// What exactly
    detail: String,
}

impl AuditDone {
    /// What an audit found.
    pub(crate) fn of(audited: &Audited) -> Self {
        let finding = |finding: &Finding| AuditFinding {
            run_id: finding.run.clone(),
            what: finding.what.name(),
            detail: finding.what.to_string(),
        };
        Self { looked: audited.looked, findings: audited.findings.iter().map(finding).collect() }
    }
}

/// A journal before and after a repair, in numbers
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RepairCounts {
    /// Files of the journal
    original_files: usize,
    /// Records that stay or come back
    kept_events: u64,
    /// Records that are lost, if that is known
    #[schema(required)]
    dropped_corrupt: Option<u64>,
    /// Always 0: a requested effect is a record
    dropped_requested: u64,
    /// Always 0: an outcome is a record
    dropped_resolved: u64,
}

impl From<&Outlook> for RepairCounts {
    fn from(outlook: &Outlook) -> Self {
        Self {
            original_files: outlook.files,
            kept_events: outlook.kept_records,
            dropped_corrupt: outlook.lost_records,
            dropped_requested: 0,
            dropped_resolved: 0,
        }
    }
}

/// A run that was mended
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RepairDone {
    /// Its directory
    run_dir: String,
    /// What was done to its journal
    journal: RepairCounts,
    /// Where what was set aside is kept
    backup_dir: String,
    /// Always true
    repaired: bool,
    /// Label of the case
    case: String,
    /// Label of the plan
    #[schema(required)]
    plan: Option<&'static str>,
    /// What was set aside
    quarantined: Vec<String>,
    /// Where the journal ends now
    #[schema(value_type = shapes::Head)]
    head: Head,
    /// Always false: what stands there was read and folded
    still_unreadable: bool,
}

impl From<Mended> for RepairDone {
    fn from(mended: Mended) -> Self {
        Self {
            journal: (&mended.outlook).into(),
            run_dir: mended.outlook.dir,
            backup_dir: mended.kept_in,
            repaired: true,
            case: mended.outlook.case,
            plan: mended.outlook.plan,
            quarantined: mended.quarantined,
            head: mended.head,
            still_unreadable: false,
        }
    }
}

/// A repair that was taken back
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UndoDone {
    /// The run
    #[schema(value_type = String)]
    run_id: RunId,
    /// Where its former bytes are kept, below its directory
    folder: String,
    /// Label of the case that was repaired
    case: String,
    /// When it was
    #[schema(value_type = String)]
    at: Timestamp,
    /// Where the repair had left the journal
    #[schema(value_type = shapes::Head)]
    head: Head,
    /// Always true
    is_undone: bool,
}

impl From<Repair> for UndoDone {
    fn from(repair: Repair) -> Self {
        let (folder, before, is_undone) = (repair.folder, repair.before, repair.is_undone);
        let (run_id, case, at, head) = (before.run_id, before.case, before.at, before.head);
        Self { run_id, folder, case, at, head, is_undone }
    }
}
