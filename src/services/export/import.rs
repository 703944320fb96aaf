//! Making a run of an export: in staging first, verified there, then under its name.
//!
//! May not overwrite. Invariant: nothing is written before the whole file was verified; the run
//! appears complete and durable, or not at all.

use std::io::Read;
use std::path::Path;

use crate::codecs::event::Head;
use crate::codecs::format::export::Entry;
use crate::codecs::format::signature::PublicKey;
use crate::ground::id::{EffectId, RunId};
use crate::ground::limits::DISK_FREE_BYTES_MIN;
use crate::machines::replay::state::RunState;
use crate::services::runs::create::load_process;
use crate::services::runs::custody::Custody;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::former::Former;
use crate::shells::run_dir::root::{self, RootView, Staged};

use super::archive::Archive;
use super::{CHUNK_BYTES, of_stream};

/// Nobody writes a large value a second time.
const BLOB_MODE: u32 = 0o444;

/// What was imported.
#[derive(Debug)]
pub struct Imported {
    /// The run.
    pub dir: RunDir,
    /// Where its journal ends now.
    pub head: Head,
    /// How it ended, if it has.
    pub end: Option<&'static str>,
    /// Effects that were started elsewhere and are closed here.
    pub elsewhere: Vec<EffectId>,
}

impl Runs {
    /// Makes a run of an export. One that has not ended is paused.
    ///
    /// # Errors
    /// The export does not verify, a run of its id exists, or there is no room.
    pub fn import(&self, root: &dyn Custody, archive: &Archive) -> Result<Imported> {
        let state = archive.verify()?;
        self.import_verified(root, archive, &state, true)
    }

    /// The same for a file on this machine. With `key`, only what that key signed is taken in.
    pub fn import_file(
        &self,
        root: &dyn Custody,
        file: &Path,
        key: Option<PublicKey>,
    ) -> Result<(Imported, Option<PublicKey>)> {
        let archive = Archive::open(&*self.disk, file, key)?;
        Ok((self.import(root, &archive)?, archive.signer))
    }

    /// The same for a file that was verified. `is_other`: it is not the root's own archive.
    pub(in crate::services) fn import_verified(
        &self,
        root: &dyn Custody,
        archive: &Archive,
        state: &RunState,
        is_other: bool,
    ) -> Result<Imported> {
        let mut made = None;
        root.bring_in(&archive.manifest.run_id, &mut |view| {
            if is_other
                && let Err(e @ root::Error::Former { former: Former::Archived(_), .. }) =
                    view.must_be_new(&archive.manifest.run_id)
            {
                return Err(e.into());
            }
            let done = self.import_into(view, archive, state)?;
            let head = done.head;
            made = Some(done);
            Ok(head)
        })?;
        made.ok_or_else(|| Error::Bug(Trouble::new("bug", "a run came in that nobody made")))
    }

    fn import_into(
        &self,
        root: &RootView,
        archive: &Archive,
        state: &RunState,
    ) -> Result<Imported> {
        let id = &archive.manifest.run_id;
        self.must_have_room(archive.manifest.bytes())?;
        let mut staged = root.stage_again(id)?;
        archive.each(&mut |entry, content| put(&mut staged, entry, content))?;
        // Judged again as it stands on the disk, with the code that it needs to go on.
        let seen = self.look_dir(staged.dir())?;
        if let Some(process) = &seen.state.process {
            load_process(&seen.dir, process)?;
        }
        let (mut head, mut elsewhere) = (seen.state.head, Vec::new());
        if state.end.is_none() {
            let is_here = |child: &RunId| root.run(child).is_ok();
            let mut run = self.open_dir(staged.dir(), None)?;
            let done = run.came_from_elsewhere(&origin(archive), &is_here);
            head = run.written();
            elsewhere = run.close_after(done)?;
        }
        let end = state.end.map(|(end, _)| end.name());
        let dir = staged.publish()?;
        // It is here again: nothing is left to say of how it went.
        root.forget_mark(id)?;
        Ok(Imported { dir, head, end, elsewhere })
    }

    fn must_have_room(&self, bytes: u64) -> Result<()> {
        let free = self.view_root()?.dir().free_space()?;
        if free >= bytes.saturating_add(DISK_FREE_BYTES_MIN) {
            return Ok(());
        }
        let what =
            format!("{bytes} bytes and a reserve do not fit into {free} bytes of free space");
        let trouble = Trouble::new("disk_full", what).next("free some space, then try again");
        Err(Error::Storage { trouble, unknown: false })
    }
}

/// Where the run comes from, for its journal.
fn origin(archive: &Archive) -> String {
    let manifest = &archive.manifest;
    let signer = archive.signer.map_or(String::new(), |key| format!(", signed by {key}"));
    format!(
        "imported from an export of {} by dormouse {}, head {}{signer}",
        manifest.exported_at, manifest.version, manifest.head.seq
    )
}

fn put(staged: &mut Staged, entry: &Entry, content: &mut dyn Read) -> Result<()> {
    let file = staged.create(&entry.path)?;
    let (mut at, mut chunk) = (0, vec![0; CHUNK_BYTES]);
    loop {
        let read = content.read(&mut chunk).map_err(|e| {
            of_stream(e, |e| {
                Error::Damaged(Trouble::new("export_damaged", format!("{}: {e}", entry.path)))
            })
        })?;
        if read == 0 {
            break;
        }
        file.write_at(at, &chunk[..read])?;
        at += read as u64;
    }
    if entry.path.starts_with("blobs/") {
        file.set_mode(BLOB_MODE)?;
    }
    Ok(file.sync_file()?)
}
