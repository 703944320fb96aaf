//! The disk port: every file operation of the project, as object-safe traits.
//!
//! [`std::StdDisk`] is the machine's disk, [`memory::MemoryDisk`] one that crashes, tears and fails
//! on demand, [`fault::FaultDisk`] one around another that refuses by a plan. May not know what the
//! files mean. Invariant: everything below an opened directory is named by single path components
//! and never reached through a symbolic link.

pub mod aligned;
pub mod fault;
pub mod memory;
pub mod socket;
pub mod std;

use ::std::any::Any;
use ::std::fmt;
use ::std::io;
use ::std::path::{Path, PathBuf};
use ::std::sync::Arc;
use ::std::sync::atomic::{AtomicU64, Ordering};

use crate::ground::clock::Timestamp;

/// What a caller can do about a failed operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The name does not exist.
    NotFound,
    /// The name exists already.
    Exists,
    /// No room, no quota, or a size limit.
    NoSpace,
    /// This process, or the machine, has as many files open as it may.
    TooManyOpen,
    /// A symbolic link, or a file of another kind than asked for.
    WrongKind,
    /// More bytes than the caller allowed.
    TooLarge,
    /// The name is not a single path component.
    BadName,
    /// The filesystem lacks the operation, or is read-only, or permission is missing.
    Denied,
    /// Anything else: an input/output error.
    Broken,
}

impl Kind {
    /// What an error of the system means to a caller.
    #[must_use]
    pub fn of(source: &io::Error) -> Self {
        use rustix::io::Errno;
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOENT) => Self::NotFound,
            Some(Errno::EXIST | Errno::NOTEMPTY) => Self::Exists,
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Self::NoSpace,
            Some(Errno::MFILE | Errno::NFILE) => Self::TooManyOpen,
            Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO) => Self::WrongKind,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::OPNOTSUPP | Errno::NOLCK) => {
                Self::Denied
            }
            _ => Self::Broken,
        }
    }

    /// Whether the disk is well and something is short that may come back: room, or descriptors.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::NoSpace | Self::TooManyOpen)
    }
}

/// A failed operation: what was done, on what, and what the system said.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}", path.display())]
pub struct Error {
    /// The operation, as a verb.
    pub op: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the caller can do.
    pub kind: Kind,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The result of a disk operation.
pub type Result<T> = ::std::result::Result<T, Error>;

impl Error {
    /// Wraps what the system said.
    #[must_use]
    pub fn new(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { op, path: path.into(), kind: Kind::of(&source), source }
    }

    /// An error found by the port itself.
    #[must_use]
    pub fn of_kind(op: &'static str, path: impl Into<PathBuf>, kind: Kind, why: &str) -> Self {
        Self { op, path: path.into(), kind, source: io::Error::other(why.to_owned()) }
    }

    /// Whether the name does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// Whether the name exists already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.kind == Kind::Exists
    }
}

/// Turns an absent file into nothing.
pub fn optional<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// What stands behind a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A pipe, socket or device.
    Other,
}

/// What the filesystem says about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Its size.
    pub bytes: u64,
    /// Names that lead to it.
    pub links: u64,
    /// Its owner.
    pub uid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Its number, unique on its filesystem at a time.
    pub inode: u64,
    /// When its content, owner or name changed last.
    pub changed: Timestamp,
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// For reading, through the page cache.
    Read,
    /// For reading and writing.
    Write,
    /// For reading what the device holds: past the page cache where the filesystem can do that,
    /// otherwise the cache is dropped first.
    Truth,
    /// For reading and writing past the page cache; a write is durable when it returns. Memory,
    /// offset and length must be multiples of [`FileHandle::dio_alignment`], which says whether
    /// this works: opening succeeds in places where it does not.
    Direct,
}

