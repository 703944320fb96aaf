//! The head of an export: what one file with a whole run holds, and what it may hold.
//!
//! Three lines of text: the format, a sealed manifest, a signature over both or the word that there
//! is none. The content of all files follows as one compressed stream, in the order of the
//! manifest, then a digest of everything before. May not know how files are reached. Invariant:
//! names, sizes and digests stand in the manifest alone; nothing behind it could say otherwise.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::signature::{self, PublicKey, SecretKey};
use super::{line, sealed};
use crate::codecs::event::Head;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::RunId;
use crate::ground::limits::{
    EXPORT_BYTES_MAX, EXPORT_DEPTH_MAX, EXPORT_FILES_MAX, JOURNAL_SEGMENT_BYTES,
    RUN_JOURNAL_BYTES_MAX,
};

/// The first line.
pub const MAGIC: &str = "dormouse-export/1\n";
/// Length of the digest at the end.
pub const END_BYTES: u64 = 32;
/// Longest third line.
pub const SIGNATURE_BYTES_MAX: usize = 256;

/// What is read of a journal: the last records of a run that is held for its size stand beyond it.
const JOURNAL_BYTES_MAX: u64 = RUN_JOURNAL_BYTES_MAX + 2 * JOURNAL_SEGMENT_BYTES;
const FAMILY: &str = "dormouse-export/";
const KIND: &str = "dormouse-export/1";
/// What vouches for records where it was made; another machine makes its own.
const WITNESS: &str = "state/cache.mpk";

/// Why a head is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first line is another one.
    #[error("it is not an export of dormouse")]
    Foreign,
    /// A later version wrote it.
    #[error("its format is newer than the one this version reads, {KIND}")]
    Newer,
    /// It is not as it was written.
    #[error("{0}")]
    Damaged(String),
    /// It asks for something that no export of ours asks for.
    #[error("{0}")]
    Refused(String),
}

/// What an export holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// The run.
    pub run_id: RunId,
    /// Where its journal ends.
    pub head: Head,
    /// When it was made.
    pub exported_at: Timestamp,
    /// Version of dormouse that made it.
    pub version: String,
    /// Every file, sorted by path.
    pub files: Vec<Entry>,
}

/// One file of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Path below the run directory.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its content's digest.
    pub digest: Digest,
}

/// The three lines of a manifest.
#[must_use]
pub fn head(manifest: &Manifest, key: Option<&SecretKey>) -> Vec<u8> {
    let mut out = MAGIC.as_bytes().to_vec();
    out.extend(sealed::seal(KIND, manifest));
    let signature = signature::line(key, &out);
    out.extend(signature);
    out
}

/// Whether a first line is ours.
///
/// # Errors
/// It is somebody else's, or of a later version.
pub fn check_magic(line: &[u8]) -> Result<(), Error> {
    if line == MAGIC.as_bytes() {
        return Ok(());
    }
    let number = line.strip_prefix(FAMILY.as_bytes()).and_then(|rest| rest.strip_suffix(b"\n"));
    let number = number.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
    Err(if number.is_some_and(|n| n > 1) { Error::Newer } else { Error::Foreign })
}

/// Reads the second and the third line.
///
/// # Errors
/// They are damaged, or ask for what must not be.
pub fn read(manifest: &[u8], signature: &[u8]) -> Result<(Manifest, Option<PublicKey>), Error> {
    let damaged = |why: String| Error::Damaged(why);
    let opened: Manifest =
        sealed::open(KIND, manifest).map_err(|e| damaged(format!("its manifest: {e}")))?;
    let lines = [MAGIC.as_bytes(), manifest].concat();
    let signer = signature::check(signature, &lines).map_err(|e| damaged(e.to_string()))?;
    opened.check()?;
    Ok((opened, signer))
}

impl Manifest {
    /// The size of all files together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, entry| sum.saturating_add(entry.bytes))
    }

    /// Whether it asks only for what belongs into a run directory, each once, within the limits.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), Error> {
        if self.files.len() > EXPORT_FILES_MAX {
            let count = self.files.len();
            return refused(format!("{count} files are more than {EXPORT_FILES_MAX}"));
        }
        if self.bytes() > EXPORT_BYTES_MAX {
            let bytes = self.bytes();
            return refused(format!("{bytes} bytes are more than {EXPORT_BYTES_MAX}"));
        }
        let mut names = HashSet::new();
        let mut before = "";
        let mut journal = 0_u64;
        for entry in &self.files {
            let path = entry.path.as_str();
            check_member(entry)?;
            if path <= before {
                return refused(format!("{path:?} is named twice, or out of order"));
            }
            if path.match_indices('/').any(|(at, _)| names.contains(&path[..at])) {
                return refused(format!("{path:?} stands below a file"));
            }
            if path.starts_with("journal/") {
                journal = journal.saturating_add(entry.bytes);
            }
            names.insert(path);
            before = path;
        }
        match journal {
            0 => refused("it has no journal".to_owned()),
            n if n > JOURNAL_BYTES_MAX => refused(format!("its journal has {n} bytes")),
            _ => Ok(()),
        }
    }
}

fn refused<T>(why: String) -> Result<T, Error> {
    Err(Error::Refused(why))
}

