//! `limits list`: all limits that are set.
//!
//! May not count anything. Invariant: what is listed is what counts at this moment.

use super::allowed;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// List the limits that are set, and how much of them is used.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let listed = context.daemon()?.get("/v1/limits")?;
    if context.json {
        output::json(&listed);
        return Ok(Exit::Done);
    }
    let limits = listed["limits"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = limits
        .map(|limit| {
            let text = |name: &str| limit[name].as_str().unwrap_or("-").to_owned();
            let (in_use, waiting) = (limit["inUse"].to_string(), limit["waiting"].to_string());
            vec![text("scope"), text("name"), allowed(limit), in_use, waiting]
        })
        .collect();
    if rows.is_empty() {
        output::remark("no limits");
    } else {
        output::table(&["SCOPE", "NAME", "ALLOWED", "AT WORK", "WAITING"], &rows);
    }
    Ok(Exit::Done)
}
