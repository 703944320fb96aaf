//! `status`: whether a daemon runs, and how the root stands.
//!
//! May not lock or write. Invariant: exit 0 exactly when a daemon answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// Show whether a daemon serves the root, and how many runs are in which state. Exit 1 if none
/// serves it.
///
/// Example:
///   dormouse status --json
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<Exit, Failure> {
    let (status, exit) = match context.daemon_now()? {
        Some(client) => (client.get("/v1/status")?, Exit::Done),
        None => (alone(context)?, Exit::No),
    };
    if context.json {
        output::json(&status);
        return Ok(exit);
    }
    for line in head(&status) {
        output::line(&line);
    }
    if exit == Exit::No {
        output::remark("next: dormouse serve");
    }
    Ok(exit)
}

/// The same, of a root that nobody serves.
fn alone(context: &Context) -> Result<Value, Failure> {
    let listed = context.runs.list()?;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for run in &listed {
        *counts.entry(&run.state).or_default() += 1;
    }
    Ok(json!({
        "running": false, "runsRoot": context.runs.root, "runs": counts,
        "pending": listed.iter().map(|run| run.pending).sum::<usize>(),
    }))
}

/// What a status says, line by line.
pub(super) fn head(status: &Value) -> Vec<String> {
    let root = status["runsRoot"].as_str().unwrap_or("-");
    let up = status["uptimeMs"].as_u64().unwrap_or(0) / 1000;
    let up = humantime::format_duration(std::time::Duration::from_secs(up));
    let daemon = match status["running"].as_bool() {
        Some(true) => format!("pid {}, up {up}", status["pid"]),
        _ => "none".to_owned(),
    };
    let counts = status["runs"].as_object().into_iter().flatten();
    let counts: Vec<String> = counts.map(|(state, count)| format!("{count} {state}")).collect();
    let counts = if counts.is_empty() { "none".to_owned() } else { counts.join(", ") };
    let mut lines = vec![
        format!("daemon   {daemon}"),
        format!("root     {root}"),
        format!("runs     {counts}"),
        format!("pending  {}", status["pending"]),
    ];
    if let Some(count) = status["schedules"].as_u64().filter(|count| *count > 0) {
        let next = status["nextScheduled"].as_str().unwrap_or("-");
        lines.push(format!("next     {next}, schedules: {count}"));
    }
    if let Some(writer) = status["writer"].as_str() {
        let number = |name: &str| status[name].as_u64().unwrap_or(0);
        lines.push(format!(
            "memory   {} runs, {} warm, {} queued, {} timers",
            number("loaded"),
            number("warm"),
            number("queued"),
            number("timers"),
        ));
        let (frame, lag) = (number("frame"), number("indexLag"));
        lines.push(format!("log      {writer}, batch {frame}, the index is {lag} behind"));
    }
    lines
}
