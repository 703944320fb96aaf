//! Pinned code by digest: `.dormouse/code/<64 hex>/`, shared by the runs that execute it.
//!
//! May not know modules or how a process is loaded: a copy is checked against its lock file when
//! it is. Invariant: a digest's directory appears complete and durable, lock file included, or not
//! at all.

use super::dir::{RunDir, descend};
use super::root::{remove_tree, staging_name};
use crate::ground::digest::Digest;
use crate::ground::limits::{MODULE_BYTES_MAX, MODULE_FILES_MAX};
use crate::ports::disk::{self, Atomic, Dir, Disk, FileKind, Kind, Open, Rename};
use crate::shells::pin::{LOCK_FILE, PinLock};
use std::sync::Arc;

const CODE: &str = "code";
/// Deepest directory of a pinned process.
const DEPTH_MAX: u32 = 64;

/// Where a pinned process stands in a run directory: the first one in `process/`, later ones
/// beside it.
#[must_use]
pub fn places(process: &Digest) -> [String; 2] {
    ["process".to_owned(), format!("process-{}", &process.hex()[..16])]
}

/// The code that runs of one root share.
#[derive(Debug, Clone)]
pub struct CodeStore {
    disk: Arc<dyn Disk>,
    meta: Arc<dyn Dir>,
}

impl CodeStore {
    /// The store in the root's own directory.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, meta: Arc<dyn Dir>) -> Self {
        Self { disk, meta }
    }

    /// Whether the process is there.
    pub fn has(&self, process: &Digest) -> disk::Result<bool> {
        Ok(self.of(process)?.is_some())
    }

    fn of(&self, process: &Digest) -> disk::Result<Option<Arc<dyn Dir>>> {
        let Some(code) = disk::optional(self.meta.open_dir(CODE))? else { return Ok(None) };
        disk::optional(code.open_dir(&process.hex()))
    }

    /// A file of a stored process, by its path in it.
    pub fn read(&self, process: &Digest, path: &str) -> disk::Result<Vec<u8>> {
        let code = self.meta.open_dir(CODE)?.open_dir(&process.hex())?;
        let (dir, name) = descend(&code, path, false)?;
        dir.read_file(&name, Open::Read, MODULE_BYTES_MAX)
    }

    /// Stores the files of a process, lock file included; durable when it returns.
    pub fn put(&self, process: &Digest, files: &[(String, Vec<u8>)]) -> disk::Result<()> {
        let code = self.meta.ensure_durable_dir(CODE)?;
        if let Some(dir) = disk::optional(code.open_dir(&process.hex()))? {
            for (path, bytes) in files {
                mend(&dir, path, bytes)?;
            }
            // Whoever made it may have died before this.
            return code.sync();
        }
        let staging = self.meta.ensure_dir("staging")?;
        let name = staging_name("code", &*self.disk);
        staging.mkdir(&name)?;
        let built = build(&*staging, &name, files).and_then(|()| {
            match staging.rename(&name, &*code, &process.hex(), Rename::NoReplace) {
                // Somebody else was faster, with the same bytes.
                Err(e) if e.is_exists() => remove_tree(&*staging, &name, DEPTH_MAX),
                other => other,
            }
        });
        if built.is_err() {
            // What stays is swept after the next start of the machine.
            let _ = remove_tree(&*staging, &name, DEPTH_MAX);
        }
        built?;
        code.sync()
    }

    /// What is stored and is not the process of its name, with the reason: names below `code/`.
    #[must_use]
    pub fn unsound(&self) -> Vec<(String, String)> {
        let code = disk::optional(self.meta.open_dir(CODE)).ok().flatten();
        let Some(code) = code else { return Vec::new() };
        let names = code.list().unwrap_or_default().into_iter();
        let judged = names.filter(|name| !disk::is_temporary(name)).map(|name| {
            let why = code.open_dir(&name).map_err(|e| e.to_string());
            let why = why.and_then(|dir| is_whole(&dir, &name)).err();
            (name, why)
        });
        judged.filter_map(|(name, why)| Some((name, why?))).collect()
    }

    /// Puts the process into a run's directory unless it is there: its files by their names where
    /// that is possible, copied otherwise. False if the store has it not. Names are not synced.
    pub fn link_into(&self, run: &RunDir, process: &Digest) -> disk::Result<bool> {
        let Some(code) = self.of(process)? else { return Ok(false) };
        let lock = code.read_file(LOCK_FILE, Open::Read, MODULE_BYTES_MAX)?;
        let [first, beside] = places(process);
        for place in [&first, &beside] {
            let dir = run.dir().ensure_dir(place)?;
            let there = disk::optional(dir.read_file(LOCK_FILE, Open::Read, MODULE_BYTES_MAX))?;
            if there.as_ref().is_some_and(|bytes| *bytes != lock) && *place == first {
                continue; // another process stands here
            }
            let mut left = MODULE_FILES_MAX + 1;
            return link_tree(&code, &dir, DEPTH_MAX, &mut left).map(|()| true);
        }
        Ok(true)
    }
}

