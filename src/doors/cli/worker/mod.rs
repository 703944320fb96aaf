//! `dormouse worker …`: whoever does tasks.
//!
//! May not know what tasks are about. Invariant: a verb parses, calls one service, prints.

mod list;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};

/// What can be done about workers.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "List workers that a daemon heard of")]
    List(list::Args),
}

pub(super) fn dispatch(verb: &Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::List(args) => list::run(args, context),
    }
}
