//! `run archive`: an ended run becomes one file in the root.
//!
//! May not decide whether it can be. Invariant: a run is whole, in its directory or in its archive.

use std::path::PathBuf;

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
    /// Sign it with this key, made by `key create`; not beside a daemon
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let signer = args.sign.as_ref().map(|file| key::secret(context, file)).transpose()?;
    let done = context.archive(&args.run.run, signer.as_ref())?;
    if context.json {
        output::json(&done);
        return Ok(Exit::Done);
    }
    let (text, bytes) = (
        |name: &str| done[name].as_str().unwrap_or("-").to_owned(),
        |name: &str| size(done[name].as_u64().unwrap_or_default()),
    );
    output::line(&text("file"));
    output::remark(&format!("{} in place of {}", bytes("fileBytes"), bytes("bytes")));
    output::remark(&format!("  → dormouse run unarchive {}", text("runId")));
    Ok(Exit::Done)
}
