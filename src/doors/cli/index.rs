//! `index …`: looking after the index of a root.
//!
//! May not know what the index holds. Invariant: journals are only read.

use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use crate::daemon::alone::Alone;

/// What can be done about the index.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "Make the index anew from the journals")]
    Rebuild(Rebuild),
}

/// Make the index anew from the journals. A daemon does it beside its work, and answers no lists
/// meanwhile.
///
/// Example:
///   dormouse index rebuild
#[derive(Debug, clap::Args)]
pub(crate) struct Rebuild {}

pub(super) fn dispatch(verb: &Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Rebuild(_) => rebuild(context),
    }
}

fn rebuild(context: &Context) -> Result<Exit, Failure> {
    let direct = || {
        let mut alone = Alone::open(&context.runs)?;
        let mut count = 0;
        alone.rebuild(&mut |done, all| {
            count = done;
            output::progress(done, all);
        })?;
        alone.close()?;
        Ok(json!({ "rebuilding": false, "runs": count }))
    };
    let done = context.root_deed(direct, |client| client.post("/v1/index/rebuild", &json!({})))?;
    if context.json {
        output::json(&done);
    } else if done["rebuilding"] == true {
        output::line("the daemon makes its index anew; lists answer again when that is done");
    } else {
        output::line(&format!("the index is made anew from {} runs", done["runs"]));
    }
    Ok(Exit::Done)
}
