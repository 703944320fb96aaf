//! `/api/observability` and `/api/system`: how all jobs stand.
//!
//! May not judge a run: `why` does. Invariant: a bounded number of runs is asked why.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::super::Door;
use super::super::index;
use super::super::problem::Answer;
use crate::doors::work::WorkerShown;
use crate::ground::id::RunId;
use crate::ground::limits::{COMPAT_STUCK_MAX, PAGE_SIZE_MAX, WHY_WORKERS_SEEN_MS};
use crate::machines::effect::life::EffectStatus;
use crate::services::why::Why;
use crate::services::why::code::Code;
use crate::shells::store::EffectFilter;

/// How many effects wait for whoever executes them.
async fn backlog(door: &Door) -> Answer<u64> {
    let counts = index::ask(&door.handle, |index| Ok(index.counts().clone())).await?;
    let is_wait = |kind: &str| matches!(kind, "signal" | "breakpoint" | "sleep" | "run");
    Ok(counts.effects.iter().filter(|(kind, _)| !is_wait(kind)).map(|(_, count)| count).sum())
}

/// Whether somebody has to look after a run.
fn is_stuck(why: &Why, workers: &BTreeSet<String>) -> bool {
    why.reasons.iter().any(|reason| match reason.code {
        Code::LostWake | Code::Uncertain => true,
        Code::WaitingWorker => reason.kind.as_ref().is_none_or(|kind| !workers.contains(kind)),
        _ => false,
    })
}

/// Runs that may be stuck: nobody knows what became of an effect, nobody asks for its kind, or the
/// index says that it could go on.
async fn suspects(door: &Door, workers: &BTreeSet<String>) -> Answer<BTreeSet<RunId>> {
    let uncertain =
        EffectFilter { status: Some(EffectStatus::Uncertain), ..EffectFilter::default() };
    let requested =
        EffectFilter { status: Some(EffectStatus::Requested), ..EffectFilter::default() };
    let workers = workers.clone();
    let ask = move |index: &crate::shells::store::Index| {
        let mut runs: BTreeSet<RunId> =
            index.runnable(None, COMPAT_STUCK_MAX)?.into_iter().collect();
        let unsure = index.effects(&uncertain, PAGE_SIZE_MAX, None)?;
        runs.extend(unsure.rows.into_iter().map(|row| row.run_id));
        let waiting = index.effects(&requested, PAGE_SIZE_MAX, None)?.rows.into_iter();
        let alone = waiting.filter(|row| !workers.contains(&row.facts.kind));
        runs.extend(alone.filter(|row| row.facts.ready.is_some()).map(|row| row.run_id));
        Ok(runs)
    };
    index::ask(&door.handle, ask).await
}

async fn stuck_jobs(door: &Door) -> Answer<Vec<RunId>> {
    let seen = door.handle.workers().await?;
    let now = door.handle.runs().clock.now();
    let lately = now.plus_millis(-WHY_WORKERS_SEEN_MS);
    let asking = seen.into_iter().filter(|worker| worker.last_seen.is_some_and(|at| at >= lately));
    let workers: BTreeSet<String> = asking.flat_map(|worker| worker.kinds).collect();
    let mut stuck = Vec::new();
    for run in suspects(door, &workers).await?.into_iter().take(COMPAT_STUCK_MAX) {
        // A run that is gone meanwhile is not stuck.
        if let Ok(why) = door.handle.why(&run).await
            && is_stuck(&why, &workers)
        {
            stuck.push(run);
        }
    }
    Ok(stuck)
}

/// Says how much waits, and which jobs somebody has to look after.
pub(super) async fn summary(State(door): State<Door>) -> Answer<Json<Value>> {
    let (backlog, stuck) = (backlog(&door).await?, stuck_jobs(&door).await?);
    Ok(Json(json!({
        "queue_backlog": backlog, "stuck_job_ids": stuck,
        "stuck_threshold_seconds": WHY_WORKERS_SEEN_MS / 1000,
    })))
}

/// Says which jobs somebody has to look after.
pub(super) async fn stuck(State(door): State<Door>) -> Answer<Json<Value>> {
    let stuck = stuck_jobs(&door).await?;
    let threshold = WHY_WORKERS_SEEN_MS / 1000;
    Ok(Json(json!({ "stuck_job_ids": stuck, "stuck_threshold_seconds": threshold })))
}

/// Says what serves here.
pub(super) async fn status(State(door): State<Door>) -> Answer<Json<Value>> {
    let figures = door.handle.figures().await?;
    Ok(Json(json!({
        "status": "ok", "service": "dormouse", "version": env!("CARGO_PKG_VERSION"),
        "runs_loaded": figures.loaded, "timers": figures.timers, "records": figures.records,
        "workers": door.handle.workers().await?.len(),
    })))
}

/// Lists the workers.
pub(super) async fn workers(State(door): State<Door>) -> Answer<Json<Value>> {
    let seen = door.handle.workers().await?;
    let workers: Vec<WorkerShown> = seen.into_iter().map(Into::into).collect();
    Ok(Json(json!({ "total": workers.len(), "workers": workers })))
}
