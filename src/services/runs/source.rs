//! Process source files, read through the disk port.
//!
//! May not know what a module means. Invariant: nothing but regular files is read, and none beyond
//! the limit of a whole process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ground::limits::MODULE_BYTES_MAX;
use crate::ports::disk::{self, Disk};
use crate::shells::pin::{FileKind, SourceReader};

/// Reads the files that people name.
#[derive(Debug)]
pub struct DiskReader(pub Arc<dyn Disk>);

impl SourceReader for DiskReader {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.read_user_file(path, MODULE_BYTES_MAX + 1).map_err(plain)
    }

    fn kind(&self, path: &Path) -> io::Result<FileKind> {
        let real = match self.0.canonicalize(path) {
            Ok(real) => real,
            Err(e) if e.is_not_found() || e.kind == disk::Kind::WrongKind => {
                return Ok(FileKind::Missing);
            }
            Err(e) => return Err(plain(e)),
        };
        let (Some(above), Some(name)) = (real.parent(), real.file_name()) else {
            return Ok(FileKind::Directory);
        };
        let Some(name) = name.to_str() else { return Ok(FileKind::Missing) };
        let stat = self.0.open_dir(above).and_then(|dir| dir.stat(name)).map_err(plain)?;
        Ok(match stat.kind {
            disk::FileKind::File => FileKind::File(stat.bytes),
            disk::FileKind::Dir => FileKind::Directory,
            _ => FileKind::Missing,
        })
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.0.canonicalize(path).map_err(plain)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.0.open_dir(directory).and_then(|dir| dir.list()).map_err(plain)
    }
}

fn plain(error: disk::Error) -> io::Error {
    if error.is_not_found() {
        return io::Error::new(io::ErrorKind::NotFound, error.source);
    }
    error.source
}
