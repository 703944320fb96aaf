//! The keyring: the tokens of a root as their file has them now, while a daemon runs.
//!
//! May not change the file. Invariant: a token that was taken back is worth nothing from the next
//! request on, as long as the file can be read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::tokens::{self, Token, Tokens};
use crate::ground::clock::Timestamp;
use crate::ports::disk::{Disk, Stat};
use crate::services::runs::Result;

/// The tokens of a file that may change at any time.
pub struct Keyring {
    disk: Arc<dyn Disk>,
    file: PathBuf,
    held: Mutex<Held>,
}

/// What was read last.
struct Held {
    tokens: Tokens,
    /// What stood there then.
    seen: Seen,
    /// Why it could not be read, as it was logged.
    trouble: Option<String>,
}

/// What stood where the file is looked for.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    File(Stat),
    /// A file that could not be read: it is read again.
    Trouble,
}

impl Seen {
    fn of(stat: Option<Stat>) -> Self {
        stat.map_or(Self::Nothing, Self::File)
    }
}

impl Keyring {
    /// Reads the tokens of `file`; none if there is no such file.
    pub fn open(disk: Arc<dyn Disk>, file: PathBuf) -> Result<Self> {
        let seen = Seen::of(tokens::stat(&*disk, &file)?);
        let tokens = tokens::load(&*disk, &file)?;
        let held = Mutex::new(Held { tokens, seen, trouble: None });
        Ok(Self { disk, file, held })
    }

    /// The token of this text, unless it has expired or was taken back.
    #[must_use]
    pub fn find(&self, text: &str, now: Timestamp) -> Option<Token> {
        let mut held = self.held();
        self.look(&mut held);
        held.tokens.find(text, now).cloned()
    }

    /// Reads the file again if it is another one than before. One that cannot be read changes
    /// nothing: a slip of the hand locks nobody out.
    fn look(&self, held: &mut Held) {
        // Before the content: what changes in between is seen the next time.
        let read = tokens::stat(&*self.disk, &self.file).and_then(|stat| {
            let seen = Seen::of(stat);
            if held.seen == seen {
                return Ok(None);
            }
            Ok(Some((seen, tokens::load(&*self.disk, &self.file)?)))
        });
        match read {
            Ok(None) => {}
            Ok(Some((seen, tokens))) => {
                let count = tokens.all().len();
                tracing::info!(code = "tokens_read", "tokens were read again: {count}");
                *held = Held { tokens, seen, trouble: None };
            }
            Err(e) => {
                let why = e.trouble().what.clone();
                if held.trouble.as_ref() != Some(&why) {
                    let code = e.trouble().code;
                    tracing::error!(code, "tokens stay as they were: {why}");
                }
                (held.seen, held.trouble) = (Seen::Trouble, Some(why));
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors::http::Scope;
    use crate::doors::http::tokens::NewToken;
    use crate::ports::disk::memory::MemoryDisk;
    use std::path::Path;

    const FILE: &str = "/runs/.dormouse/tokens.json";

    #[test]
    fn the_file_counts_as_it_is_now_and_as_it_was_while_it_cannot_be_read() {
        let (disk, file) = (MemoryDisk::new(1), Path::new(FILE));
        disk.create_dirs(Path::new("/runs/.dormouse")).unwrap();
        let now = Timestamp::from_micros(1_795_176_000_000_000);
        let ring = Keyring::open(Arc::new(disk.clone()), file.to_owned()).unwrap();
        let make = |name: &str| {
            let new = NewToken { name: name.into(), scopes: vec![Scope::Read], expires_at: None };
            tokens::create(&disk, file, new, now).unwrap()
        };
        let knows = |text: &str| ring.find(text, now).is_some();
        let (ci, guest) = (make("ci"), make("guest"));
        assert!(knows(&ci) && knows(&guest) && !knows("dmt_"));
        tokens::revoke(&disk, file, "ci").unwrap();
        assert!(!knows(&ci) && knows(&guest));
        let mut kept = Vec::new();
        disk.tamper(file, |bytes| kept = std::mem::replace(bytes, b"nonsense".to_vec()));
        assert!(!knows(&ci) && knows(&guest));
        assert!(ring.held().trouble.is_some(), "it is said");
        disk.tamper(file, |bytes| *bytes = kept);
        assert!(knows(&guest) && ring.held().trouble.is_none());
        disk.open_dir(Path::new("/runs/.dormouse")).unwrap().unlink("tokens.json").unwrap();
        assert!(!knows(&guest), "no file, no tokens");
    }
}
