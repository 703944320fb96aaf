//! `schedule resume`: let a schedule make runs again.
//!
//! May not touch runs. Invariant: a schedule that was not paused stays as it was.

use serde_json::json;

use super::Which;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};

/// Let a schedule make runs again. Times that passed meanwhile are not made up for.
///
/// Example:
///   dormouse schedule resume nightly
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    super::print(context, &args.which.post(context, "resume", &json!({}))?);
    Ok(Exit::Done)
}
