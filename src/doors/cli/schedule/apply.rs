//! `schedule apply`: a document becomes a schedule.
//!
//! May not read the document. Invariant: exit 0 means that the schedule is at work, durably.

use std::path::PathBuf;

use serde_json::json;

use crate::codecs::outline::Notation;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, output};

/// Apply a document of the kind `CronWorkflow`: from now on its runs begin in time. The same
/// document may be applied again.
///
/// Example:
///   dormouse schedule apply nightly.yaml
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The document, .json or .yaml; - for YAML from standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let shown = args.file.display();
    let bytes = input::bytes(&context.runs, "FILE", &args.file)?;
    let document = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(&format!("{shown} is not UTF-8"), "save it as UTF-8"))?;
    let notation = match Notation::of(&args.file.to_string_lossy()) {
        Some(Notation::Json) => "json",
        _ => "yaml",
    };
    let body = json!({ "document": document, "notation": notation });
    let applied = context.daemon()?.post("/v1/schedules", &body)?;
    if context.json {
        output::json(&applied);
        return Ok(Exit::Done);
    }
    for warning in applied["warnings"].as_array().into_iter().flatten() {
        output::remark(super::text(warning));
    }
    super::print(context, &applied["schedule"]);
    Ok(Exit::Done)
}
