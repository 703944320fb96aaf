//! `run brief`: what an agent that comes back after a crash must know.
//!
//! May not change anything. Invariant: what is said to be safe is safe for that worker alone.

use serde_json::Value;

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Columns of a summary in the table.
const SUMMARY_CHARS: usize = 60;

/// Say what was done, what is open, and what of that is safe to do.
///
/// Example:
///   dormouse run brief RUN --worker me
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// The name under which whoever asks claims tasks
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let brief = context.brief(&args.run.run, args.worker.as_deref())?;
    if context.json {
        output::json(&brief);
        return Ok(Exit::Done);
    }
    let run = &brief["run"];
    let text = |name: &str| run[name].as_str().unwrap_or("-");
    output::line(&format!("run {} ({})", text("runId"), text("state")));
    output::line(&format!("  {}", text("headline")));
    table(&brief, "done", &["EFFECT", "TITLE", "STATUS", "SUMMARY"], |effect| {
        ["effectId", "title", "status", "summary"].map(|name| short(&effect[name])).to_vec()
    });
    table(&brief, "open", &["EFFECT", "TITLE", "STATE", "SAFE", "HOW"], |effect| {
        let mut row = ["effectId", "title", "state", "safe"].map(|n| short(&effect[n])).to_vec();
        row.push(effect["how"].as_str().unwrap_or("-").to_owned());
        row
    });
    Ok(Exit::Done)
}

fn table(brief: &Value, list: &str, header: &[&str], row: impl Fn(&Value) -> Vec<String>) {
    let rows: Vec<Vec<String>> = brief[list].as_array().into_iter().flatten().map(row).collect();
    if !rows.is_empty() {
        output::table(header, &rows);
    }
    let omitted = &brief[format!("{list}Omitted")];
    if *omitted != 0 {
        output::line(&format!("and {omitted} more"));
    }
}

/// The beginning of a text, on one line.
fn short(value: &Value) -> String {
    let text = value.as_str().unwrap_or("-");
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    text.take(SUMMARY_CHARS).collect()
}
