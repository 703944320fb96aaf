//! Writing an export: the verified journal of a run and what stands beside it, into one file.
//!
//! May not change the run. Invariant: the manifest is made before anything is written, and what is
//! written is what it says, or there is no export.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use crate::codecs::event::Head;
use crate::codecs::format::export::{self, Entry, Manifest};
use crate::codecs::format::signature::SecretKey;
use crate::ground::digest::Digest;
use crate::ground::id::RunId;
use crate::ground::limits::{EXPORT_DEPTH_MAX, EXPORT_FILES_MAX, EXPORT_KEPT_BYTES_MAX};
use crate::machines::replay::state::fold;
use crate::ports::disk::{self, Dir, Disk, FileHandle, FileKind, Rename};
use crate::services::runs::trouble::{self, Trouble};
use crate::services::runs::{Error, Result, Runs};
use crate::shells::commit_log::overlay::overlay;
use crate::shells::journal::reader;
use crate::shells::journal::scan::{Case, Scan, Verdict};
use crate::shells::run_dir::dir::{RUN_LOCK, RunDir};
use zstd::stream::write::Encoder;

use super::{CHUNK_BYTES, of_head, of_stream};

/// How hard is compressed: more costs much time and saves little.
const LEVEL: i32 = 3;
/// Largest file that is kept in memory between the two times it is needed.
const KEPT_FILE_BYTES_MAX: u64 = 64 * 1024;

/// What was exported.
#[derive(Debug)]
pub struct Exported {
    /// The run.
    pub run_id: RunId,
    /// Where its journal ends in the export.
    pub head: Head,
    /// Files.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// What stood in the directory and is nothing of a run.
    pub left_out: Vec<String>,
}

