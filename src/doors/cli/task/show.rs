//! `task show`: one effect with its definition, arguments and outcome.
//!
//! May not lock or write. Invariant: what is shown stands in the journal or its blobs.

use super::{EffectArg, unknown_effect};
use crate::doors::answers::ShownTask;
use crate::doors::cli::context::Context;
use crate::doors::cli::deeds::{path, value};
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::machines::effect::life::EffectStatus;

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
    let mut value = value(&ShownTask::of(seen.look(), id)?);
    if effect.status == EffectStatus::Started
        && let Some(client) = context.daemon_now()?
        && let Ok(shown) = client.get(&path(seen.dir.id().as_str(), &format!("tasks/{id}")))
    {
        // Who is at it, only a daemon knows.
        value["lease"] = shown["lease"].clone();
    }
    if context.json {
        output::json(&value);
    } else {
        output::line(&serde_json::to_string_pretty(&value).unwrap_or_default());
    }
    Ok(Exit::Done)
}
