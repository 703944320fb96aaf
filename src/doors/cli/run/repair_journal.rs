//! `run repair-journal`: show what would mend a journal, and do it with `--yes`.
//!
//! May not lose anything silently. Invariant: the plan is shown before
//! anything changes, and what is taken out of the journal is kept.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::RunArg;
use crate::doors::answers::RepairCounts;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, output};
use crate::services::repair::{Loss, Order, Outlook};

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
    /// A copy of the run, or a directory that holds one: what is missing is taken from it
    #[arg(long, value_name = "COPY")]
    from: Option<PathBuf>,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Show the plan only, whatever else is given
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let order = args.order()?;
    let outlook = context.runs.repair_outlook(&args.run.run, &order)?;
    if args.dry_run || !args.yes || outlook.plan.is_none() {
        show(context, args, &outlook);
        let clean = outlook.plan.is_none() && outlook.is_sound;
        return Ok(if clean { Exit::Done } else { Exit::No });
    }
    report(context, &args.run.run, &context.repair(&args.run.run, &order)?);
    Ok(Exit::Done)
}

impl Args {
    fn order(&self) -> Result<Order, Failure> {
        let loss = match self.accept_loss.as_deref() {
            None => Loss::None,
            Some("unknown") => Loss::Unknown,
            Some(text) => Loss::Records(text.parse().map_err(|_| {
                let what = format!("--accept-loss {text:?} is neither a number nor unknown");
                Failure::usage(&what, "--accept-loss unknown")
            })?),
        };
        let from = self.from.as_deref().map(input::absolute).transpose()?;
        Ok(Order { loss, why: self.reason.clone(), from })
    }

    /// The command that does what is shown.
    fn command(&self, outlook: &Outlook) -> String {
        let mut command = format!("dormouse run repair-journal {}", self.run.run);
        if let Some(from) = &self.from {
            command = format!("{command} --from {}", from.display());
        }
        command += " --yes";
        match (&outlook.lost, outlook.lost_records) {
            (Some(_), Some(count)) => format!("{command} --accept-loss {count}"),
            (Some(_), None) => format!("{command} --accept-loss unknown"),
            (None, _) => command,
        }
    }
}

fn show(context: &Context, args: &Args, outlook: &Outlook) {
    let next = match &outlook.next {
        None if outlook.plan.is_some() => Some(args.command(outlook)),
        next => next.clone(),
    };
    if context.json {
        output::json(&json!({
            "dryRun": true, "runDir": outlook.dir, "case": outlook.case, "why": outlook.why,
            "plan": outlook.plan, "steps": outlook.steps, "changes": outlook.changes,
            "state": outlook.state, "uncertain": outlook.uncertain, "sources": outlook.sources,
            "lacking": outlook.lacking, "lost": outlook.lost, "next": next,
            "journal": RepairCounts::from(outlook),
        }));
        return;
    }
    output::line(&format!("{}: {}", outlook.case, outlook.why));
    match outlook.plan {
        Some(plan) => plan_of(plan, outlook),
        None if outlook.is_sound => output::line("nothing to mend"),
        None => output::line("no plan mends this run from what stands in it"),
    }
    for lacking in &outlook.lacking {
        output::line(&format!("  stays missing: {lacking}"));
    }
    if outlook.plan.is_some() {
        output::remark("nothing was changed");
    }
    if outlook.lost.is_some() && args.from.is_none() {
        output::remark("if there is a copy of the run: add --from COPY, which may lose less");
    }
    if let Some(next) = next {
        output::remark(&format!("next: {next}"));
    }
}

fn plan_of(plan: &str, outlook: &Outlook) {
    output::line(&format!("plan {plan}:"));
    for step in &outlook.steps {
        output::line(&format!("  {step}"));
    }
    output::line("journal, before and after:");
    for change in &outlook.changes {
        output::line(&format!("  {change}"));
    }
    match (&outlook.lost, outlook.lost_records) {
        (Some(_), Some(count)) => output::line(&format!("loses {count} records")),
        (Some(_), None) => output::line("may lose records; nobody can say how many"),
        (None, _) => output::line("loses nothing that was acknowledged"),
    }
    if let Some(state) = outlook.state {
        output::line(&format!("the run will be: {state}"));
    }
    for effect in &outlook.uncertain {
        output::line(&format!("  {effect} becomes uncertain: it may have been done or not"));
    }
}

fn report(context: &Context, run: &str, mended: &Value) {
    if context.json {
        return output::json(mended);
    }
    let (case, seq) = (mended["case"].as_str().unwrap_or_default(), &mended["head"]["seq"]);
    output::line(&format!("mended {case}; the journal ends at record {seq} and verifies"));
    for file in mended["quarantined"].as_array().into_iter().flatten() {
        output::line(&format!("  kept {}", file.as_str().unwrap_or_default()));
    }
    output::remark(&format!("dormouse repair undo {run} takes it back"));
    output::remark(&format!("next: dormouse fsck {run}"));
}
