//! Reading an export: its head, its digest, its files one by one, its journal.
//!
//! May not write. Invariant: nothing is given out before the whole file was compared with its
//! digest and its head with its seal; no more is unfolded than the manifest says.

use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use crate::codecs::event::Record;
use crate::codecs::format::export::{self, END_BYTES, Entry, MAGIC, Manifest, SIGNATURE_BYTES_MAX};
use crate::codecs::format::signature::PublicKey;
use crate::ground::digest::Digest;
use crate::ground::limits::{EXPORT_MANIFEST_BYTES_MAX, EXPORT_WINDOW_LOG};
use crate::machines::replay::state::{RunState, fold};
use crate::ports::disk::{Disk, FileHandle, Open};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{self, Error, Result};
use crate::shells::journal::scan::{self, Around, Case, File, Verdict};
use zstd::stream::read::Decoder;

use super::{CHUNK_BYTES, damaged, of_head, of_stream};

/// An export whose head and digest are as they were written.
#[derive(Debug)]
pub struct Archive {
    file: Box<dyn FileHandle>,
    name: String,
    /// Where the content begins, and where it ends.
    content: (u64, u64),
    /// What it holds.
    pub manifest: Manifest,
    /// Who signed it, if somebody did; the signature holds.
    pub signer: Option<PublicKey>,
}

impl Archive {
    /// Opens a file and reads all of it once. With `wanted`, only what that key signed is opened.
    ///
    /// # Errors
    /// It is damaged, newer, asks for what must not be, or was signed by somebody else or nobody.
    pub fn open(disk: &dyn Disk, path: &Path, wanted: Option<PublicKey>) -> Result<Self> {
        let (above, file_name) = super::write::split(path)?;
        let file = disk.open_dir(above)?.open(file_name, Open::Read)?;
        let bytes = file.stat()?.bytes;
        let end = bytes.saturating_sub(END_BYTES);
        let mut lines = BufReader::new(Span { file: &*file, at: 0, end });
        let mut line =
            |max| line(&mut lines, max).map_err(|e| of_stream(e, |_| head_missing(path)));
        let magic = line(MAGIC.len())?;
        export::check_magic(&magic).map_err(|e| of_head(path, &e))?;
        let manifest = line(EXPORT_MANIFEST_BYTES_MAX)?;
        let signature = line(SIGNATURE_BYTES_MAX)?;
        let begin = (magic.len() + manifest.len() + signature.len()) as u64;
        check_digest(&*file, path, bytes)?;
        let (manifest, signer) =
            export::read(&manifest, &signature).map_err(|e| of_head(path, &e))?;
        check_signer(path, signer, wanted)?;
        let name = path.display().to_string();
        Ok(Self { file, name, content: (begin, end), manifest, signer })
    }

    fn damaged(&self, why: &str) -> Error {
        damaged(Path::new(&self.name), why)
    }

    /// Hands over every file with its content, in order. What `take` leaves is read all the same.
    ///
    /// # Errors
    /// The content is not what the manifest says, or `take` failed.
    pub fn each(&self, take: &mut dyn FnMut(&Entry, &mut dyn Read) -> Result<()>) -> Result<()> {
        let (at, end) = self.content;
        let broken = |e| of_stream(e, |e| self.damaged(&format!("its content: {e}")));
        let span = BufReader::with_capacity(CHUNK_BYTES, Span { file: &*self.file, at, end });
        let mut content = Decoder::with_buffer(span).map_err(broken)?.single_frame();
        content.window_log_max(EXPORT_WINDOW_LOG).map_err(broken)?;
        for entry in &self.manifest.files {
            let hasher = blake3::Hasher::new();
            let mut member = Member { from: &mut content, left: entry.bytes, hasher };
            take(entry, &mut member)?;
            io::copy(&mut member, &mut io::sink()).map_err(broken)?;
            if member.left > 0 || Digest::from_hasher(&member.hasher) != entry.digest {
                return Err(self.damaged(&format!("{} has other content", entry.path)));
            }
        }
        let is_more = content.read(&mut [0]).map_err(broken)? > 0;
        if is_more || content.finish().read(&mut [0]).map_err(broken)? > 0 {
            return Err(self.damaged("it has more content than its manifest says"));
        }
        Ok(())
    }

