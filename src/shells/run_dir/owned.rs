//! A root in the hands of one process alone: a daemon, or a recovery.
//!
//! May not know what the commit log holds. Invariant: before anything else is written, the lock is
//! held exclusively and a new generation is durable, so that no two openings share a number.

use super::lock::{self, Held, Note, State};
use super::root::{Error, Options, ROOT_LOCK, RootView};
use super::root_file::{self, RootFile, RootJson, RootState};
use crate::ground::clock::{Clock, Timestamp};
use crate::ground::limits::FAILURES_WITHIN_MS;
use crate::ports::disk::{self, Dir, Disk, Lock};
use std::path::Path;
use std::sync::Arc;

/// A runs root, held alone.
#[derive(Debug)]
pub struct OwnedRoot {
    view: RootView,
    meta: Arc<dyn Dir>,
    file: Arc<RootFile>,
    found: RootJson,
    lock: Held,
}

impl OwnedRoot {
    /// Opens a root alone. `root.json` says `open` from now on; what was there before is
    /// [`Self::found`].
    ///
    /// # Errors
    /// Somebody holds the lock (named as far as its note tells), or the root is not to be used: R1,
    /// R3, R4, R5.
    pub fn open(
        disk: &Arc<dyn Disk>,
        path: &Path,
        options: &Options,
        clock: &dyn Clock,
    ) -> Result<Self, Error> {
        let (view, meta) = RootView::prepare(disk, path, options)?;
        let wait = options.wait_ms;
        let lock = lock::take(&meta, ROOT_LOCK, Lock::Exclusive, wait, clock, &**disk)?;
        let found = match root_file::read(&*meta)? {
            Some(json) => json,
            None => view.make_root_json(&*meta)?,
        };
        let file = Arc::new(RootFile::new(Arc::clone(&meta), found.clone()));
        // The machine's start stays the one of the last finished recovery: this one may die too.
        file.replace(|json| {
            json.generation += 1;
            json.state = RootState::Open;
        })?;
        view.sweep_staging();
        Ok(Self { view, meta, file, found, lock })
    }

    /// The root for looking.
    #[must_use]
    pub fn view(&self) -> &RootView {
        &self.view
    }

    /// Its own directory.
    #[must_use]
    pub fn meta(&self) -> &Arc<dyn Dir> {
        &self.meta
    }

    /// `root.json`.
    #[must_use]
    pub fn file(&self) -> &Arc<RootFile> {
        &self.file
    }

    /// What `root.json` said before it was opened.
    #[must_use]
    pub fn found(&self) -> &RootJson {
        &self.found
    }

    /// Whether the lock's name still leads to the file that is locked: if not, somebody else may
    /// own the root by now, and this process must stop.
    pub fn still_in_place(&self) -> disk::Result<bool> {
        self.lock.still_in_place()
    }

    /// Writes down how often in a row writing failed. Best effort.
    pub fn note_failures(&self, failures: u32) {
        let _ = self.lock.write_bare_note(State::Open, failures);
    }

    /// Counts one more failure in the note; an owner of long ago counts no more.
    #[must_use]
    pub fn note_failure(&self, now: Timestamp) -> u32 {
        let recent = |note: &&Note| now.millis() - note.started.millis() <= FAILURES_WITHIN_MS;
        let failures = self.lock.before().filter(recent).map_or(0, |note| note.failures) + 1;
        self.note_failures(failures);
        failures
    }

    /// Failures that the owner before this one wrote down.
    #[must_use]
    pub fn failures_before(&self) -> u32 {
        self.lock.before().map_or(0, |note| note.failures)
    }

    /// Lets the root go with every run directory complete: the commit log must be empty.
    pub fn rest(self) -> disk::Result<()> {
        self.file.replace(|json| json.state = RootState::AtRest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::ManualClock;
    use crate::ports::disk::memory::MemoryDisk;
    use crate::shells::run_dir::root::Root;

    fn open(disk: &MemoryDisk) -> Result<OwnedRoot, Error> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let options = Options { create: true, wait_ms: 40, allow_fs: None };
        OwnedRoot::open(&disk, Path::new("/runs"), &options, &ManualClock::default())
    }

    fn share(disk: &MemoryDisk) -> Result<Root, Error> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        Root::open(&disk, Path::new("/runs"), &Options::default(), &ManualClock::default())
    }

    #[test]
    fn the_second_opener_is_told_who_the_first_is() {
        let disk = MemoryDisk::new(1);
        let first = open(&disk).unwrap();
        let expected = format!("pid {}", std::process::id());
        for refused in [open(&disk).err(), share(&disk).err()] {
            let Some(Error::Lock(lock::Error::Busy { holder, .. })) = refused else { panic!() };
            assert!(holder.unwrap().starts_with(&expected));
        }
        first.rest().unwrap();
        let shared = share(&disk).unwrap();
        assert!(matches!(open(&disk), Err(Error::Lock(lock::Error::Busy { .. }))));
        drop(shared);
        open(&disk).unwrap();
        assert!(matches!(share(&disk), Err(Error::NeedsRecovery(_))));
    }

    #[test]
    fn every_opening_has_a_number_of_its_own_wherever_it_dies() {
        for nth in 1.. {
            let disk = MemoryDisk::new(nth);
            drop(open(&disk).unwrap());
            disk.fail_at(nth, crate::ports::disk::memory::Fault::Die);
            let died = open(&disk).is_err();
            if !disk.is_dead() {
                assert!(!died && nth > 4, "{nth}");
                break;
            }
            disk.power_cut();
            let opened = open(&disk).unwrap();
            let json = opened.file().json();
            assert!((2..=3).contains(&json.generation), "{json:?}");
            assert_eq!(opened.found().generation + 1, json.generation);
            assert_eq!(json.state, RootState::Open);
        }
    }

    #[test]
    fn a_lock_file_that_was_taken_away_is_noticed() {
        let disk = MemoryDisk::new(1);
        let root = open(&disk).unwrap();
        assert!(root.still_in_place().unwrap());
        root.note_failures(2);
        root.meta().unlink(ROOT_LOCK).unwrap();
        assert!(!root.still_in_place().unwrap());
    }

    #[test]
    fn failures_soon_after_each_other_are_counted() {
        let disk = MemoryDisk::new(1);
        let now = Timestamp::default();
        for count in 1..=3 {
            assert_eq!(open(&disk).unwrap().note_failure(now), count);
        }
        let late = now.plus_millis(FAILURES_WITHIN_MS + 1);
        assert_eq!(open(&disk).unwrap().note_failure(late), 1);
    }

    #[test]
    fn failures_are_remembered_by_the_next_owner() {
        let disk = MemoryDisk::new(1);
        let root = open(&disk).unwrap();
        assert_eq!(root.failures_before(), 0);
        root.note_failures(2);
        drop(root);
        assert_eq!(open(&disk).unwrap().failures_before(), 2);
    }
}
