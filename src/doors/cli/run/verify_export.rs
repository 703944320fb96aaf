//! `run verify-export`: check a file with a run.
//!
//! May not write. Invariant: says yes only to what an import would take.

use serde_json::json;

use super::sealed::SealedArgs;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::services::export::archive::Archive;

/// Check every byte of an export: its digest, its signature, its files, its journal.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    export: SealedArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let (file, key) = args.export.read()?;
    let archive = Archive::open(&*context.runs.disk, &file, key)?;
    let state = archive.verify()?;
    let (manifest, end) = (&archive.manifest, state.end.map(|(end, _)| end.name()));
    let signer = archive.signer.map(|key| key.to_string());
    if context.json {
        output::json(&json!({
            "runId": manifest.run_id, "head": manifest.head, "end": end,
            "exportedAt": manifest.exported_at, "version": manifest.version,
            "files": manifest.files.len(), "bytes": manifest.bytes(), "signer": signer,
        }));
        return Ok(Exit::Done);
    }
    let (id, seq) = (&manifest.run_id, manifest.head.seq);
    output::line(&format!("sound: run {id} up to record {seq}, {}", end.unwrap_or("open")));
    let (files, bytes) = (manifest.files.len(), manifest.bytes());
    output::line(&format!("  {files} files, {bytes} bytes, made {}", manifest.exported_at));
    output::line(&format!("  signed by {}", signer.as_deref().unwrap_or("nobody")));
    Ok(Exit::Done)
}
