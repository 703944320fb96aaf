//! The machine's disk: `openat` and friends through rustix, locks through fs2.
//!
//! May not know what the files mean. Invariant: no call follows a symbolic link below an opened
//! directory, and no descriptor is inherited by a child.

use super::aligned::AlignedBuffer;
use super::{
    Dir, Disk, Error, FileHandle, FileKind, FsClass, Kind, Lock, Open, Rename, Result, Stat,
    is_component,
};
use crate::ground::clock::Timestamp;
use crate::ground::sabotage::{self, Guard};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::any::Any;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The machine's disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct StdDisk;

#[derive(Debug)]
struct StdDir {
    fd: OwnedFd,
    path: PathBuf,
}

#[derive(Debug)]
struct StdFile {
    file: File,
    path: PathBuf,
    /// Reads go past the page cache, in pieces that are aligned to this.
    direct_reads: Option<u32>,
}

/// `STATX_DIOALIGN`, which rustix does not name.
const STATX_DIOALIGN: u32 = 0x2000;
/// Most bytes of one direct read.
const DIRECT_READ_BYTES: usize = 1 << 20;

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

fn failed(op: &'static str, path: &Path, errno: Errno) -> Error {
    Error::new(op, path, errno.into())
}

/// Repeats a call that a signal interrupted.
fn again<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

impl Disk for StdDisk {
    fn open_dir(&self, path: &Path) -> Result<Arc<dyn Dir>> {
        let fd = again(|| rustix::fs::open(path, DIR_FLAGS, Mode::empty()))
            .map_err(|e| failed("open directory", path, e))?;
        Ok(Arc::new(StdDir { fd, path: path.to_owned() }))
    }

    fn create_dirs(&self, path: &Path) -> Result<()> {
        let above = match path.parent() {
            Some(above) if above.as_os_str().is_empty() => Path::new("."),
            Some(above) => above,
            None => return Ok(()),
        };
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Err(Errno::EXIST) => return Ok(()),
            Err(Errno::NOENT) => {
                self.create_dirs(above)?;
                rustix::fs::mkdir(path, Mode::RWXU)
                    .map_err(|e| failed("make directory", path, e))?;
            }
            other => other.map_err(|e| failed("make directory", path, e))?,
        }
        self.open_dir(above)?.sync()
    }

    fn canonicalize(&self, path: &Path) -> Result<PathBuf> {
        std::fs::canonicalize(path).map_err(|e| Error::new("resolve", path, e))
    }

    fn read_user_file(&self, path: &Path, max: u64) -> Result<Vec<u8>> {
        use std::io::Read;
        let wrap = |e| Error::new("read", path, e);
        let file = File::open(path).map_err(wrap)?;
        let mut out = Vec::new();
        // One byte more than allowed tells a file that is too long from one that just fits; a size
        // asked for beforehand would be 0 for pipes.
        file.take(max.saturating_add(1)).read_to_end(&mut out).map_err(wrap)?;
        if out.len() as u64 > max {
            let why = format!("it is longer than {max} bytes");
            return Err(Error::of_kind("read", path, Kind::TooLarge, &why));
        }
        Ok(out)
    }

    fn boot_id(&self) -> String {
        self.read_user_file(Path::new("/proc/sys/kernel/random/boot_id"), 100)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map_or_else(String::new, |text| text.trim().to_owned())
    }

    fn effective_uid(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn random(&self) -> [u8; 16] {
        let mut out = [0; 16];
        // Sixteen bytes come whole once the kernel's pool is ready, which it is for any program
        // that a person or a service manager starts.
        let _ = rustix::rand::getrandom(&mut out, rustix::rand::GetRandomFlags::empty());
        out
    }
}

impl StdDir {
    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn checked(&self, op: &'static str, name: &str) -> Result<()> {
        if is_component(name) {
            return Ok(());
        }
        let why = "its name is not a single path component";
        Err(Error::of_kind(op, self.at(name), Kind::BadName, why))
    }

