//! The key of task tokens, `.dormouse/task-key`: what lets whoever holds one attempt, and nobody
//! else, speak for it.
//!
//! May not know who asks, or whether an attempt is open: fencing is the run's. Invariant: the same
//! attempt has the same token for as long as the file is there, and no token says anything about
//! another one.

use std::fmt;
use std::path::Path;

use super::root::META;
use crate::ground::id::{EffectId, Epoch, RunId};
use crate::ports::disk::{self, Atomic, Dir, Disk, Error, Kind, Open, write_atomic};

/// Name of the file, in the root's own directory.
pub const TASK_KEY: &str = "task-key";

/// What every task token begins with.
const PREFIX: &str = "dmk_";

const KEY_BYTES: usize = 32;

/// Makes task tokens and knows them again.
#[derive(Clone)]
pub struct TaskKey([u8; KEY_BYTES]);

impl fmt::Debug for TaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskKey")
    }
}

impl TaskKey {
    /// Reads the key of the root at `path`, making it if there is none.
    pub fn open(disk: &dyn Disk, path: &Path) -> disk::Result<Self> {
        let meta = disk.open_dir(&path.join(META))?;
        if let Some(key) = Self::read(&*meta, disk.effective_uid())? {
            return Ok(key);
        }
        let fresh = [disk.random(), disk.random()].concat();
        match write_atomic(&*meta, TASK_KEY, &fresh, Atomic::NEW) {
            // Somebody else was faster: theirs counts.
            Err(e) if !e.is_exists() => return Err(e),
            _ => {}
        }
        let key = Self::read(&*meta, disk.effective_uid())?;
        key.ok_or_else(|| refused(&*meta, Kind::NotFound, "it was taken away"))
    }

    fn read(meta: &dyn Dir, ours: u32) -> disk::Result<Option<Self>> {
        let Some(stat) = disk::optional(meta.stat(TASK_KEY))? else { return Ok(None) };
        if stat.uid != ours || stat.mode & 0o077 != 0 {
            let why = "it belongs to somebody else, or others may read or write it";
            return Err(refused(meta, Kind::WrongKind, why));
        }
        let bytes = meta.read_file(TASK_KEY, Open::Read, KEY_BYTES as u64)?;
        let key = bytes.try_into().map(Self);
        key.map(Some).map_err(|_| refused(meta, Kind::WrongKind, "it is not a key of 32 bytes"))
    }

    /// The token of one attempt.
    #[must_use]
    pub fn token(&self, run: &RunId, effect: EffectId, epoch: Epoch) -> String {
        format!("{PREFIX}{epoch}_{}", self.mac(run, effect, epoch).to_hex())
    }

    /// The attempt of an effect that a token was made for; nothing if it was made for none of them.
    #[must_use]
    pub fn epoch(&self, token: &str, run: &RunId, effect: EffectId) -> Option<Epoch> {
        let (epoch, mac) = token.strip_prefix(PREFIX)?.split_once('_')?;
        let epoch = Epoch(epoch.parse().ok()?);
        let given = blake3::Hash::from_hex(mac).ok()?;
        // Compared in constant time.
        (given == self.mac(run, effect, epoch)).then_some(epoch)
    }

    fn mac(&self, run: &RunId, effect: EffectId, epoch: Epoch) -> blake3::Hash {
        // No id holds a slash: two attempts never give the same text.
        blake3::keyed_hash(&self.0, format!("{run}/{effect}/{epoch}").as_bytes())
    }
}

/// Whether a bearer token is one of a task.
#[must_use]
pub fn is_task_token(text: &str) -> bool {
    text.starts_with(PREFIX)
}

fn refused(meta: &dyn Dir, kind: Kind, why: &'static str) -> Error {
    Error::of_kind("open", meta.path().join(TASK_KEY), kind, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::memory::MemoryDisk;

    const FILE: &str = "/runs/.dormouse/task-key";

    fn root(seed: u64) -> MemoryDisk {
        let disk = MemoryDisk::new(seed);
        disk.create_dirs(Path::new("/runs/.dormouse")).unwrap();
        disk
    }

    #[test]
    fn a_token_is_for_one_attempt_and_outlives_the_daemon() {
        let disk = root(1);
        let key = TaskKey::open(&disk, Path::new("/runs")).unwrap();
        let (r, s): (RunId, RunId) = ("r".parse().unwrap(), "s".parse().unwrap());
        let (one, two) = (EffectId::new(1), EffectId::new(2));
        let token = key.token(&r, one, Epoch(3));
        disk.power_cut();
        let key = TaskKey::open(&disk, Path::new("/runs")).unwrap();
        assert_eq!(key.epoch(&token, &r, one), Some(Epoch(3)));
        assert_eq!(key.epoch(&token, &r, two), None);
        assert_eq!(key.epoch(&token, &s, one), None);
        let raised = token.replacen("_3_", "_4_", 1);
        assert_eq!(key.epoch(&raised, &r, one), None);
        for bad in ["", "dmk_", "dmk_3_", "dmk_3_00", &token[..token.len() - 1], &token[4..]] {
            assert_eq!(key.epoch(bad, &r, one), None, "{bad}");
        }
        let other = TaskKey::open(&root(2), Path::new("/runs")).unwrap();
        assert_eq!(other.epoch(&token, &r, one), None);
        assert_eq!(format!("{key:?}"), "TaskKey");
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_none_is_refused() {
        let disk = root(1);
        TaskKey::open(&disk, Path::new("/runs")).unwrap();
        let meta = disk.open_dir(Path::new("/runs/.dormouse")).unwrap();
        assert_eq!(meta.stat(TASK_KEY).unwrap().mode & 0o777, 0o600);
        disk.tamper(Path::new(FILE), |bytes| bytes.truncate(31));
        assert!(TaskKey::open(&disk, Path::new("/runs")).is_err());
        disk.tamper(Path::new(FILE), |bytes| bytes.resize(32, 7));
        meta.open(TASK_KEY, Open::Write).unwrap().set_mode(0o644).unwrap();
        assert!(TaskKey::open(&disk, Path::new("/runs")).is_err());
    }
}
