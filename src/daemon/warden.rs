//! The warden: looks whether this daemon still holds the lock that everybody else respects.
//!
//! May not take the lock back: somebody else may write by now. Invariant: a daemon that lost its
//! lock acknowledges nothing more.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::services::manager::Mailbox;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};
use crate::shells::commit_log::{Committed, WriterState};
use crate::shells::run_dir::owned::OwnedRoot;

/// Time between two looks.
const LOOK_MS: u64 = 5_000;

/// The thread that looks.
pub(super) struct Warden {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Warden {
    pub(super) fn start(root: Arc<OwnedRoot>, mailbox: Mailbox) -> Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(1);
        let look = Duration::from_millis(LOOK_MS);
        let run = move || {
            while stopped.recv_timeout(look) == Err(RecvTimeoutError::Timeout) {
                if !root.still_in_place().unwrap_or(false) {
                    tracing::error!(code = "lock_lost", "the root's lock file was taken away");
                    return mailbox.committed(vec![Committed::State(WriterState::Failed)]);
                }
            }
        };
        let spawned = std::thread::Builder::new().name("warden".into()).spawn(run);
        let thread = spawned.map_err(|e| {
            Error::Bug(Trouble::new("bug", format!("the warden could not be started: {e}")))
        })?;
        Ok(Self { stop, thread })
    }

    pub(super) fn stop(self) {
        drop(self.stop);
        // A panic in there costs a look.
        let _ = self.thread.join();
    }
}
