//! Archiving: an ended run becomes one file in the root, and comes back.
//!
//! May not archive what an import would not bring back. Invariant: the directory goes only after
//! the archive was read back from the disk and verified, and the archive only after the directory
//! is durable.

use std::cell::Cell;
use std::path::PathBuf;

use crate::codecs::format::signature::SecretKey;
use crate::ground::id::RunId;
use crate::ports::disk::{self, Open};
use crate::services::export::archive::Archive;
use crate::services::export::import::Imported;
use crate::services::export::write::Target;
use crate::services::runs::custody::Custody;
use crate::services::runs::delete::Deletion;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::former::Former;
use crate::shells::run_dir::root::RootView;

/// A run that was archived.
#[derive(Debug)]
pub struct Archived {
    /// The run.
    pub run_id: RunId,
    /// Where it stands now.
    pub file: PathBuf,
    /// Size of that file.
    pub file_bytes: u64,
    /// Size of the files in it.
    pub bytes: u64,
    /// Nothing of its directory is left on the disk.
    pub is_gone: bool,
}

impl Runs {
    /// Puts an ended run into an archive of its root and removes its directory.
    ///
    /// # Errors
    /// As [`Runs::delete`]; also if something stands in its directory that is nothing of a run.
    pub fn archive(
        &self,
        root: &dyn Custody,
        reference: &str,
        keys_kept_ms: u64,
        key: Option<&SecretKey>,
    ) -> Result<Archived> {
        let how = Deletion { force: false, keys_kept_ms, dry_run: false };
        let written = Cell::new(None);
        let left = root.take_out(reference, how, &|view, dir, _| {
            written.set(Some(self.write_archive(view, dir, key)?));
            Ok(())
        })?;
        let archived = written.take().ok_or_else(|| bug("a run left without an archive"))?;
        Ok(Archived { is_gone: left.is_gone, ..archived })
    }

    /// Writes the archive of a run and verifies what the disk has of it.
    fn write_archive(
        &self,
        root: &RootView,
        dir: &RunDir,
        key: Option<&SecretKey>,
    ) -> Result<Archived> {
        let id = dir.id();
        let Some((above, name)) = root.archive_place(id)? else {
            return Err(bug("a root without a directory of its own"));
        };
        // What an earlier try left is not the run: its directory is.
        disk::optional(above.unlink(&name))?;
        let file = above.path().join(&name);
        let done = self.export_dir(dir, key, Target::File(&file))?;
        if let Some(first) = done.left_out.first() {
            disk::optional(above.unlink(&name))?;
            let what = format!("run {id} has files that no archive holds: {first}");
            let next = format!("move them out of {}, then try again", dir.path().display());
            return Err(Error::Conflict(Trouble::new("archive_incomplete", what).next(next)));
        }
        let written = above.open(&name, Open::Read)?;
        written.drop_cache()?;
        let file_bytes = written.stat()?.bytes;
        let archive = Archive::open(&*self.disk, &file, None)?;
        archive.verify()?;
        if archive.manifest.run_id != *id || archive.manifest.head != done.head {
            return Err(bug("an archive is not what was written"));
        }
        let (run_id, bytes) = (id.clone(), done.bytes);
        Ok(Archived { run_id, file, file_bytes, bytes, is_gone: false })
    }

    /// Makes a directory of an archived run again, and removes the archive.
    ///
    /// # Errors
    /// It is not archived, its archive is damaged, or there is no room.
    pub fn unarchive(&self, root: &dyn Custody, reference: &str) -> Result<Imported> {
        let (id, file) = self.archived(reference)?;
        let archive = Archive::open(&*self.disk, &file, None)?;
        if archive.manifest.run_id != id {
            let what = format!("{} holds run {}", file.display(), archive.manifest.run_id);
            return Err(Error::Damaged(Trouble::new("export_damaged", what)));
        }
        let state = archive.verify()?;
        let done = self.import_verified(root, &archive, &state, false)?;
        self.view_root()?.forget_archive(&id)?;
        Ok(done)
    }

    /// The archived run that `reference` means: an id, or the only one that begins with it.
    pub fn archived(&self, reference: &str) -> Result<(RunId, PathBuf)> {
        let root = self.view_root()?;
        let mut like = root.archived()?;
        if like.iter().any(|id| id.as_str() == reference) {
            like.retain(|id| id.as_str() == reference);
        } else {
            like.retain(|id| !reference.is_empty() && id.as_str().starts_with(reference));
        }
        if let [id] = like.as_slice()
            && let Some(Former::Archived(file)) = root.former(id)?
        {
            return Ok((id.clone(), file));
        }
        let what = match like.len() {
            0 => format!("no run {reference} is archived in {}", root.path().display()),
            n => format!("{reference:?} is the beginning of {n} archived runs"),
        };
        let trouble = Trouble::new("not_archived", what).next("dormouse run list --archived");
        Err(Error::NotFound(trouble))
    }
}

fn bug(what: &str) -> Error {
    Error::Bug(Trouble::new("bug", what))
}
