//! `task show`: one effect with its definition, arguments and outcome.
//!
//! May not lock or write. Invariant: what is shown stands in the journal or its blobs.

use serde_json::json;

use super::{EffectArg, unknown_effect};
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Show one effect with its definition, arguments and outcome.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: EffectArg,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let id = args.target.id()?;
    let seen = context.runs.look(&args.target.run)?;
    let Some(effect) = seen.state.effect(id) else { return Err(unknown_effect(&seen, id)) };
    let look = seen.look();
    // A value that cannot be had is an error, not a null.
    look.intact(effect)?;
    let value = json!({
        "effect": look.task(effect), "task": look.definition(effect), "args": look.args(effect),
        "policy": effect.policy, "result": look.outcome(effect), "largeResult": null,
    });
    if context.json {
        output::json(&value);
    } else {
        output::line(&serde_json::to_string_pretty(&value).unwrap_or_default());
    }
    Ok(Exit::Done)
}
