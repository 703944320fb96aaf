//! `config default`: the default file, with what each key is for.
//!
//! May not read a file. Invariant: what is printed is a configuration that changes nothing.

use serde_json::json;

use crate::daemon::config::DEFAULT;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::Exit;
use crate::doors::cli::output;

/// Print the default configuration file, with what each key is for.
///
/// Example:
///   dormouse config default > ~/.config/dormouse/config.toml
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Exit {
    if context.json {
        output::json(&json!({ "file": DEFAULT }));
    } else {
        output::line(DEFAULT.trim_end());
    }
    Exit::Done
}
