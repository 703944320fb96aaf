//! STUB
use crate::codecs::event::BlobRef;
use crate::ground::digest::Digest;
use crate::ports::disk::{self, Disk};
use std::path::Path;
use std::sync::Arc;
pub struct CodeStore;
impl CodeStore {
    pub fn open(_: &Arc<dyn Disk>, _: &Path) -> disk::Result<Self> {
        Ok(Self)
    }
    pub fn put(&self, _: &Digest, _: &[(String, Vec<u8>)]) -> disk::Result<()> {
        Ok(())
    }
    pub fn put_blob(&self, b: &[u8]) -> disk::Result<BlobRef> {
        Ok(BlobRef { digest: Digest::of(b), bytes: 0 })
    }
}