    /// Verifies every file, and the journal as that of a run. Nothing is written.
    ///
    /// # Errors
    /// What is found first.
    pub fn verify(&self) -> Result<RunState> {
        let mut files = Vec::new();
        self.each(&mut |entry, content| {
            if let Some(name) = entry.path.strip_prefix("journal/") {
                let mut bytes = Vec::new();
                let read = content.read_to_end(&mut bytes);
                read.map_err(|e| of_stream(e, |e| self.damaged(&e.to_string())))?;
                files.push(File { name: name.to_owned(), bytes });
            }
            Ok(())
        })?;
        let run = &self.manifest.run_id;
        let around = Around { has_other_files: true, witness: Some(self.manifest.head.seq) };
        let scan = scan::scan(run, &files, around);
        if scan.verdict() >= Verdict::Torn {
            return Err(runs::trouble::damaged(&scan));
        }
        if scan.head != self.manifest.head {
            return Err(self.damaged("its journal ends elsewhere than its manifest says"));
        }
        self.check_blobs(&scan.records)?;
        let state = fold(&scan.records).map_err(|e| {
            Error::Damaged(Trouble::new(Case::J24.label(), format!("{}: {e}", self.name)))
        })?;
        state.ok_or_else(|| self.damaged("its journal is empty"))
    }

    /// J50: whether every large value that a record names is there. Its name is its digest.
    fn check_blobs(&self, records: &[Record]) -> Result<()> {
        let path = |entry: &Entry| entry.path.clone();
        let there: std::collections::HashSet<String> =
            self.manifest.files.iter().map(path).collect();
        let mut named = records.iter().flat_map(|record| record.event.blobs());
        match named.find(|blob| !there.contains(&format!("blobs/{}", blob.digest.hex()))) {
            Some(blob) => Err(self.damaged(&format!("blob {} is missing [J50]", blob.digest))),
            None => Ok(()),
        }
    }
}

fn head_missing(path: &Path) -> Error {
    damaged(path, "it has no head that an export begins with")
}

fn check_signer(path: &Path, signer: Option<PublicKey>, wanted: Option<PublicKey>) -> Result<()> {
    let (Some(wanted), place) = (wanted, path.display()) else { return Ok(()) };
    let trouble = match signer {
        Some(signer) if signer == wanted => return Ok(()),
        Some(signer) => {
            Trouble::new("export_signer", format!("{place}: it was signed by {signer}"))
                .fact("signer", signer.to_string())
        }
        None => Trouble::new("export_unsigned", format!("{place}: nobody signed it")),
    };
    Err(Error::Refused(trouble))
}

fn check_digest(file: &dyn FileHandle, path: &Path, bytes: u64) -> Result<()> {
    let Some(end) = bytes.checked_sub(END_BYTES) else { return Err(head_missing(path)) };
    let mut hasher = blake3::Hasher::new();
    let mut body = Span { file, at: 0, end };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match body.read(&mut chunk).map_err(|e| of_stream(e, |_| head_missing(path)))? {
            0 => break,
            n => hasher.update(&chunk[..n]),
        };
    }
    let mut stated = [0; 32];
    let read = file.read_at(end, &mut stated)?;
    if read < stated.len() || Digest::from_hasher(&hasher).as_bytes() != &stated {
        return Err(damaged(
            path,
            "its digest belongs to other bytes: a part is missing or changed",
        ));
    }
    Ok(())
}

/// One line with its line feed, of `max` bytes at most.
fn line(from: &mut impl io::BufRead, max: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    from.take(max as u64).read_until(b'\n', &mut out)?;
    match out.last() {
        Some(b'\n') => Ok(out),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A part of a file as a stream.
struct Span<'a> {
    file: &'a dyn FileHandle,
    at: u64,
    end: u64,
}

impl Read for Span<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let want = into.len().min(left);
        if want == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(self.at, &mut into[..want]).map_err(io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// One file's content, digested while it is read.
struct Member<'a> {
    from: &'a mut dyn Read,
    left: u64,
    hasher: blake3::Hasher,
}

impl Read for Member<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = if want == 0 { 0 } else { self.from.read(&mut into[..want])? };
        self.hasher.update(&into[..read]);
        self.left -= read as u64;
        Ok(read)
    }
}
