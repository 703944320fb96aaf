//! `task cancel`: give up an effect.
//!
//! May not stop what is being executed. Invariant: a second cancel says what stands.

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
    /// Also if somebody executes it: what it does outside stays unknown
    #[arg(long)]
    abandon: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let id = args.target.id()?;
    let reason = args.reason.as_deref();
    let done = context.cancel_effect(&args.target.run, id, reason, args.abandon)?;
    if context.json {
        output::json(&done);
    } else {
        output::line(&format!("effect {id} is cancelled (record {})", done["seq"]));
    }
    Ok(Exit::Done)
}
