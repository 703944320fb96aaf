//! `schedule trigger`: a run now.
//!
//! May not create the run itself. Invariant: exit 0 means that the run exists.

use serde_json::json;

use super::Which;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Make a run of a schedule now, also of one that is paused or over. With the policy Forbid an
/// earlier run must have ended; with Replace it is cancelled.
///
/// Example:
///   dormouse schedule trigger nightly
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let made = args.which.post(context, "trigger", &json!({}))?;
    if context.json {
        output::json(&made);
    } else {
        output::line(super::text(&made["runId"]));
    }
    Ok(Exit::Done)
}
