//! `run delete`: remove a run for good, with `--yes`.
//!
//! May not decide whether it can be done. Invariant: without `--yes` nothing changes.

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Delete a run for good. Without --yes only say whether that can be done.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Also a run that has not ended, has open child runs, or is damaged
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let done = context.delete(&args.run.run, args.force, !args.yes)?;
    let id = done["runId"].as_str().unwrap_or("-");
    if context.json {
        output::json(&done);
    } else if args.yes {
        output::line(&format!("deleted {id}"));
    } else {
        output::line(&format!("{id} can be deleted; --yes does it, and nothing brings it back"));
    }
    if args.yes && done["spaceFreed"] == false {
        output::remark("some of its files are still there: `dormouse gc` removes them");
    }
    Ok(if args.yes { Exit::Done } else { Exit::No })
}
