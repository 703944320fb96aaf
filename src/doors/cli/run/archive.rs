//! `run archive`: an ended run becomes one file in the root.
//!
//! May not work beside a daemon. Invariant: the run is in its directory or in its archive, whole.

use std::path::PathBuf;

use serde_json::json;

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::du::size;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{key, output};

/// Put a run that has ended into one compressed file of the root, verify it, and remove the run's
/// directory. `run unarchive` brings it back; the file is an export, too.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Sign it with this key, made by `key create`
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let signer = args.sign.as_ref().map(|file| key::secret(context, file)).transpose()?;
    context.needs_no_daemon(&args.run.run)?;
    let keys_kept_ms = context.config.ledger_key_ttl_ms;
    let done = context.runs.archive(&args.run.run, keys_kept_ms, signer.as_ref())?;
    if context.json {
        output::json(&json!({
            "runId": done.run_id, "file": done.file, "fileBytes": done.file_bytes,
            "bytes": done.bytes, "spaceFreed": done.is_gone,
        }));
        return Ok(Exit::Done);
    }
    output::line(&done.file.display().to_string());
    output::remark(&format!("{} in place of {}", size(done.file_bytes), size(done.bytes)));
    output::remark(&format!("  → dormouse run unarchive {}", done.run_id));
    Ok(Exit::Done)
}
