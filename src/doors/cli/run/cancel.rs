//! `run cancel`: ask a run to stop; its process may clean up.
//!
//! May not end the run itself. Invariant: a cancelled run ends as cancelled and as nothing else.

use super::RunArg;
use super::halt::report;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};

/// Ask a run to stop. Its process is told and may clean up for at most a minute.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Why, for the process and the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Leave no time for clean-up effects
    #[arg(long)]
    now: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let done = context.cancel(&args.run.run, args.reason.as_deref(), args.now)?;
    Ok(report(context, &done))
}
