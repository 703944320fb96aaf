//! Who may write: `run.lock` and `root.lock`.
//!
//! The lock is the kernel's flock; the text in the file is a note for people, and says whether the
//! last writer ended cleanly. May not know what is protected. Invariant: the text never decides
//! whether the lock is free.

use crate::codecs::event::Head;
use crate::ground::clock::{Clock, Timestamp};
use crate::ground::digest::Sum;
use crate::ground::id::Seq;
use crate::ground::sabotage::{self, Guard};
use crate::ports::disk::{self, Dir, Disk, FileHandle, FileKind, Kind, Lock, Open};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

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
    #[error("{} is locked by {}", path.display(), holder.as_deref().unwrap_or("somebody"))]
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
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        let cmd = words.collect::<Vec<_>>().join(" ");
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
    dir: Arc<dyn Dir>,
    name: &'static str,
    holder: Holder,
    before: Before,
}

/// What the text said when the lock was taken.
#[derive(Debug)]
enum Before {
    Nothing,
    Note(Note),
    /// Torn, foreign, or of a newer version.
    Unreadable,
}

/// Takes the lock `name` in `dir`, waiting up to `wait_ms`.
pub fn take(
    dir: &Arc<dyn Dir>,
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
        while !is_taken(&*file, lock)? {
            if left_ms == 0 {
                let path = dir.path().join(name);
                return Err(Error::Busy { path, holder: read(&*file).note().map(Note::describe) });
            }
            let pause = left_ms.min(POLL_MS);
            clock.sleep_millis(pause);
            left_ms -= pause;
        }
        // Somebody may have put another file in its place between opening and locking.
        if disk::optional(dir.stat(name))?.map(|s| s.inode) == Some(file.stat()?.inode) {
            let before = read(&*file);
            let held = Held { file, dir: Arc::clone(dir), name, holder, before };
            if lock == Lock::Exclusive {
                held.announce();
            }
            return Ok(held);
        }
    }
    let path = dir.path().join(name);
    Err(Error::NotALock { path, why: "it is replaced again and again".into() })
}

/// Takes the kernel's lock; false if somebody else has it.
fn is_taken(file: &dyn FileHandle, lock: Lock) -> disk::Result<bool> {
    if sabotage::is_removed(Guard::PidLock) {
        let pid = read(file).note().and_then(|note| Pid::from_raw(note.pid.cast_signed()));
        return Ok(pid.is_none_or(|pid| rustix::process::test_kill_process(pid).is_err()));
    }
    file.try_lock(lock)
}

fn open(dir: &Arc<dyn Dir>, name: &str, uid: u32) -> Result<Box<dyn FileHandle>, Error> {
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
    match read(&*dir.open(name, Open::Read).ok()?) {
        Before::Note(note) => Some(note),
        _ => None,
    }
}

fn read(file: &dyn FileHandle) -> Before {
    let bytes = file.read_all(NOTE_BYTES_MAX).unwrap_or_default();
    // One line: a writer that dies before it cuts the file leaves the end of a longer one.
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    match serde_json::from_slice::<Note>(line) {
        Ok(note) if note.v == 1 => Before::Note(note),
        _ if bytes.is_empty() => Before::Nothing,
        _ => Before::Unreadable,
    }
}

impl Before {
    fn note(&self) -> Option<&Note> {
        if let Self::Note(note) = self { Some(note) } else { None }
    }
}

impl Held {
    /// The note that was there when the lock was taken.
    #[must_use]
    pub fn before(&self) -> Option<&Note> {
        self.before.note()
    }

    /// Whether the last writer may have left bytes that look written and are not: it never said
    /// `closed`, and the page cache of that time is still this one. A text that cannot be read
    /// counts as well: all it costs is a copy.
    #[must_use]
    pub fn writer_died(&self) -> bool {
        match &self.before {
            Before::Nothing => false,
            Before::Unreadable => true,
            Before::Note(note) => {
                let known = !note.boot_id.is_empty() && !self.holder.boot_id.is_empty();
                let same_boot = !known || note.boot_id == self.holder.boot_id;
                note.state == State::Open && same_boot
            }
        }
    }

    /// Puts the new holder's name into the file and keeps what it says about the last writer. Best
    /// effort: it is for whoever waits.
    fn announce(&self) {
        let state = if self.writer_died() { State::Open } else { State::Closed };
        let closed = self.before().filter(|note| note.witness().is_some());
        let head = closed.and_then(|note| Some((note.head_seq, note.head_sum?)));
        let failures = self.before().map_or(0, |note| note.failures);
        let _ = self.write(state, head, failures);
    }

