//! The scorecard: what has to be proved again and again, and who does it.
//!
//! May not prove anything. Invariant: each row names a scenario or tests that exist.

use super::Scenario;

/// A row.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name: `S1`, `S2`, …
    pub id: &'static str,
    /// What is tried.
    pub what: &'static str,
    /// The scenarios that stand for it.
    pub scenarios: &'static [Scenario],
    /// The modules of tests that stand for it, below `tests/it` or `src`.
    pub tests: &'static [&'static str],
    /// How much is done each time.
    pub quick: &'static str,
}

/// A row of the table, on one or two lines of source.
const fn row(
    id: &'static str,
    what: &'static str,
    scenarios: &'static [Scenario],
    tests: &'static [&'static str],
    quick: &'static str,
) -> Row {
    Row { id, what, scenarios, tests, quick }
}

/// All rows.
pub const ROWS: &[Row] = &[
    row(
        "S1",
        "a crash at every point of a life",
        &[Scenario::Crash],
        &["tests/it/kill_syscalls.rs", "tests/it/commit_log_crash.rs", "tests/it/journal_crash.rs"],
        "24 points of the daemon, every system call of each command",
    ),
    row(
        "S2",
        "kill -9 under load",
        &[Scenario::Storm],
        &["tests/it/storm/mod.rs"],
        "30 kills, 120 runs; 10 kills, 24 runs",
    ),
    row(
        "S3",
        "power cuts, torn and out of order",
        &[Scenario::Cut],
        &["tests/it/commit_log_crash.rs", "tests/it/journal_crash.rs"],
        "16 states of a real filesystem, thousands of the disk in memory",
    ),
    row(
        "S4",
        "a disk that refuses",
        &[Scenario::Faults],
        &["tests/it/kill_syscalls.rs", "tests/it/storm/trouble.rs"],
        "24 faults of the daemon's disk, every writing call of each command",
    ),
    row(
        "S5",
        "an error, a restart, and more acknowledgements",
        &[Scenario::Faults],
        &["tests/it/commit_log_crash.rs"],
        "within the 24 faults; write-back errors of the disk in memory",
    ),
    row("S6", "every prefix of a file", &[], &["tests/it/rot.rs"], "all"),
    row("S7", "every flipped bit", &[], &["tests/it/rot.rs"], "some bits of each file"),
    row("S8", "arbitrary bytes", &[], &["tests/it/fuzz.rs"], "each target for a moment"),
    row(
        "S9",
        "posts under epochs of the past",
        &[Scenario::Leases],
        &["tests/it/race.rs"],
        "24 runs, every second start given up; 1,000 races",
    ),
    row("S10", "histories of one effect", &[], &["tests/it/effect_model.rs"], "all"),
    row("S11", "models, all their states", &[], &["tests/it/effect_model.rs"], "all"),
    row("S12", "interleavings", &[], &["tests/it/race.rs"], "1,000 races, 64 at once"),
    row(
        "S13",
        "a whole daemon on simulated disk, clock and network",
        &[],
        &["tests/it/simulation/mod.rs"],
        "hundreds of seeds",
    ),
    row("S14", "for a long time", &[Scenario::Storm], &[], "the storm; --full for ten minutes"),
    row(
        "S15",
        "clocks that jump",
        &[],
        &["tests/it/race.rs", "src/machines/lease.rs"],
        "64 sequences with jumps in both directions",
    ),
    row("S16", "two owners of a root", &[Scenario::Locks], &["tests/it/cli_locks.rs"], "12 cases"),
    row(
        "S17",
        "security",
        &[],
        &["tests/it/cli_bad_input.rs", "tests/it/host_sandbox.rs", "tests/it/canary.rs"],
        "all rows",
    ),
    row("S18", "coverage and mutants", &[], &["tests/it/tidy.rs"], "by hand"),
    row("S19", "bugs of the past", &[], &["tests/it/museum.rs"], "all"),
];

/// The rows that a scenario stands for.
pub(super) fn rows_of(scenario: Scenario) -> Vec<&'static str> {
    ROWS.iter().filter(|row| row.scenarios.contains(&scenario)).map(|row| row.id).collect()
}
