//! `run events`: the events of a run, filtered, reversed, limited, followed.
//!
//! May not lock or write. Invariant: filter, then reverse, then limit.

use serde_json::{Value, json};

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::ground::id::Seq;
use crate::services::runs::open::SeenRun;
use crate::services::runs::view;

const FOLLOW_MS: u64 = 200;

/// Print the events of a run.
///
/// Example:
///   `dormouse run events RUN --filter-type EFFECT_RESOLVED --limit 5`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Only events of this type
    #[arg(long, value_name = "TYPE")]
    filter_type: Option<String>,
    /// Newest first
    #[arg(long)]
    reverse: bool,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Only events after this place
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    since: u64,
    /// Go on printing new events, one line each, until the run ends
    #[arg(long, conflicts_with_all = ["reverse", "limit"])]
    follow: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.follow {
        return follow(args, context);
    }
    let seen = context.runs.look(&args.run.run)?;
    let mut events = matching(args, &seen, Seq(args.since));
    let matching = events.len();
    if args.reverse {
        events.reverse();
    }
    events.truncate(args.limit.map_or(usize::MAX, |n| n as usize));
    if context.json {
        let metadata = json!({ "total": seen.records.len(), "matching": matching });
        output::json(&json!({ "events": events, "metadata": metadata }));
        return Ok(Exit::Done);
    }
    events.iter().for_each(print);
    Ok(Exit::Done)
}

fn matching(args: &Args, seen: &SeenRun, since: Seq) -> Vec<Value> {
    let wanted = args.filter_type.as_deref();
    let records = seen
        .records
        .iter()
        .filter(|r| r.seq > since && wanted.is_none_or(|w| w.eq_ignore_ascii_case(r.event.name())));
    records.map(|r| view::event(r)).collect()
}

fn print(event: &Value) {
    let data: String = event["data"].to_string().chars().take(120).collect();
    output::line(&format!(
        "{:>6}  {}  {:<22} {data}",
        event["seq"],
        event["recordedAt"].as_str().unwrap_or("-"),
        event["type"].as_str().unwrap_or("-"),
    ));
}

fn follow(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut since = Seq(args.since);
    loop {
        let seen = context.runs.look(&args.run.run)?;
        for event in matching(args, &seen, since) {
            if context.json { output::json(&event) } else { print(&event) }
        }
        since = since.max(seen.state.head.seq);
        if !seen.state.is_open() || output::has_ended() {
            return Ok(Exit::Done);
        }
        context.runs.clock.sleep_millis(FOLLOW_MS);
    }
}
