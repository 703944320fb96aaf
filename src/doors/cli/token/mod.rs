//! `dormouse token …`: one file a verb.
//!
//! May not show a token twice. Invariant: only digests of tokens are kept.

mod create;
mod list;
mod revoke;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};

/// What can be done about tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "Make a token for requests over TCP, and print it once")]
    Create(create::Args),
    #[command(about = "List tokens and what they let do")]
    List(list::Args),
    #[command(about = "Take a token back")]
    Revoke(revoke::Args),
}

pub(super) fn dispatch(verb: Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Create(args) => create::run(&args, context),
        Verb::List(args) => list::run(&args, context),
        Verb::Revoke(args) => revoke::run(&args, context),
    }
}

/// A daemon looks at the file for every request.
fn remark_about_daemon(context: &Context) -> Result<(), Failure> {
    if context.daemon_now()?.is_some() {
        super::output::remark("the daemon that runs goes by it from the next request on");
    }
    Ok(())
}
