//! Runs that were here: the marks of those that were deleted, the archives of others.
//!
//! May not know what a run did, nor read an archive. Invariant: the mark of a run, or its archive,
//! is durable before its directory leaves the root, so that its id is never free in between.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::root::RootView;
use crate::codecs::event::Head;
use crate::codecs::format::sealed;
use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::ground::limits::REMOVED_MARK_BYTES_MAX;
use crate::ports::disk::{self, Atomic, Dir, Open};

/// Where archives stand, in the root's own directory.
pub const ARCHIVE: &str = "archive";
/// Where the marks of deleted runs stand, in the root's own directory.
pub const REMOVED: &str = "removed";
/// How the names of runs that left the root begin, in staging: no id of a run begins so.
pub(crate) const GONE: &str = ".gone-";

const SUFFIX: &str = ".dormouse";
const KIND: &str = "dormouse-removed/1";

/// What is left of a run that has no directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Former {
    /// It was deleted. Nothing more is known if its mark cannot be read.
    Deleted(Option<Box<Mark>>),
    /// It stands in this file.
    Archived(PathBuf),
}

/// What is kept of a deleted run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mark {
    /// The run.
    pub run_id: RunId,
    /// When it was deleted.
    pub at: Timestamp,
    /// Who did it.
    pub by: String,
    /// Where its journal ended, if it could be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub head: Option<Head>,
    /// How it ended, if it had.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<String>,
}

impl RootView {
    /// What is left of a run; whether its directory is there is another question.
    pub fn former(&self, run: &RunId) -> disk::Result<Option<Former>> {
        let Some(meta) = self.meta() else { return Ok(None) };
        let name = archive_name(run);
        let archive = disk::optional(meta.open_dir(ARCHIVE))?;
        let stands = archive.map_or(Ok(None), |dir| disk::optional(dir.stat(&name)))?;
        if stands.is_some() {
            return Ok(Some(Former::Archived(meta.path().join(ARCHIVE).join(name))));
        }
        let removed = disk::optional(meta.open_dir(REMOVED))?;
        let Some(removed) = removed else { return Ok(None) };
        if disk::optional(removed.stat(run.as_str()))?.is_none() {
            return Ok(None);
        }
        let mark = removed.read_file(run.as_str(), Open::Read, REMOVED_MARK_BYTES_MAX);
        let mark = mark.ok().and_then(|bytes| sealed::open::<Mark>(KIND, &bytes).ok());
        Ok(Some(Former::Deleted(mark.filter(|mark| mark.run_id == *run).map(Box::new))))
    }

    /// Keeps the mark of a run that is about to be deleted, durably.
    pub fn mark_removed(&self, mark: &Mark) -> disk::Result<()> {
        let Some(meta) = self.meta() else { return Ok(()) };
        let removed = meta.ensure_durable_dir(REMOVED)?;
        let bytes = sealed::seal(KIND, mark);
        disk::write_atomic(&*removed, mark.run_id.as_str(), &bytes, Atomic::DURABLE)
    }

    /// Removes the mark of a run that is there again.
    pub fn forget_mark(&self, run: &RunId) -> disk::Result<()> {
        self.forget(REMOVED, run.as_str())
    }

    /// Removes the archive of a run that is there again.
    pub fn forget_archive(&self, run: &RunId) -> disk::Result<()> {
        self.forget(ARCHIVE, &archive_name(run))
    }

    fn forget(&self, place: &str, name: &str) -> disk::Result<()> {
        let Some(meta) = self.meta() else { return Ok(()) };
        let Some(dir) = disk::optional(meta.open_dir(place))? else { return Ok(()) };
        match disk::optional(dir.unlink(name))? {
            Some(()) => dir.sync(),
            None => Ok(()),
        }
    }

    /// Deleted runs, sorted.
    pub fn removed(&self) -> disk::Result<Vec<RunId>> {
        let names = self.names_in(REMOVED)?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Archived runs, sorted.
    pub fn archived(&self) -> disk::Result<Vec<RunId>> {
        let names = self.names_in(ARCHIVE)?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(SUFFIX)?.parse().ok()).collect())
    }

    fn names_in(&self, place: &str) -> disk::Result<Vec<String>> {
        let dir = self.meta().map(|meta| disk::optional(meta.open_dir(place)));
        dir.transpose()?.flatten().map_or_else(|| Ok(Vec::new()), |dir| dir.list())
    }

    /// Where the archive of a run stands, or would; the directory above is made.
    pub fn archive_place(&self, run: &RunId) -> disk::Result<Option<(Arc<dyn Dir>, String)>> {
        let Some(meta) = self.meta() else { return Ok(None) };
        Ok(Some((meta.ensure_durable_dir(ARCHIVE)?, archive_name(run))))
    }
}

/// Whether a name in staging is that of a run that left the root: nobody needs what is there.
#[must_use]
pub fn is_gone(name: &str) -> bool {
    name.starts_with(GONE)
}

/// Where something may be left of a run, in the root's own directory: place and name.
#[must_use]
pub fn places(run: &RunId) -> [(&'static str, String); 2] {
    [(ARCHIVE, archive_name(run)), (REMOVED, run.to_string())]
}

fn archive_name(run: &RunId) -> String {
    format!("{run}{SUFFIX}")
}
