//! `limits set`: another limit while the daemon runs.
//!
//! May not judge a limit. Invariant: what was set is durable, and counts, when the command ends.

use serde_json::{Map, Value, json};

use super::Place;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};

/// Set a limit while the daemon runs; it is kept over restarts. What is not given stays as
/// configured.
///
/// Example:
///   dormouse limits set --concurrency 0 key 'deploy:*'
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    /// How many may be at work; 0: nothing starts
    #[arg(long, value_name = "N")]
    concurrency: Option<u64>,
    /// How many may start in a span of time, such as 10/s, 100/min or 5/h
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// How many may start at once after a pause [default: as many as the rate names]
    #[arg(long, value_name = "N")]
    burst: Option<u64>,
    /// Whether an effect keeps its slot while its outcome is unknown [default: under keys only]
    #[arg(long, value_name = "BOOL")]
    hold_uncertain: Option<bool>,
    /// Take back what was set: the configuration counts again
    #[arg(long, conflicts_with_all = ["concurrency", "rate", "burst", "hold_uncertain"])]
    #[arg(required_unless_present_any = ["concurrency", "rate", "burst", "hold_uncertain"])]
    as_configured: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let members = [
        ("concurrency", args.concurrency.map(Value::from)),
        ("rate", args.rate.as_ref().map(|rate| json!(rate))),
        ("burst", args.burst.map(Value::from)),
        ("holdUncertain", args.hold_uncertain.map(Value::from)),
    ];
    let given = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let body: Map<String, Value> = given.collect();
    super::print(context, &context.daemon()?.put(&args.place.path(), &body)?);
    Ok(Exit::Done)
}
