//! `run unarchive`: bring an archived run back.
//!
//! May not know where archives are. Invariant: the archive goes once the run is there, durably.

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
    let done = context.unarchive(&args.run.run)?;
    if context.json {
        output::json(&done);
    } else {
        output::line(done["runId"].as_str().unwrap_or("-"));
    }
    Ok(Exit::Done)
}
