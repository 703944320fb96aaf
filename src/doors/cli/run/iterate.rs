//! `run iterate`: let a run go on until it waits or ends.
//!
//! May not wait for timers. Invariant: a run that waits is exit 0; one that ended badly is exit 1.

use std::cell::Cell;

use serde_json::{Value, json};

use super::RunArg;
use super::progress::Report;
use crate::doors::cli::context::Context;
use crate::doors::cli::deeds::path;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::remote::Client;
use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::ground::limits::CHILD_DEPTH_MAX;
use crate::machines::effect::{Wait, sleep};
use crate::machines::replay::engine::Rest;
use crate::services::runs::Error;
use crate::services::runs::trouble::Trouble;

/// Let a run go on: due timers fire, posted outcomes are fed, new requests are journaled.
///
/// Example:
///   dormouse run iterate RUN --json
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let (report, _) = iterate(context, &args.run.run)?;
    report.print(context);
    Ok(report.exit)
}

/// Lets a run go on once. Gives its report, and when the first of its sleeps ends.
pub(super) fn iterate(
    context: &Context,
    reference: &str,
) -> Result<(Report, Option<Timestamp>), Failure> {
    let sleeps = Cell::new(None);
    let direct = || {
        let (report, until) = go_on(context, reference)?;
        sleeps.set(until);
        Ok(report)
    };
    let asked = |client: &Client, run: &str| {
        let report = client.post(&path(run, "iterate"), &json!({}))?;
        let waiting = report["status"] == "waiting" && report["reason"] != "paused";
        sleeps.set(if waiting { sleep_of(context, reference, CHILD_DEPTH_MAX) } else { None });
        Ok(report)
    };
    match context.deed(reference, direct, asked) {
        Ok(value) => Ok((Report::of(value), sleeps.get())),
        Err(damaged) if damaged.exit == Exit::Damaged => {
            Ok((held(context, reference, damaged)?, None))
        }
        Err(failure) => Err(failure),
    }
}

/// The same without a daemon.
fn go_on(context: &Context, reference: &str) -> Result<(Value, Option<Timestamp>), Failure> {
    let mut run = context.runs.open(reference)?;
    let progress = match run.go_on() {
        Err(error) => return Err(run.close_failed(error).into()),
        Ok(progress) => progress,
    };
    if progress.rest == Rest::Bare {
        let id = run.dir.id().clone();
        run.close()?;
        return Err(bare(&id));
    }
    let report = run.report(&progress.rest)?;
    run.close()?;
    let waiting = matches!(progress.rest, Rest::Waiting { .. });
    Ok((report, progress.sleeps_until.filter(|_| waiting)))
}

/// When the first sleep of a run or of its child runs ends, as their files say.
fn sleep_of(context: &Context, reference: &str, depth: u32) -> Option<Timestamp> {
    let seen = context.runs.look(reference).ok()?;
    let sleeps = seen.state.open_effects().filter_map(|effect| match &effect.wait {
        Wait::Sleep { .. } => sleep::awaited(effect),
        Wait::Run(_) if depth > 0 => sleep_of(context, effect.target.as_deref()?, depth - 1),
        _ => None,
    });
    sleeps.min()
}

/// The refusal of a run that has no process yet.
fn bare(id: &RunId) -> Failure {
    let next = format!("dormouse run assign-process {id} --entry FILE");
    let trouble = Trouble::new("run_is_bare", format!("run {id} has no process assigned"));
    Error::Refused(trouble.next(next)).into()
}

/// A run that is damaged is held by that: said as a state, and as an error.
fn held(context: &Context, reference: &str, damaged: Failure) -> Result<Report, Failure> {
    if !context.json {
        return Err(damaged);
    }
    let report = Report::damaged(reference, &damaged);
    damaged.report(true);
    Ok(report)
}
