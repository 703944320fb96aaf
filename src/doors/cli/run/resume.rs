//! `run resume`: let a paused or held run go on.
//!
//! May not change a recorded outcome. Invariant: what held the run is checked again.

use super::RunArg;
use super::halt::report;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};

/// Let a paused or held run go on. What held it is checked again by the next iterate.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let done = context.resume(&args.run.run, args.reason.as_deref())?;
    Ok(report(context, &done))
}
