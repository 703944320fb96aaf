//! Where a run rests, printed: shared by `iterate`, `drive` and the demo.
//!
//! May not drive anything. Invariant: the keys are those of the public runtime, more may follow.

use serde_json::{Value, json};

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::services::runs::view;

/// What `iterate` and `drive` say about a run.
pub(crate) struct Report {
    /// The JSON.
    pub(crate) value: Value,
    /// The exit code.
    pub(crate) exit: Exit,
}

impl Report {
    /// The report of a run that rests, with the exit code that goes with it.
    pub(crate) fn of(value: Value) -> Self {
        let exit = exit_of(&value);
        Self { value, exit }
    }

    /// The report of a run whose files are damaged: it is held by what opening found.
    pub(crate) fn damaged(run_id: &str, damage: &Failure) -> Self {
        let value = json!({
            "iteration": 0, "iterationCount": 0, "status": "held", "action": "none",
            "reason": "damaged", "case": damage.code, "why": damage.what,
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

/// A run that waits is fine; one that ended badly, or is held, is not.
fn exit_of(report: &Value) -> Exit {
    match (report["status"].as_str(), report["reason"].as_str()) {
        (Some("completed" | "waiting"), _) => Exit::Done,
        (Some("held"), Some("diverged")) => Exit::Diverged,
        (Some("held"), Some(reason)) if reason.starts_with("limit:") => Exit::Refused,
        _ => Exit::No,
    }
}
