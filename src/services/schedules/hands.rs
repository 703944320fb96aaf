//! Hands: what schedules have done to runs.
//!
//! May not decide. Invariant: each deed can be repeated: a run that exists is not made again, and
//! one that was cancelled is not cancelled again.

use tokio::runtime::Runtime;

use crate::ground::id::RunId;
use crate::services::manager::{Flow, Handle};
use crate::services::runs::create::NewRun;
use crate::services::runs::{Error, Result};

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has not ended.
    Open,
    /// It ended well.
    Succeeded,
    /// It ended otherwise.
    Failed,
    /// It is not there.
    Gone,
}

/// Does what schedules need done.
pub trait Hands: Send {
    /// Makes a run, if it is not there.
    fn create(&mut self, run: NewRun, by: &str) -> Result<()>;

    /// Asks a run to stop; done when that is durable.
    fn cancel(&mut self, run: &RunId, by: &str) -> Result<()>;

    /// How a run stands.
    fn standing(&mut self, run: &RunId) -> Result<Standing>;
}

/// The runs of a daemon.
pub(super) struct Managed {
    handle: Handle,
    runtime: Runtime,
}

impl Managed {
    /// Works through the manager of a root.
    pub(super) fn new(handle: Handle) -> std::io::Result<Self> {
        Ok(Self { handle, runtime: tokio::runtime::Builder::new_current_thread().build()? })
    }
}

impl Hands for Managed {
    fn create(&mut self, run: NewRun, by: &str) -> Result<()> {
        match self.runtime.block_on(self.handle.create(run, by)) {
            // Its id says of which schedule and time it is, whoever made it.
            Err(Error::Conflict(trouble)) if trouble.code == "run_exists" => Ok(()),
            other => other.map(drop),
        }
    }

    fn cancel(&mut self, run: &RunId, by: &str) -> Result<()> {
        let reason = Some("the next run of its schedule takes its place".to_owned());
        let deed = self.handle.deed(run, by, Flow::Outcome, move |open| open.cancel(reason, false));
        match self.runtime.block_on(deed) {
            // It ended meanwhile, or is not there any more.
            Err(Error::Conflict(_) | Error::NotFound(_)) => Ok(()),
            other => other.map(drop),
        }
    }

    fn standing(&mut self, run: &RunId) -> Result<Standing> {
        let asked = run.clone();
        let facts = self.handle.indexer().ask(move |index| index.run(&asked));
        if let Ok(Some(facts)) = facts {
            return Ok(match facts.state {
                "completed" => Standing::Succeeded,
                "failed" | "halted" | "cancelled" => Standing::Failed,
                _ => Standing::Open,
            });
        }
        // The index may be behind, or be made anew.
        match self.runtime.block_on(self.handle.find(run.as_str())) {
            Ok(_) => Ok(Standing::Open),
            Err(Error::NotFound(_)) => Ok(Standing::Gone),
            Err(e) => Err(e),
        }
    }
}
