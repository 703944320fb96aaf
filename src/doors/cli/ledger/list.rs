//! `ledger list`: effects with their keys.
//!
//! May not lock or write. Invariant: a run that does not exist is an error, not an empty list.

use clap::builder::PossibleValuesParser;

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::ledger::{STATES, Wanted};

/// List effects with their keys.
///
/// Example:
///   dormouse ledger list --state uncertain
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only under this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only of this run
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Only last started by this worker
    #[arg(long, value_name = "NAME")]
    worker: Option<String>,
    /// Only in this state
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(STATES))]
    state: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let wanted = Wanted {
        key: args.key.clone(),
        worker: args.worker.clone(),
        state: args.state.clone(),
        since: None,
    };
    super::print(context, &context.ledger(args.run.as_deref(), &wanted)?);
    Ok(Exit::Done)
}
