//! `root.json`: what a root knows about itself, sealed, replaced as a whole.
//!
//! May not know locks, runs or segments. Invariant: a change is durable before anybody sees it, and
//! a file that is not ours whole is refused (R1), never guessed at.

use crate::codecs::format::sealed;
use crate::ground::digest;
use crate::ports::disk::{self, Atomic, Dir, Disk, Open};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Name of the file.
pub const ROOT_JSON: &str = "root.json";

const ROOT_KIND: &str = "dormouse-root/1";
const ROOT_JSON_BYTES_MAX: u64 = 64 * 1024;

/// Whether the root's journals are complete by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootState {
    /// A daemon writes, or died: its commit log may hold records that journals lack.
    Open,
    /// Every run directory is complete.
    AtRest,
}

/// The content of `root.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootJson {
    /// Format of the root.
    pub v: u32,
    /// Its own id, a UUID.
    pub root: String,
    /// Grows with every opening by a daemon or a recovery.
    pub generation: u64,
    /// Whether journals are complete.
    pub state: RootState,
    /// The machine's start in which it was written.
    pub boot_id: String,
    /// First commit-log segment that is still needed.
    pub oldest_segment: u64,
    /// Last commit-log segment that was made.
    pub max_segment: u64,
    /// Last batch number.
    pub last_seq: u64,
    /// No epoch at or below this may be given again.
    pub epoch_floor: u64,
}

/// Why `root.json` is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// R1: it is not one of ours, or of a newer version.
    #[error("{}: {why} [R1]", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

/// Reads `root.json`; nothing if there is none.
pub fn read(meta: &dyn Dir) -> Result<Option<RootJson>, Error> {
    let read = disk::optional(meta.read_file(ROOT_JSON, Open::Read, ROOT_JSON_BYTES_MAX))?;
    let Some(bytes) = read else { return Ok(None) };
    let refused = |why: String| Error::NotOurs { path: meta.path().join(ROOT_JSON), why };
    let json: RootJson = sealed::open(ROOT_KIND, &bytes).map_err(|e| refused(e.to_string()))?;
    if json.v != 1 {
        return Err(refused(format!("it has format {}, this version reads 1", json.v)));
    }
    Ok(Some(json))
}

/// Makes `root.json` for a root that holds nothing yet; gives the one that somebody else made
/// meanwhile.
pub fn make(meta: &dyn Dir, disk: &dyn Disk) -> Result<RootJson, Error> {
    let json = RootJson {
        v: 1,
        root: uuid(disk.random()),
        generation: 0,
        state: RootState::AtRest,
        boot_id: disk.boot_id(),
        oldest_segment: 1,
        max_segment: 0,
        last_seq: 0,
        epoch_floor: 0,
    };
    match disk::write_atomic(meta, ROOT_JSON, &sealed::seal(ROOT_KIND, &json), Atomic::NEW) {
        Err(e) if e.is_exists() => read(meta)?.ok_or_else(|| {
            let why = "it comes and goes".to_owned();
            Error::NotOurs { path: meta.path().join(ROOT_JSON), why }
        }),
        Err(e) => Err(e.into()),
        Ok(()) => Ok(json),
    }
}

fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = digest::hex(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The sixteen bytes of a UUID's text; nothing for any other text.
#[must_use]
pub fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    let mut out = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// `root.json` in the hands of the only process that may change it.
#[derive(Debug)]
pub struct RootFile {
    meta: Arc<dyn Dir>,
    json: Mutex<RootJson>,
}

impl RootFile {
    /// Takes over what was read under the root's exclusive lock.
    #[must_use]
    pub fn new(meta: Arc<dyn Dir>, json: RootJson) -> Self {
        Self { meta, json: Mutex::new(json) }
    }

    fn locked(&self) -> MutexGuard<'_, RootJson> {
        self.json.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it says.
    #[must_use]
    pub fn json(&self) -> RootJson {
        self.locked().clone()
    }

    /// Replaces it durably by what `change` makes of it. After an error the file may say either.
    pub fn replace(&self, change: impl FnOnce(&mut RootJson)) -> disk::Result<()> {
        let mut json = self.locked();
        let mut next = json.clone();
        change(&mut next);
        let bytes = sealed::seal(ROOT_KIND, &next);
        disk::write_atomic(&*self.meta, ROOT_JSON, &bytes, Atomic::DURABLE)?;
        *json = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::memory::MemoryDisk;
    use std::path::Path;

    #[test]
    fn what_was_replaced_survives_a_power_cut_and_a_flipped_bit_is_refused() {
        for seed in 0..20 {
            let disk = MemoryDisk::new(seed);
            let meta = disk.open_dir(Path::new("/")).unwrap();
            let made = make(&*meta, &disk).unwrap();
            assert_eq!(make(&*meta, &disk).unwrap(), made);
            assert!(uuid_bytes(&made.root).is_some() && uuid_bytes("x").is_none());
            let file = RootFile::new(meta, made);
            file.replace(|json| json.generation = 7).unwrap();
            assert_eq!(file.json().generation, 7);
            disk.power_cut();
            let meta = disk.open_dir(Path::new("/")).unwrap();
            assert_eq!(read(&*meta).unwrap().unwrap().generation, 7);
            disk.tamper(Path::new("/root.json"), |bytes| bytes[9] ^= 2);
            assert!(matches!(read(&*meta), Err(Error::NotOurs { .. })));
        }
    }
}
