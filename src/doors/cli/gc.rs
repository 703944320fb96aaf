//! `gc`: let ended runs go as the policy says, and sweep what was left over.
//!
//! May not decide which runs are needed. Invariant: with `--dry-run` nothing changes; an option
//! beats the policy of the configuration.

use serde_json::Value;

use super::context::Context;
use super::du::{parts_of, size};
use super::failure::{Exit, Failure};
use super::output;
use crate::machines::replay::state::End;
use crate::services::retention::Policy;

/// Let ended runs go that are old enough, and remove uploads and other files that nothing names.
/// Runs that have not ended, their child runs, and runs that cannot be read stay. What is not given
/// is as `[retention]` of the configuration says.
///
/// Example:
///   dormouse gc --dry-run --older-than 30d
///   dormouse gc --archive --status completed --keep 100
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// How long nothing may have been written to a run, such as 30d
    #[arg(long, value_name = "TIME")]
    older_than: Option<humantime::Duration>,
    /// How it may have ended, such as completed,failed
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    status: Option<Vec<String>>,
    /// Of each process the newest N ended runs stay
    #[arg(long, value_name = "N")]
    keep: Option<u32>,
    /// Put runs into archives
    #[arg(long, conflicts_with = "delete")]
    archive: bool,
    /// Delete runs though the configuration says to archive them
    #[arg(long)]
    delete: bool,
    /// Also remove what repairs set aside, if it is so old; they cannot be undone then
    #[arg(long, value_name = "TIME")]
    set_aside_older_than: Option<humantime::Duration>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let policy = policy(args, context)?;
    let done = context.gc(&policy, args.dry_run)?;
    if context.json {
        output::json(&done);
    } else {
        print(&done);
    }
    Ok(Exit::Done)
}

fn policy(args: &Args, context: &Context) -> Result<Policy, Failure> {
    let configured = &context.config.retention;
    let ends = match &args.status {
        None => configured.ends.clone(),
        Some(names) => names.iter().map(|name| end(name)).collect::<Result<_, _>>()?,
    };
    Ok(Policy {
        older_than_ms: args.older_than.map_or(configured.older_than_ms, millis),
        ends,
        keep: args.keep.map_or(configured.keep, |n| usize::try_from(n).unwrap_or(usize::MAX)),
        archive: (configured.archive || args.archive) && !args.delete,
        keys_kept_ms: context.config.ledger_key_ttl_ms,
        left_over_ms: configured.left_over_ms,
        set_aside_ms: args.set_aside_older_than.map(millis),
    })
}

fn end(name: &str) -> Result<End, Failure> {
    let allowed = || format!("give some of {}", End::NAMES.join(", "));
    End::named(name)
        .ok_or_else(|| Failure::usage(&format!("--status: no run ends as {name:?}"), &allowed()))
}

fn millis(time: humantime::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn print(done: &Value) {
    let list = |name: &str| done[name].as_array().cloned().unwrap_or_default();
    let text = |of: &Value, name: &str| of[name].as_str().unwrap_or("-").to_owned();
    let bytes = |of: &Value, name: &str| size(of[name].as_u64().unwrap_or_default());
    let runs = list("runs");
    let row = |run: &Value| {
        let its = |name| text(run, name);
        vec![bytes(run, "bytes"), its("runId"), its("end"), its("lastAt"), parts_of(&run["kinds"])]
    };
    if !runs.is_empty() {
        let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
        output::table(&["SIZE", "RUN", "ENDED", "LAST", "OF IT"], &rows);
    }
    for swept in list("swept") {
        let (what, count) = (text(&swept, "what"), &swept["count"]);
        output::line(&format!("{}  {count} {what}", bytes(&swept, "bytes")));
    }
    for run in list("staying") {
        let (id, why, code) = (text(&run, "runId"), text(&run, "why"), text(&run, "code"));
        output::remark(&format!("{id} stays: {why} [{code}]"));
    }
    let is_dry = done["dryRun"] == true;
    let deed = match (done["archived"] == true, is_dry) {
        (true, true) => "would be archived",
        (true, false) => "archived",
        (false, true) => "would be deleted",
        (false, false) => "deleted",
    };
    let (count, sum) = (runs.len(), bytes(done, "bytes"));
    output::line(&format!("{count} runs {deed}; with what was left over that is {sum}"));
    if done["archiveBytes"].as_u64() > Some(0) {
        output::line(&format!("their archives take {}", bytes(done, "archiveBytes")));
    }
    if is_dry && done["bytes"].as_u64() > Some(0) {
        output::remark("nothing was done; without --dry-run it is");
    }
}
