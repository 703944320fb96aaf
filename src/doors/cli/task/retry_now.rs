//! `task retry-now`: do not wait for the time of the next attempt.
//!
//! May not start anything. Invariant: nothing is written; a daemon forgets it when it ends.

use super::EffectArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};

/// Let an effect be tried again now that waits for its next attempt. This needs a daemon.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: EffectArg,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let done = context.retry_now(&args.target.run, args.target.id()?)?;
    super::print_stands(context, &done);
    Ok(Exit::Done)
}
