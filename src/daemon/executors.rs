//! The executors that configuration turns on, and the threads that they work on.
//!
//! May not know effects. Invariant: what is not turned on starts nothing.

use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};

use crate::services::executor::echo::Echo;
use crate::services::executor::shell::{Rules, Shell};
use crate::services::executor::{Executor, Registry};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};

use super::config::Config;

/// Threads on which executors wait for the outside; none of them computes.
const THREADS: usize = 2;

/// The executors of a daemon.
pub(super) fn registry(runs: &Runs, config: &Config) -> Registry {
    let asked = &config.executors;
    let echo = |kind: &String| Arc::new(Echo::new(kind.clone())) as Arc<dyn Executor>;
    let (mut on, mut off): (Vec<_>, _) = (asked.echo_kinds.iter().map(echo).collect(), Vec::new());
    match &asked.shell {
        Some(rules) => on.push(shell(runs, rules.clone())),
        None => off.push(shell(runs, Rules::default())),
    }
    Registry::of(on).and_off(off)
}

fn shell(runs: &Runs, rules: Rules) -> Arc<dyn Executor> {
    let variable = |name: &str| std::env::var(name).ok();
    Arc::new(Shell::new(rules, Arc::clone(&runs.disk), runs.hosts.program(), variable))
}

/// Where executors work.
pub(super) fn runtime() -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    let built = builder.worker_threads(THREADS).thread_name("executor").enable_all().build();
    built.map_err(|e| {
        Error::Bug(Trouble::new("bug", format!("the executors' threads could not be started: {e}")))
    })
}
