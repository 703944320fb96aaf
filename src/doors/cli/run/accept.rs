//! `run accept`: take other code over for an open run.
//!
//! May not guess. Invariant: without `--yes` nothing is written.

use serde_json::json;

use super::RunArg;
use super::check;
use super::source::SourceArgs;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::services::runs::accept::{OnChange, OnRemoved};

/// Take other code over for an open run: the past is replayed by key, new calls are asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    #[command(flatten)]
    source: SourceArgs,
    /// Calls whose arguments changed: keep the recorded outcome, ask anew, or refuse
    #[arg(long, value_enum, default_value = "fail")]
    on_args_change: ArgsChange,
    /// Pending calls that the new code does not make: wait for them, or give them up
    #[arg(long, value_enum)]
    on_removed: Option<Removed>,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do it; without this the plan is only shown
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ArgsChange {
    Keep,
    Redo,
    Fail,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Removed {
    Keep,
    Cancel,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let source = args.source.needed()?;
    let on_change = match args.on_args_change {
        ArgsChange::Keep => OnChange::Keep,
        ArgsChange::Redo => OnChange::Redo,
        ArgsChange::Fail => OnChange::Fail,
    };
    let on_removed = args.on_removed.map(|choice| match choice {
        Removed::Keep => OnRemoved::Keep,
        Removed::Cancel => OnRemoved::Cancel,
    });
    let plan = context.runs.plan_accept(&args.run.run, &source, on_change, on_removed)?;
    if !args.yes {
        if context.json {
            let check = check::value(&plan.checked);
            output::json(&json!({
                "accepted": false, "check": check, "decisions": plan.decisions,
                "planDigest": plan.digest,
            }));
        } else {
            check::print(&plan.checked);
            output::remark("nothing was changed; give --yes to accept");
        }
        return Ok(Exit::No);
    }
    let reason = args.reason.as_deref();
    let done = context.accept(&args.run.run, &source, plan, on_change, on_removed, reason)?;
    if context.json {
        output::json(&done);
    } else {
        let digest = done["process"]["digest"].as_str().unwrap_or("-");
        output::line(&format!("accepted as record {}; code {digest}", done["seq"]));
        output::remark(&format!("next: dormouse run drive {}", args.run.run));
    }
    Ok(Exit::Done)
}
