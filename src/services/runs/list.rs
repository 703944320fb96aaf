//! Listing the runs of a root.
//!
//! May not lock or write. Invariant: a run that cannot be read is listed as what it is, damaged; it
//! hides no other.

use serde::Serialize;

use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;

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

impl Runs {
    /// All runs, oldest id first. A root that does not exist has none.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let root = match self.view_root() {
            Ok(root) => root,
            Err(super::Error::NotFound(_)) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        Ok(root.run_ids()?.into_iter().map(|id| self.entry(&root, id)).collect())
    }

    fn entry(&self, root: &crate::shells::run_dir::root::RootView, id: RunId) -> Entry {
        let seen = root.run(&id).map_err(super::Error::from).and_then(|dir| self.look_dir(dir));
        match seen {
            Err(e) => Entry {
                run_id: id,
                state: "damaged".into(),
                native_state: None,
                process_id: None,
                created_at: None,
                last_at: None,
                pending: 0,
                tags: Vec::new(),
                parent: None,
                problem: Some(e.to_string()),
            },
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
}
