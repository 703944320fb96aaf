//! `torture`: do harm to daemons of a temporary root, and look whether the promises hold.
//!
//! May not judge, and touches nothing of the user's. Invariant: what was not done is said, and
//! exit 0 means that everything that was done was clean.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::{input, output};
use crate::ports::disk::{Atomic, write_atomic};
use crate::services::torture::{
    self, Control, Ground, Options, Outcome, Scenario, Size, controls, seen,
};

/// Time for the trials of one scenario without --budget, in seconds.
const QUICK_SECONDS: f64 = 25.0;
/// The same under --full.
const FULL_SECONDS: f64 = 600.0;

/// Do harm to daemons of a temporary root, and look whether what they promised holds.
///
/// Starts this very program, kills it, lets its disk fail, lets its workers lie and cuts its power;
/// a judge that shares no code with it compares what is left with what was promised. The scenarios:
/// storm (kill -9 of everybody at work), crash (at each operation on the disk), faults (a disk that
/// refuses), leases (posts under epochs of the past), locks (two owners of a root), cut (power
/// cuts; needs root and qemu-storage-daemon). Exit 5 if something is found, 1 if a control was not
/// noticed.
///
/// Example:
///   dormouse torture crash leases --seed 7
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to try [default: everything]
    #[arg(value_name = "SCENARIO", value_parser = scenario)]
    scenarios: Vec<Scenario>,
    /// A few minutes in all: the default
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// As much as there is time for
    #[arg(long)]
    full: bool,
    /// Decides what is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Time for the trials of all scenarios, such as 10m
    #[arg(long, value_name = "DURATION")]
    budget: Option<humantime::Duration>,
    /// Write what came of it to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Remove guards instead, one after the other, and see that this is noticed
    #[arg(long)]
    controls: bool,
}

fn scenario(text: &str) -> Result<Scenario, String> {
    Scenario::named(text).ok_or_else(|| {
        let names: Vec<&str> = Scenario::ALL.iter().map(|scenario| scenario.name()).collect();
        format!("the scenarios are {}", names.join(", "))
    })
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let mut scenarios = args.scenarios.clone();
    if scenarios.is_empty() {
        scenarios = Scenario::ALL.to_vec();
    }
    let options = options(args, context, scenarios.len())?;
    let (outcomes, controls) = if args.controls {
        (Vec::new(), played_controls(&scenarios, &options, context.json))
    } else {
        (played(&scenarios, &options, context.json), Vec::new())
    };
    let skipped = outcomes.iter().filter(|outcome| outcome.skipped.is_some()).count()
        + controls.iter().filter(|control| control.skipped.is_some()).count();
    let findings: usize = outcomes.iter().map(|outcome| outcome.findings.len()).sum();
    let is_missed = |seen: &&torture::Seen| seen.found.is_none() && seen.skipped.is_none();
    let missed = controls.iter().filter(is_missed).count();
    let report = json!({
        "version": env!("CARGO_PKG_VERSION"), "seed": args.seed, "size": options.size,
        "debugAssertions": cfg!(debug_assertions), "at": context.runs.clock.now().to_string(),
        "scenarios": outcomes, "controls": controls,
        "findings": findings, "missed": missed, "skipped": skipped,
    });
    if let Some(file) = &args.report {
        write_report(context, file, &report.to_string())?;
    }
    if context.json {
        output::json(&report);
    } else {
        let what = if args.controls {
            format!("{missed} not noticed")
        } else {
            format!("{findings} findings")
        };
        let end = if skipped == 0 { String::new() } else { format!(", {skipped} SKIPPED") };
        output::line(&format!("{what}{end}"));
    }
    Ok(match (findings, missed) {
        (0, 0) => Exit::Done,
        (0, _) => Exit::No,
        _ => Exit::Damaged,
    })
}

fn options(args: &Args, context: &Context, scenarios: usize) -> Result<Options, Failure> {
    let exe = std::env::current_exe()
        .map_err(|e| Failure::usage(&format!("this program cannot be found: {e}"), ""))?;
    let above = context.runs.disk.canonicalize(&std::env::temp_dir());
    let above = above.map_err(|e| Failure::usage(&format!("no temporary directory: {e}"), ""))?;
    let default = if args.full { FULL_SECONDS } else { QUICK_SECONDS };
    // All get the same share of the time.
    let share = u32::try_from(scenarios).unwrap_or(1);
    let budget = args.budget.map(|all| (*all / share).as_secs_f64());
    Ok(Options {
        ground: Ground { disk: Arc::clone(&context.runs.disk), above, exe, removed: None },
        size: if args.full { Size::Full } else { Size::Quick },
        seed: args.seed,
        budget_seconds: budget.unwrap_or(default),
    })
}

fn write_report(context: &Context, file: &std::path::Path, text: &str) -> Result<(), Failure> {
    let file = input::absolute(file)?;
    let unusable = || Failure::usage(&format!("{}: cannot be written", file.display()), "");
    let above = file.parent().ok_or_else(unusable)?;
    let name = file.file_name().and_then(|name| name.to_str()).ok_or_else(unusable)?;
    let dir = context.runs.disk.open_dir(above);
    let written = dir.and_then(|dir| write_atomic(&*dir, name, text.as_bytes(), Atomic::DERIVED));
    written.map_err(|e| Failure::usage(&format!("{e}: {}", e.source), "give --report a file"))
}

fn played(scenarios: &[Scenario], options: &Options, silent: bool) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        if !silent {
            output::remark(&format!("{} …", scenario.name()));
        }
        let outcome = torture::run(*scenario, options);
        if !silent {
            tell(&outcome);
        }
        outcomes.push(outcome);
    }
    outcomes
}

/// One scenario as people read it.
fn tell(outcome: &Outcome) {
    let state = match (&outcome.skipped, outcome.findings.len()) {
        (Some(_), _) => "SKIPPED".to_owned(),
        (None, 0) => "clean".to_owned(),
        (None, found) => format!("{found} FOUND"),
    };
    let (name, rows) = (outcome.scenario.name(), outcome.rows.join(" "));
    output::line(&format!("{name:8} {state:9} {rows:8} {:6.1} s", outcome.seconds));
    if let Some(why) = &outcome.skipped {
        output::line(&format!("  not done: {why}"));
    } else {
        let counts: Vec<String> =
            outcome.did.iter().map(|did| format!("{} {}", did.count, did.what)).collect();
        output::line(&format!("  {}", counts.join(" · ")));
        output::line(&format!("  again: {}", outcome.again));
    }
    for finding in &outcome.findings {
        output::line(&format!("  FOUND {}", finding.replace('\n', "\n    ")));
    }
    if let Some(kept) = &outcome.kept {
        output::line(&format!("  kept: {kept}"));
    }
}

fn played_controls(scenarios: &[Scenario], options: &Options, silent: bool) -> Vec<torture::Seen> {
    let play = |control: Control| {
        let seen = seen(control, options);
        if !silent {
            let state = match (&seen.found, &seen.skipped) {
                (_, Some(why)) => format!("SKIPPED: {why}"),
                (Some(found), _) => format!("noticed: {found}"),
                (None, None) => "NOT NOTICED".to_owned(),
            };
            let (guard, name) = (seen.guard, seen.scenario.name());
            output::line(&format!("{guard:19} {name:8} {:6.1} s  {state}", seen.seconds));
        }
        seen
    };
    controls(scenarios).map(play).collect()
}
