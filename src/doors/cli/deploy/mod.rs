//! `deploy …`: what is done about new code for a whole root.
//!
//! May not decide anything about a run. Invariant: no verb changes a run.

mod check;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};

/// What can be done about new code.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "Replay all open runs of a process with new code; nothing is written")]
    Check(check::Args),
}

pub(super) fn dispatch(verb: &Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Check(args) => check::run(args, context),
    }
}
