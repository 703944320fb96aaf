//! `completions`: a completion script for a shell.
//!
//! May not know runs. Invariant: the script is made from the same definitions that parse.

use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Print a completion script for a shell.
///
/// Example:
///   dormouse completions bash > ~/.local/share/bash-completion/completions/dormouse
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

#[expect(clippy::unnecessary_wraps, reason = "every verb has this shape")]
pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut command = super::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "dormouse", &mut script);
    let script = String::from_utf8_lossy(&script);
    if context.json {
        output::json(&json!({ "shell": args.shell.to_string(), "script": script }));
    } else {
        output::line(script.trim_end());
    }
    Ok(Exit::Done)
}