/// Builds a directory in staging, every file and directory synced.
fn build(staging: &dyn Dir, name: &str, files: &[(String, Vec<u8>)]) -> disk::Result<()> {
    let top = staging.open_dir(name)?;
    for (path, bytes) in files {
        let (dir, file) = descend(&top, path, true)?;
        let file = dir.create_excl(&file)?;
        file.write_at(0, bytes)?;
        file.sync_file()?;
    }
    sync_tree(&top, DEPTH_MAX)
}

/// Syncs a directory after those in it.
pub(super) fn sync_tree(dir: &Arc<dyn Dir>, depth: u32) -> disk::Result<()> {
    for name in dir.list()? {
        if depth > 0 && dir.stat(&name)?.kind == FileKind::Dir {
            sync_tree(&dir.open_dir(&name)?, depth - 1)?;
        }
    }
    dir.sync()
}

/// Replaces a stored file that has other bytes than it should.
fn mend(dir: &Arc<dyn Dir>, path: &str, bytes: &[u8]) -> disk::Result<()> {
    let (dir, name) = descend(dir, path, true)?;
    match disk::optional(dir.read_file(&name, Open::Read, MODULE_BYTES_MAX)) {
        Ok(Some(there)) if there == bytes => Ok(()),
        _ => disk::write_atomic(&*dir, &name, bytes, Atomic::DURABLE),
    }
}

/// Compares a stored process with its lock file, and that with its name.
fn is_whole(dir: &Arc<dyn Dir>, name: &str) -> Result<(), String> {
    let read = |path: &str| {
        let (dir, name) = descend(dir, path, false)?;
        dir.read_file(&name, Open::Read, MODULE_BYTES_MAX)
    };
    let lock = read(LOCK_FILE).map_err(|e| e.to_string())?;
    let lock = PinLock::read(&lock).map_err(|e| e.to_string())?;
    if lock.digest.hex() != name {
        return Err(format!("its lock file is of {}", lock.digest));
    }
    for file in &lock.files {
        let found = read(&file.path).map_err(|e| e.to_string())?;
        if Digest::of(&found) != file.digest {
            return Err(format!("{} was stored as {}", file.path, file.digest));
        }
    }
    Ok(())
}

/// Gives every file below `from` a name below `to` as well; the lock file last, for it says that
/// the copy is whole.
fn link_tree(
    from: &Arc<dyn Dir>,
    to: &Arc<dyn Dir>,
    depth: u32,
    left: &mut usize,
) -> disk::Result<()> {
    let mut names = from.list()?;
    names.retain(|name| !disk::is_temporary(name));
    names.sort_by_key(|name| name == LOCK_FILE);
    for name in names {
        if from.stat(&name)?.kind == FileKind::Dir {
            if depth > 0 {
                link_tree(&from.open_dir(&name)?, &to.ensure_dir(&name)?, depth - 1, left)?;
            }
            continue;
        }
        *left = left.checked_sub(1).ok_or_else(|| {
            let why = "the stored process has more files than one may have";
            disk::Error::of_kind("link", from.path(), Kind::TooLarge, why)
        })?;
        link_or_copy(&**from, &name, &**to, &name, MODULE_BYTES_MAX)?;
    }
    Ok(())
}