    fn open_file(&self, op: &'static str, name: &str, flags: OFlags) -> Result<Box<StdFile>> {
        self.checked(op, name)?;
        // NONBLOCK: opening a pipe that someone put there must not wait for its other end.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let path = self.at(name);
        let fd = again(|| rustix::fs::openat(&self.fd, name, flags, FILE_MODE))
            .map_err(|e| failed(op, &path, e))?;
        let file = StdFile { file: File::from(fd), path, direct_reads: None };
        if file.stat()?.kind != FileKind::File {
            return Err(Error::of_kind(op, file.path, Kind::WrongKind, "it is not a regular file"));
        }
        Ok(Box::new(file))
    }

    fn target<'a>(op: &'static str, dir: &'a dyn Dir) -> Result<&'a Self> {
        dir.as_any().downcast_ref().ok_or_else(|| {
            Error::of_kind(op, dir.path(), Kind::Broken, "the directories are of two disks")
        })
    }
}

fn stat_of(stat: &rustix::fs::Stat) -> Stat {
    let kind = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::RegularFile => FileKind::File,
        rustix::fs::FileType::Directory => FileKind::Dir,
        rustix::fs::FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    };
    Stat {
        kind,
        bytes: u64::try_from(stat.st_size).unwrap_or(0),
        // The width of this field depends on the platform.
        #[allow(clippy::useless_conversion)]
        links: u64::from(stat.st_nlink),
        uid: stat.st_uid,
        mode: stat.st_mode & 0o7777,
        inode: stat.st_ino,
        changed: changed(stat),
    }
}

// The widths of these fields depend on the platform.
#[allow(clippy::useless_conversion, clippy::unnecessary_cast, clippy::cast_possible_wrap)]
fn changed(stat: &rustix::fs::Stat) -> Timestamp {
    let seconds = stat.st_ctime as i64;
    let nanos = stat.st_ctime_nsec as i64;
    Timestamp::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000))
}

