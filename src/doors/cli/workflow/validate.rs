//! `workflow validate`: everything that is wrong with documents, at once.
//!
//! May not stop at the first finding. Invariant: exit 0 means that each document can be run.

use std::path::PathBuf;

use super::{Source, known, source, tell};
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::machines::workflow::cron;
use crate::machines::workflow::finding::Finding;

/// Say everything that is wrong with documents: codes, places, and what was probably meant.
///
/// Exit 0: they can be run, perhaps with warnings. 6: one of them is refused. 2 or 3: one of them
/// cannot be read, or is not there.
///
/// Example:
///   dormouse workflow validate flow.yaml
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Workflow documents, .json or .yaml; FILE#lenient: as other engines would
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for file in &args.files {
        let Source { text, notation, is_lenient } = source(file, context)?;
        let findings = cron::findings(&text, notation, &known(context)?, is_lenient);
        tell(&findings, file, &text, context);
        if findings.iter().any(Finding::is_error) {
            exit = Exit::Refused;
        }
    }
    Ok(exit)
}
