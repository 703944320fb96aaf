//! A journal segment made anew: what was settled of it, verified from the device, and what the log
//! holds, in a new file under the old name.
//!
//! For files whose write or sync failed: their pages in the cache prove nothing, and writing to
//! them again may be lost. May not touch the old file. Invariant: the new file is durable, name
//! and bytes, before it is used.

use super::copy::{last_before, sum_before};
use super::segment::{self, Extent};
use crate::codecs::format::line;
use crate::codecs::format::log_entry::{Append, Entry};
use crate::ground::digest::Sum;
use crate::ground::id::{RunId, Seq};
use crate::ports::disk::{self, Atomic, Dir, FileHandle, Kind, Open};

const ATTEMPTS: u32 = 3;

/// The entries of `run` for the journal segment `first` that the log still holds, oldest first.
fn from_log<'a>(
    log: &dyn Dir,
    extents: impl Iterator<Item = &'a Extent>,
    run: &RunId,
    first: Seq,
) -> disk::Result<Vec<Append>> {
    let mut found = Vec::new();
    for extent in extents {
        for entry in segment::read_back(log, extent)? {
            match entry {
                Entry::Append(append) if append.run == *run && append.file == first => {
                    found.push(append);
                }
                Entry::Rebase { run: about, .. } | Entry::Gone { run: about } if about == *run => {
                    found.clear();
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// The first `length` bytes of a journal segment, from the device, if they are whole lines that
/// lead to the sum `last`.
fn settled_part(
    journal: &dyn Dir,
    run: &RunId,
    first: Seq,
    length: u64,
    last: Sum,
) -> disk::Result<Vec<u8>> {
    let name = line::segment_name(first);
    let damaged = || {
        let why = "its settled part does not verify";
        disk::Error::of_kind("rebuild", journal.path().join(&name), Kind::Broken, why)
    };
    let mut prefix = vec![0; usize::try_from(length).map_err(|_| damaged())?];
    if prefix.is_empty() {
        return Ok(prefix);
    }
    let read = journal.open(&name, Open::Truth)?.read_at(0, &mut prefix)?;
    let mut sum = if first == Seq(1) {
        line::genesis(run)
    } else {
        let before = last_before(journal, first)?.ok_or_else(damaged)?;
        let file = journal.open(&line::segment_name(before), Open::Truth)?;
        sum_before(&*file, file.stat()?.bytes)?.ok_or_else(damaged)?
    };
    for text in prefix[..read].split_inclusive(|b| *b == b'\n') {
        let (body, stated) = line::split(text).ok_or_else(damaged)?;
        if line::chain(sum, body) != stated {
            return Err(damaged());
        }
        sum = stated;
    }
    if sum == last && read == prefix.len() { Ok(prefix) } else { Err(damaged()) }
}

/// Builds the journal segment `first` of `run` again and opens the new file.
pub(super) fn rebuild<'a>(
    root: &dyn Dir,
    log: &dyn Dir,
    extents: impl Iterator<Item = &'a Extent>,
    run: &RunId,
    first: Seq,
) -> disk::Result<Box<dyn FileHandle>> {
    let journal = root.open_dir(run.as_str())?.open_dir("journal")?;
    let name = line::segment_name(first);
    let appends = from_log(log, extents, run, first)?;
    let missing = || {
        let why = "the log does not hold the rest of it";
        disk::Error::of_kind("rebuild", journal.path().join(&name), Kind::Broken, why)
    };
    let oldest = appends.first().ok_or_else(missing)?;
    let mut content = settled_part(&*journal, run, first, oldest.off, oldest.prev)?;
    for append in &appends {
        if append.off != content.len() as u64 {
            return Err(missing());
        }
        content.extend_from_slice(&append.lines);
    }
    let mut attempt = 1;
    loop {
        match disk::write_atomic(&*journal, &name, &content, Atomic::DURABLE) {
            Err(e) if attempt < ATTEMPTS && !e.kind.may_pass() => attempt += 1,
            Err(e) => return Err(e),
            Ok(()) => return journal.open(&name, Open::Write),
        }
    }
}