/// Gives a durable file a second name; where that cannot be done it is copied, durably. A file
/// that has the name and other bytes, as a copy that was cut short has, is replaced.
pub(super) fn link_or_copy(
    from: &dyn Dir,
    name: &str,
    to: &dyn Dir,
    new_name: &str,
    bytes_max: u64,
) -> disk::Result<()> {
    match from.link(name, to, new_name) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind.may_pass() || e.is_not_found() => return Err(e),
        Err(e) if e.is_exists() => {
            let (stands, wanted) = (to.stat(new_name)?, from.stat(name)?);
            if stands.inode == wanted.inode {
                return Ok(());
            }
        }
        Err(_) => {}
    }
    let bytes = from.read_file(name, Open::Read, bytes_max)?;
    let stands = to.read_file(new_name, Open::Read, bytes_max);
    if stands.is_ok_and(|stands| stands == bytes) {
        return Ok(());
    }
    disk::write_atomic(to, new_name, &bytes, Atomic::DURABLE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::memory::{Fault, MemoryDisk};
    use std::path::Path;

    fn files() -> Vec<(String, Vec<u8>)> {
        [("main.js", "one"), ("lib/two.js", "two"), (LOCK_FILE, "{}")]
            .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
            .to_vec()
    }

    fn store(disk: &MemoryDisk) -> CodeStore {
        let top = disk.open_dir(Path::new("/")).unwrap();
        CodeStore::new(Arc::new(disk.clone()), top.ensure_durable_dir(".dormouse").unwrap())
    }

    fn run(disk: &MemoryDisk) -> RunDir {
        let top = disk.open_dir(Path::new("/")).unwrap();
        let dir = top.ensure_dir("r").unwrap();
        RunDir::new(Arc::new(disk.clone()), dir, "r".parse().unwrap(), None)
    }

    #[test]
    fn a_process_is_stored_whole_or_not_at_all() {
        let digest = Digest::of(b"p");
        for nth in 1.. {
            let disk = MemoryDisk::new(nth);
            let first = store(&disk);
            disk.fail_at(nth, Fault::Die);
            let done = first.put(&digest, &files()).is_ok();
            let dead = disk.is_dead();
            disk.power_cut();
            let there = store(&disk).has(&digest).unwrap();
            assert!(there || !done);
            if there {
                let run = run(&disk);
                assert!(store(&disk).link_into(&run, &digest).unwrap());
                assert_eq!(run.read_relative("process/lib/two.js", 9).unwrap(), b"two");
                assert_eq!(run.read_relative("process/process.lock.json", 9).unwrap(), b"{}");
            }
            if !dead {
                break;
            }
            store(&disk).put(&digest, &files()).unwrap();
            assert!(store(&disk).has(&digest).unwrap());
        }
    }

    #[test]
    fn a_second_process_stands_beside_the_first_and_rot_is_mended() {
        let disk = MemoryDisk::new(1);
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let store = store(&disk);
        store.put(&one, &files()).unwrap();
        let mut other = files();
        other[2].1 = b"{2}".to_vec();
        store.put(&two, &other).unwrap();
        let run = run(&disk);
        assert!(!store.link_into(&run, &Digest::of(b"3")).unwrap());
        for _ in 0..2 {
            assert!(store.link_into(&run, &one).unwrap());
            assert!(store.link_into(&run, &two).unwrap());
        }
        assert_eq!(run.read_relative("process/process.lock.json", 9).unwrap(), b"{}");
        let beside = format!("{}/process.lock.json", places(&two)[1]);
        assert_eq!(run.read_relative(&beside, 9).unwrap(), b"{2}");
        let rotten = format!("/.dormouse/code/{}/main.js", one.hex());
        disk.tamper(Path::new(&rotten), |bytes| bytes[0] = b'x');
        store.put(&one, &files()).unwrap();
        store.link_into(&run, &one).unwrap();
        assert_eq!(run.read_relative("process/main.js", 9).unwrap(), b"one");
    }
}
