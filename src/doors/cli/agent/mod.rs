//! `dormouse agent …`: whom effects of kind `agent` may name.
//!
//! May not ask an agent. Invariant: a verb parses, calls one service, prints.

mod list;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};

/// What can be done about agents.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "List the agents that a daemon knows")]
    List(list::Args),
}

pub(super) fn dispatch(verb: &Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::List(args) => list::run(args, context),
    }
}
