//! `dormouse journal …`: one file a verb.
//!
//! May not write. Invariant: damaged journals are shown as far as they verify.

mod show;
mod verify;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};

/// What can be seen of a journal.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "Print the records of a journal, as far as they verify")]
    Show(show::Args),
    #[command(about = "Check every byte of a journal")]
    Verify(verify::Args),
}

pub(super) fn dispatch(verb: Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Show(args) => show::run(&args, context),
        Verb::Verify(args) => verify::run(&args, context),
    }
}
