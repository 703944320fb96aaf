//! Export and import: a whole run in one file, and back.
//!
//! [`write`] makes the file, [`archive`] reads and verifies it, [`import`] makes a run of it. May
//! not change the run that is exported. Invariant: what an export holds verifies by itself; what
//! does not is neither written out nor taken in.

pub mod archive;
pub mod import;
pub mod write;

use std::io;
use std::path::Path;

use crate::codecs::format::{export, signature};
use crate::ports::disk;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};

/// How much is moved at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// What else a damaged file could be had from.
const FETCH_AGAIN: &str = "fetch it again from where it was made, or export the run again";

/// The error of a file that is not what somebody wrote.
fn damaged(path: &Path, why: &str) -> Error {
    let trouble = Trouble::new("export_damaged", format!("{}: {why}", path.display()));
    Error::Damaged(trouble.next(FETCH_AGAIN))
}

/// What is wrong with the head of a file.
fn of_head(path: &Path, error: &export::Error) -> Error {
    let what = format!("{}: {error}", path.display());
    match error {
        export::Error::Foreign | export::Error::Damaged(_) => damaged(path, &error.to_string()),
        export::Error::Newer => Error::Refused(
            Trouble::new("export_newer", what).next("use the version of dormouse that wrote it"),
        ),
        export::Error::Refused(_) => Error::Refused(Trouble::new("export_refused", what)),
    }
}

/// A failure of a stream, whose cause may be the disk below it.
fn of_stream(error: io::Error, otherwise: impl FnOnce(&io::Error) -> Error) -> Error {
    match error.downcast::<disk::Error>() {
        Ok(disk) => disk.into(),
        Err(other) => otherwise(&other),
    }
}

impl Runs {
    /// Keeps a key in a new file that its owner alone may read.
    pub fn keep_key(&self, path: &Path, text: &[u8]) -> Result<()> {
        write::to_file(&*self.disk, path, |out| out.write_all(text).map_err(write::not_written))
    }
}

/// The error of a text that should be a key.
#[must_use]
pub fn no_key(what: &str, error: signature::Error) -> Error {
    let trouble = Trouble::new("key_invalid", format!("{what}: {error}"));
    Error::Invalid(trouble.next("dormouse key create FILE"))
}
