//! `worker list`: who was heard of lately, or is at something.
//!
//! May not reach a worker. Invariant: what is listed lives in the daemon's memory.

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// List workers that a daemon heard of lately, or that are at something.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let listed = context.daemon()?.get("/v1/workers")?;
    if context.json {
        output::json(&listed);
        return Ok(Exit::Done);
    }
    let workers = listed["workers"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = workers
        .map(|worker| {
            let text = |name: &str| worker[name].as_str().unwrap_or("-").to_owned();
            let kinds = worker["kinds"].as_array().into_iter().flatten();
            let kinds: Vec<&str> = kinds.filter_map(|kind| kind.as_str()).collect();
            vec![text("name"), kinds.join(" "), text("lastSeen"), worker["leases"].to_string()]
        })
        .collect();
    if rows.is_empty() {
        output::remark("no workers");
    } else {
        output::table(&["WORKER", "KINDS", "SEEN", "TASKS"], &rows);
    }
    Ok(Exit::Done)
}
