//! `run signal`: send a signal to a run.
//!
//! May not know whether anybody waits. Invariant: a signal id is accepted once.

use std::path::PathBuf;

use super::RunArg;
use super::halt::report;
use crate::codecs::json::Json;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::input;
use crate::services::runs::steer::Signal;

/// Send a signal to a run. It is kept until the process waits for it.
///
/// Example:
///   dormouse run signal RUN deploy-done --value-inline '{"ok":true}'
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Name of the signal
    #[arg(value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,
    /// Payload: a JSON file, or - for standard input
    #[arg(long, value_name = "FILE", alias = "payload")]
    value: Option<PathBuf>,
    /// Payload, on the command line
    #[arg(long, value_name = "JSON", conflicts_with = "value", alias = "payload-inline")]
    value_inline: Option<String>,
    /// What a wait may name besides
    #[arg(long, value_name = "KEY")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    correlation_key: Option<String>,
    /// The same id is accepted once
    #[arg(long, value_name = "ID", alias = "dedupe-key")]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    signal_id: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let payload = match (&args.value, &args.value_inline) {
        (Some(path), _) => input::json_file(&context.runs, "--value", path)?,
        (None, Some(text)) => input::inline("--value-inline", text)?,
        (None, None) => Json::null(),
    };
    let signal = Signal {
        name: args.name.clone(),
        correlation_key: args.correlation_key.clone(),
        signal_id: args.signal_id.clone(),
        payload,
    };
    let done = context.signal(&args.run.run, &signal)?;
    Ok(report(context, &done))
}