/// Where an export goes.
pub enum Target<'a> {
    /// A file that must not exist yet.
    File(&'a Path),
    /// Whoever reads.
    Stream(&'a mut dyn Write),
}

/// A file of the run, looked at once.
struct Member {
    entry: Entry,
    /// Its content, if that is small or was made.
    kept: Option<Vec<u8>>,
}

/// Everything that belongs into an export.
struct Gathered {
    head: Head,
    members: Vec<Member>,
    left_out: Vec<String>,
    kept_bytes: u64,
}

impl Runs {
    /// Puts a whole run into one file. `is_served`: a daemon owns the root, so that the run may go
    /// on meanwhile; otherwise it is locked.
    pub fn export(
        &self,
        reference: &str,
        is_served: bool,
        key: Option<&SecretKey>,
        to: Target<'_>,
    ) -> Result<Exported> {
        let dir = if is_served { self.find(reference)? } else { self.find_to_write(reference)? };
        let locked = if is_served {
            None
        } else {
            let root = self.guard(&dir)?;
            Some((root, dir.lock(self.lock_wait_ms, &*self.clock)?))
        };
        let done = self.export_dir(&dir, key, to)?;
        drop(locked);
        Ok(done)
    }

    /// The same for a directory that the caller holds, or may not hold.
    pub(in crate::services) fn export_dir(
        &self,
        dir: &RunDir,
        key: Option<&SecretKey>,
        to: Target<'_>,
    ) -> Result<Exported> {
        let gathered = Gathered::of(dir)?;
        let manifest = Manifest {
            run_id: dir.id().clone(),
            head: gathered.head,
            exported_at: self.clock.now(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            files: gathered.members.iter().map(|member| member.entry.clone()).collect(),
        };
        manifest.check().map_err(|e| of_head(dir.path(), &e))?;
        let head = export::head(&manifest, key);
        match to {
            Target::Stream(out) => write_all(dir, &head, &gathered.members, out)?,
            Target::File(path) => {
                to_file(&*self.disk, path, |out| write_all(dir, &head, &gathered.members, out))?;
            }
        }
        Ok(Exported {
            run_id: manifest.run_id.clone(),
            head: manifest.head,
            files: manifest.files.len(),
            bytes: manifest.bytes(),
            left_out: gathered.left_out,
        })
    }
}

impl Gathered {
    /// The journal first: whatever a record names is durable before the record.
    fn of(dir: &RunDir) -> Result<Self> {
        let log = dir.root().map(|meta| overlay(&**meta)).unwrap_or_default();
        let scan = reader::read_over(dir, None, &log);
        if scan.verdict() >= Verdict::Damaged {
            let hint = format!("dormouse journal verify {}", dir.id());
            return Err(trouble::damaged(&scan).and_next(hint));
        }
        fold(&scan.records).map_err(|e| {
            Error::Damaged(Trouble::new(Case::J24.label(), format!("run {}: {e}", dir.id())))
        })?;
        let (members, left_out) = (Vec::new(), Vec::new());
        let mut all = Self { head: scan.head, members, left_out, kept_bytes: 0 };
        all.journal(&scan);
        all.folder(dir.dir(), "", 0)?;
        all.members.sort_by(|a, b| a.entry.path.cmp(&b.entry.path));
        all.check_blobs(&scan)?;
        Ok(all)
    }

    /// The verified lines, with those that only the commit log holds so far.
    fn journal(&mut self, scan: &Scan) {
        for (i, segment) in scan.segments.iter().enumerate() {
            let bytes = scan.segment_bytes(i);
            if !segment.blank && !bytes.is_empty() {
                let path = format!("journal/{}", segment.name);
                let (digest, length) = (Digest::of(&bytes), bytes.len() as u64);
                let entry = Entry { path, bytes: length, digest };
                self.members.push(Member { entry, kept: Some(bytes) });
            }
        }
    }

    /// Everything else, by name.
    fn folder(&mut self, dir: &Arc<dyn Dir>, above: &str, depth: usize) -> Result<()> {
        for name in dir.list()? {
            let path = format!("{above}{name}");
            let Some(stat) = disk::optional(dir.stat(&name))? else { continue };
            match stat.kind {
                FileKind::Dir if path == "journal" => {}
                FileKind::Dir if depth < EXPORT_DEPTH_MAX => {
                    let below = disk::optional(dir.open_dir(&name))?;
                    below.map_or(Ok(()), |d| self.folder(&d, &format!("{path}/"), depth + 1))?;
                }
                FileKind::File if is_wanted(&path, &name) => self.file(&**dir, &name, path)?,
                _ if is_ours(&path, &name) => {}
                _ => self.left_out.push(path),
            }
            if self.members.len() > EXPORT_FILES_MAX {
                let what = format!("the run has more than {EXPORT_FILES_MAX} files");
                return Err(Error::Refused(Trouble::new("export_refused", what)));
            }
        }
        Ok(())
    }

    /// One file as it is now. Those that grow later grow at their end; others are replaced whole.
    fn file(&mut self, dir: &dyn Dir, name: &str, path: String) -> Result<()> {
        let opened = disk::optional(dir.open(name, disk::Open::Read))?;
        let Some(file) = opened else { return Ok(()) };
        let bytes = file.stat()?.bytes;
        let mut hasher = blake3::Hasher::new();
        let keeps =
            bytes <= KEPT_FILE_BYTES_MAX && self.kept_bytes + bytes <= EXPORT_KEPT_BYTES_MAX;
        let mut kept = keeps.then(Vec::new);
        let read = copy(&*file, bytes, &mut |chunk| {
            hasher.update(chunk);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(chunk);
            }
            Ok(())
        })?;
        self.kept_bytes += kept.as_ref().map_or(0, |kept| kept.len() as u64);
        let entry = Entry { path, bytes: read, digest: Digest::from_hasher(&hasher) };
        self.members.push(Member { entry, kept });
        Ok(())
    }

    /// J50, J51: an export without its large values would verify nowhere.
    fn check_blobs(&self, scan: &Scan) -> Result<()> {
        let path = |blob: &Digest| format!("blobs/{}", blob.hex());
        for blob in scan.records.iter().flat_map(|record| record.event.blobs()) {
            let path = path(&blob.digest);
            let found = self.members.binary_search_by(|m| m.entry.path.as_str().cmp(&path));
            let digest = found.ok().map(|i| self.members[i].entry.digest);
            let (case, why) = match digest {
                Some(digest) if digest == blob.digest => continue,
                Some(_) => (Case::J51, "has other bytes than its name says"),
                None => (Case::J50, "is missing"),
            };
            let label = case.label();
            let what = format!("blob {} {why} [{label}]", blob.digest);
            return Err(Error::Damaged(Trouble::new(label, what).next(trouble::case_next(case))));
        }
        Ok(())
    }
}

fn is_wanted(path: &str, name: &str) -> bool {
    !disk::is_temporary(name) && export::is_member(path)
}

/// Whether it is ours and stays: locks, what is being written, and what another machine makes anew.
fn is_ours(path: &str, name: &str) -> bool {
    path == RUN_LOCK || path == "state/cache.mpk" || disk::is_temporary(name)
}

/// Reads the first `bytes` of a file in parts. Gives how many there were.
fn copy(
    file: &dyn FileHandle,
    bytes: u64,
    take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<u64> {
    let most = usize::try_from(bytes).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
    let (mut at, mut chunk) = (0, vec![0; most]);
    while at < bytes {
        let want = usize::try_from(bytes - at).unwrap_or(CHUNK_BYTES).min(most);
        let read = file.read_at(at, &mut chunk[..want])?;
        if read == 0 {
            break;
        }
        take(&chunk[..read]).map_err(not_written)?;
        at += read as u64;
    }
    Ok(at)
}

pub(super) fn not_written(error: io::Error) -> Error {
    of_stream(error, |e| {
        let trouble = Trouble::new("storage_failed", format!("the file cannot be written: {e}"));
        Error::Storage { trouble, unknown: false }
    })
}

fn write_all(dir: &RunDir, head: &[u8], members: &[Member], out: &mut dyn Write) -> Result<()> {
    let mut out = Hashing { to: out, hasher: blake3::Hasher::new() };
    out.write_all(head).map_err(not_written)?;
    let mut content = Encoder::new(&mut out, LEVEL).map_err(not_written)?;
    for member in members {
        write_member(dir, member, &mut content)?;
    }
    content.finish().map_err(not_written)?;
    let digest = Digest::from_hasher(&out.hasher);
    out.to.write_all(digest.as_bytes()).and_then(|()| out.to.flush()).map_err(not_written)
}

fn write_member(dir: &RunDir, member: &Member, content: &mut dyn Write) -> Result<()> {
    let Entry { path, bytes, digest } = &member.entry;
    if let Some(kept) = &member.kept {
        return content.write_all(kept).map_err(not_written);
    }
    let mut hasher = blake3::Hasher::new();
    let written = match dir.open_relative(path)? {
        None => 0,
        Some(file) => copy(&*file, *bytes, &mut |chunk| {
            hasher.update(chunk);
            content.write_all(chunk)
        })?,
    };
    if written == *bytes && Digest::from_hasher(&hasher) == *digest {
        return Ok(());
    }
    let what = format!("{path} of run {} was changed while it was exported", dir.id());
    let next = "export it again; pause the run first if that happens again";
    Err(Error::Conflict(Trouble::new("export_changed", what).next(next)))
}

/// The directory and the name of a file that somebody named.
pub(super) fn split(path: &Path) -> Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let name = name.ok_or_else(|| {
        let what = format!("{} is not the name of a file", path.display());
        Error::Invalid(Trouble::new("usage", what))
    })?;
    Ok((above.unwrap_or(Path::new(".")), name))
}

/// Writes a new file whole, or not at all.
pub(super) fn to_file(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let (above, name) = split(path)?;
    let dir = disk.open_dir(above)?;
    if disk::optional(dir.stat(name))?.is_some() {
        return Err(exists(path));
    }
    let temporary = disk::temporary_name(name);
    let file = dir.create_excl(&temporary)?;
    let done = (|| {
        let mut out = BufWriter::with_capacity(CHUNK_BYTES, Sink { file: &*file, at: 0 });
        write(&mut out)?;
        out.flush().map_err(not_written)?;
        file.sync_file()?;
        match dir.rename(&temporary, &*dir, name, Rename::NoReplace) {
            Err(e) if e.is_exists() => Err(exists(path)),
            other => Ok(other?),
        }
    })();
    if done.is_err() {
        // The first error is the one to report.
        let _ = dir.unlink(&temporary);
        return done;
    }
    Ok(dir.sync()?)
}

/// Nothing that somebody has is overwritten.
fn exists(path: &Path) -> Error {
    let what = format!("{} exists already", path.display());
    Error::Conflict(Trouble::new("file_exists", what).next("give another name"))
}

/// A file that is written from its beginning to its end.
struct Sink<'a> {
    file: &'a dyn FileHandle,
    at: u64,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes).map_err(io::Error::other)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Digests what passes through.
struct Hashing<'a> {
    to: &'a mut dyn Write,
    hasher: blake3::Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
