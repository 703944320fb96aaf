//! `task list`: the effects of a run.
//!
//! May not lock or write. Invariant: a run that does not exist is an error, not an empty list.

use serde_json::{Value, json};

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::services::runs::view;

/// List the effects of a run.
///
/// Example:
///   dormouse task list RUN --pending
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the run, a unique beginning of it, or the path of its directory
    #[arg(value_name = "RUN")]
    run: String,
    /// Only effects without an outcome
    #[arg(long)]
    pending: bool,
    /// Only effects of this kind
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let seen = context.runs.look(&args.run)?;
    let look = seen.look();
    let wanted = seen.state.effects.values().filter(|e| {
        (!args.pending || e.status.is_open())
            && args.kind.as_ref().is_none_or(|k| k.eq_ignore_ascii_case(&e.kind))
    });
    let tasks: Vec<Value> = wanted.map(|e| look.task(e)).collect();
    if context.json {
        output::json(&json!({ "tasks": tasks }));
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = tasks
        .iter()
        .map(|task| {
            let text = |name: &str| task[name].as_str().unwrap_or("").to_owned();
            let mut row = ["effectId", "kind", "status", "taskId"].map(text).to_vec();
            row.push(view::display_name(task).to_owned());
            row
        })
        .collect();
    if rows.is_empty() {
        output::remark("no effects");
    } else {
        output::table(&["EFFECT", "KIND", "STATUS", "TASK", "LABEL"], &rows);
    }
    Ok(Exit::Done)
}
