//! `run export`: a whole run in one file.
//!
//! May not overwrite a file. Invariant: what was exported verifies by itself.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, key, output};
use crate::services::export::write::Target;

/// Put a whole run into one compressed file that can be verified and imported elsewhere.
///
/// Example:
///   dormouse run export RUN -o run.dormouse --sign ~/.dormouse/export.key
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Where it goes, `-` for standard output; the file must not exist [default: RUN.dormouse]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Sign it with this key, made by `key create`
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let signer = args.sign.as_ref().map(|file| key::secret(context, file)).transpose()?;
    let is_served = context.is_served(&args.run.run)?;
    let export = |target| context.runs.export(&args.run.run, is_served, signer.as_ref(), target);
    if args.output.as_deref() == Some(Path::new("-")) {
        let done = export(Target::Stream(&mut output::bytes()))?;
        left_out(&done.left_out);
        return Ok(Exit::Done);
    }
    let default =
        || Ok::<_, Failure>(format!("{}.dormouse", context.runs.find(&args.run.run)?.id()).into());
    let file = input::absolute(&args.output.clone().map_or_else(default, Ok)?)?;
    let done = export(Target::File(&file))?;
    left_out(&done.left_out);
    let public = signer.map(|key| key.public().to_string());
    if context.json {
        output::json(&json!({
            "runId": done.run_id, "file": file, "head": done.head, "files": done.files,
            "bytes": done.bytes, "signer": public, "leftOut": done.left_out,
        }));
        return Ok(Exit::Done);
    }
    let (id, seq, files, bytes) = (&done.run_id, done.head.seq, done.files, done.bytes);
    output::line(&format!("{}", file.display()));
    output::remark(&format!("run {id} up to record {seq}: {files} files, {bytes} bytes"));
    Ok(Exit::Done)
}

fn left_out(paths: &[String]) {
    for path in paths {
        output::remark(&format!("left out, it is nothing of a run: {path}"));
    }
}
