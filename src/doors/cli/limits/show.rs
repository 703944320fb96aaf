//! `limits show`: one limit, who has its slots and who waits.
//!
//! May not count anything. Invariant: whoever is named had a slot, or waited, when asked.

use super::Place;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};

/// Show a limit, who has its slots and who waits.
///
/// Example:
///   dormouse limits show kind shell
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    super::print(context, &context.daemon()?.get(&args.place.path())?);
    Ok(Exit::Done)
}
