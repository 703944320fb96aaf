//! `workflow schema`: the JSON Schema of documents.
//!
//! May not know rules of its own. Invariant: what is printed comes from the table that documents
//! are read with.

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::Exit;
use crate::doors::cli::output;
use crate::machines::workflow::schema;

/// Print the JSON Schema of workflow documents: editors complete and check with it.
///
/// Example:
///   dormouse workflow schema > workflow.schema.json
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(super) fn run(context: &Context) -> Exit {
    let schema = schema::schema();
    if context.json {
        output::json(&schema);
    } else {
        output::line(&serde_json::to_string_pretty(&schema).unwrap_or_default());
    }
    Exit::Done
}
