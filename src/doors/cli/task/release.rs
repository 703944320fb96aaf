//! `task release`: give an effect back without an outcome.
//!
//! May not guess whether it began. Invariant: exit 0 means that it is the caller's no more.

use super::EffectArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};

/// Give an effect back without an outcome. What had not begun is open for everybody again.
///
/// Example:
///   dormouse task release RUN e0001 --epoch 1 --began no
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: EffectArg,
    /// The number of the start
    #[arg(long, value_name = "N")]
    epoch: u64,
    /// Whether anything may have happened outside
    #[arg(long, value_enum, ignore_case = true)]
    began: Began,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Began {
    Yes,
    No,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let (id, began) = (args.target.id()?, args.began == Began::Yes);
    let reason = args.reason.as_deref();
    let done = context.release(&args.target.run, id, args.epoch, began, reason)?;
    super::print_stands(context, &done);
    Ok(Exit::Done)
}
