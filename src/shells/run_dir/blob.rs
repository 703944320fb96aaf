//! Large values: `blobs/<64 hex>`, named by the BLAKE3 of their content.
//!
//! May not know which record names one. Invariant: a blob is durable, file and name, before its
//! reference is given out, and its bytes are checked whenever they are read.

use std::sync::Arc;

use crate::codecs::event::BlobRef;
use crate::ground::digest::Digest;
use crate::ports::disk::{self, Atomic, Dir, FileHandle, Open, Rename};

/// Nobody writes a blob a second time.
const MODE: u32 = 0o444;

/// Why a blob could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// J50.
    #[error("blob {0} is missing [J50]")]
    Missing(Digest),
    /// J51.
    #[error("blob {0} has other bytes than its name says [J51]")]
    Differs(Digest),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

/// Stores `bytes` in the directory `blobs`. A file of that name is trusted only after a look at
/// its bytes, and synced again: whoever made it may have died before its sync.
pub fn put(blobs: &dyn Dir, bytes: &[u8]) -> disk::Result<BlobRef> {
    let digest = Digest::of(bytes);
    let name = digest.hex();
    let blob = BlobRef { digest, bytes: bytes.len() as u64 };
    if let Some(file) = disk::optional(blobs.open(&name, Open::Truth))?
        && file.stat()?.bytes == blob.bytes
        && file.read_all(blob.bytes)? == bytes
    {
        file.sync_file()?;
        blobs.sync()?;
        return Ok(blob);
    }
    let how = Atomic { durable: true, rename: Rename::Replace, mode: MODE };
    disk::write_atomic(blobs, &name, bytes, how)?;
    Ok(blob)
}

/// A large value that comes in parts.
#[derive(Debug)]
pub struct Incoming {
    blobs: Arc<dyn Dir>,
    file: Box<dyn FileHandle>,
    temporary: String,
    hasher: Box<blake3::Hasher>,
    bytes: u64,
    is_kept: bool,
}

impl Incoming {
    /// Begins one in the directory `blobs`.
    pub fn begin(blobs: Arc<dyn Dir>) -> disk::Result<Self> {
        let temporary = disk::temporary_name("upload");
        let file = blobs.create_excl(&temporary)?;
        let hasher = Box::default();
        Ok(Self { blobs, file, temporary, hasher, bytes: 0, is_kept: false })
    }

    /// How much has come.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next part.
    pub fn write(&mut self, part: &[u8]) -> disk::Result<()> {
        self.file.write_at(self.bytes, part)?;
        self.hasher.update(part);
        self.bytes += part.len() as u64;
        Ok(())
    }

    /// That was all: it is durable under its name when this returns.
    pub fn finish(mut self) -> disk::Result<BlobRef> {
        let digest = Digest::from_hasher(&self.hasher);
        self.file.set_mode(MODE)?;
        self.file.sync_file()?;
        // What has that name may be whole or not; this is.
        self.blobs.rename(&self.temporary, &*self.blobs, &digest.hex(), Rename::Replace)?;
        self.is_kept = true;
        self.blobs.sync()?;
        Ok(BlobRef { digest, bytes: self.bytes })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_kept {
            // A left-over temporary file is in nobody's way.
            let _ = self.blobs.unlink(&self.temporary);
        }
    }
}

/// Reads a blob and checks it.
pub fn get(blobs: &dyn Dir, blob: &BlobRef) -> Result<Vec<u8>, Error> {
    let file = disk::optional(blobs.open(&blob.digest.hex(), Open::Read))?;
    let file = file.ok_or(Error::Missing(blob.digest))?;
    if file.stat()?.bytes != blob.bytes {
        return Err(Error::Differs(blob.digest));
    }
    let bytes = file.read_all(blob.bytes)?;
    if Digest::of(&bytes) == blob.digest { Ok(bytes) } else { Err(Error::Differs(blob.digest)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::Disk;
    use crate::ports::disk::memory::MemoryDisk;
    use std::path::Path;

    #[test]
    fn a_blob_is_checked_when_it_is_read_and_repaired_when_it_is_put_again() {
        let disk = MemoryDisk::new(1);
        let dir = disk.open_dir(Path::new("/")).unwrap();
        let blob = put(&*dir, b"hello").unwrap();
        disk.power_cut();
        let dir = disk.open_dir(Path::new("/")).unwrap();
        assert_eq!(get(&*dir, &blob).unwrap(), b"hello");
        disk.tamper(Path::new(&format!("/{}", blob.digest.hex())), |bytes| bytes[0] = b'j');
        assert!(matches!(get(&*dir, &blob), Err(Error::Differs(_))));
        assert_eq!(put(&*dir, b"hello").unwrap(), blob);
        assert_eq!(get(&*dir, &blob).unwrap(), b"hello");
        let other = BlobRef { digest: Digest::of(b"x"), bytes: 1 };
        assert!(matches!(get(&*dir, &other), Err(Error::Missing(_))));
    }

    #[test]
    fn a_blob_that_comes_in_parts_is_durable_when_it_is_whole_and_nothing_before() {
        let disk = MemoryDisk::new(1);
        let dir = disk.open_dir(Path::new("/")).unwrap();
        let mut incoming = Incoming::begin(Arc::clone(&dir)).unwrap();
        incoming.write(b"hel").unwrap();
        incoming.write(b"lo").unwrap();
        let blob = incoming.finish().unwrap();
        assert_eq!(blob, BlobRef { digest: Digest::of(b"hello"), bytes: 5 });
        disk.power_cut();
        let dir = disk.open_dir(Path::new("/")).unwrap();
        assert_eq!(get(&*dir, &blob).unwrap(), b"hello");
        let mut given_up = Incoming::begin(Arc::clone(&dir)).unwrap();
        given_up.write(b"half").unwrap();
        drop(given_up);
        assert_eq!(dir.list().unwrap(), [blob.digest.hex()]);
    }
}
