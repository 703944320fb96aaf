//! `run recover`: let a run that an error of its process holds go on.
//!
//! May not remove anything. Invariant: the recorded outcome stays; the patched one is what the
//! process sees.

use super::RunArg;
use super::halt::report;
use crate::codecs::json::Json;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::input;
use crate::ground::id::EffectId;

/// Let a run that an error of its process holds go on, with another value if need be.
///
/// Example:
///   dormouse run recover RUN --patch-effect e0003:result.count=5
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// A new value inside the outcome of an effect
    #[arg(long, value_name = "EFFECT:PATH=JSON")]
    patch_effect: Option<String>,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let patch = args.patch_effect.as_deref().map(parse).transpose()?;
    let done = context.recover(&args.run.run, patch.as_ref(), args.reason.as_deref())?;
    Ok(report(context, &done))
}

/// `e0003:a.b=JSON`.
fn parse(text: &str) -> Result<(EffectId, String, Json), Failure> {
    let wrong = || {
        let what = format!("--patch-effect {text:?} is not EFFECT:PATH=JSON");
        Failure::usage(&what, "--patch-effect e0003:result.count=5")
    };
    let (effect, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (path, value) = rest.split_once('=').ok_or_else(wrong)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if path.split('.').any(|key| key.is_empty() || !key.chars().all(plain)) {
        return Err(wrong());
    }
    let effect = effect.parse().map_err(|_| wrong())?;
    Ok((effect, path.to_owned(), input::inline("--patch-effect", value)?))
}
