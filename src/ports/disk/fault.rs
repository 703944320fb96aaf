//! A disk around another one that fails where a plan says.
//!
//! May not know what the files mean, and never makes up bytes: an operation is done, done in part,
//! refused, or the last thing this process did. Invariant: only operations that change something
//! are counted, each once, and a fault that hits is written down before it does.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;

use super::{Dir, Disk, Error, FileHandle, FsClass, Lock, Open, Rename, Result, Stat, optional};
use crate::ground::clock::{Clock as _, SystemClock};

/// What is done to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// It fails.
    Fail(Errno),
    /// So many bytes of a write are written, then it fails.
    Short(usize),
    /// After so many milliseconds the process is killed instead.
    Abort(u64),
    /// It is done so many milliseconds later.
    Delay(u64),
}

/// Which operations meet with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    deed: Deed,
    /// The first of the matching operations that is met.
    nth: u64,
    /// And all that follow.
    forever: bool,
    /// Only operations of this name.
    op: Option<String>,
    /// Only files whose path ends with this.
    path: Option<String>,
    /// Where it is written down how often it hit.
    witness: Option<PathBuf>,
}

/// A plan that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no plan of faults: nth=N,do=EIO|…|short:K|abort:MS|delay:MS[,times=forever]…")]
pub struct BadPlan(String);

impl FromStr for Plan {
    type Err = BadPlan;

    fn from_str(text: &str) -> std::result::Result<Self, BadPlan> {
        let bad = || BadPlan(text.to_owned());
        let mut plan = Self {
            deed: Deed::Delay(0),
            nth: 1,
            forever: false,
            op: None,
            path: None,
            witness: None,
        };
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(bad)?;
            match name {
                "nth" => plan.nth = value.parse().map_err(|_| bad())?,
                "do" => plan.deed = deed(value).ok_or_else(bad)?,
                "times" => plan.forever = value == "forever",
                "op" => plan.op = Some(value.to_owned()),
                "path" => plan.path = Some(value.to_owned()),
                "witness" => plan.witness = Some(value.into()),
                _ => return Err(bad()),
            }
        }
        Ok(plan)
    }
}

fn deed(text: &str) -> Option<Deed> {
    let number = |text: &str| text.parse().ok();
    Some(match text.split_once(':') {
        Some(("short", bytes)) => Deed::Short(usize::try_from(number(bytes)?).ok()?),
        Some(("abort", millis)) => Deed::Abort(number(millis)?),
        Some(("delay", millis)) => Deed::Delay(number(millis)?),
        Some(_) => return None,
        None => Deed::Fail(match text {
            "EIO" => Errno::IO,
            "ENOSPC" => Errno::NOSPC,
            "EDQUOT" => Errno::DQUOT,
            "EROFS" => Errno::ROFS,
            "EMFILE" => Errno::MFILE,
            _ => return None,
        }),
    })
}

/// The plan at work.
#[derive(Debug)]
struct Trouble {
    plan: Plan,
    inner: Arc<dyn Disk>,
    seen: AtomicU64,
    hits: Mutex<u64>,
}

impl Trouble {
    /// Counts an operation and gives what is to become of it.
    fn meet(&self, op: &'static str, path: &Path) -> Option<Deed> {
        let Plan { op: only, path: place, .. } = &self.plan;
        let is_named = only.as_ref().is_none_or(|only| only == op);
        let is_there = place.as_ref().is_none_or(|place| path.to_string_lossy().ends_with(place));
        if !is_named || !is_there {
            return None;
        }
        let n = self.seen.fetch_add(1, Ordering::SeqCst) + 1;
        if n < self.plan.nth || (n > self.plan.nth && !self.plan.forever) {
            return None;
        }
        self.note();
        Some(self.plan.deed)
    }

    /// Writes down that it hits once more. A witness that cannot be written is one that is missed.
    fn note(&self) {
        let Some(witness) = &self.plan.witness else { return };
        let mut hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        *hits += 1;
        let place = witness.parent().zip(witness.file_name().and_then(|name| name.to_str()));
        let Some((above, name)) = place else { return };
        let written = self.inner.open_dir(above).and_then(|dir| {
            dir.open_or_create(name)?.write_at(0, format!("{hits:010}").as_bytes())
        });
        debug_assert!(written.is_ok(), "{written:?}");
    }

    /// Does an operation that has no half.
    fn whole<T>(
        &self,
        op: &'static str,
        path: &Path,
        deed: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match self.meet(op, path) {
            None => deed(),
            Some(Deed::Delay(millis)) => {
                SystemClock.sleep_millis(millis);
                deed()
            }
            Some(Deed::Abort(millis)) => die(millis),
            Some(Deed::Fail(errno)) => Err(Error::new(op, path, errno.into())),
            Some(Deed::Short(_)) => Err(Error::new(op, path, io::Error::from(Errno::IO))),
        }
    }
}

