//! `root …`: what is done to a whole root.
//!
//! May not look at runs. Invariant: nothing is done to a root that somebody else owns.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use crate::services::runs::Error;
use crate::shells::run_dir::owned::OwnedRoot;
use crate::shells::run_dir::root::Options;

/// What can be done to a root.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "Let daemons begin again after several could not write")]
    Resume(Resume),
}

/// Let daemons begin again after several could not write. Look at the disk first.
///
/// Example:
///   dormouse root resume
#[derive(Debug, clap::Args)]
pub(crate) struct Resume {}

pub(super) fn dispatch(verb: &Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Resume(_) => resume(context),
    }
}

fn resume(context: &Context) -> Result<Exit, Failure> {
    let root = alone(context)?;
    let failures = root.failures_before();
    root.note_failures(0);
    if context.json {
        output::json(&json!({ "runsRoot": context.runs.root, "failures": failures }));
    } else {
        output::line(&format!("{failures} failures are forgotten"));
        output::remark("next: dormouse serve");
    }
    Ok(Exit::Done)
}

/// The root, held alone.
pub(super) fn alone(context: &Context) -> Result<OwnedRoot, Failure> {
    let runs = &context.runs;
    let options =
        Options { create: false, wait_ms: runs.lock_wait_ms, allow_fs: runs.allow_fs.clone() };
    let root = OwnedRoot::open(&runs.disk, &runs.root, &options, &*runs.clock);
    Ok(root.map_err(Error::from)?)
}
