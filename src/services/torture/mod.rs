//! Torture: what this program does to itself, so that nobody has to believe its guarantees.
//!
//! A scenario starts daemons of this very program in a temporary root, does them harm, and lets a
//! judge that shares no code with them compare what is left with what was promised. [`scorecard`]
//! says which scenario, or which test, stands for which row. May not print, and touches no root of
//! the user's. Invariant: a scenario that could not do its harm is never called clean.

pub mod book;
pub mod client;
pub mod dice;
pub mod scorecard;
pub mod yard;

mod controls;
mod counter;
mod cut;
mod image;
mod judge;
mod leases;
mod locks;
mod people;
#[cfg(test)]
mod planted;
mod points;
mod proxy;
mod scene;
mod storm;
mod walker;
mod weather;

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::ground::clock::Stopwatch;
use crate::ports::disk;

pub use controls::{Control, Seen, controls, seen};
pub use yard::Ground;

/// Three effects in a row; a wide one also two at once, and a signal.
const PROCESS: &str = r#"
import { defineTask } from "dormouse";
const hit = defineTask("hit", ({ def }) => ({ title: "Once, please", ...def }));
const serial = (value) => (value.body ?? value.json ?? value).serial;
export async function process({ def, options, wide }, ctx) {
  const ask = (n) => ctx.task(hit, { def, n }, options).then(serial);
  const serials = [await ask(1), await ask(2), await ask(3)];
  if (wide) {
    serials.push(...await ctx.parallel.all([() => ask(4), () => ask(5)]));
    await ctx.waitForSignal("go");
  }
  return { serials };
}
"#;

/// What can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// Everybody at work while daemons, hosts and workers are killed.
    Storm,
    /// A daemon that dies at each operation on its disk.
    Crash,
    /// A disk that refuses each operation, once or for ever.
    Faults,
    /// Workers that speak under epochs of the past.
    Leases,
    /// Two owners of one root.
    Locks,
    /// The power goes: every state that the disk could be left in.
    Cut,
}

impl Scenario {
    /// All of them, the quickest first.
    pub const ALL: &[Self] =
        &[Self::Locks, Self::Leases, Self::Crash, Self::Faults, Self::Cut, Self::Storm];

    /// How it is asked for.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Storm => "storm",
            Self::Crash => "crash",
            Self::Faults => "faults",
            Self::Leases => "leases",
            Self::Locks => "locks",
            Self::Cut => "cut",
        }
    }

    /// The scenario of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scenario| scenario.name() == name)
    }
}

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// Within a few minutes.
    Quick,
    /// As much as the budget allows.
    Full,
}

/// How it is to be done.
#[derive(Clone)]
pub struct Options {
    /// Where, and with which program.
    pub ground: Ground,
    /// How much.
    pub size: Size,
    /// Decides what is left to chance.
    pub seed: u64,
    /// When no new trial is begun, for scenarios of many trials.
    pub budget_seconds: f64,
}

/// The suite itself could not go on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Broken(String);

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<disk::Error> for Broken {
    fn from(error: disk::Error) -> Self {
        Self(format!("{error}: {}", error.source))
    }
}

impl From<rusqlite::Error> for Broken {
    fn from(error: rusqlite::Error) -> Self {
        Self(format!("the index cannot be read: {error}"))
    }
}

/// What was done how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    /// What.
    pub what: &'static str,
    /// How often.
    pub count: u64,
}

/// What came of a scenario.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Which.
    pub scenario: Scenario,
    /// Rows of the scorecard that it stands for.
    pub rows: Vec<&'static str>,
    /// What was done.
    pub did: Vec<Count>,
    /// Faults that really hit.
    pub hits: u64,
    /// Fewer hits than this, and it counts as not run.
    pub wanted: u64,
    /// What is wrong.
    pub findings: Vec<String>,
    /// Why it was not done.
    pub skipped: Option<String>,
    /// The evidence.
    pub kept: Option<String>,
    /// How long it took.
    pub seconds: f64,
    /// The command that does it again.
    pub again: String,
}

impl Outcome {
    fn of(scenario: Scenario, options: &Options) -> Self {
        let size = if options.size == Size::Full { " --full" } else { "" };
        Self {
            scenario,
            rows: scorecard::rows_of(scenario),
            did: Vec::new(),
            hits: 0,
            wanted: 1,
            findings: Vec::new(),
            skipped: None,
            kept: None,
            seconds: 0.0,
            again: format!("dormouse torture {}{size} --seed {}", scenario.name(), options.seed),
        }
    }

    fn did(&mut self, what: &'static str, count: usize) {
        self.did.push(Count { what, count: count as u64 });
    }

    /// Adds findings; the directory is kept as evidence if there are any.
    fn found(&mut self, yard: &mut yard::Yard, findings: Vec<String>) {
        if !findings.is_empty() {
            yard.keep();
            self.kept = Some(yard.top.display().to_string());
        }
        self.findings.extend(findings);
    }

    /// Whether it did its harm, and nothing was wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.skipped.is_none()
    }
}

/// Plays a scenario.
#[must_use]
pub fn run(scenario: Scenario, options: &Options) -> Outcome {
    let began = Stopwatch::start();
    let done = match scenario {
        Scenario::Storm => storm::run(options),
        Scenario::Crash => points::crash(options),
        Scenario::Faults => points::faults(options),
        Scenario::Leases => leases::run(options),
        Scenario::Locks => locks::run(options),
        Scenario::Cut => cut::run(options),
    };
    let mut outcome = done.unwrap_or_else(|broken| {
        let mut outcome = Outcome::of(scenario, options);
        outcome.wanted = 0;
        outcome.findings.push(format!("it could not be carried out: {broken}"));
        outcome
    });
    if outcome.skipped.is_none() && outcome.findings.is_empty() && outcome.hits < outcome.wanted {
        let what = format!("{} faults hit, {} are needed", outcome.hits, outcome.wanted);
        outcome.findings.push(format!("not run: {what}"));
    }
    outcome.seconds = began.seconds();
    outcome
}

/// What a mutex keeps, whoever panicked with it.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a program of this name is on the path.
fn has_program(ground: &Ground, name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs = std::env::split_paths(&path);
    dirs.any(|dir: std::path::PathBuf| yard::stands(&*ground.disk, &Path::new(&dir).join(name)))
}
