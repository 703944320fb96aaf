//! Pinning: the modules of a process, found, checked and copied before anything runs.
//!
//! May not know runs or journals, and reads files only through [`SourceReader`]. Invariant: what a
//! pinned copy means depends on nothing but the copy: its resolutions are found again without the
//! tree it came from.

mod globs;
mod graph;
mod lock;
mod resolve;
mod specifier;

pub use graph::{Edge, PinnedFile, PinnedGraph, pin};
pub use lock::{LOCK_FILE, LockedFile, PinLock, VerifyError};

use crate::codecs::source::SourceError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What stands under a path, symbolic links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Directory,
    /// Nothing, or something that is neither.
    Missing,
}

/// How source files are reached. Paths are absolute.
pub trait SourceReader {
    /// The content of a file.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// What stands there; [`FileKind::Missing`] is not an error.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn kind(&self, path: &Path) -> io::Result<FileKind>;

    /// The path with every symbolic link resolved.
    ///
    /// # Errors
    /// When nothing stands there.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;

    /// The names in a directory, in any order; names that are not UTF-8 may be left out.
    ///
    /// # Errors
    /// When it cannot be listed.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
}

/// What people give as `--entry`: `path` or `path#export`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntrySpec {
    /// The file.
    pub path: PathBuf,
    /// The export to call; none: the usual ones.
    pub export_name: Option<String>,
}

impl EntrySpec {
    /// Reads `path` or `path#export`. A `#` that no identifier follows belongs to the path.
    ///
    /// # Errors
    /// When there is no path, or nothing after the `#`.
    pub fn parse(text: &str) -> Result<Self, PinError> {
        let (path, export) = match text.rsplit_once('#') {
            Some((path, export)) if export.is_empty() || is_identifier(export) => {
                (path, Some(export))
            }
            _ => (text, None),
        };
        if path.is_empty() || export.is_some_and(str::is_empty) {
            let message = format!("{text:?} names no entry");
            return Err(PinError::new(E_ENTRY, message, "write `path` or `path#export`"));
        }
        Ok(Self { path: PathBuf::from(path), export_name: export.map(str::to_owned) })
    }
}

/// Whether `text` can be the name of an export (escapes aside).
fn is_identifier(text: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.starts_with(|c: char| inner(c) && !c.is_numeric()) && text.chars().all(inner)
}

/// What to pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRequest {
    /// The entry; its path is absolute.
    pub entry: EntrySpec,
    /// `--process-root`, absolute; none: found by looking upward from the entry.
    pub root: Option<PathBuf>,
    /// Where `@a5c-ai/babysitter-library/…` is found, absolute.
    pub library_root: Option<PathBuf>,
    /// `--pin`: patterns below the process root for modules that only computed imports reach.
    pub extra: Vec<String>,
}

impl PinRequest {
    /// Pins `entry` with everything else left to the defaults.
    #[must_use]
    pub const fn of(entry: EntrySpec) -> Self {
        Self { entry, root: None, library_root: None, extra: Vec::new() }
    }
}

/// The entry is not named, or is no module.
pub const E_ENTRY: &str = "E_ENTRY";
/// A module that is not there.
pub const E_MODULE_NOT_FOUND: &str = "E_MODULE_NOT_FOUND";
/// A directory where a module should be.
pub const E_MODULE_DIRECTORY: &str = "E_MODULE_DIRECTORY";
/// A module that is not UTF-8.
pub const E_MODULE_UTF8: &str = "E_MODULE_UTF8";
/// A module that cannot be read.
pub const E_MODULE_READ: &str = "E_MODULE_READ";
/// Too many files are open: the source says nothing about the module.
pub const E_CROWDED: &str = "overloaded";
/// More modules, or more bytes, than may be pinned.
pub const E_MODULE_LIMIT: &str = "E_MODULE_LIMIT";
/// A module outside the process root.
pub const E_IMPORT_ESCAPE: &str = "E_IMPORT_ESCAPE";
/// A path inside the SDK package.
pub const E_IMPORT_SUBPATH: &str = "E_IMPORT_SUBPATH";
/// The process library, without a setting that says where it is.
pub const E_IMPORT_LIBRARY: &str = "E_IMPORT_LIBRARY";
/// A package or a URL.
pub const E_IMPORT_BARE: &str = "E_IMPORT_BARE";
/// A module of Node.
pub const E_IMPORT_NODE: &str = "E_IMPORT_NODE";
/// `with { type: "json" }` for something that is not JSON.
pub const E_IMPORT_ATTRIBUTE: &str = "E_IMPORT_ATTRIBUTE";
/// A `--pin` pattern that is malformed or matches nothing.
pub const E_PIN_GLOB: &str = "E_PIN_GLOB";

/// A place in a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The module, below the process root.
    pub path: String,
    /// Line, 1-based.
    pub line: u32,
    /// Column in characters, 1-based.
    pub column: u32,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path, self.line, self.column)
    }
}

/// Why a process cannot be pinned: nothing was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinError {
    /// Stable code, such as `E_IMPORT_NODE`.
    pub code: &'static str,
    /// Where it is asked for, or where it is wrong; none when the command itself is wrong.
    pub site: Option<Site>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl std::error::Error for PinError {}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(site) = &self.site {
            write!(f, "{site}: ")?;
        }
        write!(f, "{}: {}; {}", self.code, self.message, self.hint)
    }
}

impl PinError {
    fn new(code: &'static str, message: String, hint: impl Into<String>) -> Self {
        Self { code, site: None, message, hint: hint.into() }
    }

    fn at(self, site: Option<&Site>) -> Self {
        Self { site: site.cloned(), ..self }
    }
}

impl From<SourceError> for PinError {
    fn from(e: SourceError) -> Self {
        let site = Some(Site { path: e.path, line: e.line, column: e.column });
        Self { code: e.code, site, message: e.message, hint: e.hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_paths_with_or_without_an_export() {
        let read = |text: &str| {
            EntrySpec::parse(text).ok().map(|e| (e.path.display().to_string(), e.export_name))
        };
        let some =
            |path: &str, export: Option<&str>| Some((path.to_owned(), export.map(str::to_owned)));
        assert_eq!(read("a/b.js"), some("a/b.js", None));
        assert_eq!(read("a/b.js#process"), some("a/b.js", Some("process")));
        assert_eq!(read("a/b.js#$x_1"), some("a/b.js", Some("$x_1")));
        assert_eq!(read("a#b.js"), some("a#b.js", None));
        assert_eq!(read("a#b.js#default"), some("a#b.js", Some("default")));
        assert_eq!(read("a.js#"), None);
        assert_eq!(read("#process"), None);
        assert_eq!(read(""), None);
    }
}
