//! Taking a repair back: the bytes that stood before it are put where they were.
//!
//! May not judge a journal. Invariant: nothing that was appended after a repair is lost by taking
//! it back; whoever dies in the middle can repeat it.

use serde::{Deserialize, Serialize};

use crate::codecs::event::Head;
use crate::codecs::format::sealed;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{RunId, Seq};
use crate::ground::limits::RUN_JOURNAL_BYTES_MAX;
use crate::ports::disk::{self, Dir, Open, Rename};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::journal::reader;
use crate::shells::run_dir::dir::{RUN_LOCK, RunDir};

/// What seals the description of a copy.
const KIND: &str = "dormouse-before-repair/1";
/// Where copies are kept.
const QUARANTINE: &str = "quarantine";
/// How their names end.
pub(super) const BEFORE: &str = "-before";
/// Where what came since is moved to.
const AFTER: &str = "after";
/// The description of a copy that can be put back.
const READY: &str = "before.json";
/// Of one that is being put back.
const UNDER_WAY: &str = "undoing.json";
/// Of one that was put back.
const DONE: &str = "undone.json";
/// Longest description.
const DESCRIPTION_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Directories whose files a repair changes.
const CHANGED: &[&str] = &["journal", "state"];

/// A file as it stood before a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    path: String,
    bytes: u64,
    digest: Digest,
}

/// What stood before a repair, and where the journal ended after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Before {
    /// The run.
    pub run_id: RunId,
    /// Label of the case that was repaired.
    pub case: String,
    /// When.
    pub at: Timestamp,
    /// Where the journal ended after the repair.
    pub head: Head,
    files: Vec<Kept>,
    /// What a recovery had kept for the run, which the repair retired.
    tails: Vec<String>,
    /// Files beside the journal that were not there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    added: Vec<String>,
}

/// A repair of a run that can be taken back, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// Its folder below the run's directory.
    pub folder: String,
    /// What it is a copy of.
    #[serde(flatten)]
    pub before: Before,
    /// It was taken back.
    pub is_undone: bool,
}

/// Copies everything that a repair will change, of the files beside the journal those of `puts`;
/// gives the folder. Durable when it returns.
pub(super) fn keep(dir: &RunDir, case: &str, now: Timestamp, puts: Vec<String>) -> Result<Copy> {
    let folder = format!("{QUARANTINE}/{}-{case}{BEFORE}", now.stamp());
    let (mut files, mut added) = (Vec::new(), Vec::new());
    for path in changed(dir)?.into_iter().chain(puts) {
        let read = disk::optional(dir.read_relative(&path, RUN_JOURNAL_BYTES_MAX))?;
        let Some(bytes) = read else {
            added.push(path);
            continue;
        };
        dir.put_relative(&format!("{folder}/{path}"), &bytes)?;
        files.push(Kept { path, bytes: bytes.len() as u64, digest: Digest::of(&bytes) });
    }
    Ok(Copy { folder, files, added, tails: tails(dir)?, case: case.to_owned(), at: now })
}

/// A copy that has no description yet: it can be put back by hand alone.
pub(super) struct Copy {
    folder: String,
    files: Vec<Kept>,
    tails: Vec<String>,
    added: Vec<String>,
    case: String,
    at: Timestamp,
}

impl Copy {
    /// The repair is done, and the journal ends at `head`.
    pub(super) fn describe(self, dir: &RunDir, head: Head) -> Result<()> {
        let Self { folder, files, tails, added, case, at } = self;
        let before = Before { run_id: dir.id().clone(), case, at, head, files, tails, added };
        let bytes = sealed::seal(KIND, &before);
        Ok(dir.put_relative(&format!("{folder}/{READY}"), &bytes)?)
    }
}

fn changed(dir: &RunDir) -> Result<Vec<String>> {
    let mut paths = vec![RUN_LOCK.to_owned()];
    for folder in CHANGED {
        let names = disk::optional(dir.list_relative(folder))?.unwrap_or_default();
        paths.extend(names.into_iter().map(|name| format!("{folder}/{name}")));
    }
    Ok(paths)
}

fn tails(dir: &RunDir) -> Result<Vec<String>> {
    let names = disk::optional(dir.list_relative(QUARANTINE))?.unwrap_or_default();
    Ok(names.into_iter().filter(|name| name.starts_with("tail-g")).collect())
}

impl Runs {
    /// Repairs of a run whose bytes are kept, latest first.
    pub fn repairs(&self, reference: &str) -> Result<Vec<Repair>> {
        all(&self.find(reference)?)
    }

    /// Takes the latest repair of a run back: its files are what they were before.
    ///
    /// # Errors
    /// There is none, the run went on since, or the kept bytes are damaged: nothing is changed.
    pub fn undo_repair(&self, reference: &str) -> Result<Repair> {
        let dir = self.find(reference)?;
        let _root = self.guard(&dir)?;
        self.undo_held(&dir)
    }

