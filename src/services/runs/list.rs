//! Listing the runs of a root.
//!
//! May not lock or write. Invariant: a run that cannot be read is listed as what it is, damaged; it
//! hides no other.

use serde::Serialize;

use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::machines::replay::facts::RunFacts;

use crate::shells::commit_log::overlay::{Overlay, overlay};
use crate::shells::run_dir::root::RootView;

use super::open::look_over;
use super::{Result, Runs, view};

/// One run of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its id.
    pub run_id: RunId,
    /// Its state's name; `damaged` if it cannot be read.
    pub state: String,
    /// Finer state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_state: Option<String>,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process_id: Option<String>,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Its last record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// Effects without an outcome.
    pub pending: usize,
    /// Words for finding it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Its parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<RunId>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl Entry {
    /// A run whose journal says nothing.
    fn unread(run_id: RunId, state: &str, problem: String) -> Self {
        Self {
            run_id,
            state: state.to_owned(),
            native_state: None,
            process_id: None,
            created_at: None,
            last_at: None,
            pending: 0,
            tags: Vec::new(),
            parent: None,
            problem: Some(problem),
        }
    }
}

impl From<RunFacts> for Entry {
    /// A run as the index knows it.
    fn from(run: RunFacts) -> Self {
        if let Some(problem) = run.problem {
            return Self::unread(run.run_id, run.state, problem);
        }
        Self {
            run_id: run.run_id,
            state: run.state.to_owned(),
            native_state: Some(run.native_state.to_owned()),
            process_id: run.process_id,
            created_at: Some(run.created_at),
            last_at: Some(run.last_at),
            pending: run.pending.values().map(|count| *count as usize).sum(),
            tags: run.tags,
            parent: run.parent.map(|parent| parent.run_id),
            problem: None,
        }
    }
}

impl Runs {
    /// All runs, oldest id first. A root that does not exist has none.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let root = match self.view_root() {
            Ok(root) => root,
            Err(super::Error::NotFound(_)) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let log = root.meta().map(|meta| overlay(&**meta)).unwrap_or_default();
        let mut ids = root.run_ids()?;
        ids.retain(|id| !log.is_gone(id));
        let unmade: Vec<RunId> = log.born().filter(|id| !ids.contains(id)).cloned().collect();
        let mut entries: Vec<Entry> = ids.into_iter().map(|id| entry(&root, id, &log)).collect();
        let why = "its directory is not made yet: a recovery of the root does it";
        entries.extend(unmade.into_iter().map(|id| Entry::unread(id, "created", why.to_owned())));
        entries.sort_by(|a, b| a.run_id.cmp(&b.run_id));
        Ok(entries)
    }
}

fn entry(root: &RootView, id: RunId, log: &Overlay) -> Entry {
    let seen = root.run(&id).map_err(super::Error::from).and_then(|dir| look_over(dir, log));
    match seen {
        Err(e) => Entry::unread(id, "damaged", e.to_string()),
        Ok(seen) => Entry {
            run_id: id,
            state: view::state_name(&seen.state).to_owned(),
            native_state: Some(view::native_state(&seen.state).to_owned()),
            process_id: seen.state.process.as_ref().map(|p| p.process_id.clone()),
            created_at: Some(seen.state.created_at),
            last_at: Some(seen.state.last_at),
            pending: seen.state.open.len(),
            tags: seen.state.tags.clone(),
            parent: seen.state.parent.as_ref().map(|p| p.run_id.clone()),
            problem: None,
        },
    }
}
