//! `task show`: one effect with its definition, arguments and outcome.
//!
//! May not lock or write. Invariant: what is shown stands in the journal or its blobs.

use super::{EffectArg, unknown_effect};
use crate::doors::answers::ShownTask;
use crate::doors::cli::context::Context;
use crate::doors::cli::deeds::{path, value};
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::ground::limits::BLOB_BYTES_MAX;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::services::runs::Error;
use crate::services::runs::view::{Look, Stream};

/// Show one effect with its definition, arguments and outcome.
///
/// Example:
///   dormouse task show RUN e0001 --logs
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: EffectArg,
    /// Also what it printed
    #[arg(long)]
    logs: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let id = args.target.id()?;
    let seen = context.runs.look(&args.target.run)?;
    let Some(effect) = seen.state.effect(id) else { return Err(unknown_effect(&seen, id)) };
    let mut value = value(&ShownTask::of(seen.look(), id)?);
    if effect.status == EffectStatus::Started
        && let Some(client) = context.daemon_now()?
        && let Ok(shown) = client.get(&path(seen.dir.id().as_str(), &format!("tasks/{id}")))
    {
        // Who is at it, only a daemon knows.
        value["lease"] = shown["lease"].clone();
    }
    let mut printed = Vec::new();
    for stream in [Stream::Stdout, Stream::Stderr].into_iter().filter(|_| args.logs) {
        printed.push((stream.name(), read(seen.look(), effect, stream)?));
    }
    if context.json {
        for (name, text) in printed {
            value["printed"][name] = text.into();
        }
        output::json(&value);
        return Ok(Exit::Done);
    }
    output::line(&serde_json::to_string_pretty(&value).unwrap_or_default());
    for (name, text) in printed {
        output::remark(&format!("{name}:"));
        output::line(text.trim_end_matches('\n'));
    }
    Ok(Exit::Done)
}

/// What an effect printed; nothing if it printed nothing.
fn read(look: Look<'_>, effect: &Effect, stream: Stream) -> Result<String, Failure> {
    match look.dir.read_relative(&look.log(effect, stream), BLOB_BYTES_MAX) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.is_not_found() => Ok(String::new()),
        Err(e) => Err(Error::from(e).into()),
    }
}
