//! `demo`: a real run, live, through two kill -9, in a temporary root.
//!
//! May not touch the user's runs. Invariant: everything it shows was done by this program, as
//! commands that anyone could type; it succeeds only if the run completed and its journal verifies.

mod play;
mod show;
mod stage;

use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output;
use play::Play;
use stage::Stage;

/// Watch a real run live through a kill -9, in a temporary root.
///
/// Creates a run, plays its agents, kills the program that drives it twice, resumes it, asks you
/// for the approval (approves itself when nobody is there to ask), and verifies what is left. The
/// directory is kept, so that you can look around; --clean removes it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove the directory at the end
    #[arg(long)]
    clean: bool,
    /// Approve without asking
    #[arg(long, short)]
    yes: bool,
    /// Do not pause for reading
    #[arg(long)]
    fast: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let stage = Stage::build(context, args.fast)?;
    let mut play = Play::new(stage);
    // Whatever goes wrong, the directory stays: it is the evidence.
    play.perform(args.yes)?;
    let good = play.is_good();
    let stage = play.stage();
    if args.clean && good {
        stage.remove()?;
    }
    if context.json {
        output::json(&json!({
            "runId": stage::RUN, "runDir": stage.run_dir(), "runsRoot": stage.runs_root(),
            "kept": !args.clean || !good, "completed": play.outcome().is_some(),
            "output": play.outcome(), "verdict": play.verdict(),
            "killedPid": play.kills().first().map(|k| k.pid), "kills": play.kills(),
            "steps": stage.steps(),
        }));
    } else if good && !args.clean {
        play.farewell();
    } else if good {
        stage.say("The directory is removed, as --clean says.");
    }
    Ok(if good { Exit::Done } else { Exit::No })
}
