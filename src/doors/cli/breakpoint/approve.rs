//! `breakpoint approve`: a person says yes.
//!
//! May not answer anything but breakpoints. Invariant: the answer names who gave it.

use super::{AnswerArgs, answer};
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};

/// Approve what a run asks.
///
/// Example:
///   dormouse breakpoint approve RUN e0003 --response "ship it"
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    answer: AnswerArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    answer(&args.answer, true, context)
}
