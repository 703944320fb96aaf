//! What a command prints, copied into a file of bounded size as it comes.
//!
//! May not know what it means. Invariant: the beginning and the end are kept; what is left out
//! between them is marked with its size.

use std::io::Read;

use crate::ports::disk::{self, FileHandle};

/// Bytes that are copied at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// A log that is being written: the first half as it comes, the rest going round in the second.
pub(super) struct Log {
    file: Box<dyn FileHandle>,
    head_max: u64,
    tail_max: u64,
    written: u64,
}

impl Log {
    pub(super) fn new(file: Box<dyn FileHandle>, bytes_max: u64) -> Self {
        let head_max = bytes_max / 2;
        Self { file, head_max, tail_max: (bytes_max - head_max).max(1), written: 0 }
    }

    /// Copies until the stream ends. True if not everything was kept.
    pub(super) fn copy(mut self, mut from: impl Read) -> disk::Result<bool> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => return self.finish(),
                Ok(n) => self.push(&chunk[..n])?,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                // A stream that breaks has ended.
                Err(_) => return self.finish(),
            }
        }
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
    fn finish(self) -> disk::Result<bool> {
        let kept = self.head_max + self.tail_max;
        if self.written <= kept {
            return Ok(false);
        }
        let mut tail = vec![0; usize::try_from(self.tail_max).unwrap_or(0)];
        self.file.read_at(self.head_max, &mut tail)?;
        let oldest = usize::try_from((self.written - self.head_max) % self.tail_max).unwrap_or(0);
        tail.rotate_left(oldest);
        let mark = format!("\n[{} bytes are left out here]\n", self.written - kept);
        self.file.write_at(self.head_max, &[mark.as_bytes(), &tail].concat())?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::Disk;
    use crate::ports::disk::memory::MemoryDisk;
    use std::path::Path;

    fn kept(printed: &[u8], bytes_max: u64) -> (String, bool) {
        let disk = MemoryDisk::new(1);
        disk.create_dirs(Path::new("/d")).unwrap();
        let dir = disk.open_dir(Path::new("/d")).unwrap();
        let log = Log::new(dir.create_excl("stdout.log").unwrap(), bytes_max);
        let cut = log.copy(printed).unwrap();
        (String::from_utf8(disk.content(Path::new("/d/stdout.log")).unwrap()).unwrap(), cut)
    }

    #[test]
    fn beginning_and_end_are_kept_and_what_is_missing_is_said() {
        assert_eq!(kept(b"", 10), (String::new(), false));
        assert_eq!(kept(b"0123456789", 10), ("0123456789".to_owned(), false));
        for n in 11..40 {
            let printed: String = ('a'..='z').cycle().take(n).collect();
            let mark = format!("\n[{} bytes are left out here]\n", n - 10);
            let expected = format!("{}{mark}{}", &printed[..5], &printed[n - 5..]);
            assert_eq!(kept(printed.as_bytes(), 10), (expected, true), "{n}");
        }
    }
}