/// What a rename does to a file that has the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// Takes its place.
    Replace,
    /// Fails with [`Kind::Exists`].
    NoReplace,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// What promises a filesystem gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FsClass {
    /// Local and durable.
    Durable(&'static str),
    /// In memory: gone after a restart of the machine.
    Volatile(&'static str),
    /// Over a network, in user space, or unknown: locks and syncs mean nothing certain.
    Unfit(String),
}

/// A disk: where paths begin.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens a directory by path; symbolic links on the way there are followed.
    fn open_dir(&self, path: &Path) -> Result<Arc<dyn Dir>>;
    /// Makes a directory (0700) and whatever is missing above it, durably.
    fn create_dirs(&self, path: &Path) -> Result<()>;
    /// The path without links and dots.
    fn canonicalize(&self, path: &Path) -> Result<PathBuf>;
    /// A file that a user named, up to `max` bytes.
    fn read_user_file(&self, path: &Path, max: u64) -> Result<Vec<u8>>;
    /// The number of this start of the machine; empty if unknown.
    fn boot_id(&self) -> String;
    /// Who this process acts as.
    fn effective_uid(&self) -> u32;
    /// Sixteen random bytes.
    fn random(&self) -> [u8; 16];
}

/// An open directory.
pub trait Dir: fmt::Debug + Send + Sync {
    /// Its path when it was opened, for messages.
    fn path(&self) -> &Path;
    /// For comparing two directories of one disk.
    fn as_any(&self) -> &dyn Any;
    /// Opens a directory in it.
    fn open_dir(&self, name: &str) -> Result<Arc<dyn Dir>>;
    /// Opens a regular file in it.
    fn open(&self, name: &str, mode: Open) -> Result<Box<dyn FileHandle>>;
    /// Makes a new file (0600), open for writing.
    fn create_excl(&self, name: &str) -> Result<Box<dyn FileHandle>>;
    /// Opens a file for writing, making it (0600) if it is missing.
    fn open_or_create(&self, name: &str) -> Result<Box<dyn FileHandle>>;
    /// Renames `from` to `to` in `target`, which may be this directory.
    fn rename(&self, from: &str, target: &dyn Dir, to: &str, mode: Rename) -> Result<()>;
    /// Renames a file whose name is not UTF-8 and that [`Dir::list`] shows as `shown`; replaces.
    fn rename_shown(&self, shown: &str, target: &dyn Dir, to: &str) -> Result<()>;
    /// Gives `from` the further name `to` in `target`.
    fn link(&self, from: &str, target: &dyn Dir, to: &str) -> Result<()>;
    /// Removes a file's name.
    fn unlink(&self, name: &str) -> Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, name: &str) -> Result<()>;
    /// Makes a directory (0700).
    fn mkdir(&self, name: &str) -> Result<()>;
    /// All names in it, sorted. A name that is not UTF-8 is shown with replacement characters.
    fn list(&self) -> Result<Vec<String>>;
    /// What stands behind a name, without following a link.
    fn stat(&self, name: &str) -> Result<Stat>;
    /// What is known about the directory itself.
    fn stat_self(&self) -> Result<Stat>;
    /// Makes the names in it durable.
    fn sync(&self) -> Result<()>;
    /// Asks for everything unsynced on its filesystem to be written. Says nothing about single
    /// files: whoever promises one syncs that one.
    fn sync_filesystem(&self) -> Result<()>;
    /// What its filesystem promises.
    fn fs_class(&self) -> Result<FsClass>;
    /// Bytes that are free for us on its filesystem.
    fn free_space(&self) -> Result<u64>;

    /// The content of a regular file, up to `max` bytes.
    fn read_file(&self, name: &str, mode: Open, max: u64) -> Result<Vec<u8>> {
        self.open(name, mode)?.read_all(max)
    }

    /// Opens a directory in it, making it first if it is missing.
    fn ensure_dir(&self, name: &str) -> Result<Arc<dyn Dir>> {
        match self.open_dir(name) {
            Err(e) if e.is_not_found() => match self.mkdir(name) {
                Err(e) if !e.is_exists() => Err(e),
                _ => self.open_dir(name),
            },
            other => other,
        }
    }

    /// The same, and its name is durable. One that exists is trusted only after a sync too:
    /// whoever made it may have died before theirs.
    fn ensure_durable_dir(&self, name: &str) -> Result<Arc<dyn Dir>> {
        let dir = self.ensure_dir(name)?;
        self.sync()?;
        Ok(dir)
    }
}

