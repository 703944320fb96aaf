//! `schedule backfill`: runs for times that have passed.
//!
//! May not create runs itself. Invariant: a time that has a run gets no second one.

use serde_json::json;

use super::Which;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Make runs for times that have passed without one, oldest first; one after the other unless the
/// schedule lets runs overlap. Prints these times.
///
/// Example:
///   dormouse schedule backfill nightly --from 2026-11-01T00:00:00Z --until 2026-11-07T00:00:00Z
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// The first moment
    #[arg(long, value_name = "TIME")]
    from: String,
    /// The last moment
    #[arg(long, value_name = "TIME", alias = "to")]
    until: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let span = json!({ "from": args.from, "until": args.until });
    let done = args.which.post(context, "backfill", &span)?;
    if context.json {
        output::json(&done);
        return Ok(Exit::Done);
    }
    let times = done["times"].as_array().cloned().unwrap_or_default();
    if times.is_empty() {
        output::remark("no time without a run");
    }
    for at in &times {
        output::line(&super::time(at));
    }
    Ok(Exit::Done)
}
