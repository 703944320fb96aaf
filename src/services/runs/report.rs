//! Where a run rests, as a value: what `iterate` answers at every door.
//!
//! May not print. Invariant: the keys are those of the public runtime, more may follow.

use serde_json::{Value, json};

use crate::codecs::event::{Event, RunHalted};
use crate::machines::replay::engine::Rest;
use crate::machines::replay::state::End;

use super::open::OpenRun;
use super::{Result, view};

impl OpenRun {
    /// The report of this run, which rests.
    pub fn report(&self, rest: &Rest) -> Result<Value> {
        let state = self.state();
        let (status, reason) = status_and_reason(self, rest);
        let look = self.look();
        let waiting = matches!(rest, Rest::Waiting { .. } | Rest::Paused | Rest::Held);
        let actions = if waiting { look.next_actions() } else { Vec::new() };
        let turns = self.turns();
        let mut value = json!({
            "iteration": turns, "iterationCount": turns, "status": status, "action": "none",
            "reason": reason, "count": actions.len(), "nextActions": actions,
            "output": self.output()?,
            "warnings": self.warnings(),
            "metadata": {
                "runId": self.dir.id(),
                "processId": state.process.as_ref().map(|p| &p.process_id),
                "hookStatus": if waiting { "no-hooks-configured" } else { "executed" },
            },
            "nativeState": view::native_state(state), "reasons": view::reasons(state),
            "generation": state.generation, "head": state.head,
            "wakeAt": self.wake_at(),
        });
        if let Some(error) = last_error(self) {
            value["error"] = error;
        }
        if let Some(payload) = halt_payload(self) {
            value["payload"] = payload;
        }
        if let Some(held) = &state.held
            && held.reason == "diverged"
            && let Ok(report) = self.dir.read_relative("state/divergence.json", 1 << 20)
        {
            value["divergence"] = serde_json::from_slice(&report).unwrap_or_default();
        }
        Ok(value)
    }
}

fn status_and_reason(run: &OpenRun, rest: &Rest) -> (&'static str, String) {
    let state = run.state();
    match rest {
        Rest::Ended(End::Completed) => ("completed", "completed".into()),
        Rest::Ended(End::Failed) => ("failed", "failed".into()),
        Rest::Ended(End::Cancelled) => ("cancelled", "cancelled".into()),
        Rest::Ended(End::Halted) => ("halted", halt_reason(run)),
        Rest::Held => {
            let held = state.held.as_ref();
            let reason = held.map_or(String::new(), |h| h.reason.clone());
            ("held", reason)
        }
        Rest::Paused => ("waiting", "paused".into()),
        Rest::Waiting { draining: true } => ("waiting", "draining".into()),
        _ => ("waiting", view::waiting_reason(state)),
    }
}

fn last_error(run: &OpenRun) -> Option<Value> {
    let held = run.state().held.as_ref().and_then(|h| h.error.clone());
    let failed = run.records().iter().rev().find_map(|r| match &r.event {
        Event::RunFailed(failed) => Some(failed.error.clone()),
        Event::RunCancelled(cancelled) => cancelled.error.clone(),
        _ => None,
    });
    held.or(failed).map(|error| json!(error))
}

fn halted(run: &OpenRun) -> Option<&RunHalted> {
    run.records().iter().rev().find_map(|r| match &r.event {
        Event::RunHalted(halted) => Some(halted),
        _ => None,
    })
}

fn halt_reason(run: &OpenRun) -> String {
    halted(run).map_or("halted".into(), |h| h.reason.clone())
}

fn halt_payload(run: &OpenRun) -> Option<Value> {
    halted(run).and_then(|h| h.payload.as_ref()).map(|p| json!(p))
}