/// The end of this process, as `kill -9` would bring it about.
fn die(millis: u64) -> ! {
    SystemClock.sleep_millis(millis);
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::abort()
}

/// A disk that fails by a plan.
#[derive(Debug)]
pub struct FaultDisk(Arc<Trouble>);

#[derive(Debug)]
struct FaultDir {
    inner: Arc<dyn Dir>,
    trouble: Arc<Trouble>,
}

#[derive(Debug)]
struct FaultFile {
    inner: Box<dyn FileHandle>,
    path: PathBuf,
    trouble: Arc<Trouble>,
}

impl FaultDisk {
    /// A disk like `inner`, until the plan says otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>, plan: Plan) -> Self {
        let (seen, hits) = (AtomicU64::new(0), Mutex::new(0));
        Self(Arc::new(Trouble { plan, inner, seen, hits }))
    }
}

impl Disk for FaultDisk {
    fn open_dir(&self, path: &Path) -> Result<Arc<dyn Dir>> {
        let inner = self.0.inner.open_dir(path)?;
        Ok(Arc::new(FaultDir { inner, trouble: Arc::clone(&self.0) }))
    }

    fn create_dirs(&self, path: &Path) -> Result<()> {
        self.0.whole("make directory", path, || self.0.inner.create_dirs(path))
    }

    fn canonicalize(&self, path: &Path) -> Result<PathBuf> {
        self.0.inner.canonicalize(path)
    }

    fn read_user_file(&self, path: &Path, max: u64) -> Result<Vec<u8>> {
        self.0.inner.read_user_file(path, max)
    }

    fn boot_id(&self) -> String {
        self.0.inner.boot_id()
    }

    fn effective_uid(&self) -> u32 {
        self.0.inner.effective_uid()
    }

    fn random(&self) -> [u8; 16] {
        self.0.inner.random()
    }
}

impl FaultDir {
    fn file(&self, name: &str, inner: Box<dyn FileHandle>) -> Box<dyn FileHandle> {
        let (path, trouble) = (self.inner.path().join(name), Arc::clone(&self.trouble));
        Box::new(FaultFile { inner, path, trouble })
    }

    fn whole<T>(
        &self,
        op: &'static str,
        name: &str,
        deed: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.trouble.whole(op, &self.inner.path().join(name), deed)
    }

    /// What stands behind a directory of this disk.
    fn behind(dir: &dyn Dir) -> &dyn Dir {
        dir.as_any().downcast_ref::<Self>().map_or(dir, |dir| &*dir.inner)
    }
}

impl Dir for FaultDir {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn open_dir(&self, name: &str) -> Result<Arc<dyn Dir>> {
        let inner = self.inner.open_dir(name)?;
        Ok(Arc::new(Self { inner, trouble: Arc::clone(&self.trouble) }))
    }

    fn open(&self, name: &str, mode: Open) -> Result<Box<dyn FileHandle>> {
        Ok(self.file(name, self.inner.open(name, mode)?))
    }

    fn create_excl(&self, name: &str) -> Result<Box<dyn FileHandle>> {
        let made = self.whole("create", name, || self.inner.create_excl(name))?;
        Ok(self.file(name, made))
    }

    fn open_or_create(&self, name: &str) -> Result<Box<dyn FileHandle>> {
        // Opening what is there changes nothing.
        let file = match optional(self.inner.open(name, Open::Write))? {
            Some(file) => file,
            None => self.whole("create", name, || self.inner.open_or_create(name))?,
        };
        Ok(self.file(name, file))
    }

    fn rename(&self, from: &str, target: &dyn Dir, to: &str, mode: Rename) -> Result<()> {
        let target = Self::behind(target);
        self.whole("rename", from, || self.inner.rename(from, target, to, mode))
    }

    fn rename_shown(&self, shown: &str, target: &dyn Dir, to: &str) -> Result<()> {
        let target = Self::behind(target);
        self.whole("rename", shown, || self.inner.rename_shown(shown, target, to))
    }

    fn link(&self, from: &str, target: &dyn Dir, to: &str) -> Result<()> {
        let target = Self::behind(target);
        self.whole("link", from, || self.inner.link(from, target, to))
    }

    fn unlink(&self, name: &str) -> Result<()> {
        self.whole("remove", name, || self.inner.unlink(name))
    }

    fn rmdir(&self, name: &str) -> Result<()> {
        self.whole("remove", name, || self.inner.rmdir(name))
    }

    fn mkdir(&self, name: &str) -> Result<()> {
        self.whole("make directory", name, || self.inner.mkdir(name))
    }

    fn list(&self) -> Result<Vec<String>> {
        self.inner.list()
    }

    fn stat(&self, name: &str) -> Result<Stat> {
        self.inner.stat(name)
    }

    fn stat_self(&self) -> Result<Stat> {
        self.inner.stat_self()
    }

