//! `schedule pause`: let times pass without a run.
//!
//! May not touch runs. Invariant: times that came before are decided as ever.

use serde_json::json;

use super::Which;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};

/// Let times pass without a run, until the schedule is resumed. They are not made up for.
///
/// Example:
///   dormouse schedule pause nightly
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    super::print(context, &args.which.post(context, "pause", &json!({}))?);
    Ok(Exit::Done)
}
