//! The daemon: one process that owns a runs root and lets its runs go on.
//!
//! Wires services together, says when they are ready, stops them in order. May not know doors.
//! Invariant: what it acknowledged is durable, however it ends.

pub mod config;

use crate::services::manager::{self, Handle, Running};
use crate::services::runs::{Result, Runs};
use config::Config;

/// A daemon that runs.
pub struct Daemon {
    manager: Running,
}

impl Daemon {
    /// Takes the root alone, recovers it, and begins to work.
    pub fn start(runs: &Runs, config: &Config) -> Result<Self> {
        let mut runs = runs.owning_root()?;
        runs.limits.heap_bytes_max = config.hosts.heap_bytes_max;
        runs.limits.turn_cpu_max_ms = config.hosts.turn_cpu_max_ms;
        Ok(Self { manager: manager::start(runs)? })
    }

    /// For doors.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.manager.handle()
    }

    /// Finishes what was begun, makes every run directory complete, and ends.
    pub fn stop(self) -> Result<()> {
        self.manager.stop()
    }
}
