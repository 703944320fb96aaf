//! Who may write: `run.lock` and `root.lock`.
//!
//! The lock is the kernel's flock; the text in the file is a note for people, and says whether the
//! last writer ended cleanly. May not know what is protected. Invariant: the text never decides
//! whether the lock is free.

use crate::codecs::event::Head;
use crate::ground::clock::{Clock, Timestamp};
use crate::ground::digest::Sum;
use crate::ground::id::Seq;
use crate::ports::disk::{self, Dir, Disk, FileHandle, FileKind, Kind, Lock, Open};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::rc::Rc;

/// The text is for people; more than this is not ours.
const NOTE_BYTES_MAX: u64 = 64 * 1024;
const POLL_MS: u64 = 20;

/// How the last writer left what the lock protects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Writing, or died writing.
    Open,
    /// Done: everything is durable and the head is the one in the note.
    Closed,
}

/// The text of a lock file: one line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Version of the note.
    pub v: u32,
    /// Process that wrote it.
    pub pid: u32,
    /// The machine's start in which it was written.
    pub boot_id: String,
    /// When its writer began.
    pub started: Timestamp,
    /// The writer's program.
    pub exe: String,
    /// The writer's command line, cut.
    pub cmd: String,
    /// The writer's machine.
    pub host: String,
    /// How it left the run.
    pub state: State,
    /// The last record, when closed.
    pub head_seq: Seq,
    /// Its sum.
    pub head_sum: Option<Sum>,
    /// Failed writes of this writer.
    pub failures: u32,
}

impl Note {
    /// For the message of whoever waits. The holder may be somebody else by now.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("pid {} on {}: {} (unverified)", self.pid, self.host, self.cmd)
    }

    /// The place that a closing note vouches for.
    #[must_use]
    pub fn witness(&self) -> Option<Seq> {
        (self.state == State::Closed && self.head_sum.is_some()).then_some(self.head_seq)
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else holds it: wait or give up.
    #[error("{} is locked{}", path.display(), holder.as_ref().map_or(String::new(), |h| format!(" by {h}")))]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// What its text says about the holder.
        holder: Option<String>,
    },
    /// R3: what has the lock's name is not a lock file of ours.
    #[error("{} is not a lock file: {why} [R3]", path.display())]
    NotALock {
        /// The file.
        path: PathBuf,
        /// What it is.
        why: String,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

/// What this process writes about itself.
#[derive(Debug, Clone)]
pub struct Holder {
    pid: u32,
    boot_id: String,
    started: Timestamp,
    exe: String,
    cmd: String,
    host: String,
}

impl Holder {
    /// This process, as its notes will name it.
    #[must_use]
    pub fn this_process(disk: &dyn Disk, clock: &dyn Clock) -> Self {
        let cmd = std::env::args().collect::<Vec<_>>().join(" ");
        Self {
            pid: std::process::id(),
            boot_id: disk.boot_id(),
            started: clock.now(),
            exe: std::env::current_exe()
                .map_or_else(|_| String::new(), |p| p.display().to_string()),
            cmd: cmd.chars().take(200).collect(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        }
    }
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Held {
    file: Box<dyn FileHandle>,
    dir: Rc<dyn Dir>,
    name: &'static str,
    holder: Holder,
    before: Option<Note>,
}

/// Takes the lock `name` in `dir`, waiting up to `wait_ms`.
pub fn take(
    dir: &Rc<dyn Dir>,
    name: &'static str,
    lock: Lock,
    wait_ms: u64,
    clock: &dyn Clock,
    disk: &dyn Disk,
) -> Result<Held, Error> {
    let holder = Holder::this_process(disk, clock);
    let mut left_ms = wait_ms;
    for _ in 0..3 {
        let file = open(dir, name, disk.effective_uid())?;
        while !file.try_lock(lock)? {
            if left_ms == 0 {
                let path = dir.path().join(name);
                return Err(Error::Busy { path, holder: text(&*file).map(|n| n.describe()) });
            }
            let step = left_ms.min(POLL_MS);
            clock.sleep_millis(step);
            left_ms -= step;
        }
        // Somebody may have put another file in its place between opening and locking.
        if disk::optional(dir.stat(name))?.map(|s| s.inode) == Some(file.stat()?.inode) {
            let before = text(&*file);
            return Ok(Held { file, dir: Rc::clone(dir), name, holder, before });
        }
    }
    let path = dir.path().join(name);
    Err(Error::NotALock { path, why: "it is replaced again and again".into() })
}

fn open(dir: &Rc<dyn Dir>, name: &str, uid: u32) -> Result<Box<dyn FileHandle>, Error> {
    let not = |why: &str| Error::NotALock { path: dir.path().join(name), why: why.to_owned() };
    let file = dir.open_or_create(name).map_err(|e| match e.kind {
        Kind::WrongKind => not("it is not a plain file"),
        Kind::Denied => not("it cannot be written"),
        _ => e.into(),
    })?;
    let stat = file.stat()?;
    if stat.kind != FileKind::File {
        return Err(not("it is not a plain file"));
    }
    if stat.uid != uid || stat.mode & 0o022 != 0 {
        return Err(not("others may write it"));
    }
    if stat.links > 1 {
        return Err(not("it has several names"));
    }
    Ok(file)
}

/// The note of a lock, without the lock. Text of any other form is no note.
#[must_use]
pub fn read_note(dir: &dyn Dir, name: &str) -> Option<Note> {
    text(&*dir.open(name, Open::Read).ok()?)
}

fn text(file: &dyn FileHandle) -> Option<Note> {
    let bytes = file.read_all(NOTE_BYTES_MAX).ok()?;
    serde_json::from_slice(&bytes).ok().filter(|note: &Note| note.v == 1)
}

impl Held {
    /// The note that was there when the lock was taken.
    #[must_use]
    pub fn before(&self) -> Option<&Note> {
        self.before.as_ref()
    }

    /// Whether the last writer may have left bytes that look written and are not: it never said
    /// `closed`, and the page cache of that time is still this one.
    #[must_use]
    pub fn writer_died(&self) -> bool {
        let same_boot = |note: &Note| {
            note.boot_id == self.holder.boot_id
                || note.boot_id.is_empty()
                || self.holder.boot_id.is_empty()
        };
        self.before.as_ref().is_some_and(|note| note.state == State::Open && same_boot(note))
    }

    /// Says in the file who holds the lock and how the run stands.
    pub fn write_note(&self, state: State, head: Head, failures: u32) -> disk::Result<()> {
        let holder = self.holder.clone();
        let note = Note {
            v: 1,
            pid: holder.pid,
            boot_id: holder.boot_id,
            started: holder.started,
            exe: holder.exe,
            cmd: holder.cmd,
            host: holder.host,
            state,
            head_seq: head.seq,
            head_sum: Some(head.sum),
            failures,
        };
        let mut line = serde_json::to_vec(&note).unwrap_or_default();
        line.push(b'\n');
        self.file.write_at(0, &line)?;
        self.file.truncate(line.len() as u64)
    }

    /// Whether the name still leads to the file that is locked.
    pub fn still_in_place(&self) -> disk::Result<bool> {
        let there = disk::optional(self.dir.stat(self.name))?;
        Ok(there.map(|stat| stat.inode) == Some(self.file.stat()?.inode))
    }
}
