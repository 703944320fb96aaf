//! Schedules as answers show them.
//!
//! May not print or know HTTP. Invariant: the next times are those that will be decided next.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::ground::clock::Timestamp;
use crate::machines::schedule::Name;
use crate::machines::schedule::state::{Cause, Decided};
use crate::services::schedules::seen::{Listed, Problem, Seen};

/// Schedules
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SchedulesShown {
    /// By namespace and name
    schedules: Vec<ScheduleShown>,
    /// Those whose files cannot be read
    damaged: Vec<DamagedSchedule>,
}

impl From<Listed> for SchedulesShown {
    fn from(listed: Listed) -> Self {
        let damaged = listed.damaged.into_iter().map(|(name, problem)| {
            let Name { namespace, name } = name;
            DamagedSchedule { namespace, name, problem: problem.into() }
        });
        Self {
            schedules: listed.schedules.into_iter().map(Into::into).collect(),
            damaged: damaged.collect(),
        }
    }
}

/// A schedule whose files cannot be read
#[derive(Debug, Serialize, ToSchema)]
struct DamagedSchedule {
    /// Where its name belongs
    namespace: String,
    /// Its name
    name: String,
    /// Why
    problem: ProblemShown,
}

/// Something that keeps a schedule from its work
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ProblemShown {
    /// The code of the error
    code: &'static str,
    /// What is wrong
    what: String,
    /// When it is tried again
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    again_at: Option<Timestamp>,
}

impl From<Problem> for ProblemShown {
    fn from(problem: Problem) -> Self {
        Self { code: problem.code, what: problem.what, again_at: problem.again_at }
    }
}

/// A schedule
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScheduleShown {
    /// Where its name belongs
    namespace: String,
    /// Its name
    name: String,
    /// `active`, `suspended`, `ended`, or `troubled`: something is tried again
    state: &'static str,
    /// What somebody may wonder about
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    remark: Option<String>,
    /// Five fields of a crontab, or a word such as `@daily`
    schedule: String,
    /// On whose clocks
    timezone: String,
    /// No time before this one counts
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    start_at: Option<Timestamp>,
    /// No time after this one counts
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    end_at: Option<Timestamp>,
    /// `Allow`, `Forbid` or `Replace`
    concurrency_policy: &'static str,
    /// `latest`, `all` or `none`
    catch_up: &'static str,
    /// How late a run may begin
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    starting_deadline_seconds: Option<u64>,
    /// How many runs that ended well are listed here
    successful_jobs_history_limit: usize,
    /// How many others are
    failed_jobs_history_limit: usize,
    /// The next times
    #[schema(value_type = Vec<String>)]
    next: Vec<Timestamp>,
    /// Every time up to this one is decided
    #[schema(value_type = String)]
    decided_until: Timestamp,
    /// How often each decision was taken
    counts: BTreeMap<&'static str, u64>,
    /// The last decisions, oldest first
    decisions: Vec<DecisionShown>,
    /// Runs that have not ended
    open: Vec<String>,
    /// Runs that ended well, oldest first
    succeeded: Vec<String>,
    /// Runs that ended otherwise, oldest first
    failed: Vec<String>,
    /// Runs that were decided on and could not be made yet
    wanted: Vec<String>,
    /// Times that somebody asked for and that wait for their turn
    #[schema(value_type = Vec<String>)]
    backfill: Vec<Timestamp>,
    /// Who applied it
    applied_by: String,
    /// When
    #[schema(value_type = String)]
    applied_at: Timestamp,
    /// What keeps it from its work
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<ProblemShown>,
}

/// A decision, or several of a kind in a row
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DecisionShown {
    /// `started`, `skipped-forbid`, `skipped-deadline`, `skipped-suspended`, `missed`, `dropped`
    /// or `refused`
    decision: &'static str,
    /// About which time; the first of several
    #[schema(value_type = String)]
    first: Timestamp,
    /// The last of several
    #[schema(value_type = String)]
    last: Timestamp,
    /// How many
    count: u64,
    /// `schedule`, `trigger` or `backfill`, of a run
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    cause: Option<&'static str>,
    /// The run
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    run_id: Option<String>,
    /// Why it could not be made
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    why: Option<String>,
}

impl From<Decided> for DecisionShown {
    fn from(decided: Decided) -> Self {
        Self {
            decision: decided.decision.word(),
            first: decided.first,
            last: decided.last,
            count: decided.count,
            cause: decided.cause.map(|cause| match cause {
                Cause::Schedule => "schedule",
                Cause::Trigger => "trigger",
                Cause::Backfill => "backfill",
            }),
            run_id: decided.run_id.map(|run| run.to_string()),
            why: decided.why,
        }
    }
}

impl From<Seen> for ScheduleShown {
    fn from(seen: Seen) -> Self {
        let (state, remark) = (seen.word(), seen.remark());
        let runs = |runs: &mut dyn Iterator<Item = &crate::ground::id::RunId>| {
            runs.map(ToString::to_string).collect::<Vec<_>>()
        };
        let known = &seen.state;
        Self {
            state,
            remark,
            open: runs(&mut known.open.iter()),
            succeeded: runs(&mut known.succeeded.iter()),
            failed: runs(&mut known.failed.iter()),
            wanted: runs(&mut known.wanted.iter().map(|fire| &fire.run_id)),
            backfill: known.backfill.iter().copied().collect(),
            decided_until: known.decided_until,
            counts: known.counts.iter().map(|(what, count)| (what.word(), *count)).collect(),
            namespace: seen.card.name.namespace,
            name: seen.card.name.name,
            schedule: seen.expression,
            timezone: seen.zone,
            start_at: seen.begin,
            end_at: seen.end,
            concurrency_policy: seen.overlap,
            catch_up: seen.catch_up,
            starting_deadline_seconds: seen.deadline_s,
            successful_jobs_history_limit: seen.keeps.0,
            failed_jobs_history_limit: seen.keeps.1,
            next: seen.next,
            decisions: seen.state.recent.into_iter().map(Into::into).collect(),
            applied_by: seen.card.by,
            applied_at: seen.card.applied_at,
            problem: seen.problem.map(Into::into),
        }
    }
}

/// A schedule that was applied
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScheduleApplied {
    /// It stood already, with this very document
    pub(crate) existed: bool,
    /// What its author may be surprised by
    pub(crate) warnings: Vec<String>,
    /// The schedule
    pub(crate) schedule: ScheduleShown,
}

/// A run besides the schedule
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Triggered {
    /// Its id
    pub(crate) run_id: String,
}

/// Times that get a run
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Backfilled {
    /// Those that had none
    #[schema(value_type = Vec<String>)]
    pub(crate) times: Vec<Timestamp>,
}

/// A schedule that is no more
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleDeleted {
    /// Always true; its runs stay
    pub(crate) deleted: bool,
}
