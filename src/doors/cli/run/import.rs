//! `run import`: make a run of a file.
//!
//! May not overwrite a run. Invariant: the run is there whole, or not.

use super::sealed::SealedArgs;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;

/// Make a run of an export, under the id that it has always had. A run that has not ended is
/// paused: it may still go on where it was exported.
///
/// Example:
///   dormouse run import run.dormouse --key PUBLIC
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    export: SealedArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let (file, key) = args.export.read()?;
    let done = context.import(&file, key)?;
    if context.json {
        output::json(&done);
        return Ok(Exit::Done);
    }
    let id = done["runId"].as_str().unwrap_or("-");
    output::line(id);
    if done["paused"] == true {
        for effect in done["startedElsewhere"].as_array().into_iter().flatten() {
            let effect = effect.as_str().unwrap_or("-");
            output::remark(&format!(
                "{effect} was started elsewhere: its outcome is not known here"
            ));
        }
        output::remark("it is paused; if it goes on nowhere else:");
        output::remark(&format!("  → dormouse run resume {id}"));
    }
    Ok(Exit::Done)
}
