//! `why`: why a run does not go on, and the commands that end that.
//!
//! May not change anything. Invariant: with and without a daemon the answer is the same, but for
//! what only a daemon's memory knows.

use serde_json::Value;

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Say why a run does not go on, most important first, with the commands that help.
///
/// Example:
///   dormouse why RUN
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
}

pub(in crate::doors::cli) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let why = context.why(&args.run.run)?;
    if context.json {
        output::json(&why);
    } else {
        print(&why);
    }
    Ok(Exit::Done)
}

fn print(why: &Value) {
    let text = |value: &Value, name: &str| value[name].as_str().map(str::to_owned);
    let word = |value: &Value, name: &str| text(value, name).unwrap_or_else(|| "-".to_owned());
    output::line(&format!("run {} ({})", word(why, "runId"), word(why, "state")));
    output::line(&format!("  {}", word(why, "headline")));
    if let Some(since) = text(why, "since") {
        output::line(&format!("  since {since}"));
    }
    if let Some(at) = text(&why["wake"], "at") {
        output::line(&format!("  time wakes it at {at}"));
    }
    for above in why["parents"].as_array().into_iter().flatten() {
        let (run, effect) = (word(above, "runId"), word(above, "effectId"));
        output::line(&format!("  run {run} waits for it ({effect})"));
    }
    for reason in why["reasons"].as_array().into_iter().flatten() {
        let place = if reason["runId"] == why["runId"] {
            String::new()
        } else {
            format!("run {}: ", word(reason, "runId"))
        };
        output::line(&format!("{}: {place}{}", word(reason, "code"), word(reason, "what")));
        reason["lastFailures"].as_array().into_iter().flatten().for_each(print_failure);
        for command in reason["unblock"].as_array().into_iter().flatten() {
            output::line(&format!("  → {}", command.as_str().unwrap_or("-")));
        }
    }
    if why["omitted"] != 0 {
        output::line(&format!("and {} more", why["omitted"]));
    }
}

fn print_failure(failure: &Value) {
    let word = |name: &str| failure[name].as_str().unwrap_or("-").to_owned();
    let error = failure["error"].as_str().map_or(String::new(), |error| format!(" {error:?}"));
    let (epoch, class) = (&failure["epoch"], word("class"));
    output::line(&format!("  start {epoch} failed ({class}, {}){error}", word("cause")));
}
