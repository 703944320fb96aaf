//! Where a run rests, printed: shared by `iterate`, `drive` and the demo.
//!
//! May not drive anything. Invariant: the keys are those of the public runtime, more may follow.

use serde_json::{Value, json};

use crate::codecs::event::Event;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::machines::replay::engine::Rest;
use crate::machines::replay::state::End;
use crate::services::runs::open::OpenRun;
use crate::services::runs::{Error, view};

/// What `iterate` and `drive` say about a run.
pub(crate) struct Report {
    /// The JSON.
    pub(crate) value: Value,
    /// The exit code.
    pub(crate) exit: Exit,
}

impl Report {
    /// The report of a run that rests.
    pub(crate) fn of(run: &OpenRun, rest: &Rest) -> Result<Self, Failure> {
        let state = run.state();
        let (status, reason) = status_and_reason(run, rest);
        let look = run.look();
        let waiting = matches!(rest, Rest::Waiting { .. } | Rest::Paused | Rest::Held);
        let actions = if waiting { look.next_actions() } else { Vec::new() };
        let turns = run.turns();
        let mut value = json!({
            "iteration": turns, "iterationCount": turns, "status": status, "action": "none",
            "reason": reason, "count": actions.len(), "nextActions": actions,
            "output": run.output()?,
            "warnings": run.warnings(),
            "metadata": {
                "runId": run.dir.id(),
                "processId": state.process.as_ref().map(|p| &p.process_id),
                "hookStatus": if waiting { "no-hooks-configured" } else { "executed" },
            },
            "nativeState": view::native_state(state), "reasons": view::reasons(state),
            "generation": state.generation, "head": state.head,
            "wakeAt": run.wake_at(),
        });
        if let Some(error) = last_error(run) {
            value["error"] = error;
        }
        if let Some(payload) = halt_payload(run) {
            value["payload"] = payload;
        }
        if let Some(held) = &state.held
            && held.reason == "diverged"
            && let Ok(report) = run.dir.read_relative("state/divergence.json", 1 << 20)
        {
            value["divergence"] = serde_json::from_slice(&report).unwrap_or_default();
        }
        Ok(Self { value, exit: exit_of(rest, &reason) })
    }

    /// The report of a run whose files are damaged: it is held by what opening found.
    pub(crate) fn damaged(run_id: &str, error: &Error) -> Self {
        let value = json!({
            "iteration": 0, "iterationCount": 0, "status": "held", "action": "none",
            "reason": "damaged", "case": error.trouble().code, "why": error.trouble().what,
            "count": 0, "nextActions": [], "output": null,
            "metadata": { "runId": run_id },
        });
        Self { value, exit: Exit::Damaged }
    }

    /// Prints it.
    pub(crate) fn print(&self, context: &Context) {
        if context.json {
            return output::json(&self.value);
        }
        let text = |name: &str| self.value[name].as_str().unwrap_or("").to_owned();
        let run = self.value["metadata"]["runId"].as_str().unwrap_or("");
        output::line(&format!("run {run} is {}: {}", text("status"), text("reason")));
        for action in self.value["nextActions"].as_array().into_iter().flatten() {
            let part = |name: &str| action[name].as_str().unwrap_or("").to_owned();
            let (id, kind, status) = (part("effectId"), part("kind"), part("status"));
            let mark = if status == "requested" { String::new() } else { format!(" ({status})") };
            let name = view::display_name(action);
            output::line(&format!("  {id}  {kind:<12} {name}{mark}"));
        }
        if !self.value["output"].is_null() {
            output::line(&format!("  output: {}", self.value["output"]));
        }
        if let Some(error) = self.value.get("error") {
            let name = error["name"].as_str().unwrap_or("Error");
            output::line(&format!("  {name}: {}", error["message"].as_str().unwrap_or("")));
        }
        if let Some(why) = self.value.get("why") {
            output::line(&format!("  {}", why.as_str().unwrap_or("")));
        }
        self.hint(run);
    }

    fn hint(&self, run: &str) {
        let first = &self.value["nextActions"][0];
        let child = first["childRunId"].as_str().unwrap_or("");
        let (id, kind) = (first["effectId"].as_str(), first["kind"].as_str());
        let uncertain = first["status"].as_str() == Some("uncertain");
        let hint = match (self.value["status"].as_str(), id, kind) {
            (Some("waiting"), _, _) if self.value["reason"] == "paused" => {
                format!("dormouse run resume {run}")
            }
            (Some("waiting"), Some(id), _) if uncertain => format!("dormouse task show {run} {id}"),
            (Some("waiting"), Some(id), Some("breakpoint")) => {
                format!("dormouse breakpoint approve {run} {id}")
            }
            (Some("waiting"), _, Some("signal")) => format!("dormouse run signal {run} NAME"),
            (Some("waiting"), _, Some("run")) => format!("dormouse task list {child} --pending"),
            (Some("waiting"), _, Some("sleep")) => format!("dormouse run drive {run}"),
            (Some("waiting"), Some(id), Some(_)) => {
                format!("dormouse task post {run} {id} --status ok --value-inline JSON")
            }
            (Some("held"), _, _) if self.exit == Exit::Diverged => {
                format!("dormouse run check {run} --entry FILE")
            }
            (Some("held"), _, _) if self.exit == Exit::Damaged => {
                format!("dormouse journal verify {run}")
            }
            (Some("held"), _, _) if self.value["reason"] == "process_error" => {
                format!("dormouse run recover {run} --patch-effect EFFECT:PATH=JSON")
            }
            (Some("held"), _, _) => format!("dormouse run resume {run}"),
            _ => return,
        };
        output::remark(&format!("next: {hint}"));
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

fn exit_of(rest: &Rest, reason: &str) -> Exit {
    match rest {
        Rest::Ended(End::Completed) | Rest::Waiting { .. } | Rest::Paused => Exit::Done,
        Rest::Held if reason == "diverged" => Exit::Diverged,
        Rest::Held if reason.starts_with("limit:") => Exit::Refused,
        _ => Exit::No,
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

fn halted(run: &OpenRun) -> Option<&crate::codecs::event::RunHalted> {
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
