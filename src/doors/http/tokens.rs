//! Tokens: who may come in over TCP. `<runsRoot>/.dormouse/tokens.json` keeps their digests.
//!
//! May not keep a token itself: its text leaves [`create`] once. Invariant: how long a comparison
//! takes says nothing about any token.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::auth::Scope;
use crate::ground::clock::Timestamp;
use crate::ground::digest::hex;
use crate::ground::limits::{TOKEN_NAME_BYTES_MAX, TOKENS_FILE_BYTES_MAX};
use crate::ports::disk::{self, Atomic, Dir, Disk, Open, write_atomic};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};

const FILE: &str = "tokens.json";

/// The tokens of a root.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tokens {
    tokens: Vec<Token>,
}

/// What is known of one token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Token {
    /// Who it was given to.
    pub name: String,
    /// What it lets do.
    pub scopes: Vec<Scope>,
    /// BLAKE3 of its text, in hex.
    hash: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is worth nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Who gets it.
    pub name: String,
    /// What it lets do.
    pub scopes: Vec<Scope>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

impl Tokens {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The token of this text, unless it has expired.
    #[must_use]
    pub fn find(&self, text: &str, now: Timestamp) -> Option<&Token> {
        let given = blake3::hash(text.as_bytes());
        let mut found = None;
        // All are compared, whole: where the right one stands shows in no time.
        for token in &self.tokens {
            let same = blake3::Hash::from_hex(&token.hash).is_ok_and(|known| known == given);
            if same && token.expires_at.is_none_or(|end| now < end) {
                found = Some(token);
            }
        }
        found
    }

    /// Adds a token and gives its text.
    fn add(&mut self, new: NewToken, random: &[u8], now: Timestamp) -> String {
        let text = format!("dmt_{}", hex(random));
        self.tokens.push(Token {
            name: new.name,
            scopes: new.scopes,
            hash: blake3::hash(text.as_bytes()).to_hex().to_string(),
            created_at: now,
            expires_at: new.expires_at,
        });
        text
    }
}

/// The tokens of the root at `root`; none if there is no file.
pub fn load(disk: &dyn Disk, root: &Path) -> Result<Tokens> {
    read(&*disk.open_dir(&root.join(".dormouse"))?, disk.effective_uid())
}

/// Makes a token and gives its text, which nothing can give again.
pub fn create(disk: &dyn Disk, root: &Path, new: NewToken, now: Timestamp) -> Result<String> {
    let printable = new.name.bytes().all(|b| b.is_ascii_graphic());
    if new.name.is_empty() || new.name.len() > TOKEN_NAME_BYTES_MAX || !printable {
        let what = format!("a token's name has 1 to {TOKEN_NAME_BYTES_MAX} printable characters");
        return Err(Error::Invalid(Trouble::new("token_name_invalid", what)));
    }
    let dir = disk.open_dir(&root.join(".dormouse"))?;
    let mut tokens = read(&*dir, disk.effective_uid())?;
    if tokens.tokens.iter().any(|token| token.name == new.name) {
        let what = format!("there is a token of the name {:?} already", new.name);
        return Err(Error::Conflict(Trouble::new("token_exists", what)));
    }
    let text = tokens.add(new, &[disk.random(), disk.random()].concat(), now);
    let bytes = crate::shells::run_dir::dir::pretty(&tokens);
    write_atomic(&*dir, FILE, &bytes, Atomic::DURABLE)?;
    Ok(text)
}

fn read(dir: &dyn Dir, ours: u32) -> Result<Tokens> {
    let Some(stat) = disk::optional(dir.stat(FILE))? else { return Ok(Tokens::default()) };
    let refused = |why: &str| {
        let what = format!("{}: {why}", dir.path().join(FILE).display());
        Err(Error::Refused(Trouble::new("R5", what).next("chmod 600 the file, or remove it")))
    };
    if stat.uid != ours || stat.mode & 0o077 != 0 {
        return refused("it belongs to somebody else, or others may read or write it");
    }
    let bytes = dir.read_file(FILE, Open::Read, TOKENS_FILE_BYTES_MAX)?;
    match serde_json::from_slice(&bytes) {
        Ok(tokens) => Ok(tokens),
        Err(e) => refused(&format!("it is not a file of tokens: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::memory::MemoryDisk;

    fn noon(seconds: i64) -> Timestamp {
        Timestamp::from_micros(1_795_176_000_000_000 + seconds * 1_000_000)
    }

    fn root() -> MemoryDisk {
        let disk = MemoryDisk::new(1);
        disk.create_dirs(Path::new("/runs/.dormouse")).unwrap();
        disk
    }

    fn new(name: &str, expires_at: Option<Timestamp>) -> NewToken {
        NewToken { name: name.into(), scopes: vec![Scope::Read], expires_at }
    }

    #[test]
    fn a_token_is_known_by_its_text_alone_until_it_expires() {
        let (disk, root) = (root(), Path::new("/runs"));
        assert!(load(&disk, root).unwrap().is_empty());
        let forever = create(&disk, root, new("ci", None), noon(0)).unwrap();
        let brief = create(&disk, root, new("guest", Some(noon(60))), noon(0)).unwrap();
        let tokens = load(&disk, root).unwrap();
        let who = |text: &str, now| tokens.find(text, now).map(|t| t.name.clone());
        assert_eq!(who(&forever, noon(61)).as_deref(), Some("ci"));
        assert_eq!(who(&brief, noon(59)).as_deref(), Some("guest"));
        assert_eq!(who(&brief, noon(60)), None);
        assert_eq!(who(&forever[..forever.len() - 1], noon(0)), None);
        assert_eq!(who("", noon(0)), None);
        let file = disk.open_dir(Path::new("/runs/.dormouse")).unwrap();
        let file = file.read_file(FILE, Open::Read, 1 << 16).unwrap();
        assert!(!String::from_utf8(file).unwrap().contains(&forever));
    }

    #[test]
    fn a_name_is_given_once_and_is_printable() {
        let (disk, root) = (root(), Path::new("/runs"));
        create(&disk, root, new("ci", None), noon(0)).unwrap();
        for (name, code) in [("ci", "token_exists"), ("", "token_name_invalid")] {
            let error = create(&disk, root, new(name, None), noon(0)).unwrap_err();
            assert_eq!(error.trouble().code, code);
        }
        let error = create(&disk, root, new("a\nb", None), noon(0)).unwrap_err();
        assert_eq!(error.trouble().code, "token_name_invalid");
    }
}
