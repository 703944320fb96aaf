//! What doors ask for, as the manager's thread does it.
//!
//! May not know who asks. Invariant: a deed is followed by letting the run go on.

use std::path::PathBuf;

use serde_json::Value;

use crate::codecs::event::ProcessRef;
use crate::ground::id::RunId;
use crate::services::runs::create::NewRun;
use crate::services::runs::open::OpenRun;
use crate::services::runs::{Result, Runs};

use super::Manager;

/// A run that was created, or existed already under the same key.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its id.
    pub run_id: RunId,
    /// Its directory.
    pub path: PathBuf,
    /// Its process.
    pub process: Option<ProcessRef>,
    /// It existed already.
    pub existed: bool,
    /// What pinning and loading remarked.
    pub warnings: Vec<String>,
}

impl Manager {
    pub(super) fn create(&mut self, new: &NewRun, by: &str) -> Result<Made> {
        let runs = Runs { by: by.to_owned(), ..self.runs.clone() };
        let created = runs.create(new)?;
        let run_id = created.dir.id().clone();
        self.iterate(&run_id)?;
        Ok(Made {
            path: created.dir.path().to_owned(),
            run_id,
            process: created.process,
            existed: created.existed,
            warnings: created.warnings,
        })
    }

    pub(super) fn deed<T>(
        &mut self,
        id: &RunId,
        by: &str,
        act: impl FnOnce(&mut OpenRun) -> Result<T>,
    ) -> Result<T> {
        let mut run = self.runs.open(id.as_str())?;
        run.act_as(by);
        let done = act(&mut run);
        let went = done.and_then(|done| run.go_on().map(|_| done));
        let head = run.state().head.seq;
        let done = run.close_after(went);
        self.publish(id, head);
        done
    }

    pub(super) fn iterate(&mut self, id: &RunId) -> Result<Value> {
        let mut run = self.runs.open(id.as_str())?;
        let report = run.go_on().and_then(|progress| run.report(&progress.rest));
        let head = run.state().head.seq;
        let report = run.close_after(report);
        self.publish(id, head);
        report
    }
}
