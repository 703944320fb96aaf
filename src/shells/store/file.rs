//! The file behind the index: how it is opened, judged and made anew.
//!
//! May not know what the tables mean. Invariant: nothing is written to a file before its
//! write-ahead part was copied in and cut, so that no page of a failed commit is built upon.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::Result;
use crate::ports::disk::{self, Dir};

/// Name of the index in the root's own directory.
pub const INDEX_FILE: &str = "index.db";

/// Marks a SQLite file as ours: "dorm".
const APPLICATION_ID: i64 = 0x646f_726d;
/// Version of the tables. Another one is not read: everything in it can be made again.
const VERSION: i64 = 6;
const SCHEMA: &str = include_str!("schema.sql");
const PAGES_IN_WAL: i64 = 1_000;
const STATEMENTS_KEPT: usize = 64;

/// What was found at opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There was none.
    Fresh,
    /// It can be used as it is.
    Usable {
        /// The last frame that it contains.
        applied: u64,
    },
    /// It was of no use; this one is empty.
    Rebuild(Why),
}

impl Condition {
    /// The last frame that a usable index contains.
    #[must_use]
    pub const fn applied(&self) -> Option<u64> {
        match self {
            Self::Usable { applied } => Some(*applied),
            _ => None,
        }
    }
}

/// Why an index was of no use (X4, or it was never complete).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It cannot be read, or its pages do not fit together.
    Unreadable,
    /// The file is somebody else's.
    Foreign,
    /// Another version of dormouse made it.
    OtherVersion,
    /// A rebuild was not finished.
    Incomplete,
}

/// What the commit log says about itself after recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSpan {
    /// The first frame that is retained; nothing: the log is empty.
    pub first: Option<u64>,
    /// The last frame that ever was.
    pub last: u64,
}

/// Whether an index fits the commit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It contains everything.
    Current,
    /// X3: apply the frames from here on.
    Behind(u64),
    /// X1: frames that it lacks are gone; read the journals.
    Rebuild,
    /// X2: it contains frames that the log has lost.
    Witness,
}

/// Compares what the index contains with what the log holds.
#[must_use]
pub const fn judge(applied: u64, log: LogSpan) -> Verdict {
    if applied > log.last {
        return Verdict::Witness;
    }
    if applied == log.last {
        return Verdict::Current;
    }
    match log.first {
        Some(first) if applied + 1 >= first => Verdict::Behind(applied + 1),
        _ => Verdict::Rebuild,
    }
}

/// The row of figures about the index itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meta {
    pub(super) applied: u64,
    pub(super) generation: u64,
    pub(super) complete: bool,
    clean: bool,
}

/// Opens the file; one that is of no use is deleted and made anew.
pub(super) fn open(dir: &dyn Dir, path: &Path) -> Result<(Connection, Meta, Condition)> {
    let fresh = disk::optional(dir.stat(INDEX_FILE))?.is_none_or(|stat| stat.bytes == 0);
    if fresh {
        return Ok((make_anew(dir, path)?, Meta::default(), Condition::Fresh));
    }
    match open_judged(path) {
        Ok((db, meta)) => Ok((db, meta, Condition::Usable { applied: meta.applied })),
        Err(why) => Ok((make_anew(dir, path)?, Meta::default(), Condition::Rebuild(why))),
    }
}

fn open_judged(path: &Path) -> std::result::Result<(Connection, Meta), Why> {
    let db = connect(path).map_err(|_| Why::Unreadable)?;
    is_ours(&db)?;
    prepare(&db).map_err(|_| Why::Unreadable)?;
    let meta = meta_of_whole(&db, true)?;
    put_meta(&db, "clean", 0).map_err(|_| Why::Unreadable)?;
    Ok((db, meta))
}

/// Opens the file for looking: nothing is written, locked or mended. Only for a file that nobody
/// has open and that was closed cleanly.
pub(super) fn look(path: &Path) -> std::result::Result<(Connection, Meta), Why> {
    let mut uri = url::Url::from_file_path(path).map_err(|()| Why::Unreadable)?;
    uri.set_query(Some("immutable=1"));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(uri.as_str(), flags).map_err(|_| Why::Unreadable)?;
    is_ours(&db)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    let meta = meta_of_whole(&db, false)?;
    Ok((db, meta))
}