fn check_member(entry: &Entry) -> Result<(), Error> {
    let path = entry.path.as_str();
    if !is_member(path) {
        return refused(format!("{path:?} is no file of a run"));
    }
    if path.strip_prefix("blobs/").is_some_and(|name| name != entry.digest.hex()) {
        return refused(format!("{path:?} is not named by its digest"));
    }
    Ok(())
}

/// Whether a path is one that an export may hold: below the directory of a run, and of a name that
/// means something there. Locks, temporary files and what vouches for records are left out.
#[must_use]
pub fn is_member(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    if parts.len() > EXPORT_DEPTH_MAX || !parts.iter().all(|part| is_plain(part)) {
        return false;
    }
    let is_code = |name: &str| {
        let digest = name.strip_prefix("process-");
        name == "process" || digest.is_some_and(|d| d.len() == 16 && d.chars().all(is_hex))
    };
    match parts.as_slice() {
        ["run.json" | "inputs.json"] => true,
        ["journal", name] => line::segment_first(name).is_some(),
        ["blobs", name] => name.len() == 64 && name.chars().all(is_hex),
        ["tasks" | "state" | "quarantine", _, ..] => path != WITNESS,
        [top, _, ..] => is_code(top),
        _ => false,
    }
}

const fn is_hex(c: char) -> bool {
    matches!(c, '0'..='9' | 'a'..='f')
}

fn is_plain(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 255
        && !matches!(part, "." | "..")
        && !part.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::digest::Sum;
    use crate::ground::id::Seq;

    fn manifest(paths: &[&str]) -> Manifest {
        let entry =
            |path: &&str| Entry { path: (*path).to_owned(), bytes: 1, digest: Digest::of(b"x") };
        Manifest {
            run_id: "r".parse().unwrap(),
            head: Head { seq: Seq(1), sum: Sum::from_bytes([1; 16]) },
            exported_at: Timestamp::default(),
            version: "0".into(),
            files: paths.iter().map(entry).collect(),
        }
    }

    const JOURNAL: &str = "journal/0000000001.jsonl";

    fn lines(head: &[u8]) -> Vec<&[u8]> {
        head.split_inclusive(|b| *b == b'\n').collect()
    }

    #[test]
    fn a_head_reads_as_it_was_written_and_covers_every_bit() {
        let manifest = manifest(&[JOURNAL, "run.json"]);
        let key = SecretKey::from_seed(&[1; 32]);
        for key in [None, Some(&key)] {
            let head = head(&manifest, key);
            let read_all = |head: &[u8]| {
                let lines = lines(head);
                let [magic, manifest, signature] = lines.as_slice() else {
                    return Err(Error::Foreign);
                };
                check_magic(magic)?;
                read(manifest, signature)
            };
            let signer = key.map(SecretKey::public);
            assert_eq!(read_all(&head), Ok((manifest.clone(), signer)));
            for bit in 0..head.len() * 8 {
                let mut bad = head.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(read_all(&bad).is_err(), "bit {bit}");
            }
        }
        assert_eq!(check_magic(b"dormouse-export/2\n"), Err(Error::Newer));
        assert_eq!(check_magic(b"dormouse-export/0\n"), Err(Error::Foreign));
    }

    #[test]
    fn only_files_of_a_run_are_taken_each_once() {
        let blob = format!("blobs/{}", Digest::of(b"x").hex());
        let good = [blob.as_str(), JOURNAL, "process/a/b.js", "run.json", "tasks/e0001/task.json"];
        manifest(&good).check().unwrap();
        for bad in [
            "/etc/passwd",
            "../run.json",
            "tasks/../../x",
            "tasks//x",
            "tasks/./x",
            "tasks/",
            "tasks",
            "run.lock",
            "other",
            "state/cache.mpk",
            "journal/x",
            "journal/1.jsonl",
            "blobs/x",
            "process-x/a",
            "tasks/a\nb",
            "",
            ".",
            "workspace/x",
            JOURNAL,
        ] {
            let mut files = vec![JOURNAL, bad];
            files.sort_unstable();
            let found = manifest(&files).check();
            assert!(matches!(found, Err(Error::Refused(_))), "{bad:?}: {found:?}");
        }
        let deep = format!("tasks/{}", vec!["d"; EXPORT_DEPTH_MAX].join("/"));
        let other = format!("blobs/{}", Digest::of(b"y").hex());
        let bad: [&[&str]; 6] = [
            &[JOURNAL, &deep],
            &[&other, JOURNAL],
            &["run.json", JOURNAL],
            &[JOURNAL, "tasks/a", "tasks/a/b"],
            &["run.json"],
            &[],
        ];
        for files in bad {
            assert!(matches!(manifest(files).check(), Err(Error::Refused(_))), "{files:?}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let mut large = manifest(&[JOURNAL, "run.json"]);
        large.files[1].bytes = EXPORT_BYTES_MAX;
        assert!(matches!(large.check(), Err(Error::Refused(_))));
        large.files[1].bytes = u64::MAX;
        assert!(matches!(large.check(), Err(Error::Refused(_))));
        let mut long = manifest(&[JOURNAL]);
        long.files[0].bytes = JOURNAL_BYTES_MAX + 1;
        assert!(matches!(long.check(), Err(Error::Refused(_))));
        let names: Vec<String> = (0..=EXPORT_FILES_MAX).map(|n| format!("tasks/{n:07}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(matches!(manifest(&names).check(), Err(Error::Refused(_))));
    }
}
