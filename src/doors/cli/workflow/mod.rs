//! `dormouse workflow …`: one file a verb.
//!
//! May not run a document. Invariant: nothing here needs a runs root, or a daemon.

mod graph;
mod plan;
mod schema;
mod validate;

use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::{input, output};
use crate::codecs::outline::Notation;
use crate::machines::workflow::finding::Finding;
use crate::machines::workflow::read::{self, Reading};
use crate::machines::workflow::signatures::{self, Signatures};

/// What can be done with workflow documents.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "Say everything that is wrong with documents")]
    Validate(validate::Args),
    #[command(about = "Play a document through with outcomes from a file")]
    Plan(plan::Args),
    #[command(about = "Draw a document as text, Mermaid chart or SVG")]
    Graph(graph::Args),
    #[command(about = "Print the JSON Schema of documents")]
    Schema(schema::Args),
}

pub(super) fn dispatch(verb: &Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Validate(args) => validate::run(args, context),
        Verb::Plan(args) => plan::run(args, context),
        Verb::Graph(args) => graph::run(args, context),
        Verb::Schema(_) => Ok(schema::run(context)),
    }
}

/// A document of a file, and its text. The file may end with `#lenient`.
fn load(path: &Path, context: &Context) -> Result<(Reading, String), Failure> {
    let Source { text, notation, is_lenient } = source(path, context)?;
    Ok((read::read_for(&text, notation, &known(context)?, is_lenient), text))
}

/// A file as it was named.
struct Source {
    text: String,
    notation: Notation,
    is_lenient: bool,
}

/// The text of a file, and how it is to be read.
fn source(path: &Path, context: &Context) -> Result<Source, Failure> {
    let named = path.to_str().and_then(|path| path.strip_suffix(read::LENIENT)?.strip_suffix('#'));
    let (is_lenient, path) = (named.is_some(), named.map_or(path, Path::new));
    let shown = path.display();
    let Some(notation) = Notation::of(&path.to_string_lossy()) else {
        let what = format!("{shown} is neither .json nor .yaml");
        return Err(Failure::usage(&what, "name the file by what is in it"));
    };
    let bytes = input::bytes(&context.runs, "FILE", path)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(&format!("{shown} is not UTF-8"), "save it as UTF-8"))?;
    Ok(Source { text, notation, is_lenient })
}

/// What is known of kinds of work: by the configuration, and by a daemon that is there.
fn known(context: &Context) -> Result<Signatures, Failure> {
    let configured = context.runs.kinds.all();
    let Some(daemon) = context.daemon_now()? else { return Ok(configured) };
    let told = daemon.get("/v1/workers")?;
    let mut all = signatures::read(&told["signatures"]).unwrap_or_default();
    all.extend(configured);
    Ok(all)
}

/// Prints what is wrong with a document.
fn tell(findings: &[Finding], path: &Path, text: &str, context: &Context) {
    let file = path.display().to_string();
    if context.json {
        let valid = !findings.iter().any(Finding::is_error);
        return output::json(&json!({ "file": file, "valid": valid, "findings": findings }));
    }
    for finding in findings {
        output::line(&finding.print(&file, text));
        output::line("");
    }
    let errors = findings.iter().filter(|finding| finding.is_error()).count();
    let warnings = findings.len() - errors;
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let told = match (errors, warnings) {
        (0, 0) => "valid".to_owned(),
        (0, n) => format!("valid, with {}", count(n, "warning")),
        (n, 0) => count(n, "error"),
        (n, m) => format!("{} and {}", count(n, "error"), count(m, "warning")),
    };
    output::line(&format!("{file}: {told}"));
}
