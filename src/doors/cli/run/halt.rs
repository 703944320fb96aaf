//! `run halt`: end a run from outside, at once.
//!
//! May not wait for anybody. Invariant: a second halt says what stands and appends nothing.

use serde_json::{Value, json};

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::services::runs::steer::FinalStatus;

/// End a run from outside: everything pending is given up, the end is final.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT", default_value = "manual_halt")]
    reason: String,
    /// How the run shall count
    #[arg(long, value_name = "completed|failed", default_value = "completed", ignore_case = true)]
    final_status: Final,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Final {
    Completed,
    Failed,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let (name, as_) = match args.final_status {
        Final::Completed => ("completed", FinalStatus::Completed),
        Final::Failed => ("failed", FinalStatus::Failed),
    };
    if args.dry_run {
        let seen = context.runs.look(&args.run.run)?;
        output::json(&json!({
            "dryRun": true, "runDir": seen.dir.path(), "plan": "halt_run",
            "eventType": if name == "failed" { "RUN_FAILED" } else { "RUN_COMPLETED" },
            "finalStatus": name, "reason": args.reason, "completionProof": null,
            "alreadyTerminal": seen.state.end.map(|(end, _)| end.name()),
        }));
        return Ok(Exit::Done);
    }
    let id = context.target(&args.run.run)?.id;
    let done = context.halt(&args.run.run, &args.reason, as_)?;
    if context.json {
        output::json(&done);
        return Ok(Exit::Done);
    }
    let word = if done["alreadyTerminal"].is_null() { "halted" } else { "had ended already" };
    output::line(&format!("run {id} {word}"));
    Ok(Exit::Done)
}

/// What a deed that appends one record prints.
pub(super) fn report(context: &Context, done: &Value) -> Exit {
    if context.json {
        output::json(done);
        return Exit::Done;
    }
    let text = |name: &str| done[name].as_str().unwrap_or("-");
    let (run, deed, seq) = (text("runId"), text("done"), &done["seq"]);
    if done["repeat"] == true {
        output::line(&format!("run {run} is {deed} already (record {seq})"));
    } else {
        output::line(&format!("run {run} {deed} (record {seq})"));
        if !matches!(deed, "paused") {
            output::remark(&format!("next: dormouse run iterate {run}"));
        }
    }
    Exit::Done
}