/// An open file.
pub trait FileHandle: fmt::Debug + Send + Sync {
    /// Reads up to `into.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize>;
    /// The whole content; an error if it is longer than `max`.
    fn read_all(&self, max: u64) -> Result<Vec<u8>>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()>;
    /// Makes the content durable, and the size if it changed.
    fn sync_data(&self) -> Result<()>;
    /// Makes content and metadata durable.
    fn sync_file(&self) -> Result<()>;
    /// Sets the size.
    fn truncate(&self, bytes: u64) -> Result<()>;
    /// What is known about it.
    fn stat(&self) -> Result<Stat>;
    /// Sets the permission bits.
    fn set_mode(&self, mode: u32) -> Result<()>;
    /// What direct input and output must be aligned to; nothing where it is not to be had.
    fn dio_alignment(&self) -> Result<Option<u32>>;
    /// Drops clean cached pages, so that the next read asks the device.
    fn drop_cache(&self) -> Result<()>;
    /// Pages that are still cached; nothing if that cannot be known.
    fn cached_pages(&self) -> Option<u64>;
    /// Takes a lock that lives as long as this handle; false if somebody else holds it.
    fn try_lock(&self, lock: Lock) -> Result<bool>;
}

/// Whether `name` is one component that stays in its directory.
#[must_use]
pub fn is_component(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name != "."
        && name != ".."
        && !name.contains(['/', '\0'])
}

/// A name for a temporary file that becomes `name`: `.<name>.tmp-<pid>-<n>`.
#[must_use]
pub fn temporary_name(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(".{name}.tmp-{}-{n}", ::std::process::id())
}

/// Whether `name` is one that [`temporary_name`] gives.
#[must_use]
pub fn is_temporary(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    name.starts_with('.')
        && name.rsplit_once(".tmp-").is_some_and(|(_, tail)| {
            tail.split_once('-').is_some_and(|(pid, n)| number(pid) && number(n))
        })
}

/// Whether an atomic write survives power loss, and whether it is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Atomic {
    /// Synced, file and directory, before it returns. Derived files need not be.
    pub durable: bool,
    /// What becomes of a file of this name.
    pub rename: Rename,
    /// Permission bits.
    pub mode: u32,
}

impl Atomic {
    /// Durable, replaces.
    pub const DURABLE: Self = Self { durable: true, rename: Rename::Replace, mode: 0o600 };
    /// Durable, refuses to replace.
    pub const NEW: Self = Self { durable: true, rename: Rename::NoReplace, mode: 0o600 };
    /// Replaces, not synced.
    pub const DERIVED: Self = Self { durable: false, rename: Rename::Replace, mode: 0o600 };
}

/// Writes a whole file so that its name shows the old content or the new, never a mixture: a
/// temporary file beside it, then a rename. On an error the temporary file is removed.
pub fn write_atomic(dir: &dyn Dir, name: &str, bytes: &[u8], how: Atomic) -> Result<()> {
    let temporary = temporary_name(name);
    let file = dir.create_excl(&temporary)?;
    let done = (|| {
        file.write_at(0, bytes)?;
        if how.mode != 0o600 {
            file.set_mode(how.mode)?;
        }
        if how.durable {
            file.sync_file()?;
        }
        dir.rename(&temporary, dir, name, how.rename)
    })();
    if let Err(e) = done {
        // The first error is the one to report; a left-over temporary file is harmless (J34).
        let _ = dir.unlink(&temporary);
        return Err(e);
    }
    if how.durable { dir.sync() } else { Ok(()) }
}
