//! `run assign-process`: give a bare run its process.
//!
//! May not run a turn. Invariant: a run that has a process keeps it unless `--force` is given.

use std::path::PathBuf;

use super::RunArg;
use super::source::SourceArgs;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, output};

/// Give a bare run its process. With --force an open run gets other code, which must reproduce
/// its journal.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    #[command(flatten)]
    source: SourceArgs,
    /// Input value of the process: a JSON file, or - for standard input
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Replace the process of an open run
    #[arg(long)]
    force: bool,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let source = args.source.needed()?;
    let inputs = args.inputs.as_ref();
    let inputs =
        inputs.map(|path| input::json_file(&context.runs, "--inputs", path)).transpose()?;
    let reason = args.reason.as_deref();
    let done = context.assign(&args.run.run, &source, inputs.as_ref(), args.force, reason)?;
    if context.json {
        output::json(&done);
        return Ok(Exit::Done);
    }
    let text = |name: &str| done[name].as_str().unwrap_or("-").to_owned();
    let id = text("runId");
    output::line(&format!("run {id} has process {}", text("processId")));
    output::remark(&format!("next: dormouse run drive {id}"));
    Ok(Exit::Done)
}
