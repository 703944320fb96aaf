//! `demo`: a real run, live, through a kill -9, in a temporary root.
//!
//! May not touch the user's runs. Invariant: everything it shows was done by this program.

use super::context::Context;
use super::failure::{Exit, Failure};

/// Watch a real run live through a kill -9, in a temporary root.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, _: &Context) -> Result<Exit, Failure> {
    Err(Failure::usage("not there yet", ""))
}
