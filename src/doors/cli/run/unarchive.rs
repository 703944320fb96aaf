//! `run unarchive`: bring an archived run back.
//!
//! May not work beside a daemon. Invariant: the archive goes only once the run is there, durably.

use serde_json::json;

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Bring an archived run back into its directory, with the same bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    context.root_needs_no_daemon()?;
    let done = context.runs.unarchive(&args.run.run)?;
    let id = done.dir.id();
    if context.json {
        output::json(&json!({
            "runId": id, "runDir": done.dir.path(), "head": done.head, "end": done.end,
        }));
    } else {
        output::line(id.as_str());
    }
    Ok(Exit::Done)
}
