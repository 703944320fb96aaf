//! `run replay`: play a run's recorded past again, offline, and compare.
//!
//! May not write. Invariant: exit 0 exactly when the verdict is `identical`.

use serde_json::json;

use super::RunArg;
use super::check::{side, sides};
use super::source::SourceArgs;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::ground::id::Seq;
use crate::services::runs::replay::{Replayed, Verdict};
use crate::services::runs::steps::Step;

/// Play what is recorded of a run to its pinned code again, or to --entry, and compare. Nothing is
/// executed, written or locked; a copied run directory is enough. Exit 0 if identical, 7 if
/// diverged, 5 if damaged.
///
/// Example:
///   dormouse run replay RUN --step --to 12
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    #[command(flatten)]
    how: How,
}

/// The same under the name that others give to a run.
#[derive(Debug, clap::Args)]
pub(crate) struct ByJob {
    /// Id of the run, a unique beginning of it, or the path of its directory
    #[arg(long, value_name = "RUN")]
    job: String,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, clap::Args)]
struct How {
    /// Stop at this record: the run as it stood then
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
    /// Show every record and what the process did with it
    #[arg(long)]
    step: bool,
    #[command(flatten)]
    source: SourceArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    replay(&args.run.run, &args.how, context)
}

pub(in crate::doors::cli) fn by_job(args: &ByJob, context: &Context) -> Result<Exit, Failure> {
    replay(&args.job, &args.how, context)
}

fn replay(run: &str, how: &How, context: &Context) -> Result<Exit, Failure> {
    let source = how.source.source()?;
    let replayed = context.runs.replay(run, source.as_ref(), how.to.map(Seq))?;
    if how.step {
        let print = if context.json { |step: &Step| output::json(&json!(step)) } else { step };
        replayed.steps.iter().for_each(print);
    }
    if context.json {
        output::json(&json!(replayed));
    } else {
        report(&replayed);
    }
    Ok(match (replayed.verdict, replayed.held.as_deref()) {
        (Verdict::Identical, _) => Exit::Done,
        (Verdict::Diverged, _) => Exit::Diverged,
        (Verdict::Damaged, _) => Exit::Damaged,
        (Verdict::Held, Some(reason)) if reason.starts_with("limit:") => Exit::Refused,
        (Verdict::Held, _) => Exit::No,
    })
}

/// A line for the record, and one for each thing that the process put out for it.
fn step(step: &Step) {
    let Step { seq, event_type, key, role, outputs } = step;
    let key = key.as_deref().unwrap_or("");
    let line = format!("{:>6}  {event_type:<22}  {:<11}  {key}", seq.0, role.name());
    output::line(line.trim_end());
    for output in outputs {
        output::line(&format!("          → {}", side(Some(output))));
    }
}

fn report(replayed: &Replayed) {
    let (verdict, records) = (replayed.verdict.name(), replayed.records);
    let compared = replayed.requests_compared;
    if let Some(problem) = &replayed.problem {
        output::line(&format!("{verdict}: {} [{}]", problem.what, problem.code));
        problem.next.iter().for_each(|next| output::line(&format!("  → {next}")));
    } else {
        let requests = if compared == 1 { "request" } else { "requests" };
        output::line(&format!("{verdict}: {records} records, {compared} {requests} compared"));
    }
    if let Some(reason) = &replayed.held {
        output::line(&format!("  could not go on: {reason}"));
    }
    if let Some(first) = &replayed.first_divergence {
        output::line(&format!("  {} at record {}", first.class, first.seq));
        sides(first.expected.as_ref(), first.observed.as_ref(), first.args_diff.as_deref());
    }
    for waiting in &replayed.waiting_on {
        let (id, key, kind) = (waiting.effect_id, &waiting.key, &waiting.kind);
        output::line(&format!("  waits for {id} {key} {kind}"));
    }
    for mark in &replayed.next {
        let words = format!("  would come next: {} {} {}", mark.output_type, mark.key, mark.kind);
        output::line(words.trim_end());
    }
    if let Some(digest) = &replayed.output_digest {
        output::line(&format!("  output {digest}"));
    }
    for drift in &replayed.drift {
        let (id, key, seq) = (drift.effect_id, &drift.key, drift.seq);
        output::line(&format!("  the definition of {id} {key} (record {seq}) is built otherwise"));
    }
}
