//! The index of a root: where runs stand, what is open, what will wake them. SQLite, derived.
//!
//! May not know what is in a journal: it is told. Invariant: one transaction takes the index from
//! one batch to a later one; whatever fails in it makes the file worthless, and it is made anew.

mod file;
mod pages;
mod read;
mod ready;
mod rows;
mod write;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;

use crate::codecs::event::Head;
use crate::ground::id::RunId;
use crate::machines::replay::facts::Update;
use crate::ports::disk::{self, Dir, Disk};

pub use file::{Condition, INDEX_FILE, LogSpan, Verdict, Why, judge};
pub use pages::{
    BadCursor, EffectFilter, EffectPage, EffectPlace, Order, RunFilter, RunPage, RunPlace,
};
pub use read::{CreateKey, Timer, Waiter};
pub use ready::{Candidates, Claimed, Inside, ReadyFilter};
pub use rows::EffectRow;

/// What the caller can do when the index fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// X4: make it anew, with [`Index::reset`].
    #[error("the index is of no use any more: {0}")]
    Useless(#[from] rusqlite::Error),
    /// The disk refuses: there is no index until that is mended.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

/// The result of an operation on the index.
pub type Result<T> = std::result::Result<T, Error>;

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A run went on. An update that builds on more than the index has is not applied: the run is
    /// noted to be read again.
    Put(Box<Update>),
    /// What was found in a journal, for a row that is wrong or missing. Nothing happens when the
    /// row is not the one any more that was seen.
    Mend {
        /// The run.
        run: RunId,
        /// The head that the row had; nothing: there was no row.
        seen: Option<Head>,
        /// What is right; nothing: there is no such run.
        right: Option<Box<Update>>,
    },
    /// The run is deleted.
    Gone(RunId),
}

/// Changes that belong together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// The last frame of the commit log that they contain; 0: they come from journals.
    pub frame: u64,
    /// In order.
    pub changes: Vec<Change>,
}

/// How many there are, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Counts {
    /// Runs by state.
    pub runs: BTreeMap<String, u64>,
    /// Open effects by kind.
    pub effects: BTreeMap<String, u64>,
}

/// The open index of a root. One owner: the file is locked for as long as it lives.
#[derive(Debug)]
pub struct Index {
    dir: Arc<dyn Dir>,
    path: PathBuf,
    /// Nothing only while the file is being made anew.
    db: Option<Connection>,
    counts: Counts,
    applied: u64,
    complete: bool,
    missed: bool,
}

impl Index {
    /// Opens the index in directory `path`. A file that is of no use is deleted and made anew.
    pub fn open(disk: &dyn Disk, path: &std::path::Path) -> Result<(Self, Condition)> {
        let dir = disk.open_dir(path)?;
        let path = disk.canonicalize(path)?.join(INDEX_FILE);
        let (db, meta, condition) = file::open(&*dir, &path)?;
        let (applied, complete) = (meta.applied, meta.complete);
        let mut index = Self {
            dir,
            path,
            db: Some(db),
            counts: Counts::default(),
            applied,
            complete,
            missed: false,
        };
        if index.count().is_ok() {
            return Ok((index, condition));
        }
        index.reset()?;
        Ok((index, Condition::Rebuild(Why::Unreadable)))
    }

    /// Opens the index in directory `path` for looking alone: nothing is written or mended. Nothing
    /// if there is none.
    pub fn look(
        disk: &dyn Disk,
        path: &std::path::Path,
    ) -> Result<Option<std::result::Result<Self, Why>>> {
        let dir = disk.open_dir(path)?;
        if disk::optional(dir.stat(INDEX_FILE))?.is_none_or(|stat| stat.bytes == 0) {
            return Ok(None);
        }
        let path = disk.canonicalize(path)?.join(INDEX_FILE);
        Ok(Some(file::look(&path).map(|(db, meta)| Self {
            dir,
            path,
            db: Some(db),
            counts: Counts::default(),
            applied: meta.applied,
            complete: meta.complete,
            missed: false,
        })))
    }

    /// Deletes the file and makes an empty one: everything must be told anew.
    pub fn reset(&mut self) -> Result<()> {
        self.db = None;
        self.db = Some(file::make_anew(&*self.dir, &self.path)?);
        (self.counts, self.applied, self.complete) = (Counts::default(), 0, false);
        Ok(())
    }

    /// The last frame of the commit log that the index contains.
    #[must_use]
    pub const fn applied(&self) -> u64 {
        self.applied
    }

    /// Whether every run of the root is in it.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether a change since the last call built on more than the index had: [`Index::rereads`]
    /// names the runs.
    pub const fn has_missed(&mut self) -> bool {
        std::mem::replace(&mut self.missed, false)
    }

    /// How many runs and open effects there are.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Says whether every run of the root is in it.
    pub fn set_complete(&mut self, complete: bool) -> Result<()> {
        file::put_meta(self.db()?, "complete", i64::from(complete))?;
        self.complete = complete;
        Ok(())
    }

    /// The generation of the root that wrote it last.
    pub fn generation(&self) -> Result<u64> {
        Ok(file::meta(self.db()?)?.generation)
    }

    /// Notes the generation of the root that writes it from here on.
    pub fn set_generation(&mut self, generation: u64) -> Result<()> {
        let generation = i64::try_from(generation).unwrap_or(i64::MAX);
        Ok(file::put_meta(self.db()?, "generation", generation)?)
    }

    /// Makes everything that was applied durable in the file itself.
    pub fn checkpoint_full(&self) -> Result<()> {
        Ok(file::checkpoint_full(self.db()?)?)
    }

    /// Closes it cleanly: the next opening need not check every page.
    pub fn close(self) -> Result<()> {
        let db = self.db()?;
        file::put_meta(db, "clean", 1)?;
        file::checkpoint_full(db)?;
        Ok(())
    }

    fn db(&self) -> std::result::Result<&Connection, rusqlite::Error> {
        self.db.as_ref().ok_or(rusqlite::Error::InvalidQuery)
    }

    fn count(&mut self) -> Result<()> {
        self.counts = read::counts(self.db()?)?;
        Ok(())
    }
}
