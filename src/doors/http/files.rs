//! Files as bodies of answers, piece by piece.
//!
//! May not know what a file is for. Invariant: an answer costs one piece of memory, however long
//! the file is; bytes that are not what their digest says are never sent to the end.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use futures_util::stream;

use crate::ground::digest::Digest;
use crate::ground::limits::HTTP_CHUNK_BYTES;
use crate::ports::disk::FileHandle;

/// A stretch of a file that is still to be sent.
struct Reading {
    file: Arc<dyn FileHandle>,
    from: u64,
    left: u64,
    check: Option<(Box<blake3::Hasher>, Digest)>,
}

/// The body of an answer: `bytes` of a file from `from` on. With a digest, the whole content is
/// checked before its last piece is sent.
pub(super) fn body(
    file: Box<dyn FileHandle>,
    from: u64,
    bytes: u64,
    digest: Option<Digest>,
) -> Body {
    let check = digest.map(|digest| (Box::default(), digest));
    let reading = Reading { file: file.into(), from, left: bytes, check };
    Body::from_stream(stream::try_unfold(reading, |reading| async move {
        if reading.left == 0 {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || reading.next()).await;
        read.map_err(io::Error::other)?.map(Some)
    }))
}

impl Reading {
    fn next(mut self) -> io::Result<(Bytes, Self)> {
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(HTTP_CHUNK_BYTES);
        let mut piece = vec![0; size];
        let got = self.file.read_at(self.from, &mut piece).map_err(io::Error::other)?;
        if got < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.from += size as u64;
        self.left -= size as u64;
        if let Some((hasher, digest)) = &mut self.check {
            hasher.update(&piece);
            if self.left == 0 && Digest::from_hasher(hasher) != *digest {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok((piece.into(), self))
    }
}