    /// The same for whoever holds the root that the run stands in.
    pub fn undo_held(&self, dir: &RunDir) -> Result<Repair> {
        let _lock = dir.lock(self.lock_wait_ms, &*self.clock)?;
        let Some(latest) = all(dir)?.into_iter().find(|repair| !repair.is_undone) else {
            let what = format!("no repair of run {} can be taken back", dir.id());
            let next = format!("dormouse journal verify {}", dir.id());
            return Err(Error::NotFound(Trouble::new("nothing_to_undo", what).next(next)));
        };
        let place = place(dir, &latest.folder)?;
        if disk::optional(place.stat(READY))?.is_some() {
            went_on(dir, &latest)?;
            whole(dir, &latest)?;
            place.rename(READY, &*place, UNDER_WAY, Rename::Replace)?;
            place.sync()?;
        }
        put_back(dir, &latest)?;
        // The index stands where the repair has left the run.
        dir.touch()?;
        place.rename(UNDER_WAY, &*place, DONE, Rename::Replace)?;
        place.sync()?;
        Ok(Repair { is_undone: true, ..latest })
    }
}

fn place(dir: &RunDir, folder: &str) -> Result<std::sync::Arc<dyn Dir>> {
    let name = folder.strip_prefix("quarantine/").unwrap_or(folder);
    Ok(dir.dir().open_dir(QUARANTINE)?.open_dir(name)?)
}

fn all(dir: &RunDir) -> Result<Vec<Repair>> {
    let mut names = disk::optional(dir.list_relative(QUARANTINE))?.unwrap_or_default();
    names.retain(|name| name.ends_with(BEFORE));
    names.sort_by(|a, b| b.cmp(a));
    let mut repairs = Vec::new();
    for name in names {
        let folder = format!("{QUARANTINE}/{name}");
        let place = place(dir, &folder)?;
        for (file, is_undone) in [(UNDER_WAY, false), (READY, false), (DONE, true)] {
            let read = disk::optional(place.read_file(file, Open::Read, DESCRIPTION_BYTES_MAX))?;
            let Some(bytes) = read else { continue };
            let before = sealed::open(KIND, &bytes).map_err(|e| {
                let what = format!("{folder}/{file}: {e}");
                let next = "the copies beside it are whole or not at all: put them back by hand";
                Error::Damaged(Trouble::new("copy_damaged", what).next(next))
            })?;
            repairs.push(Repair { folder: folder.clone(), before, is_undone });
            break;
        }
    }
    Ok(repairs)
}

/// Refuses to lose what was appended after the repair.
fn went_on(dir: &RunDir, repair: &Repair) -> Result<()> {
    let found = reader::read_locked(dir, None).head;
    let expected = repair.before.head;
    if found == expected {
        return Ok(());
    }
    let (now, then) = (found.seq, expected.seq);
    let what = if now > Seq(then.0) {
        format!("the run went on: records {} to {now} would be lost", then.next())
    } else {
        format!("the journal ends at record {now}, the repair left it at record {then}")
    };
    let next = format!("put files back by hand from {}/{}", dir.path().display(), repair.folder);
    Err(Error::Conflict(Trouble::new("repair_built_upon", what).next(next)))
}

/// Reads every kept byte before anything is changed.
fn whole(dir: &RunDir, repair: &Repair) -> Result<()> {
    for kept in &repair.before.files {
        kept_bytes(dir, repair, kept)?;
    }
    Ok(())
}

fn kept_bytes(dir: &RunDir, repair: &Repair, kept: &Kept) -> Result<Vec<u8>> {
    let path = format!("{}/{}", repair.folder, kept.path);
    let bytes = dir.read_relative(&path, RUN_JOURNAL_BYTES_MAX)?;
    if bytes.len() as u64 == kept.bytes && Digest::of(&bytes) == kept.digest {
        return Ok(bytes);
    }
    let what = format!("{path} has other bytes than were kept");
    Err(Error::Damaged(Trouble::new("copy_damaged", what)))
}

/// Puts every file back and sets those aside that came since. Can be repeated.
fn put_back(dir: &RunDir, repair: &Repair) -> Result<()> {
    let place = place(dir, &repair.folder)?;
    let is_kept = |path: &str| repair.before.files.iter().any(|kept| kept.path == path);
    for folder in CHANGED {
        let Some(there) = disk::optional(dir.dir().open_dir(folder))? else { continue };
        let after = place.ensure_durable_dir(AFTER)?.ensure_durable_dir(folder)?;
        for name in there.list()? {
            if !is_kept(&format!("{folder}/{name}")) {
                there.rename(&name, &*after, &name, Rename::Replace)?;
            }
        }
        there.sync()?;
        after.sync()?;
    }
    for path in &repair.before.added {
        dir.move_relative(path, &format!("{}/{AFTER}/{path}", repair.folder))?;
    }
    for kept in &repair.before.files {
        let bytes = kept_bytes(dir, repair, kept)?;
        if kept.path == RUN_LOCK {
            // The lock is held by its file: what it says changes, the file does not.
            let lock = dir.dir().open(RUN_LOCK, Open::Write)?;
            lock.truncate(0)?;
            lock.write_at(0, &bytes)?;
            lock.sync_file()?;
        } else {
            dir.put_relative(&kept.path, &bytes)?;
        }
    }
    let quarantine = dir.dir().open_dir(QUARANTINE)?;
    for tail in &repair.before.tails {
        let retired = format!("repaired-{tail}");
        disk::optional(quarantine.rename(&retired, &*quarantine, tail, Rename::Replace))?;
    }
    Ok(quarantine.sync()?)
}
