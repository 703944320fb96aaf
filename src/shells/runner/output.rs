//! What a command prints, copied into a file of bounded size as it comes.
//!
//! May not know what it means. Invariant: the beginning and the end are kept; what is left out
//! between them is marked with its size, and what is to be hidden never reaches the file.

use std::io::Read;
use std::sync::Arc;

use crate::codecs::hide::Hider;
use crate::ports::disk::{self, FileHandle};

/// Bytes that are copied at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// A log that is being written: the first half as it comes, the rest going round in the second.
pub(super) struct Log {
    file: Box<dyn FileHandle>,
    head_max: u64,
    tail_max: u64,
    written: u64,
    hider: Arc<Hider>,
    /// What may be the beginning of something to hide.
    held: Vec<u8>,
    hidden: u64,
}

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Not everything was kept.
    pub(super) cut: bool,
    /// How often something was hidden.
    pub(super) hidden: u64,
}

impl Log {
    pub(super) fn new(file: Box<dyn FileHandle>, bytes_max: u64, hider: Arc<Hider>) -> Self {
        let head_max = bytes_max / 2;
        let tail_max = (bytes_max - head_max).max(1);
        Self { file, head_max, tail_max, written: 0, hider, held: Vec::new(), hidden: 0 }
    }

    /// Copies until the stream ends.
    pub(super) fn copy(mut self, mut from: impl Read) -> disk::Result<Kept> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return self.finish(),
                Ok(n) => self.take(&chunk[..n], false)?,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                // A stream that breaks has ended.
                Err(_) => return self.finish(),
            }
        }
    }

    /// Takes more of the stream, without what is to be hidden.
    fn take(&mut self, bytes: &[u8], is_last: bool) -> disk::Result<()> {
        if self.hider.is_empty() {
            return self.push(bytes);
        }
        self.held.extend_from_slice(bytes);
        let part = self.hider.part(&self.held, is_last);
        self.held.drain(..part.taken).for_each(drop);
        self.hidden += part.count;
        self.push(&part.bytes)
    }

    fn push(&mut self, mut bytes: &[u8]) -> disk::Result<()> {
        while !bytes.is_empty() {
            let (place, room) = if self.written < self.head_max {
                (self.written, self.head_max - self.written)
            } else {
                let round = (self.written - self.head_max) % self.tail_max;
                (self.head_max + round, self.tail_max - round)
            };
            let n = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            self.file.write_at(place, &bytes[..n])?;
            self.written += n as u64;
            bytes = &bytes[n..];
        }
        Ok(())
    }

    /// Brings the end into its order.
    fn finish(mut self) -> disk::Result<Kept> {
        self.take(b"", true)?;
        let (kept, hidden) = (self.head_max + self.tail_max, self.hidden);
        if self.written <= kept {
            return Ok(Kept { cut: false, hidden });
        }
        let mut tail = vec![0; usize::try_from(self.tail_max).unwrap_or(0)];
        self.file.read_at(self.head_max, &mut tail)?;
        let oldest = usize::try_from((self.written - self.head_max) % self.tail_max).unwrap_or(0);
        tail.rotate_left(oldest);
        let mark = format!("\n[{} bytes are left out here]\n", self.written - kept);
        self.file.write_at(self.head_max, &[mark.as_bytes(), &tail].concat())?;
        Ok(Kept { cut: true, hidden })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::Disk;
    use crate::ports::disk::memory::MemoryDisk;
    use std::path::Path;

    fn kept(printed: impl Read, bytes_max: u64, secret: Option<&str>) -> (String, Kept) {
        let disk = MemoryDisk::new(1);
        disk.create_dirs(Path::new("/d")).unwrap();
        let dir = disk.open_dir(Path::new("/d")).unwrap();
        let hider = Arc::new(Hider::of(secret.map(|text| ("<?>".to_owned(), text))));
        let log = Log::new(dir.create_excl("stdout.log").unwrap(), bytes_max, hider);
        let kept = log.copy(printed).unwrap();
        (String::from_utf8(disk.content(Path::new("/d/stdout.log")).unwrap()).unwrap(), kept)
    }

    #[test]
    fn beginning_and_end_are_kept_and_what_is_missing_is_said() {
        let whole = Kept { cut: false, hidden: 0 };
        assert_eq!(kept(&b""[..], 10, None), (String::new(), whole));
        assert_eq!(kept(&b"0123456789"[..], 10, None), ("0123456789".to_owned(), whole));
        for n in 11..40 {
            let printed: String = ('a'..='z').cycle().take(n).collect();
            let mark = format!("\n[{} bytes are left out here]\n", n - 10);
            let expected = format!("{}{mark}{}", &printed[..5], &printed[n - 5..]);
            let cut = Kept { cut: true, hidden: 0 };
            assert_eq!(kept(printed.as_bytes(), 10, None), (expected, cut), "{n}");
        }
    }

    /// Gives a byte at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.len().min(1);
            self.0.read(&mut into[..n])
        }
    }

    #[test]
    fn what_is_hidden_is_hidden_also_where_it_comes_in_pieces() {
        let printed = b"a s3cret-text b s3cret-tex";
        let (text, kept) = kept(Slow(printed), 100, Some("s3cret-text"));
        assert_eq!((text.as_str(), kept.hidden), ("a <?> b s3cret-tex", 1));
    }
}
