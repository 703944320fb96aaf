//! `schedule show`: one schedule.
//!
//! May not change it. Invariant: the next times are those that will be decided next.

use super::Which;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::machines::schedule::Name;
use crate::services::schedules::not_found;

/// Show a schedule, its next times and its last decisions.
///
/// Example:
///   dormouse schedule show nightly
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let Name { namespace, name } = &args.which.name;
    if let Some(daemon) = context.daemon_now()? {
        let shown = daemon.get(&format!("/v1/schedules/{namespace}/{name}"))?;
        super::print(context, &shown);
        return Ok(Exit::Done);
    }
    let listed = super::all(context)?;
    let is_it =
        |shown: &&serde_json::Value| shown["namespace"] == **namespace && shown["name"] == **name;
    let mut all = listed["schedules"].as_array().into_iter().flatten();
    let shown = all.find(is_it).ok_or_else(|| not_found(&args.which.name))?;
    super::print(context, shown);
    Ok(Exit::Done)
}
