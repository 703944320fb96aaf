//! `run rebuild-state`: make the derived state of a run anew.
//!
//! May not touch the journal. Invariant: running it twice changes nothing more.

use serde_json::json;

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Make state/, run.json and the task files of a run anew from its journal.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.dry_run {
        let seen = context.runs.look(&args.run.run)?;
        output::json(&json!({
            "dryRun": true, "runDir": seen.dir.path(), "plan": "rebuild_state_cache",
            "reason": "cli_manual",
        }));
        return Ok(Exit::Done);
    }
    let id = context.target(&args.run.run)?.id;
    let rebuilt = context.rebuild_state(&args.run.run)?;
    if context.json {
        output::json(&rebuilt);
    } else {
        let seq = &rebuilt["metadata"]["stateVersion"];
        output::line(&format!("state of run {id} rebuilt up to record {seq}"));
    }
    Ok(Exit::Done)
}
