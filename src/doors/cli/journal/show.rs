//! `journal show`: the records of a journal, as far as they verify.
//!
//! May not write. Invariant: a record that is shown verified.

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::services::runs::view;

/// Print the records of a journal, one line each, as far as they verify.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Id of the run, a unique beginning of it, or the path of its directory
    #[arg(value_name = "RUN")]
    run: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let verified = context.runs.verify(&args.run)?;
    for record in &verified.scan.records {
        let event = view::event(record);
        if context.json {
            output::json(&event);
        } else {
            let (seq, at, name) = (record.seq, record.at, record.event.name());
            output::line(&format!("{seq:>6}  {at}  {name:<22} {}", event["data"]));
        }
    }
    if matches!(verified.verdict, "damaged" | "refused") {
        return Err(crate::services::runs::trouble::damaged(&verified.scan).into());
    }
    Ok(Exit::Done)
}
