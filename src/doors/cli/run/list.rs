//! `run list`: the runs of the root.
//!
//! May not lock or write. Invariant: a run that cannot be read is listed, as damaged.

use serde_json::json;

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::ground::clock::Timestamp;

/// List the runs of the root.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only runs in this state: created, waiting, held, completed, failed, halted, cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only runs with this tag
    #[arg(long, value_name = "WORD")]
    tag: Option<String>,
    /// At most so many, the newest ids
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// The archived runs instead
    #[arg(long, conflicts_with_all = ["state", "tag", "limit"])]
    archived: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.archived {
        return archived(context);
    }
    let mut runs = context.runs.list()?;
    runs.retain(|run| {
        args.state.as_ref().is_none_or(|s| s.eq_ignore_ascii_case(&run.state))
            && args.tag.as_ref().is_none_or(|t| run.tags.contains(t))
    });
    if let Some(limit) = args.limit {
        runs.drain(..runs.len().saturating_sub(limit as usize));
    }
    if context.json {
        output::json(&json!({ "runs": runs }));
        return Ok(Exit::Done);
    }
    if runs.is_empty() {
        output::remark(&format!("no runs in {}", context.runs.root.display()));
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let last = run.last_at.map_or_else(|| "-".to_owned(), Timestamp::iso_millis);
            let process = run.process_id.clone().unwrap_or_else(|| "-".to_owned());
            let pending = run.pending.to_string();
            vec![run.run_id.to_string(), run.state.clone(), process, pending, last]
        })
        .collect();
    output::table(&["RUN", "STATE", "PROCESS", "PENDING", "LAST"], &rows);
    Ok(Exit::Done)
}

fn archived(context: &Context) -> Result<Exit, Failure> {
    let ids = context.runs.view_root().and_then(|root| Ok(root.archived()?))?;
    if context.json {
        let of = |id| json!({ "runId": id, "state": "archived" });
        output::json(&json!({ "runs": ids.iter().map(of).collect::<Vec<_>>() }));
        return Ok(Exit::Done);
    }
    for id in &ids {
        output::line(id.as_str());
    }
    Ok(Exit::Done)
}
