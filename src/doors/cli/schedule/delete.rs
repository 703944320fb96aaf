//! `schedule delete`: a schedule ends for good.
//!
//! May not touch its runs. Invariant: exit 0 means that it makes no run any more.

use serde_json::json;

use super::Which;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Delete a schedule. Its runs stay, and go on.
///
/// Example:
///   dormouse schedule delete nightly
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let done = args.which.post(context, "delete", &json!({}))?;
    if context.json {
        output::json(&done);
    } else {
        output::line(&format!("{} is deleted; its runs stay", args.which.name));
    }
    Ok(Exit::Done)
}