impl Dir for StdDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn open_dir(&self, name: &str) -> Result<Arc<dyn Dir>> {
        self.checked("open directory", name)?;
        let path = self.at(name);
        let flags = DIR_FLAGS | OFlags::NOFOLLOW;
        let fd = again(|| rustix::fs::openat(&self.fd, name, flags, Mode::empty()))
            .map_err(|e| failed("open directory", &path, e))?;
        Ok(Arc::new(Self { fd, path }))
    }

    fn open(&self, name: &str, mode: Open) -> Result<Box<dyn FileHandle>> {
        let flags = match mode {
            Open::Read | Open::Truth => OFlags::RDONLY,
            Open::Write => OFlags::RDWR,
            Open::Direct => OFlags::RDWR | OFlags::DIRECT | OFlags::DSYNC,
        };
        let mut file = self.open_file("open", name, flags)?;
        if mode == Open::Truth && !sabotage::is_removed(Guard::NoDrop) {
            file.drop_cache()?;
            file.read_directly();
        }
        Ok(file)
    }

    fn create_excl(&self, name: &str) -> Result<Box<dyn FileHandle>> {
        Ok(self.open_file("create", name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?)
    }

    fn open_or_create(&self, name: &str) -> Result<Box<dyn FileHandle>> {
        Ok(self.open_file("open", name, OFlags::RDWR | OFlags::CREATE)?)
    }

    fn rename(&self, from: &str, target: &dyn Dir, to: &str, mode: Rename) -> Result<()> {
        self.checked("rename", from)?;
        self.checked("rename to", to)?;
        let other = Self::target("rename", target)?;
        let flags = match mode {
            Rename::Replace => RenameFlags::empty(),
            Rename::NoReplace => RenameFlags::NOREPLACE,
        };
        rustix::fs::renameat_with(&self.fd, from, &other.fd, to, flags)
            .map_err(|e| failed("rename to", &other.at(to), e))
    }

    fn rename_shown(&self, shown: &str, target: &dyn Dir, to: &str) -> Result<()> {
        self.checked("rename to", to)?;
        let other = Self::target("rename", target)?;
        let wrap = |e| failed("rename", &self.at(shown), e);
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(wrap)? {
            let entry = entry.map_err(wrap)?;
            let name = entry.file_name();
            if name.to_str().is_err() && name.to_string_lossy() == shown {
                let flags = RenameFlags::empty();
                return rustix::fs::renameat_with(&self.fd, name, &other.fd, to, flags)
                    .map_err(wrap);
            }
        }
        Err(wrap(Errno::NOENT))
    }

    fn link(&self, from: &str, target: &dyn Dir, to: &str) -> Result<()> {
        self.checked("link", from)?;
        self.checked("link to", to)?;
        let other = Self::target("link", target)?;
        rustix::fs::linkat(&self.fd, from, &other.fd, to, AtFlags::empty())
            .map_err(|e| failed("link to", &other.at(to), e))
    }

    fn unlink(&self, name: &str) -> Result<()> {
        self.checked("remove", name)?;
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty())
            .map_err(|e| failed("remove", &self.at(name), e))
    }

    fn rmdir(&self, name: &str) -> Result<()> {
        self.checked("remove", name)?;
        rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
            .map_err(|e| failed("remove", &self.at(name), e))
    }

    fn mkdir(&self, name: &str) -> Result<()> {
        self.checked("make directory", name)?;
        rustix::fs::mkdirat(&self.fd, name, Mode::RWXU)
            .map_err(|e| failed("make directory", &self.at(name), e))
    }

    fn list(&self) -> Result<Vec<String>> {
        let wrap = |e| failed("list", &self.path, e);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(wrap)? {
            let entry = entry.map_err(wrap)?;
            let name = entry.file_name().to_string_lossy();
            if name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn stat(&self, name: &str) -> Result<Stat> {
        self.checked("look at", name)?;
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| stat_of(&stat))
            .map_err(|e| failed("look at", &self.at(name), e))
    }

    fn stat_self(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd)
            .map(|stat| stat_of(&stat))
            .map_err(|e| failed("look at", &self.path, e))
    }

    fn sync(&self) -> Result<()> {
        if sabotage::is_removed(Guard::NoDirsync) {
            return Ok(());
        }
        again(|| rustix::fs::fsync(&self.fd)).map_err(|e| failed("sync directory", &self.path, e))
    }

    fn sync_filesystem(&self) -> Result<()> {
        again(|| rustix::fs::syncfs(&self.fd)).map_err(|e| failed("sync", &self.path, e))
    }

    fn fs_class(&self) -> Result<FsClass> {
        let stat = rustix::fs::fstatfs(&self.fd)
            .map_err(|e| failed("look at the filesystem of", &self.path, e))?;
        // The field is signed on some platforms; the magic numbers are 32 bits wide.
        #[allow(clippy::cast_sign_loss, clippy::cast_possible_truncation)]
        let magic = stat.f_type as u32;
        Ok(match magic {
            0xef53 => FsClass::Durable("ext4"),
            0x5846_5342 => FsClass::Durable("xfs"),
            0x9123_683e => FsClass::Durable("btrfs"),
            0xf2f5_2010 => FsClass::Durable("f2fs"),
            0x794c_7630 => FsClass::Durable("overlay"),
            0x0102_1994 => FsClass::Volatile("tmpfs"),
            0x6969 => FsClass::Unfit("nfs".into()),
            0xff53_4d42 | 0xfe53_4d42 | 0x517b => FsClass::Unfit("cifs".into()),
            0x0102_1997 => FsClass::Unfit("9p".into()),
            0x6573_5546 => FsClass::Unfit("fuse".into()),
            other => FsClass::Unfit(format!("{other:#x}")),
        })
    }

    fn free_space(&self) -> Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.fd)
            .map_err(|e| failed("look at the filesystem of", &self.path, e))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl StdFile {
    fn wrap(&self, op: &'static str) -> impl Fn(io::Error) -> Error + '_ {
        move |e| Error::new(op, &self.path, e)
    }

    /// From now on reads go past the page cache, if the filesystem can do that.
    fn read_directly(&mut self) {
        let Ok(Some(align)) = self.dio_alignment() else { return };
        let flags = rustix::fs::fcntl_getfl(&self.file);
        if let Ok(flags) = flags
            && rustix::fs::fcntl_setfl(&self.file, flags | OFlags::DIRECT).is_ok()
        {
            self.direct_reads = Some(align);
        }
    }

    fn read_cached(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.file.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.wrap("read")(e)),
            }
        }
        Ok(done)
    }

    /// Reads through a buffer that is aligned as the device wants it.
    fn read_past_cache(&self, align: u32, offset: u64, into: &mut [u8]) -> Result<usize> {
        let align = align as usize;
        let inside = usize::try_from(offset % align as u64).unwrap_or(0);
        let wanted = (inside + into.len()).next_multiple_of(align);
        let mut piece = AlignedBuffer::new(wanted.min(DIRECT_READ_BYTES.max(align)), align);
        let (mut done, mut skip) = (0, inside);
        while done < into.len() {
            let at = offset + done as u64 - skip as u64;
            let length = (skip + into.len() - done).next_multiple_of(align).min(piece.len());
            let got = match self.file.read_at(&mut piece[..length], at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(self.wrap("read"))?,
            };
            let useful = got.saturating_sub(skip).min(into.len() - done);
            into[done..done + useful].copy_from_slice(&piece[skip..skip + useful]);
            done += useful;
            if useful == 0 || !(skip + useful).is_multiple_of(align) {
                break; // the end of the file, or of what was asked for
            }
            skip = 0;
        }
        Ok(done)
    }
}

