//! Tokens: who may come in over TCP. `<runsRoot>/.dormouse/tokens.json`, or the file that is
//! configured, keeps their digests.
//!
//! May not keep a token itself: its text leaves [`create`] once. Invariant: how long a comparison
//! takes says nothing about any token.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::auth::Scope;
use crate::ground::clock::Timestamp;
use crate::ground::digest::hex;
use crate::ground::limits::{TOKEN_NAME_BYTES_MAX, TOKENS_FILE_BYTES_MAX};
use crate::ports::disk::{self, Atomic, Dir, Disk, Open, Stat, write_atomic};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result};

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
    /// What is known of each, oldest first.
    #[must_use]
    pub fn all(&self) -> &[Token] {
        &self.tokens
    }

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

/// The tokens that `file` keeps; none if there is no such file.
pub fn load(disk: &dyn Disk, file: &Path) -> Result<Tokens> {
    let (dir, name) = place(disk, file)?;
    read(&*dir, &name, disk.effective_uid())
}

/// What stands where `file` is looked for, if anything.
pub(super) fn stat(disk: &dyn Disk, file: &Path) -> Result<Option<Stat>> {
    let (dir, name) = place(disk, file)?;
    Ok(disk::optional(dir.stat(&name))?)
}

/// Makes a token and gives its text, which nothing can give again.
pub fn create(disk: &dyn Disk, file: &Path, new: NewToken, now: Timestamp) -> Result<String> {
    let printable = new.name.bytes().all(|b| b.is_ascii_graphic());
    if new.name.is_empty() || new.name.len() > TOKEN_NAME_BYTES_MAX || !printable {
        let what = format!("a token's name has 1 to {TOKEN_NAME_BYTES_MAX} printable characters");
        return Err(Error::Invalid(Trouble::new("token_name_invalid", what)));
    }
    let (dir, name) = place(disk, file)?;
    let mut tokens = read(&*dir, &name, disk.effective_uid())?;
    if tokens.tokens.iter().any(|token| token.name == new.name) {
        let what = format!("there is a token of the name {:?} already", new.name);
        return Err(Error::Conflict(Trouble::new("token_exists", what)));
    }
    let text = tokens.add(new, &[disk.random(), disk.random()].concat(), now);
    write(&*dir, &name, &tokens)?;
    Ok(text)
}

/// Takes a token back. Gives what was known of it.
pub fn revoke(disk: &dyn Disk, file: &Path, token: &str) -> Result<Token> {
    let (dir, name) = place(disk, file)?;
    let mut tokens = read(&*dir, &name, disk.effective_uid())?;
    let Some(at) = tokens.tokens.iter().position(|known| known.name == token) else {
        let trouble = Trouble::new("token_not_found", format!("there is no token {token:?}"));
        return Err(Error::NotFound(trouble.next("dormouse token list")));
    };
    let revoked = tokens.tokens.remove(at);
    write(&*dir, &name, &tokens)?;
    Ok(revoked)
}

/// The directory that a file stands in, and its name there.
fn place(disk: &dyn Disk, file: &Path) -> Result<(Arc<dyn Dir>, String)> {
    let name = file.file_name().and_then(|name| name.to_str());
    let (Some(above), Some(name)) = (file.parent(), name) else {
        let what = format!("{} names no file", file.display());
        return Err(Error::Invalid(Trouble::new("file_refused", what)));
    };
    Ok((disk.open_dir(above)?, name.to_owned()))
}

fn write(dir: &dyn Dir, name: &str, tokens: &Tokens) -> Result<()> {
    let bytes = crate::shells::run_dir::dir::pretty(tokens);
    Ok(write_atomic(dir, name, &bytes, Atomic::DURABLE)?)
}

fn read(dir: &dyn Dir, name: &str, ours: u32) -> Result<Tokens> {
    let Some(stat) = disk::optional(dir.stat(name))? else { return Ok(Tokens::default()) };
    let refused = |why: &str| {
        let what = format!("{}: {why}", dir.path().join(name).display());
        Err(Error::Refused(Trouble::new("R5", what).next("chmod 600 the file, or remove it")))
    };
    if stat.uid != ours || stat.mode & 0o077 != 0 {
        return refused("it belongs to somebody else, or others may read or write it");
    }
    let bytes = dir.read_file(name, Open::Read, TOKENS_FILE_BYTES_MAX)?;
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
        let (disk, root) = (root(), Path::new("/runs/.dormouse/tokens.json"));
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
        let file = file.read_file("tokens.json", Open::Read, 1 << 16).unwrap();
        assert!(!String::from_utf8(file).unwrap().contains(&forever));
        assert_eq!(revoke(&disk, root, "ci").unwrap().name, "ci");
        assert_eq!(revoke(&disk, root, "ci").unwrap_err().trouble().code, "token_not_found");
        assert!(load(&disk, root).unwrap().find(&forever, noon(0)).is_none());
    }

    #[test]
    fn a_name_is_given_once_and_is_printable() {
        let (disk, root) = (root(), Path::new("/runs/.dormouse/tokens.json"));
        create(&disk, root, new("ci", None), noon(0)).unwrap();
        for (name, code) in [("ci", "token_exists"), ("", "token_name_invalid")] {
            let error = create(&disk, root, new(name, None), noon(0)).unwrap_err();
            assert_eq!(error.trouble().code, code);
        }
        let error = create(&disk, root, new("a\nb", None), noon(0)).unwrap_err();
        assert_eq!(error.trouble().code, "token_name_invalid");
    }
}
