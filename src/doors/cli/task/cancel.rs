//! `task cancel`: give up an effect.
//!
//! May not stop what is being executed. Invariant: a second cancel says what stands.

use serde_json::json;

use super::EffectArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Give up an effect: the process sees `EffectCancelledError`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: EffectArg,
    /// Why, for the process and the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let id = args.target.id()?;
    let seq = context.runs.cancel_effect(&args.target.run, id, args.reason.clone())?;
    if context.json {
        output::json(&json!({
            "effectId": id, "status": "cancelled", "resultRef": format!("tasks/{id}/result.json"),
            "seq": seq,
        }));
    } else {
        output::line(&format!("effect {id} is cancelled (record {seq})"));
    }
    Ok(Exit::Done)
}
