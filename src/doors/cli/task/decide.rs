//! `task decide`: say what became of an effect whose outcome nobody knows.
//!
//! May not know what happened. Invariant: a decision names its start and its reason.

use std::path::PathBuf;

use serde_json::Value;

use super::EffectArg;
use crate::codecs::json::Json;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, output};
use crate::ground::id::{EffectId, Epoch};
use crate::machines::effect::decide::{Choice, Decision};

/// Say what became of an effect whose outcome nobody knows.
///
/// Example:
///   dormouse task decide RUN e0001 done --epoch 1 --reason "seen in the log" --value-inline 1
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: EffectArg,
    /// What is decided
    #[arg(value_enum, ignore_case = true)]
    decision: What,
    /// The start that it is about; 0 if there was none
    #[arg(long, value_name = "N")]
    epoch: u64,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The value, for done: a JSON file (looked up in the run directory first), or -
    #[arg(long, value_name = "FILE")]
    value: Option<PathBuf>,
    /// The value, on the command line
    #[arg(long, value_name = "JSON", conflicts_with = "value")]
    value_inline: Option<String>,
    /// The error, for failed: a file with JSON {name, message, data} or plain text, or -
    #[arg(long, value_name = "FILE")]
    error: Option<PathBuf>,
    /// What the decision rests on: a JSON file, kept beside it
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// Also while somebody is at it: they are declared lost
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// It is done again: that may be twice
    Retry,
    /// It is done, with this value
    Done,
    /// It has failed, with this error
    Failed,
    /// Ask whoever its author named, and take the answer
    Probe,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let id = args.target.id()?;
    if args.decision == What::Probe {
        return probe(args, id, context);
    }
    let done = context.decide(&args.target.run, id, &decision(args, context)?)?;
    report(id, &done, context);
    Ok(Exit::Done)
}

/// Prints what a decision made of an effect.
pub(in crate::doors::cli) fn report(id: EffectId, done: &Value, context: &Context) {
    if context.json {
        return output::json(done);
    }
    let word = if done["repeat"] == true { "stands already" } else { "is decided" };
    let state = done["state"].as_str().unwrap_or("-");
    output::line(&format!("effect {id} {word}: {state} (record {})", done["seq"]));
}

/// Has the outside asked; 1 if it does not know.
fn probe(args: &Args, id: EffectId, context: &Context) -> Result<Exit, Failure> {
    let has_more = args.value.is_some() || args.value_inline.is_some() || args.error.is_some();
    if has_more || args.evidence.is_some() || args.force {
        let what = "probe takes nothing but an epoch and a reason";
        return Err(Failure::usage(what, "dormouse task decide --help"));
    }
    let done = context.probe(&args.target.run, id, args.epoch, &args.reason)?;
    let said = done["probe"]["answer"].as_str().unwrap_or("unsure").to_owned();
    if context.json {
        output::json(&done);
    } else {
        let why = done["probe"]["why"].as_str().map_or(String::new(), |why| format!(" ({why})"));
        let state = done["state"].as_str().unwrap_or("-");
        output::line(&format!("effect {id}: the outside says {said}{why}; it is {state}"));
    }
    Ok(if said == "unsure" { Exit::No } else { Exit::Done })
}

fn decision(args: &Args, context: &Context) -> Result<Decision, Failure> {
    if args.reason.trim().is_empty() {
        return Err(Failure::usage("--reason is empty", "say why"));
    }
    let dir = context.runs.find(&args.target.run)?;
    let json = |flag: &str, path: &PathBuf| -> Result<Json, Failure> {
        input::parse(flag, &input::run_bytes(&context.runs, &dir, flag, path)?)
    };
    let value = match (&args.value, &args.value_inline) {
        (Some(path), _) => Some(json("--value", path)?),
        (None, Some(text)) => Some(input::inline("--value-inline", text)?),
        (None, None) => None,
    };
    let what = match (args.decision, value, &args.error) {
        (What::Retry, None, None) => Choice::Retry,
        (What::Done, Some(value), None) => Choice::Done(value),
        (What::Failed, None, error) => {
            Choice::Failed(super::post::error(error.as_deref(), context, &dir)?)
        }
        (What::Probe, ..) => return Err(Failure::usage("probe is asked", "give no value")),
        _ => {
            let what = "done takes a value, failed an error, retry neither";
            return Err(Failure::usage(what, "dormouse task decide --help"));
        }
    };
    Ok(Decision {
        what,
        epoch: Epoch(args.epoch),
        reason: args.reason.clone(),
        evidence: args.evidence.as_ref().map(|path| json("--evidence", path)).transpose()?,
        force: args.force,
    })
}
