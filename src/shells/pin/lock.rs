//! `process.lock.json`: what a pinned copy consists of, and the check that it still does.
//!
//! May not know where the copy is kept. Invariant: a copy that passes is byte for byte what was
//! pinned, and the process that the journal names.

use super::graph::{PinnedGraph, digest_of, document_file, from_pinned};
use super::resolve;
use crate::codecs::event::{ProcessRef, Profile};
use crate::codecs::json::{Surrogates, gate};
use crate::codecs::source::SourceError;
use crate::ground::digest::Digest;
use crate::ground::limits::{JSON_DEPTH_MAX, MODULE_BYTES_MAX, MODULE_FILES_MAX};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Name of the file, beside the pinned modules.
pub const LOCK_FILE: &str = "process.lock.json";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// One pinned file in the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockedFile {
    /// Path below the process root.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Of the content.
    pub digest: Digest,
}

/// The content of `process.lock.json`, in the order of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PinLock {
    /// 1.
    pub version: u32,
    /// Where the process came from: a hint for people.
    pub root: String,
    /// The entry module.
    pub entry: String,
    /// The export to call, if one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export_name: Option<String>,
    /// The profile.
    pub api: Profile,
    /// Sorted by path.
    pub files: Vec<LockedFile>,
    /// Over path, size and digest of each file.
    pub digest: Digest,
}

/// Why a pinned copy is not run.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file is not what was pinned (case J52).
    #[error("pin-mismatch: {path}: pinned as {expected}, found {found}")]
    Mismatch {
        /// The file.
        path: String,
        /// What the lock says.
        expected: Digest,
        /// What its bytes give.
        found: Digest,
    },
    /// A pinned file cannot be read (case J52).
    #[error("pin-mismatch: {path}: cannot be read")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The lock is malformed or contradicts itself (case J52).
    #[error("pin-mismatch: {LOCK_FILE}: {0}")]
    Lock(String),
    /// The lock is whole and belongs to another process than the journal names (case J52).
    #[error("pin-mismatch: {LOCK_FILE}: is of {found}, the journal names {expected}")]
    OtherProcess {
        /// The journal's digest.
        expected: Digest,
        /// The lock's.
        found: Digest,
    },
    /// The bytes are the pinned ones, and this version cannot read them.
    #[error("{0}")]
    Source(#[from] SourceError),
}

impl PinLock {
    /// The text: JSON over several lines, for people and for diff.
    #[must_use]
    pub fn print(&self) -> String {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        text + "\n"
    }

    /// Reads and checks a lock: version, order, paths, digest over the files.
    ///
    /// # Errors
    /// [`VerifyError::Lock`].
    pub fn read(bytes: &[u8]) -> Result<Self, VerifyError> {
        let wrong = |why: String| Err(VerifyError::Lock(why));
        let json = match gate(bytes, JSON_DEPTH_MAX, Surrogates::Paired) {
            Ok(json) => json,
            Err(e) => return wrong(e.to_string()),
        };
        let lock: Self = match json.read() {
            Ok(lock) => lock,
            Err(e) => return wrong(e.to_string()),
        };
        if lock.version != VERSION {
            return wrong(format!("version {} is not {VERSION}", lock.version));
        }
        if lock.files.len() > MODULE_FILES_MAX
            || lock.files.iter().map(|f| f.bytes).fold(0, u64::saturating_add) > MODULE_BYTES_MAX
        {
            return wrong("it names more than may be pinned".to_owned());
        }
        if let Some(pair) = lock.files.windows(2).find(|pair| pair[0].path >= pair[1].path) {
            return wrong(format!("{:?} is out of order", pair[1].path));
        }
        if let Some(file) = lock.files.iter().find(|f| !resolve::is_pinnable(&f.path)) {
            return wrong(format!("{:?} is not a path for a pinned file", file.path));
        }
        if !lock.files.iter().any(|file| file.path == lock.entry) {
            return wrong(format!("the entry {:?} is not among the files", lock.entry));
        }
        let found = digest_of(lock.files.iter().map(|f| (f.path.as_str(), f.bytes, f.digest)));
        if found != lock.digest {
            return wrong(format!("its digest is {}, its files give {found}", lock.digest));
        }
        Ok(lock)
    }

    /// Checks that this is the process that the journal names.
    ///
    /// # Errors
    /// [`VerifyError::OtherProcess`].
    pub fn belongs_to(&self, process: &ProcessRef) -> Result<(), VerifyError> {
        if self.digest == process.digest {
            return Ok(());
        }
        Err(VerifyError::OtherProcess { expected: process.digest, found: self.digest })
    }
}

impl PinnedGraph {
    /// The lock of this graph.
    #[must_use]
    pub fn lock(&self) -> PinLock {
        let locked = |file: &super::PinnedFile| LockedFile {
            path: file.path.clone(),
            bytes: file.bytes.len() as u64,
            digest: file.digest,
        };
        PinLock {
            version: VERSION,
            root: self.root.clone(),
            entry: self.entry.clone(),
            export_name: self.export_name.clone(),
            api: self.api,
            files: self.files.iter().map(locked).collect(),
            digest: self.digest,
        }
    }

    /// Loads a pinned copy: `read` gives the bytes of a pinned path. Entry, export and profile are
    /// those of the journal (`process`): a child run starts elsewhere in the same copy, and a
    /// profile never changes.
    ///
    /// # Errors
    /// When any byte differs from what was pinned, or the copy is another process's.
    pub fn verify(
        lock: &PinLock,
        process: &ProcessRef,
        read: &mut dyn FnMut(&str) -> io::Result<Vec<u8>>,
    ) -> Result<Self, VerifyError> {
        lock.belongs_to(process)?;
        let mut contents = Vec::with_capacity(lock.files.len());
        for file in &lock.files {
            let path = file.path.clone();
            let bytes = read(&path).map_err(|source| VerifyError::Unreadable { path, source })?;
            let found = Digest::of(&bytes);
            if found != file.digest || bytes.len() as u64 != file.bytes {
                let (path, expected) = (file.path.clone(), file.digest);
                return Err(VerifyError::Mismatch { path, expected, found });
            }
            contents.push((file.path.as_str(), bytes, found));
        }
        let pinned: BTreeSet<&str> = lock.files.iter().map(|file| file.path.as_str()).collect();
        let mut files = BTreeMap::new();
        for (path, bytes, digest) in contents {
            let file = if process.api == Profile::Workflow {
                document_file(path, bytes, digest)
            } else {
                from_pinned(path, bytes, digest, &|path| pinned.contains(path))?
            };
            files.insert(path.to_owned(), file);
        }
        if !files.contains_key(&process.entry) {
            let entry = &process.entry;
            return Err(VerifyError::Lock(format!("the entry {entry:?} is not among the files")));
        }
        let (entry, export_name) = (process.entry.clone(), process.export_name.clone());
        let graph = Self::assemble(lock.root.clone(), entry, export_name, files, Vec::new());
        Ok(Self { api: process.api, ..graph })
    }
}
