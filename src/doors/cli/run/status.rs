//! `run status`: where a run stands, from its journal alone.
//!
//! May not lock or write. Invariant: two looks without a change between print the same.

use serde_json::{Value, json};

use super::RunArg;
use crate::codecs::event::Event;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::services::runs::open::SeenRun;
use crate::services::runs::view;

/// Show where a run stands.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let seen = context.runs.look(&args.run.run)?;
    let value = status(&seen, context);
    if context.json {
        output::json(&value);
        return Ok(Exit::Done);
    }
    let word = |name: &str| value[name].as_str().unwrap_or("-").to_owned();
    output::line(&format!("run {}", seen.dir.id()));
    output::line(&format!("  state    {} ({})", word("state"), word("nativeState")));
    if !value["reason"].is_null() {
        output::line(&format!("  reason   {}", word("reason")));
    }
    let last = &value["lastEvent"];
    output::line(&format!(
        "  last     {} #{} {}",
        last["type"].as_str().unwrap_or("-"),
        last["seq"],
        last["recordedAt"].as_str().unwrap_or("-"),
    ));
    output::line(&format!("  pending  {}", value["pendingEffectsSummary"]["totalPending"]));
    for (kind, count) in value["pendingByKind"].as_object().into_iter().flatten() {
        output::line(&format!("           {count} {kind}"));
    }
    Ok(Exit::Done)
}

/// The JSON of `run status`.
pub(super) fn status(seen: &SeenRun, context: &Context) -> Value {
    let state = &seen.state;
    let by_kind = view::pending_by_kind(state);
    let auto = by_kind.get("node").copied().unwrap_or(0);
    json!({
        "state": view::state_name(state), "reason": reason(seen), "payload": payload(seen),
        "lastEvent": seen.records.last().map(|r| view::event(r)),
        "pendingByKind": by_kind,
        "pendingEffectsSummary": {
            "totalPending": state.open.len(), "countsByKind": by_kind, "autoRunnableCount": auto,
        },
        "needsMoreIterations": auto > 0,
        "metadata": {
            "pendingEffectsByKind": by_kind, "stateVersion": state.head.seq,
            "journalHead": state.head,
        },
        "completionProof": null,
        "runId": state.run_id, "runDir": seen.dir.path(),
        "processId": state.process.as_ref().map(|p| &p.process_id),
        "nativeState": view::native_state(state), "reasons": view::reasons(state),
        "wakeAt": state.timers.first().map(|(due, _)| due),
        "overdue": view::overdue(state, context.runs.clock.now()), "leases": leases(seen),
        "generation": state.generation, "createdAt": state.created_at,
        "parent": state.parent, "tags": state.tags,
    })
}

fn reason(seen: &SeenRun) -> Option<String> {
    let ended = seen.records.iter().rev().find_map(|r| match &r.event {
        Event::RunHalted(halted) => Some(halted.reason.clone()),
        Event::RunFailed(failed) => {
            Some(failed.seal.as_ref().map_or("failed".into(), |s| s.reason.clone()))
        }
        Event::RunCompleted(done) => done.seal.as_ref().map(|s| s.reason.clone()),
        Event::RunCancelled(gone) => Some(gone.reason.clone().unwrap_or("cancelled".into())),
        _ => None,
    });
    ended.or_else(|| seen.state.held.as_ref().map(|h| h.reason.clone()))
}

fn payload(seen: &SeenRun) -> Value {
    seen.records
        .iter()
        .rev()
        .find_map(|r| match &r.event {
            Event::RunHalted(halted) => halted.payload.clone(),
            _ => None,
        })
        .map_or(Value::Null, |p| p.to_value())
}

fn leases(seen: &SeenRun) -> Vec<Value> {
    let held = seen.state.open_effects().filter(|e| e.status.name() == "started");
    held.map(|e| json!({ "effectId": e.id, "worker": e.worker, "epoch": e.epoch })).collect()
}
