//! Processes that stand in this program, pinned into a run like any other.
//!
//! May not know who asks for them. Invariant: their names are no paths that a door lets in, for
//! those are absolute.

use std::io;
use std::path::{Path, PathBuf};

use crate::shells::pin::{EntrySpec, FileKind, PinRequest, SourceReader};

use super::create::Source;

/// One message for one agent: inputs `{agent, message, metadata?, priority?}`, output `{answer,
/// metadata}`.
pub const AGENT: &str = "builtin:agent@1";

const AGENT_TEXT: &str = include_str!("builtin/agent.js");
/// Where it stands in the root that its reader shows.
const AGENT_PATH: &str = "/agent.js";

/// The process that makes a run of one message.
#[must_use]
pub fn agent() -> Source {
    Source {
        entry: EntrySpec { path: PathBuf::from(AGENT), export_name: None },
        root: None,
        library_root: None,
        extra: Vec::new(),
        process_id: Some(AGENT.to_owned()),
    }
}

/// What pinning needs for an entry that stands in this program.
pub(super) fn request(entry: &EntrySpec) -> Option<PinRequest> {
    (entry.path == Path::new(AGENT)).then(|| PinRequest {
        root: Some(PathBuf::from("/")),
        ..PinRequest::of(EntrySpec { path: PathBuf::from(AGENT_PATH), export_name: None })
    })
}

/// A tree with the built-in modules and nothing else.
#[derive(Debug)]
pub(super) struct InBinary;

impl SourceReader for InBinary {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.kind(path)? {
            FileKind::File(_) => Ok(AGENT_TEXT.as_bytes().to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn kind(&self, path: &Path) -> io::Result<FileKind> {
        Ok(match path.to_str() {
            Some("/") => FileKind::Directory,
            Some(AGENT_PATH) => FileKind::File(AGENT_TEXT.len() as u64),
            _ => FileKind::Missing,
        })
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        match self.kind(path)? {
            FileKind::Missing => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(path.to_owned()),
        }
    }

    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        Ok(vec![AGENT_PATH.trim_start_matches('/').to_owned()])
    }
}
