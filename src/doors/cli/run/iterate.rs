//! `run iterate`: let a run go on until it waits or ends.
//!
//! May not wait for timers. Invariant: a run that waits is exit 0; one that ended badly is exit 1.

use super::RunArg;
use super::progress::Report;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
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
    let mut run = match context.runs.open(reference) {
        Err(error @ Error::Damaged(_)) => return Ok((held(context, reference, error)?, None)),
        other => other?,
    };
    let progress = match run.go_on() {
        Err(error @ Error::Damaged(_)) => {
            run.close()?;
            return Ok((held(context, reference, error)?, None));
        }
        Err(error) => return Err(run.close_failed(error).into()),
        Ok(progress) => progress,
    };
    if progress.rest == Rest::Bare {
        let id = run.dir.id().clone();
        run.close()?;
        return Err(bare(&id));
    }
    let report = Report::of(run.report(&progress.rest)?);
    run.close()?;
    let waiting = matches!(progress.rest, Rest::Waiting { .. });
    Ok((report, progress.sleeps_until.filter(|_| waiting)))
}

/// The refusal of a run that has no process yet.
fn bare(id: &RunId) -> Failure {
    let next = format!("dormouse run assign-process {id} --entry FILE");
    let trouble = Trouble::new("run_is_bare", format!("run {id} has no process assigned"));
    Error::Refused(trouble.next(next)).into()
}

/// A run that is damaged is held by that: said as a state, and as an error.
fn held(context: &Context, reference: &str, error: Error) -> Result<Report, Failure> {
    let report = Report::damaged(reference, &error);
    if context.json {
        Failure::from(error).report(true);
        return Ok(report);
    }
    Err(error.into())
}