    fn sync(&self) -> Result<()> {
        self.trouble.whole("sync directory", self.inner.path(), || self.inner.sync())
    }

    fn sync_filesystem(&self) -> Result<()> {
        self.trouble.whole("sync filesystem", self.inner.path(), || self.inner.sync_filesystem())
    }

    fn fs_class(&self) -> Result<FsClass> {
        self.inner.fs_class()
    }

    fn free_space(&self) -> Result<u64> {
        self.inner.free_space()
    }
}

impl FileHandle for FaultFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        self.inner.read_at(offset, into)
    }

    fn read_all(&self, max: u64) -> Result<Vec<u8>> {
        self.inner.read_all(max)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self.trouble.meet("write", &self.path) {
            None => self.inner.write_at(offset, bytes),
            Some(Deed::Delay(millis)) => {
                SystemClock.sleep_millis(millis);
                self.inner.write_at(offset, bytes)
            }
            Some(Deed::Abort(millis)) => die(millis),
            Some(Deed::Fail(errno)) => Err(Error::new("write", &self.path, errno.into())),
            Some(Deed::Short(bytes_max)) => {
                // Where only whole blocks can be written, nothing of it is.
                let _ = self.inner.write_at(offset, &bytes[..bytes_max.min(bytes.len())]);
                Err(Error::new("write", &self.path, Errno::IO.into()))
            }
        }
    }

    fn sync_data(&self) -> Result<()> {
        self.trouble.whole("sync", &self.path, || self.inner.sync_data())
    }

    fn sync_file(&self) -> Result<()> {
        self.trouble.whole("sync", &self.path, || self.inner.sync_file())
    }

    fn truncate(&self, bytes: u64) -> Result<()> {
        self.trouble.whole("truncate", &self.path, || self.inner.truncate(bytes))
    }

    fn stat(&self) -> Result<Stat> {
        self.inner.stat()
    }

    fn set_mode(&self, mode: u32) -> Result<()> {
        self.trouble.whole("set permissions", &self.path, || self.inner.set_mode(mode))
    }

    fn dio_alignment(&self) -> Result<Option<u32>> {
        self.inner.dio_alignment()
    }

    fn drop_cache(&self) -> Result<()> {
        self.inner.drop_cache()
    }

    fn cached_pages(&self) -> Option<u64> {
        self.inner.cached_pages()
    }

    fn try_lock(&self, lock: Lock) -> Result<bool> {
        self.inner.try_lock(lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::memory::MemoryDisk;
    use crate::ports::disk::{Atomic, Kind, write_atomic};

    fn faulty(plan: &str) -> (MemoryDisk, Arc<dyn Dir>) {
        let inner = MemoryDisk::new(1);
        inner.create_dirs(Path::new("/d")).unwrap();
        let disk = FaultDisk::new(Arc::new(inner.clone()), plan.parse().unwrap());
        let dir = disk.open_dir(Path::new("/d")).unwrap();
        (inner, dir)
    }

    #[test]
    fn the_operation_that_is_meant_fails_and_no_other() {
        // create, write, sync, rename, sync directory
        for (n, op) in [(1, "create"), (2, "write"), (3, "sync"), (4, "rename")] {
            let (_, dir) = faulty(&format!("nth={n},do=ENOSPC"));
            let failed = write_atomic(&*dir, "f", b"x", Atomic::DURABLE).unwrap_err();
            assert_eq!((failed.op, failed.kind), (op, Kind::NoSpace), "{n}");
            write_atomic(&*dir, "f", b"x", Atomic::DURABLE).unwrap();
        }
        let (_, dir) = faulty("nth=1,do=EIO,times=forever,op=write,path=/d/g");
        write_atomic(&*dir, "f", b"x", Atomic::DURABLE).unwrap();
        let file = dir.create_excl("g").unwrap();
        assert!(file.write_at(0, b"x").is_err() && file.write_at(0, b"x").is_err());
    }

    #[test]
    fn a_short_write_leaves_its_beginning() {
        let (inner, dir) = faulty("nth=1,do=short:2,op=write");
        assert!(dir.create_excl("f").unwrap().write_at(0, b"abc").is_err());
        assert_eq!(inner.content(Path::new("/d/f")).unwrap(), b"ab");
    }

    #[test]
    fn what_hits_is_written_down() {
        let (inner, dir) = faulty("nth=2,do=delay:0,times=forever,witness=/d/hits");
        for n in 0..3 {
            dir.create_excl(&format!("f{n}")).unwrap();
        }
        assert_eq!(inner.content(Path::new("/d/hits")).unwrap(), b"0000000002");
    }

    #[test]
    fn a_plan_that_says_nothing_is_refused() {
        for text in ["", "nth", "nth=x", "do=EWHAT", "do=short", "when=1"] {
            assert!(text.parse::<Plan>().is_err(), "{text}");
        }
    }
}
