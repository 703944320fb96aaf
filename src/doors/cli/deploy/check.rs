//! `deploy check`: how all open runs of a process fare under new code.
//!
//! May not write. Invariant: exit 0 exactly when every one of them reproduces its journal.

use serde_json::{Value, json};

use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::output;
use crate::doors::cli::run::check::side;
use crate::doors::cli::run::source::SourceArgs;
use crate::services::runs::deploy::{Deploy, Fate, Found};

/// Replay all open runs of a process with new code, on all processors, with or without a daemon.
/// Nothing is written. Exit 0 if all reproduce their journals, 1 if some need `run accept`, 5 if
/// some cannot be read, 6 if a limit or a host came in the way, 7 if some diverge; of several, the
/// highest.
///
/// Example:
///   dormouse deploy check --entry release.js
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    source: SourceArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let source = args.source.needed()?;
    let deploy = context.runs.check_deploy(&source, &output::watch())?;
    if context.json {
        output::json(&value(&deploy));
    } else {
        print(&deploy);
        output::line(&summary(&deploy));
    }
    let worst = deploy.fates.keys().map(|fate| exit(*fate));
    Ok(worst.max_by_key(|exit| *exit as u8).unwrap_or(Exit::Done))
}

const fn exit(fate: Fate) -> Exit {
    match fate {
        Fate::Strict => Exit::Done,
        Fate::Accept => Exit::No,
        Fate::Damaged => Exit::Damaged,
        Fate::Held => Exit::Refused,
        Fate::Diverges => Exit::Diverged,
    }
}

fn value(deploy: &Deploy) -> Value {
    let mut value = json!(deploy);
    value["runsPerSecond"] = json!(per_second(deploy));
    value
}

/// Runs that were replayed in a second.
fn per_second(deploy: &Deploy) -> u64 {
    let runs = u64::try_from(deploy.runs.len()).unwrap_or(u64::MAX);
    runs.saturating_mul(1000) / deploy.millis.max(1)
}

/// Both sides next to each other, for every run that does not reproduce its journal; then what
/// could not be told.
fn print(deploy: &Deploy) {
    let row = |found: &Found| {
        let first = found.first_divergence.as_ref()?;
        let (run, fate) = (found.run_id.to_string(), found.fate.name().to_owned());
        let sides = [side(first.expected.as_ref()), side(first.observed.as_ref())];
        let place = [fate, run, first.seq.to_string(), first.class.to_owned()];
        Some(place.into_iter().chain(sides).collect())
    };
    let rows: Vec<Vec<String>> = deploy.runs.iter().filter_map(row).collect();
    if !rows.is_empty() {
        output::table(&["FATE", "RUN", "RECORD", "CLASS", "EXPECTED", "OBSERVED"], &rows);
    }
    for found in &deploy.runs {
        if let Some(problem) = &found.problem {
            let (run, fate) = (&found.run_id, found.fate.name());
            output::line(&format!("{fate}  {run}  {} [{}]", problem.what, problem.code));
        }
    }
}

fn summary(deploy: &Deploy) -> String {
    let fates = deploy.fates.iter().map(|(fate, count)| format!("{count} {}", fate.name()));
    let mut fates = fates.collect::<Vec<_>>().join(", ");
    if fates.is_empty() {
        fates = format!("no open run of {}", deploy.process.process_id);
    }
    let seconds = deploy.millis / 1000;
    let tenths = deploy.millis % 1000 / 100;
    format!("{fates} · {seconds}.{tenths} s, {} runs/s", per_second(deploy))
}
