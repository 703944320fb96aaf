//! `agent list`: the agents of `agents.yaml`, as a daemon reads it.
//!
//! May not read the file. Invariant: what is listed is what the next effect meets.

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// List the agents that a daemon knows, and what is wrong with them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let listed = context.daemon()?.get("/v1/agents")?;
    if context.json {
        output::json(&listed);
        return Ok(Exit::Done);
    }
    let agents = listed["agents"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = agents
        .map(|agent| {
            let text = |name: &str| agent[name].as_str().unwrap_or("-").to_owned();
            let problems = agent["problems"].as_array().into_iter().flatten();
            let problems: Vec<&str> = problems.filter_map(|why| why.as_str()).collect();
            vec![text("id"), text("type"), text("origin"), problems.join("; ")]
        })
        .collect();
    if rows.is_empty() {
        output::remark("no agents");
    } else {
        output::table(&["AGENT", "TYPE", "WHERE", "PROBLEMS"], &rows);
    }
    Ok(Exit::Done)
}
