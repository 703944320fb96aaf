//! How a daemon is put together: root, log, index, hosts, manager.
//!
//! May not decide anything about a run. Invariant: nothing is served before the log is recovered and
//! the index knows what recovery found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::ground::id::RunId;
use crate::machines::timer::Timers;
use crate::ports::telemetry::Metrics;
use crate::services::commit::Committer;
use crate::services::indexer::rebuild::{self, rebuild, rebuild_live, reread, take_touched};
use crate::services::indexer::{Indexer, Need};
use crate::services::manager::{self, Inbox, Options, Parts, Running};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::host::pool::{Pool, PoolOptions};
use crate::shells::store::{self, Batch, Condition, Index};

use super::config::Config;
use super::metrics::Refresh;

/// Rows of the index that are read at a time.
const ROWS_AT_ONCE: usize = 10_000;

/// A daemon's parts, at work.
pub(super) struct Wired {
    pub(super) manager: Running,
    pub(super) indexer: Indexer,
    pub(super) index: JoinHandle<()>,
    pub(super) refresh: Vec<Refresh>,
}

/// Puts a daemon together and lets it work.
pub(super) fn wire(runs: Runs, config: &Config) -> Result<Wired> {
    let opened = open_log(&runs, config)?;
    let (index, mut awake) = open_index(&runs, &opened)?;
    let timers = timers_of(&index).map_err(unusable)?;
    awake.extend(runnable(&index).map_err(unusable)?);
    let frame = Arc::new(AtomicU64::new(opened.last_frame));
    let (indexer, index) = start_indexer(&runs, index, &frame)?;
    todo!()
}
