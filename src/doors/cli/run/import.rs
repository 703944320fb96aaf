//! `run import`: make a run of a file.
//!
//! May not overwrite a run, nor work beside a daemon. Invariant: the run is there whole, or not.

use std::path::PathBuf;

use serde_json::json;

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, key, output};
use crate::services::export::archive::Archive;

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
    let archive = Archive::open(&*context.runs.disk, &input::absolute(&args.file)?, wanted)?;
    let id = archive.manifest.run_id.clone();
    context.needs_no_daemon(id.as_str())?;
    let done = context.runs.import(&archive)?;
    let is_paused = done.end.is_none();
    if context.json {
        output::json(&json!({
            "runId": id, "runDir": done.dir.path(), "head": done.head, "end": done.end,
            "paused": is_paused, "startedElsewhere": done.elsewhere,
            "signer": archive.signer.map(|key| key.to_string()),
        }));
        return Ok(Exit::Done);
    }
    output::line(id.as_str());
    if is_paused {
        for effect in &done.elsewhere {
            output::remark(&format!(
                "{effect} was started elsewhere: its outcome is not known here"
            ));
        }
        output::remark("it is paused; if it goes on nowhere else:");
        output::remark(&format!("  → dormouse run resume {id}"));
    }
    Ok(Exit::Done)
}
