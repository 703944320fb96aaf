//! `breakpoint list`: what waits for a person, in one run or in all.
//!
//! May not lock or write. Invariant: only open breakpoints of open runs are listed; a run that
//! cannot be read hides no other.

use serde_json::{Value, json};

use crate::doors::answers::breakpoints;
use crate::doors::cli::context::Context;
use crate::doors::cli::deeds::value;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::services::runs::open::SeenRun;

/// List what waits for a person.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only of this run [default: all runs of the root]
    #[arg(value_name = "RUN")]
    run: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut found = Vec::new();
    if let Some(run) = &args.run {
        collect(&context.runs.look(run)?, &mut found);
    } else {
        for entry in context.runs.list()?.into_iter().filter(|e| e.problem.is_none()) {
            // It could be read a moment ago; `run list` says what is wrong with it now.
            match context.runs.look(entry.run_id.as_str()) {
                Ok(seen) => collect(&seen, &mut found),
                Err(e) => output::remark(&format!("run {} is left out: {e}", entry.run_id)),
            }
        }
    }
    if context.json {
        output::json(&json!({ "breakpoints": found }));
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|b| {
            let text = |name: &str| b[name].as_str().unwrap_or("").to_owned();
            ["runId", "effectId", "requestedAt", "title", "question"].map(text).to_vec()
        })
        .collect();
    if rows.is_empty() {
        output::remark("nothing waits for a person");
    } else {
        output::table(&["RUN", "EFFECT", "SINCE", "TITLE", "QUESTION"], &rows);
    }
    Ok(Exit::Done)
}

fn collect(seen: &SeenRun, found: &mut Vec<Value>) {
    found.extend(breakpoints(seen.look()).iter().map(value));
}
