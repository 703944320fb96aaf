//! Large values: `blobs/<64 hex>`, named by the BLAKE3 of their content.
//!
//! May not know which record names one. Invariant: a blob is durable, file and name, before its
//! reference is given out, and its bytes are checked whenever they are read.

use crate::codecs::event::BlobRef;
use crate::ground::digest::Digest;
use crate::ports::disk::{self, Atomic, Dir, Open, Rename};

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
    let how = Atomic { durable: true, rename: Rename::Replace, mode: 0o444 };
    disk::write_atomic(blobs, &name, bytes, how)?;
    Ok(blob)
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
}
