//! `workflow plan`: what a document would ask for, with outcomes that somebody made up.
//!
//! May not ask anybody. Invariant: nothing is created and nothing is executed.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::{load, tell};
use crate::codecs::json::Json;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, output};
use crate::machines::workflow::rehearse::{Act, Outcomes, Rehearsal};
use crate::services::runs::Error;
use crate::services::runs::trouble::Trouble;

/// Play a workflow document through with outcomes from a file, and say what it asks for.
///
/// The outcomes are an object: a value for each invocation key, `*` for all others,
/// {"$error": {"name": …, "message": …, "data": …}} for a failure, {"$hold": true} for what never
/// comes. Timers fire when nothing else can happen.
///
/// Example:
///   dormouse workflow plan flow.yaml --inputs inputs.json --outcomes outcomes.json
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Workflow document, .json or .yaml; FILE#lenient: as other engines would
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Arguments of the run: an object, by name
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Outcomes by invocation key; without it only the first requests are shown
    #[arg(long, value_name = "FILE")]
    outcomes: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let (reading, text) = load(&args.file, context)?;
    if !reading.is_valid() {
        tell(&reading.findings, &args.file, &text, context);
        return Ok(Exit::Refused);
    }
    let value = |flag: &str, path: &Option<PathBuf>| {
        let path = path.as_ref();
        path.map(|path| input::json_file(&context.runs, flag, path)).transpose()
    };
    let inputs = value("--inputs", &args.inputs)?.map(|json| json.to_value());
    let outcomes = value("--outcomes", &args.outcomes)?.as_ref().map(Json::to_value);
    let begun = Rehearsal::begin(Arc::new(reading.workflow), inputs);
    let mut rehearsal = begun.map_err(|errors| {
        let what = format!("the inputs do not fit the document: {}", errors.join("; "));
        Failure::from(Error::Refused(Trouble::new("workflow_inputs", what)))
    })?;
    if let Some(outcomes) = outcomes {
        let outcomes = Outcomes::read(&outcomes)
            .map_err(|why| Failure::usage(&format!("--outcomes: {why}"), ""))?;
        rehearsal.play(&outcomes);
    }
    let (over, all) = rehearsal.planner.progress();
    let open: Vec<&str> = rehearsal.open().map(|request| request.key.as_str()).collect();
    if context.json {
        output::json(&json!({
            "turns": rehearsal.acts, "ended": rehearsal.has_ended(),
            "progress": format!("{over}/{all}"), "open": open,
        }));
        return Ok(Exit::Done);
    }
    rehearsal.acts.iter().for_each(print);
    output::line(&format!("{over}/{all} task runs are over"));
    if !rehearsal.has_ended() {
        output::line(&format!("waits for {}", open.join(", ")));
    }
    Ok(Exit::Done)
}

fn print(act: &Act) {
    output::line(&act.input);
    for asked in &act.requests {
        output::line(&format!("  asks {} ({}) {}", asked.key, asked.kind, asked.args["inputs"]));
    }
    for key in &act.cancels {
        output::line(&format!("  gives up {key}"));
    }
    if let Some(end) = &act.end {
        output::line(&format!("  ends with {end}"));
    }
}
