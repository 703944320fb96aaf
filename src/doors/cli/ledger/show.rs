//! `ledger show`: all effects under a key.
//!
//! May not lock or write. Invariant: a key that no effect has is an error.

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::ledger::{Wanted, named};

/// Show all effects under a key.
///
/// Example:
///   dormouse ledger show RUN/e0001
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The key: the author's, or RUN/EFFECT
    #[arg(value_name = "KEY")]
    key: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let wanted = Wanted { key: Some(args.key.clone()), ..Wanted::default() };
    let run = named(&args.key).map(|(run, _)| run.to_string());
    // A key that names a run is usually that run's; an author may have chosen one like it.
    let mut ledger = match &run {
        Some(run) => context.ledger(Some(run), &wanted).unwrap_or_default(),
        None => context.ledger(None, &wanted)?,
    };
    let is_empty = |ledger: &serde_json::Value| ledger["rows"].as_array().is_none_or(Vec::is_empty);
    if run.is_some() && is_empty(&ledger) {
        ledger = context.ledger(None, &wanted)?;
    }
    if is_empty(&ledger) {
        let what = format!("no effect has the key {}", args.key);
        let next = vec!["dormouse ledger list".to_owned()];
        return Err(Failure { exit: Exit::NotFound, code: "key_not_found".into(), what, next });
    }
    super::print(context, &ledger);
    Ok(Exit::Done)
}
