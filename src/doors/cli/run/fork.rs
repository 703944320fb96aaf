//! `run fork`: a new run that shares the past of another one.
//!
//! May not work beside a daemon, nor touch the other run. Invariant: exit 0 means that the new run
//! exists, whole and durable; any other, that nothing was made.

use std::path::Path;

use serde_json::json;

use super::RunArg;
use crate::codecs::event::Edit;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, output};
use crate::ground::id::{EffectId, Seq};
use crate::services::runs::Error;
use crate::services::runs::fork::{Forked, NewFork};
use crate::shells::run_dir::root;

/// Make a new run that shares the records of RUN up to SEQ, replay it, and let it go its own way.
/// RUN is not touched. What RUN went on with after SEQ, or was executing there, is not executed
/// again in the fork: it waits for `task decide`, unless it is idempotent or named by --rerun.
///
/// Example:
///   dormouse run fork RUN --at 12 --edit 'e0003={"approved":false}' --id what-if
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// The last record that both runs share
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    at: u64,
    /// Another value for what an effect resolved to: JSON, or @FILE
    #[arg(long = "edit", value_name = "EFFECT=VALUE")]
    edits: Vec<String>,
    /// Execute this open effect in the fork, whatever RUN did with it
    #[arg(long, value_name = "EFFECT")]
    rerun: Vec<EffectId>,
    /// Id of the new run [default: a new ULID]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let id = args.id.as_ref().map(|id| id.parse());
    let id = id.transpose().map_err(|e| Error::from(root::Error::Name(e)))?;
    let run_id = id.unwrap_or_else(|| context.runs.fresh_id());
    let edits = args.edits.iter().map(|text| edit(text, context)).collect::<Result<_, _>>()?;
    context.needs_no_daemon(run_id.as_str())?;
    let new = NewFork { run_id, at: Seq(args.at), edits, rerun: args.rerun.clone() };
    let forked = context.runs.fork(&args.run.run, &new)?;
    if context.json {
        output::json(&json!({
            "runId": new.run_id, "runDir": forked.dir.path(), "forkedFrom": forked.from,
            "head": forked.head, "uncertain": forked.uncertain, "rerun": new.rerun,
            "edited": new.edits.iter().map(|edit| edit.effect_id).collect::<Vec<_>>(),
        }));
    } else {
        print(&new, &forked);
    }
    Ok(Exit::Done)
}

/// `EFFECT=VALUE`, the value inline or in a file.
fn edit(text: &str, context: &Context) -> Result<Edit, Failure> {
    let form = || Failure::usage(&format!("--edit {text}"), "give EFFECT=JSON or EFFECT=@FILE");
    let (effect, value) = text.split_once('=').ok_or_else(form)?;
    let effect_id = effect.parse().map_err(|_| form())?;
    let value = match value.strip_prefix('@') {
        Some(file) => input::json_file(&context.runs, "--edit", Path::new(file))?,
        None => input::inline("--edit", value)?,
    };
    Ok(Edit { effect_id, value })
}

fn print(new: &NewFork, forked: &Forked) {
    let (id, from) = (&new.run_id, &forked.from);
    output::line(&format!("forked run {id} from {} at record {}", from.run_id, from.seq));
    output::line(&format!("  directory  {}", forked.dir.path().display()));
    for edit in &new.edits {
        output::line(&format!("  edited     {}", edit.effect_id));
    }
    for effect in &forked.uncertain {
        output::remark(&format!("{effect} is uncertain: {} went on with it", from.run_id));
    }
    if !forked.uncertain.is_empty() {
        output::remark(&format!("  → dormouse run why {id}"));
    }
    output::remark(&format!("next: dormouse run drive {id}"));
}
