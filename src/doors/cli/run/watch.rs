//! `run watch`: follow a run until it ends, one line a change.
//!
//! May not drive the run. Invariant: exit 0 only when it completed.

use serde_json::json;

use super::RunArg;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::ground::id::Seq;
use crate::services::runs::view;

const LOOK_EVERY_MS: u64 = 200;

/// Follow a run until it ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    run: RunArg,
    /// Give up after this long; exit 1 if the run has not ended by then
    #[arg(long, value_name = "DURATION")]
    timeout: Option<humantime::Duration>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let clock = &context.runs.clock;
    let until = args
        .timeout
        .map(|wait| clock.now().plus_millis(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)));
    let mut shown = Seq(0);
    loop {
        let seen = context.runs.look(&args.run.run)?;
        if seen.state.head.seq > shown {
            shown = seen.state.head.seq;
            let (state, kinds) =
                (view::state_name(&seen.state), view::pending_by_kind(&seen.state));
            if context.json {
                output::json(&json!({
                    "runId": seen.dir.id(), "state": state, "seq": shown, "pendingByKind": kinds,
                    "reasons": view::reasons(&seen.state),
                }));
            } else {
                let reasons = view::reasons(&seen.state).join(", ");
                output::line(&format!("#{shown}  {state}  {reasons}"));
            }
        }
        if let Some((end, _)) = seen.state.end {
            let completed = end.name() == "completed";
            return Ok(if completed { Exit::Done } else { Exit::No });
        }
        if output::has_ended() {
            return Ok(Exit::Done);
        }
        if until.is_some_and(|until| clock.now() >= until) {
            return Ok(Exit::No);
        }
        clock.sleep_millis(LOOK_EVERY_MS);
    }
}
