//! `run import`: make a run of a file.
//!
//! May not overwrite a run. Invariant: the run is there whole, or not.

use std::path::PathBuf;

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, key, output};

/// Make a run of an export, under the id that it has always had. A run that has not ended is
/// paused: it may still go on where it was exported.
///
/// Example:
///   dormouse run import run.dormouse --key PUBLIC
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose signature it must have, as `key create` printed it
    #[arg(long, value_name = "PUBLIC")]
    key: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let wanted = args.key.as_deref().map(key::public).transpose()?;
    let done = context.import(&input::absolute(&args.file)?, wanted)?;
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
