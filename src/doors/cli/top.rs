//! `top`: a daemon and its runs, looked at again and again.
//!
//! May not change anything. Invariant: a frame is made of answers of the daemon alone.

use std::io::IsTerminal as _;

use serde_json::{Value, json};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use super::remote::Client;
use super::status::head;

/// Runs that a frame names.
const NAMED_MAX: usize = 10;
/// Pages that a frame reads at most.
const PAGES_MAX: usize = 100;

/// Watch a daemon and its runs: states, what is waited for, latest and failed runs.
///
/// Example:
///   dormouse top --once
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one frame and end
    #[arg(long)]
    once: bool,
    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    every: humantime::Duration,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let client = context.daemon()?;
    let every = u64::try_from(args.every.as_millis()).unwrap_or(u64::MAX);
    let clears = !args.once && !context.json && std::io::stdout().is_terminal();
    let mut before = None;
    loop {
        let mut frame = frame(&client)?;
        let now = reading(&frame["status"]);
        frame["recordsPerSecond"] = json!(before.and_then(|before| rate(before, now)));
        before = Some(now);
        if context.json {
            output::json(&frame);
        } else {
            if clears {
                // To the upper left corner, and everything below it away.
                output::line("\u{1b}[H\u{1b}[J");
            }
            print(&frame);
        }
        if args.once || output::has_ended() {
            return Ok(Exit::Done);
        }
        context.runs.clock.sleep_millis(every.max(100));
    }
}

/// Milliseconds that the daemon has run, and records that it has made durable.
fn reading(status: &Value) -> (u64, u64) {
    let number = |name: &str| status[name].as_u64().unwrap_or(0);
    (number("uptimeMs"), number("records"))
}

/// Records a second between two readings of the same daemon.
fn rate(before: (u64, u64), now: (u64, u64)) -> Option<u64> {
    let millis = now.0.checked_sub(before.0).filter(|millis| *millis > 0)?;
    Some(now.1.checked_sub(before.1)?.saturating_mul(1000) / millis)
}

fn frame(client: &Client) -> Result<Value, Failure> {
    let mut runs = pages(client, "/v1/runs", "runs")?;
    let status = client.get("/v1/status")?;
    let at = |run: &Value| run["lastAt"].as_str().unwrap_or("").to_owned();
    runs.sort_by_key(|run| std::cmp::Reverse(at(run)));
    let bad = |run: &&Value| matches!(run["state"].as_str(), Some("failed" | "held" | "damaged"));
    let failures: Vec<&Value> = runs.iter().filter(bad).take(NAMED_MAX).collect();
    Ok(json!({
        "waitingByKind": status["waitingByKind"], "status": status, "failures": failures,
        "latest": runs.iter().take(NAMED_MAX).collect::<Vec<_>>(),
    }))
}

/// Everything that a list has.
fn pages(client: &Client, path: &str, name: &str) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    let mut next = format!("{path}?pageSize=1000");
    for _ in 0..PAGES_MAX {
        let page = client.get(&next)?;
        all.extend(page[name].as_array().into_iter().flatten().cloned());
        let Some(token) = page["nextPageToken"].as_str() else { break };
        let token: String = url::form_urlencoded::byte_serialize(token.as_bytes()).collect();
        next = format!("{path}?pageSize=1000&pageToken={token}");
    }
    Ok(all)
}

fn print(frame: &Value) {
    for line in head(&frame["status"]) {
        output::line(&line);
    }
    if let Some(rate) = frame["recordsPerSecond"].as_u64() {
        output::line(&format!("rate     {rate} records a second"));
    }
    let kinds = frame["waitingByKind"].as_object().into_iter().flatten();
    let kinds: Vec<String> = kinds.map(|(kind, count)| format!("{count} {kind}")).collect();
    output::line(&format!(
        "waiting  {}",
        if kinds.is_empty() { "-".into() } else { kinds.join(", ") }
    ));
    for (name, title) in [("latest", "latest"), ("failures", "failed, held or damaged")] {
        let rows: Vec<Vec<String>> =
            frame[name].as_array().into_iter().flatten().map(row).collect();
        if !rows.is_empty() {
            output::line(&format!("\n{title}"));
            output::table(&["RUN", "STATE", "PROCESS", "PENDING", "LAST"], &rows);
        }
    }
}

fn row(run: &Value) -> Vec<String> {
    let text = |name: &str| run[name].as_str().unwrap_or("-").to_owned();
    let pending = run["pending"].to_string();
    vec![text("runId"), text("state"), text("processId"), pending, text("lastAt")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_one_daemon() {
        assert_eq!(rate((1_000, 10), (3_000, 30)), Some(10));
        assert_eq!(rate((1_000, 10), (1_000, 30)), None, "no time passed");
        assert_eq!(rate((9_000, 10), (1_000, 30)), None, "it was started anew");
    }
}
