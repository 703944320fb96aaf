//! `gc`: let ended runs go as the policy says, and sweep what was left over.
//!
//! May not work beside a daemon. Invariant: with `--dry-run` nothing changes; an option beats the
//! policy of the configuration.

use super::context::Context;
use super::du::{parts, size};
use super::failure::{Exit, Failure};
use super::output;
use crate::machines::replay::state::End;
use crate::services::retention::Policy;
use crate::services::retention::gc::Collected;

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
    context.root_needs_no_daemon()?;
    let done = context.runs.gc(&policy, args.dry_run, &output::progress)?;
    if context.json {
        output::json(&serde_json::to_value(&done).unwrap_or_default());
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

fn print(done: &Collected) {
    let rows: Vec<Vec<String>> = done
        .runs
        .iter()
        .map(|run| {
            let last = run.last_at.iso_millis();
            let id = run.run_id.to_string();
            vec![size(run.bytes), id, run.end.to_owned(), last, parts(&run.kinds)]
        })
        .collect();
    if !rows.is_empty() {
        output::table(&["SIZE", "RUN", "ENDED", "LAST", "OF IT"], &rows);
    }
    for swept in &done.swept {
        output::line(&format!("{}  {} {}", size(swept.bytes), swept.count, swept.what));
    }
    for run in &done.staying {
        output::remark(&format!("{} stays: {} [{}]", run.run_id, run.why, run.code));
    }
    let runs = done.runs.len();
    let deed = match (done.archived, done.dry_run) {
        (true, true) => "would be archived",
        (true, false) => "archived",
        (false, true) => "would be deleted",
        (false, false) => "deleted",
    };
    let sum = size(done.bytes);
    output::line(&format!("{runs} runs {deed}; with what was left over that is {sum}"));
    if done.archive_bytes > 0 {
        output::line(&format!("their archives take {}", size(done.archive_bytes)));
    }
    if done.dry_run && done.bytes > 0 {
        output::remark("nothing was done; without --dry-run it is");
    }
}
