//! `run show`: a run with everything that is pending.
//!
//! May not lock or write. Invariant: what is shown stands in the journal.

use serde_json::json;

use super::RunArg;
use super::status::status;
use crate::codecs::event::ScheduleRef;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::services::runs::view;

/// Show a run with its process, inputs and everything that is pending.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Of a run of a workflow document: every task run with its phase, inputs and outputs, as JSON
    #[arg(long)]
    snapshot: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.snapshot {
        let snapshot = context.snapshot(&args.run.run)?;
        if context.json {
            output::json(&snapshot);
        } else {
            output::line(&serde_json::to_string_pretty(&snapshot).unwrap_or_default());
        }
        return Ok(Exit::Done);
    }
    let seen = context.runs.look(&args.run.run)?;
    let mut value = status(&seen, context);
    let look = seen.look();
    let tasks: Vec<_> = seen.state.effects.values().map(|e| look.task(e)).collect();
    value["process"] = json!(seen.state.process);
    if let Some(schedule) = &seen.state.schedule {
        value["schedule"] = json!(schedule);
    }
    value["nextActions"] = json!(look.next_actions());
    value["tasks"] = json!(tasks);
    let forked_from = seen.state.origin.as_ref().map(|origin| &origin.from);
    if let Some(from) = forked_from {
        value["forkedFrom"] = json!(from);
    }
    if context.json {
        output::json(&value);
        return Ok(Exit::Done);
    }
    output::line(&format!("run {}", seen.dir.id()));
    output::line(&format!("  directory  {}", seen.dir.path().display()));
    if let Some(process) = &seen.state.process {
        output::line(&format!("  process    {} ({})", process.process_id, process.entry));
    }
    if let Some(ScheduleRef { namespace, name, scheduled_at }) = &seen.state.schedule {
        let at = scheduled_at.iso_seconds();
        output::line(&format!("  schedule   {namespace}/{name}, for {at}"));
    }
    let state = value["state"].as_str().unwrap_or("-");
    output::line(&format!("  state      {state} {}", value["reason"].as_str().unwrap_or("")));
    output::line(&format!("  created    {}", seen.state.created_at));
    if let Some(from) = forked_from {
        output::line(&format!("  forked     from {} at record {}", from.run_id, from.seq));
    }
    let rows: Vec<Vec<String>> = seen
        .state
        .effects
        .values()
        .map(|e| {
            let label = view::display_name(&look.task(e)).to_owned();
            vec![e.id.to_string(), e.kind.clone(), e.status.name().into(), e.key.clone(), label]
        })
        .collect();
    if !rows.is_empty() {
        output::table(&["EFFECT", "KIND", "STATUS", "KEY", "LABEL"], &rows);
    }
    Ok(Exit::Done)
}
