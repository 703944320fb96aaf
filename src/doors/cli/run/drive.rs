//! `run drive`: iterate and fire timers until the run ends or waits for someone outside.
//!
//! May not hold the run while it sleeps. Invariant: what others post meanwhile is taken in.

use indicatif::{ProgressBar, ProgressStyle};

use super::RunArg;
use super::iterate::iterate;
use super::progress::Report;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Longest nap: others may post meanwhile.
const NAP_MS_MAX: i64 = 500;

/// Drive a run until it ends or waits for someone outside; sleeps are waited for.
///
/// Example:
///   dormouse run drive RUN
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Do not wait for a sleep that ends later than this from now
    #[arg(long, value_name = "DURATION")]
    max_wait: Option<humantime::Duration>,
    /// Show no progress line
    #[arg(long)]
    no_progress: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let line = progress_line(!args.no_progress && !context.json && output::is_watched());
    let report = drive(args, context, &line)?;
    line.finish_and_clear();
    report.print(context);
    Ok(report.exit)
}

fn progress_line(shown: bool) -> ProgressBar {
    let line = if shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    line.set_style(
        ProgressStyle::with_template("{spinner} {msg}").unwrap_or(ProgressStyle::default_spinner()),
    );
    line
}

fn drive(args: &Args, context: &Context, line: &ProgressBar) -> Result<Report, Failure> {
    let reference = &args.run.run;
    let clock = &context.runs.clock;
    let latest = args
        .max_wait
        .map(|wait| clock.now().plus_millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
    loop {
        let (report, sleeps_until) = iterate(context, reference)?;
        let wake = sleeps_until.filter(|wake| latest.is_none_or(|latest| *wake <= latest));
        let Some(wake) = wake else { return Ok(report) };
        let left = wake.micros().saturating_sub(clock.now().micros()).div_euclid(1000) + 1;
        line.set_message(format!("run {reference} sleeps until {}", wake.iso_millis()));
        line.tick();
        clock.sleep_millis(u64::try_from(left.clamp(1, NAP_MS_MAX)).unwrap_or(1));
    }
}