    /// Says in the file who holds the lock and how the run stands.
    pub fn write_note(&self, state: State, head: Head, failures: u32) -> disk::Result<()> {
        self.write(state, Some((head.seq, head.sum)), failures)
    }

    /// The same without a head, for what has none.
    pub fn write_bare_note(&self, state: State, failures: u32) -> disk::Result<()> {
        self.write(state, None, failures)
    }

    /// The same, durable: before records are cut that an older note vouches for.
    pub fn write_note_durably(&self, state: State, head: Head) -> disk::Result<()> {
        self.write_note(state, head, 0)?;
        self.file.sync_file()
    }

    fn write(&self, state: State, head: Option<(Seq, Sum)>, failures: u32) -> disk::Result<()> {
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
            head_seq: head.map_or(Seq(0), |(seq, _)| seq),
            head_sum: head.map(|(_, sum)| sum),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::clock::ManualClock;
    use crate::ports::disk::memory::MemoryDisk;
    use std::path::Path;

    fn locked(disk: &MemoryDisk, lock: Lock) -> Result<Held, Error> {
        let dir = disk.open_dir(Path::new("/")).unwrap();
        take(&dir, "run.lock", lock, 0, &ManualClock::default(), disk)
    }

    fn head() -> Head {
        Head { seq: Seq(3), sum: Sum::from_bytes([1; 16]) }
    }

    #[test]
    fn the_text_never_decides_whether_the_lock_is_free() {
        let disk = MemoryDisk::new(1);
        let other_boot = concat!(
            r#"{"v":1,"pid":1,"boot_id":"other","started":"2026-11-20T12:00:00.000000Z","exe":"","#,
            r#""cmd":"","host":"","state":"open","head_seq":3,"head_sum":null,"failures":0}"#
        );
        let texts =
            [("", false), ("x", true), ("\0\0", true), ("{\"v\":2}", true), (other_boot, false)];
        for (text, died) in texts {
            disk.tamper(Path::new("/run.lock"), |bytes| *bytes = text.as_bytes().to_vec());
            let held = locked(&disk, Lock::Exclusive).unwrap();
            assert_eq!(held.writer_died(), died, "{text}");
            assert!(matches!(locked(&disk, Lock::Exclusive), Err(Error::Busy { .. })));
            assert!(matches!(locked(&disk, Lock::Shared), Err(Error::Busy { .. })));
        }
        let (_one, _two) =
            (locked(&disk, Lock::Shared).unwrap(), locked(&disk, Lock::Shared).unwrap());
        assert!(matches!(locked(&disk, Lock::Exclusive), Err(Error::Busy { .. })));
    }

    #[test]
    fn a_writer_that_never_closed_in_this_boot_is_known_to_have_died() {
        let disk = MemoryDisk::new(1);
        locked(&disk, Lock::Exclusive).unwrap().write_note(State::Open, head(), 0).unwrap();
        // Taking the lock alone changes nothing about it.
        drop(locked(&disk, Lock::Exclusive).unwrap());
        let held = locked(&disk, Lock::Exclusive).unwrap();
        assert!(held.writer_died());
        assert_eq!(held.before().unwrap().witness(), None);
        held.write_note(State::Closed, head(), 0).unwrap();
        drop(held);
        drop(locked(&disk, Lock::Exclusive).unwrap());
        let held = locked(&disk, Lock::Exclusive).unwrap();
        assert!(!held.writer_died());
        assert_eq!(held.before().unwrap().witness(), Some(Seq(3)));
    }

    #[test]
    fn a_lock_file_that_was_replaced_or_is_none_is_noticed() {
        let disk = MemoryDisk::new(1);
        let held = locked(&disk, Lock::Exclusive).unwrap();
        assert!(held.still_in_place().unwrap());
        disk.open_dir(Path::new("/")).unwrap().unlink("run.lock").unwrap();
        disk.tamper(Path::new("/run.lock"), Vec::clear);
        assert!(!held.still_in_place().unwrap());
        disk.open_dir(Path::new("/")).unwrap().unlink("run.lock").unwrap();
        disk.put_symlink(Path::new("/run.lock"));
        assert!(matches!(locked(&disk, Lock::Shared), Err(Error::NotALock { .. })));
    }
}
