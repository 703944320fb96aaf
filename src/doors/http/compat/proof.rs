//! `/api/jobs/{run}/replay` and `/verify`: what the journal proves.
//!
//! May not trust what is in memory. Invariant: a proof rests on the stored chain, and on the
//! process executed once more against it.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Door;
use super::super::body::{Query, Run, gave_up};
use super::super::problem::{Answer, Problem};
use super::events::{Told, after};
use super::standing::Status;
use crate::ground::digest::Digest;
use crate::ground::id::Seq;
use crate::ground::limits::COMPAT_EVENTS_MAX;
use crate::machines::effect::life::{Effect, EffectStatus};

/// Which records.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    cursor: u64,
}

/// Shows the records of a job and what they come to.
pub(super) async fn replay(
    State(door): State<Door>,
    Run(run): Run,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<Value>> {
    let now = door.handle.runs().clock.now();
    let read = door.handle.read(&run, move |look| {
        let rest = after(&look, Seq(wanted.cursor));
        let page = &rest[..rest.len().min(COMPAT_EVENTS_MAX)];
        let timeline: Vec<Told> = page.iter().map(|record| Told::of(&look, record)).collect();
        let done = |effect: &&Effect| effect.status == EffectStatus::Ok;
        let completed = look.state.effects.values().filter(done).map(|effect| effect.id);
        Ok(json!({
            "job_id": look.state.run_id,
            "timeline": timeline,
            "current_state": {
                "completed_node_ids": completed.collect::<Vec<_>>(),
                "cursor_node": look.state.effects.last_key_value().map(|(id, _)| id),
                "phase": Status::of(look.state, now),
            },
            "next_cursor": page.last().map(|r| r.seq).filter(|_| rest.len() > page.len()),
        }))
    });
    read.await.map(Json).map_err(|e| Problem::from(e).of_run(run.as_str()))
}

/// Reads the stored chain of a job and executes its process once more against it.
pub(super) async fn verify(State(door): State<Door>, Run(run): Run) -> Answer<Json<Value>> {
    let (runs, id) = (door.handle.runs().clone(), run.clone());
    // The files themselves, not what a daemon remembers of them.
    let read = tokio::task::spawn_blocking(move || runs.look_owned(id.as_str())).await;
    let of_run = |e| Problem::from(e).of_run(run.as_str());
    let seen = read.map_err(|_| gave_up())?.map_err(of_run)?;
    let (head, code) = (seen.state.head.sum, seen.state.process.as_ref().map(|p| p.digest));
    let open = seen.state.open_effects().filter(|e| e.status != EffectStatus::Requested);
    let pending: Vec<_> = open.map(|effect| effect.id).collect();
    let executed = code.map(|code| Digest::of(format!("{code}\n{head}").as_bytes()));
    let (ok, error) = match door.handle.check(&run, None).await {
        Ok(checked) => {
            let why = checked.divergence.map(|d| format!("diverged: {}", json!(d)));
            (checked.strict, why.or(checked.held))
        }
        Err(e) => (false, Some(e.to_string())),
    };
    Ok(Json(json!({
        "job_id": run,
        "execution_hash": executed,
        "event_chain_root_hash": head,
        "tool_invocation_ledger_proof": { "ok": pending.is_empty(), "pending": pending },
        "replay_proof_result": { "ok": ok, "error": error },
    })))
}
