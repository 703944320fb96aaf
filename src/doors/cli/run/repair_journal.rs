//! `run repair-journal`: show what would mend a journal, and do it with `--yes`.
//!
//! May not lose anything silently, nor mend beside a daemon. Invariant: the plan is shown before
//! anything changes, and what is taken out of the journal is kept.

use serde_json::{Value, json};

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::services::repair::{Loss, Mended, Outlook};

/// Show what would mend a journal. With --yes do it: what is removed is kept in quarantine/.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Do it; without this the plan is only shown
    #[arg(long)]
    yes: bool,
    /// Records that may be lost: the number the plan names, or `unknown`
    #[arg(long, value_name = "COUNT|unknown")]
    accept_loss: Option<String>,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Show the plan only, whatever else is given
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let outlook = context.runs.repair_outlook(&args.run.run)?;
    if args.dry_run || !args.yes || outlook.plan.is_none() {
        show(context, &outlook);
        let clean = outlook.plan.is_none() && outlook.is_sound;
        return Ok(if clean { Exit::Done } else { Exit::No });
    }
    let loss = match args.accept_loss.as_deref() {
        None => Loss::None,
        Some("unknown") => Loss::Unknown,
        Some(text) => Loss::Records(text.parse().map_err(|_| {
            let what = format!("--accept-loss {text:?} is neither a number nor unknown");
            Failure::usage(&what, "--accept-loss unknown")
        })?),
    };
    context.needs_no_daemon(&args.run.run)?;
    let mended = context.runs.repair(&args.run.run, loss, args.reason.clone())?;
    report(context, &mended);
    Ok(Exit::Done)
}

fn counts(outlook: &Outlook) -> Value {
    json!({
        "originalFiles": outlook.files, "keptEvents": outlook.kept_records,
        "droppedCorrupt": outlook.lost_records, "droppedRequested": 0, "droppedResolved": 0,
    })
}

fn show(context: &Context, outlook: &Outlook) {
    if context.json {
        output::json(&json!({
            "dryRun": true, "runDir": outlook.dir, "case": outlook.case, "why": outlook.why,
            "plan": outlook.plan, "steps": outlook.steps, "lost": outlook.lost,
            "journal": counts(outlook),
        }));
        return;
    }
    output::line(&format!("{}: {}", outlook.case, outlook.why));
    let Some(plan) = &outlook.plan else {
        let sound = if outlook.is_sound { "nothing to mend" } else { "no plan mends this" };
        return output::line(sound);
    };
    output::line(&format!("plan {plan}:"));
    for step in &outlook.steps {
        output::line(&format!("  {step}"));
    }
    match (&outlook.lost, outlook.lost_records) {
        (Some(_), Some(count)) => {
            output::line(&format!("  loses {count} records; give --accept-loss {count}"));
        }
        (Some(_), None) => output::line("  may lose records; give --accept-loss unknown"),
        (None, _) => output::line("  loses nothing that was acknowledged"),
    }
    output::remark("nothing was changed; give --yes to do it");
}

fn report(context: &Context, mended: &Mended) {
    if context.json {
        output::json(&json!({
            "runDir": mended.outlook.dir, "journal": counts(&mended.outlook),
            "backupDir": mended.kept_in, "repaired": true, "case": mended.outlook.case,
            "plan": mended.outlook.plan, "quarantined": mended.quarantined,
            "head": mended.head, "stillUnreadable": false,
        }));
        return;
    }
    let (case, seq) = (&mended.outlook.case, mended.head.seq);
    output::line(&format!("mended {case}; the journal ends at record {seq}"));
    for file in &mended.quarantined {
        output::line(&format!("  kept {file}"));
    }
}
