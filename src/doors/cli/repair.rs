//! `repair …`: repairs that were done, and taking one back.
//!
//! May not mend. Invariant: nothing that was appended after a repair is lost by
//! taking it back.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;

/// What can be done about repairs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "List the repairs of a run")]
    List(List),
    #[command(about = "Take the latest repair of a run back")]
    Undo(Undo),
}

/// List the repairs of a run whose former bytes are kept, latest first. `run repair-journal` does
/// one.
///
/// Example:
///   dormouse repair list RUN
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Id of the run, a unique beginning of it, or the path of its directory
    #[arg(value_name = "RUN")]
    run: String,
}

/// Take the latest repair of a run back: every file is what it was before. Refused once the run
/// went on.
///
/// Example:
///   dormouse repair undo RUN
#[derive(Debug, clap::Args)]
pub(crate) struct Undo {
    /// Id of the run, a unique beginning of it, or the path of its directory
    #[arg(value_name = "RUN")]
    run: String,
}

pub(super) fn dispatch(verb: &Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::List(args) => list(&args.run, context),
        Verb::Undo(args) => undo(&args.run, context),
    }
}

fn list(run: &str, context: &Context) -> Result<Exit, Failure> {
    let repairs = context.runs.repairs(run)?;
    if context.json {
        output::json(&json!({ "repairs": repairs }));
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = repairs
        .iter()
        .map(|repair| {
            let (before, state) =
                (&repair.before, if repair.is_undone { "undone" } else { "done" });
            let head = format!("record {}", before.head.seq);
            vec![
                before.at.to_string(),
                before.case.clone(),
                state.into(),
                head,
                repair.folder.clone(),
            ]
        })
        .collect();
    output::table(&["AT", "CASE", "STATE", "LEFT IT AT", "KEPT IN"], &rows);
    Ok(Exit::Done)
}

fn undo(run: &str, context: &Context) -> Result<Exit, Failure> {
    let undone = context.undo_repair(run)?;
    if context.json {
        output::json(&undone);
    } else {
        let case = undone["case"].as_str().unwrap_or_default();
        output::line(&format!("the repair of {case} is taken back; the run is what it was"));
        output::remark(&format!("next: dormouse journal verify {run}"));
    }
    Ok(Exit::Done)
}
