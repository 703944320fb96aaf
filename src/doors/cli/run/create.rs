//! `run create`: a new run, with a process or bare.
//!
//! May not run a turn. Invariant: exit 0 means that the run exists, durably.

use std::path::PathBuf;

use serde_json::json;

use super::source::SourceArgs;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, output, variables};
use crate::services::runs::Error;
use crate::services::runs::create::NewRun;
use crate::shells::run_dir::root;

/// Create a run. The process is pinned: later edits of its files do not change the run.
///
/// Example:
///   dormouse run create --entry release.js --inputs inputs.json
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Input value of the process: a JSON file, or - for standard input
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Id of the run [default: a new ULID]
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// Asked again with the same key and request, the same run is returned
    #[arg(long, value_name = "KEY")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    idempotency_key: Option<String>,
    /// Words for finding the run
    #[arg(long = "tag", value_name = "WORD")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    tags: Vec<String>,
    /// Answer every breakpoint at once
    #[arg(long)]
    non_interactive: bool,
    /// Say what would be created, and create nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let id = args.run_id.as_ref().map(|id| id.parse());
    let run_id = id.transpose().map_err(|e| Error::from(root::Error::Name(e)))?;
    let inputs = args.inputs.as_ref();
    let inputs =
        inputs.map(|path| input::json_file(&context.runs, "--inputs", path)).transpose()?;
    let new = NewRun {
        run_id,
        source: args.source.source()?,
        inputs,
        idempotency_key: args.idempotency_key.clone(),
        tags: args.tags.clone(),
        cwd: std::env::current_dir().ok().map(|dir| dir.display().to_string()),
        non_interactive: args.non_interactive,
        traceparent: variables::traceparent(),
        schedule: None,
    };
    if args.dry_run {
        return dry_run(args, &new, context);
    }
    let created = context.create(&new)?;
    let warnings = created["warnings"].as_array().into_iter().flatten();
    let warnings: Vec<String> = warnings.filter_map(|w| w.as_str().map(str::to_owned)).collect();
    output::warnings(&warnings);
    if context.json {
        output::json(&created);
        return Ok(Exit::Done);
    }
    let text = |name: &str| created[name].as_str().unwrap_or("-").to_owned();
    let id = text("runId");
    let word = if created["existed"] == true { "exists" } else { "created" };
    output::line(&format!("{word} run {id}"));
    output::line(&format!("  directory  {}", text("runDir")));
    output::line(&format!("  entry      {}", text("entry")));
    let next = if created["processId"].is_null() {
        format!("dormouse run assign-process {id} --entry FILE")
    } else {
        format!("dormouse run drive {id}")
    };
    output::remark(&format!("next: {next}"));
    Ok(Exit::Done)
}

fn dry_run(args: &Args, new: &NewRun, context: &Context) -> Result<Exit, Failure> {
    let process = context.runs.plan_create(new)?;
    output::json(&json!({
        "dryRun": true, "runsDir": context.runs.root, "runId": args.run_id,
        "processId": process.as_ref().map(|p| &p.process_id),
        "entry": args.source.entry, "inputsPath": args.inputs,
        "digest": process.as_ref().map(|p| p.digest),
    }));
    Ok(Exit::Done)
}