impl FileHandle for StdFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        match self.direct_reads {
            Some(align) => self.read_past_cache(align, offset, into),
            None => self.read_cached(offset, into),
        }
    }

    fn read_all(&self, max: u64) -> Result<Vec<u8>> {
        let bytes = self.stat()?.bytes;
        if bytes > max {
            let why = format!("it is longer than {max} bytes");
            return Err(Error::of_kind("read", &self.path, Kind::TooLarge, &why));
        }
        let mut out = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        // What is appended meanwhile is not asked for; what is cut off meanwhile is not there.
        let done = self.read_at(0, &mut out)?;
        out.truncate(done);
        Ok(out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(self.wrap("write"))
    }

    fn sync_data(&self) -> Result<()> {
        self.file.sync_data().map_err(self.wrap("sync"))
    }

    fn sync_file(&self) -> Result<()> {
        self.file.sync_all().map_err(self.wrap("sync"))
    }

    fn truncate(&self, bytes: u64) -> Result<()> {
        self.file.set_len(bytes).map_err(self.wrap("truncate"))
    }

    fn stat(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.file)
            .map(|stat| stat_of(&stat))
            .map_err(|e| failed("look at", &self.path, e))
    }

    fn set_mode(&self, mode: u32) -> Result<()> {
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))
            .map_err(|e| failed("set permissions of", &self.path, e))
    }

    fn dio_alignment(&self) -> Result<Option<u32>> {
        use rustix::fs::{StatxFlags, statx};
        let wanted = StatxFlags::from_bits_retain(STATX_DIOALIGN);
        let found = match statx(&self.file, "", AtFlags::EMPTY_PATH, wanted) {
            Ok(found) => found,
            // A kernel without statx has no way to say it.
            Err(Errno::NOSYS | Errno::INVAL) => return Ok(None),
            Err(e) => return Err(failed("look at", &self.path, e)),
        };
        let (memory, offset) = (found.stx_dio_mem_align, found.stx_dio_offset_align);
        let known = found.stx_mask & STATX_DIOALIGN != 0 && memory != 0 && offset != 0;
        Ok(known.then(|| memory.max(offset).next_power_of_two()))
    }

    fn drop_cache(&self) -> Result<()> {
        rustix::fs::fadvise(self.file.as_fd(), 0, None, rustix::fs::Advice::DontNeed)
            .map_err(|e| failed("drop the cache of", &self.path, e))
    }

    fn cached_pages(&self) -> Option<u64> {
        // cachestat(2) has no safe wrapper here; callers take "unknown" for "maybe".
        None
    }

    fn try_lock(&self, lock: Lock) -> Result<bool> {
        let taken = match lock {
            Lock::Shared => fs2::FileExt::try_lock_shared(&self.file),
            Lock::Exclusive => fs2::FileExt::try_lock_exclusive(&self.file),
        };
        match taken {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(self.wrap("lock")(e)),
        }
    }
}
