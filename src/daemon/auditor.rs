//! The auditor at work: walks all open runs, slowly, for as long as the daemon lives.
//!
//! May not judge: that is [`audit`]'s. Invariant: what it finds is healed, counted and said, and
//! the run is woken.

use std::collections::HashSet;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::ground::id::RunId;
use crate::services::audit::{self, Audited, RootJournals, What};
use crate::services::indexer::Indexer;
use crate::services::manager::Handle;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::store::Change;

/// Time between two steps of the walk.
const STEP_MS: u64 = 1_000;

/// The thread that walks.
pub(super) struct Auditor {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Auditor {
    /// Walks at `rate` runs a second.
    pub(super) fn start(runs: &Runs, indexer: &Indexer, handle: Handle, rate: u64) -> Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(1);
        let budget = usize::try_from(rate * STEP_MS / 1_000).unwrap_or(usize::MAX).max(1);
        let mut walk = Walk {
            auditor: audit::Auditor::new(false),
            runs: runs.clone(),
            indexer: indexer.clone(),
            handle,
            journals: None,
        };
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
    runs: Runs,
    indexer: Indexer,
    handle: Handle,
    /// The runs of this round.
    journals: Option<RootJournals>,
}

impl Walk {
    fn some(&mut self, budget: usize) -> std::result::Result<(), audit::Error> {
        let mut journals = match self.journals.take() {
            Some(journals) => journals,
            None => RootJournals::new(&self.runs)?,
        };
        let audited = self.auditor.some(&mut self.indexer, &mut journals, budget)?;
        if !audited.round_done {
            self.journals = Some(journals);
        }
        self.handle.heal(without_new(audited, |run| self.handle.may_exist(run)));
        Ok(())
    }
}

/// A run that was just created has a row before it has a directory: nothing is wrong with it.
fn without_new(mut audited: Audited, exists: impl Fn(&RunId) -> bool) -> Audited {
    let rows = audited.findings.iter().filter(|finding| finding.what == What::ExtraRow);
    let new: HashSet<RunId> = rows.map(|f| f.run.clone()).filter(|run| exists(run)).collect();
    let about_new =
        |change: &Change| matches!(change, Change::Mend { run, .. } if new.contains(run));
    audited.findings.retain(|finding| !new.contains(&finding.run));
    audited.mending.retain(|change| !about_new(change));
    audited
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::audit::Finding;

    #[test]
    fn a_row_without_a_directory_is_spared_while_its_run_exists() {
        let id = |name: &str| name.parse::<RunId>().unwrap();
        let mut audited = Audited { looked: 3, ..Audited::default() };
        for (name, what) in
            [("new", What::ExtraRow), ("gone", What::ExtraRow), ("late", What::LostTimer)]
        {
            audited.findings.push(Finding { run: id(name), what });
            audited.mending.push(Change::Mend { run: id(name), seen: None, right: None });
        }
        let left = without_new(audited, |run| *run != id("gone"));
        let found: Vec<_> = left.findings.iter().map(|finding| finding.run.as_str()).collect();
        assert_eq!((left.looked, found), (3, vec!["gone", "late"]));
        assert_eq!(left.mending.len(), 2);
    }
}
