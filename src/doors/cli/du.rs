//! `du`: what a root takes on disk, by run and by what it is for.
//!
//! May not remove anything. Invariant: the lines add up to the sum, however many are shown.

use serde_json::Value;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use crate::services::usage::Kinds;

/// Show what a root takes on disk, by run and by what it is for. Files with several names count
/// once.
///
/// Example:
///   dormouse du --top 10
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Runs to measure [default: the whole runs root]
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    /// How many runs are listed, largest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut usage = context.runs.usage(&args.runs)?;
    let all = usage.runs.len();
    let left: u64 = usage.runs.iter().skip(args.top).map(|run| run.bytes).sum();
    usage.runs.truncate(args.top);
    if context.json {
        output::json(&serde_json::to_value(&usage).unwrap_or_default());
        return Ok(Exit::Done);
    }
    let mut rows = Vec::new();
    if args.runs.is_empty() {
        let bytes: u64 = usage.root.values().sum();
        rows.push(vec![size(bytes), "the root itself".into(), parts(&usage.root)]);
    }
    for run in &usage.runs {
        rows.push(vec![size(run.bytes), run.run_id.to_string(), parts(&run.kinds)]);
    }
    if all > usage.runs.len() {
        let more = format!("{} more runs", all - usage.runs.len());
        rows.push(vec![size(left), more, String::new()]);
    }
    output::table(&["SIZE", "WHAT", "OF IT"], &rows);
    if usage.archived > 0 {
        let bytes = usage.root.get("archives").copied().unwrap_or_default();
        output::line(&format!("{} in {} archived runs", size(bytes), usage.archived));
    }
    output::line(&format!("{} in {all} runs: {}", size(usage.bytes), parts(&usage.kinds)));
    Ok(Exit::Done)
}

fn parts(kinds: &Kinds) -> String {
    listed(kinds.iter().map(|(kind, bytes)| (*kind, *bytes)).collect())
}

/// The same of kinds that a daemon told.
pub(super) fn parts_of(kinds: &Value) -> String {
    let kinds = kinds.as_object().into_iter().flatten();
    listed(kinds.map(|(kind, n)| (kind.as_str(), n.as_u64().unwrap_or_default())).collect())
}

/// Parts, largest first.
fn listed(mut parts: Vec<(&str, u64)>) -> String {
    parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let parts = parts.into_iter().filter(|(_, bytes)| *bytes > 0);
    parts.map(|(kind, bytes)| format!("{kind} {}", size(bytes))).collect::<Vec<_>>().join(", ")
}

/// A size in the unit that leaves one to four digits.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut rest = bytes;
    while rest >= 10_000 && unit + 1 < units.len() {
        rest = rest.div_ceil(1024);
        unit += 1;
    }
    format!("{rest} {}", units[unit])
}
