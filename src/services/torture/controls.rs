//! Negative controls: a scenario is played against a program that lacks a guard, and has to see it.
//!
//! May not remove a guard of this process, only of those that it starts. Invariant: a control that
//! is not seen is a failure of the suite, never of the program.

use serde::Serialize;

use super::{Ground, Options, Outcome, Scenario, run};
use crate::ground::clock::Stopwatch;
use crate::ground::sabotage::Guard;

/// A guard, and who has to notice that it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// The guard.
    pub guard: Guard,
    /// The scenario.
    pub scenario: Scenario,
}

/// What came of a control.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// The guard that was removed.
    pub guard: &'static str,
    /// Who had to notice.
    pub scenario: Scenario,
    /// The first thing that was found; nothing: it was not noticed.
    pub found: Option<String>,
    /// Why it was not done.
    pub skipped: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

const CONTROLS: &[Control] = &[
    Control { guard: Guard::PidLock, scenario: Scenario::Locks },
    Control { guard: Guard::NoFence, scenario: Scenario::Leases },
    Control { guard: Guard::VolatileEpoch, scenario: Scenario::Leases },
    Control { guard: Guard::AckEarly, scenario: Scenario::Crash },
    Control { guard: Guard::NoIntent, scenario: Scenario::Crash },
    Control { guard: Guard::JournalFirst, scenario: Scenario::Crash },
    Control { guard: Guard::RegrantStarted, scenario: Scenario::Crash },
    Control { guard: Guard::AppendAfterError, scenario: Scenario::Faults },
    Control { guard: Guard::NoSync, scenario: Scenario::Cut },
];

/// The controls of these scenarios.
pub fn controls(scenarios: &[Scenario]) -> impl Iterator<Item = Control> {
    CONTROLS.iter().copied().filter(|control| scenarios.contains(&control.scenario))
}

/// Plays a control.
#[must_use]
pub fn seen(control: Control, options: &Options) -> Seen {
    let began = Stopwatch::start();
    let Control { guard, scenario } = control;
    let mut seen = Seen { guard: guard.name(), scenario, found: None, skipped: None, seconds: 0.0 };
    if cfg!(debug_assertions) {
        let ground = Ground { removed: Some(guard), ..options.ground.clone() };
        let Outcome { skipped, findings, .. } =
            run(scenario, &Options { ground, ..options.clone() });
        // That nothing hit is no sign of a guard.
        let found = findings.into_iter().find(|found| !found.starts_with("not run:"));
        seen.found = found.map(|found| found.lines().next().unwrap_or_default().to_owned());
        seen.skipped = skipped;
    } else {
        seen.skipped =
            Some("this build keeps its guards: use one with debug assertions".to_owned());
    }
    seen.seconds = began.seconds();
    seen
}
