//! `run pause`: keep a run from going on.
//!
//! May not stop what was started. Invariant: a paused run still takes posts and signals.

use super::RunArg;
use super::halt::report;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};

/// Keep a run from going on; posts and signals are still taken.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let done = context.pause(&args.run.run)?;
    Ok(report(context, &done))
}