/// Whether this version made the file.
fn is_ours(db: &Connection) -> std::result::Result<(), Why> {
    match (pragma(db, "application_id"), pragma(db, "user_version")) {
        (Ok(APPLICATION_ID), Ok(VERSION)) => Ok(()),
        (Ok(APPLICATION_ID), Ok(_)) => Err(Why::OtherVersion),
        (Ok(_), Ok(_)) => Err(Why::Foreign),
        _ => Err(Why::Unreadable),
    }
}

/// Whether the file is whole; with `trusting` one that was closed cleanly is believed to be.
fn meta_of_whole(db: &Connection, trusting: bool) -> std::result::Result<Meta, Why> {
    let meta = meta(db).map_err(|_| Why::Unreadable)?;
    let is_whole = (trusting && meta.clean) || is_sound(db).map_err(|_| Why::Unreadable)?;
    if !is_whole {
        return Err(Why::Unreadable);
    }
    if meta.complete { Ok(meta) } else { Err(Why::Incomplete) }
}

/// Deletes what is there and makes an empty index.
pub(super) fn make_anew(dir: &dyn Dir, path: &Path) -> Result<Connection> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        disk::optional(dir.unlink(&format!("{INDEX_FILE}{suffix}")))?;
    }
    // Made here, so that nobody but its owner may read it.
    dir.create_excl(INDEX_FILE)?;
    let db = connect(path)?;
    db.pragma_update(None, "application_id", APPLICATION_ID)?;
    db.pragma_update(None, "user_version", VERSION)?;
    prepare(&db)?;
    db.execute_batch(&format!("BEGIN;\n{SCHEMA}\nCOMMIT;"))?;
    for name in ["applied_seq", "generation", "complete", "clean"] {
        put_meta(&db, name, 0)?;
    }
    Ok(db)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let db = Connection::open_with_flags(path, flags)?;
    // Before the first access: without it SQLite shares memory through a file of its own.
    db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "mmap_size", 0)?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(db)
}

/// What has to be done before the first write.
fn prepare(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "NORMAL")?;
    db.pragma_update(None, "wal_autocheckpoint", PAGES_IN_WAL)?;
    checkpoint(db, "TRUNCATE")
}

/// Copies the whole write-ahead part into the file, durably.
pub(super) fn checkpoint_full(db: &Connection) -> rusqlite::Result<()> {
    checkpoint(db, "FULL")
}

fn checkpoint(db: &Connection, mode: &str) -> rusqlite::Result<()> {
    let done = db.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    })?;
    match done {
        (0, pages, copied) if pages == copied => Ok(()),
        // Nobody else can hold it, so this does not happen to a sound file.
        _ => Err(rusqlite::Error::InvalidQuery),
    }
}

fn is_sound(db: &Connection) -> rusqlite::Result<bool> {
    Ok(db.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))? == "ok")
}

fn pragma(db: &Connection, name: &str) -> rusqlite::Result<i64> {
    db.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
}

pub(super) fn meta(db: &Connection) -> rusqlite::Result<Meta> {
    let figure = |name: &str| -> rusqlite::Result<i64> {
        db.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
    };
    Ok(Meta {
        applied: u64::try_from(figure("applied_seq")?).unwrap_or(0),
        generation: u64::try_from(figure("generation")?).unwrap_or(0),
        complete: figure("complete")? == 1,
        clean: figure("clean")? == 1,
    })
}

pub(super) fn put_meta(db: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?;
    put.execute(rusqlite::params![name, value])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_judged_by_the_log() {
        let log = |first, last| LogSpan { first, last };
        for (applied, log, verdict) in [
            (0, log(None, 0), Verdict::Current),
            (7, log(None, 7), Verdict::Current),
            (6, log(None, 7), Verdict::Rebuild),
            (8, log(None, 7), Verdict::Witness),
            (8, log(Some(5), 7), Verdict::Witness),
            (7, log(Some(5), 7), Verdict::Current),
            (5, log(Some(5), 7), Verdict::Behind(6)),
            (4, log(Some(5), 7), Verdict::Behind(5)),
            (3, log(Some(5), 7), Verdict::Rebuild),
        ] {
            assert_eq!(judge(applied, log), verdict, "{applied} {log:?}");
        }
    }
}
