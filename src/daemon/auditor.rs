//! The auditor at work: walks all open runs, slowly, for as long as the daemon lives.
//!
//! May not judge: that is [`audit`]'s. Invariant: what it finds is healed, counted and said, and
//! the run is woken.

use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::services::audit::{self, RootJournals};
use crate::services::manager::Handle;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};

/// Time between two steps of the walk.
const STEP_MS: u64 = 1_000;

/// The thread that walks.
pub(super) struct Auditor {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Auditor {
    /// Walks at `rate` runs a second.
    pub(super) fn start(handle: Handle, rate: u64) -> Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(1);
        let budget = usize::try_from(rate * STEP_MS / 1_000).unwrap_or(usize::MAX).max(1);
        let mut walk = Walk { auditor: audit::Auditor::new(false), handle, journals: None };
        let run = move || {
            let pause = Duration::from_millis(STEP_MS);
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                // An index that is being made anew is audited later.
                if let Err(e) = walk.some(budget) {
                    tracing::debug!("the audit goes on later: {e}");
                }
            }
        };
        let spawned = std::thread::Builder::new().name("auditor".into()).spawn(run);
        let thread = spawned.map_err(|e| {
            Error::Bug(Trouble::new("bug", format!("the auditor could not be started: {e}")))
        })?;
        Ok(Self { stop, thread })
    }

    pub(super) fn stop(self) {
        drop(self.stop);
        // A panic in there costs the walk, and nothing that it looked at.
        let _ = self.thread.join();
    }
}

/// A walk over all open runs.
struct Walk {
    auditor: audit::Auditor,
    handle: Handle,
    /// The runs of this round.
    journals: Option<RootJournals>,
}

impl Walk {
    fn some(&mut self, budget: usize) -> std::result::Result<(), audit::Error> {
        let mut journals = match self.journals.take() {
            Some(journals) => journals,
            None => RootJournals::new(self.handle.runs())?,
        };
        let audited = self.auditor.some(&mut self.handle, &mut journals, budget)?;
        if !audited.round_done {
            self.journals = Some(journals);
        }
        self.handle.heal(audited);
        Ok(())
    }
}
