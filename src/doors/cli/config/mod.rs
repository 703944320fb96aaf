//! `dormouse config …`: one file a verb.
//!
//! May not change a configuration. Invariant: what is shown is what a daemon would use.

mod default;
mod show;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};

/// What can be seen of the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "Print the default file, with what each key is for")]
    Default(default::Args),
    #[command(about = "Print the values in force and where each comes from")]
    Show(show::Args),
}

#[expect(clippy::unnecessary_wraps, reason = "every noun has this shape")]
pub(super) fn dispatch(verb: Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Default(args) => Ok(default::run(&args, context)),
        Verb::Show(args) => Ok(show::run(&args, context)),
    }
}
