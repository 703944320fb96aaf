//! `run delete`: remove a run for good, with `--yes`.
//!
//! May not work beside a daemon. Invariant: without `--yes` nothing changes.

use serde_json::json;

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::services::runs::delete::Deletion;

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
    context.needs_no_daemon(&args.run.run)?;
    let keys_kept_ms = context.config.ledger_key_ttl_ms;
    let how = Deletion { force: args.force, keys_kept_ms, dry_run: !args.yes };
    let done = context.runs.delete(&args.run.run, how)?;
    let id = &done.run_id;
    if context.json {
        output::json(&json!({
            "runId": id, "end": done.end, "deleted": args.yes,
            "spaceFreed": done.is_gone,
        }));
    } else if args.yes {
        output::line(&format!("deleted {id}"));
    } else {
        output::line(&format!("{id} can be deleted; --yes does it, and nothing brings it back"));
    }
    if args.yes && !done.is_gone {
        output::remark("some of its files stay in staging until the machine starts again");
    }
    Ok(if args.yes { Exit::Done } else { Exit::No })
}
