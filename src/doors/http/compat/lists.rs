//! `/api/agents/{agent}/jobs` and `/state`: the jobs of an agent.
//!
//! May not read more runs than a page has. Invariant: a job that cannot be read has its place in
//! the list.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Door;
use super::super::body::{Named, Query, run_named};
use super::super::index;
use super::super::problem::{Answer, Problem};
use super::super::runs::bad_token;
use super::entry::tag_of;
use super::job::{self, Job};
use super::standing::Status;
use crate::ground::limits::COMPAT_JOBS_MAX;
use crate::shells::store::{Order, RunFilter, RunPage, RunPlace};

/// Jobs of a page unless told otherwise.
const JOBS_DEFAULT: usize = 20;

/// Which jobs.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    status: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of jobs, newest first.
#[derive(Debug, Serialize)]
pub(super) struct Jobs {
    #[serde(rename = "jobs")]
    shown: Vec<Value>,
    total: usize,
    next_cursor: Option<String>,
}

/// Lists the jobs of an agent.
pub(super) async fn list(
    State(door): State<Door>,
    Named(agent): Named<String>,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<Jobs>> {
    let read = |word: &str| {
        Status::named(word).ok_or_else(|| Problem::bad_request(format!("no status is {word:?}")))
    };
    let status = wanted.status.as_deref().filter(|word| !word.is_empty()).map(read).transpose()?;
    let place = wanted.cursor.as_deref().filter(|cursor| !cursor.is_empty());
    let place = place.map(|cursor| RunPlace::parse(cursor, Order::Newest)).transpose();
    let place = place.map_err(|e| bad_token(&e))?;
    let size = wanted.limit.unwrap_or(JOBS_DEFAULT).clamp(1, COMPAT_JOBS_MAX);
    let page = runs_of(&door, &agent, status, size, place).await?;
    let mut jobs = Vec::with_capacity(page.rows.len());
    for run in &page.rows {
        match job::read(&door, &run.run_id).await {
            Ok(job) if status.is_none_or(|status| status == job.status) => jobs.push(json!(job)),
            Ok(_) => {}
            Err(problem) => jobs.push(json!({
                "id": run.run_id, "run_id": run.run_id, "agent_id": agent, "status": "parked",
                "wait_reason": problem.code(), "error": problem.details().0,
                "created_at": run.created_at, "updated_at": run.last_at,
            })),
        }
    }
    let next_cursor = page.next.map(|place| place.to_string());
    Ok(Json(Jobs { total: jobs.len(), shown: jobs, next_cursor }))
}

async fn runs_of(
    door: &Door,
    agent: &str,
    status: Option<Status>,
    size: usize,
    place: Option<RunPlace>,
) -> Answer<RunPage> {
    let filter = RunFilter {
        states: status.map(Status::index_states).unwrap_or_default(),
        tags: vec![tag_of(agent)],
        ..RunFilter::default()
    };
    index::ask(&door.handle, move |index| index.runs(&filter, Order::Newest, size, place.as_ref()))
        .await
}

/// Shows a job of an agent.
pub(super) async fn one(
    State(door): State<Door>,
    Named((_, run)): Named<(String, String)>,
) -> Answer<Json<Job>> {
    let run = run_named(&door, &run).await?;
    job::read(&door, &run).await.map(Json)
}

/// Shows what an agent is at: its newest job that goes on.
pub(super) async fn state(
    State(door): State<Door>,
    Named(agent): Named<String>,
) -> Answer<Json<Value>> {
    door.compat.receiver(&agent)?;
    let page = runs_of(&door, &agent, Some(Status::Running), 1, None).await?;
    let Some(run) = page.rows.first() else {
        return Ok(Json(json!({
            "agent_id": agent, "status": "idle", "current_task": null, "last_checkpoint": null,
            "updated_at": null,
        })));
    };
    let job = job::read(&door, &run.run_id).await?;
    let (updated_at, cursor) = job.progress();
    Ok(Json(json!({
        "agent_id": agent, "status": job.status, "current_task": run.run_id,
        "last_checkpoint": cursor, "updated_at": updated_at,
    })))
}
