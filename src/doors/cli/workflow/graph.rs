//! `workflow graph`: a picture of a document.
//!
//! May not run it. Invariant: only a document that can be run is drawn.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;

use super::{load, tell};
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::machines::workflow::graph;

/// Draw a workflow document: its templates, its tasks, and what waits for what.
///
/// Example:
///   dormouse workflow graph flow.yaml --format svg > flow.svg
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Workflow document, .json or .yaml; FILE#lenient: as other engines would
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What to draw with
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Ways to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Lines of text
    Text,
    /// A Mermaid flowchart
    Mermaid,
    /// A picture for browsers
    Svg,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let (reading, text) = load(&args.file, context)?;
    if !reading.is_valid() {
        tell(&reading.findings, &args.file, &text, context);
        return Ok(Exit::Refused);
    }
    let drawn = match args.format {
        Format::Text => graph::text(&reading.workflow),
        Format::Mermaid => graph::mermaid(&reading.workflow),
        Format::Svg => graph::svg(&reading.workflow),
    };
    if context.json {
        output::json(&json!({ "graph": drawn }));
    } else {
        output::line(drawn.trim_end());
    }
    Ok(Exit::Done)
}
