//! Reading a run's journal. Never writes.
//!
//! May not repair or lock. Invariant: whoever reads without the lock sees a prefix that verifies;
//! a tail that is just being written is looked at twice before it is called torn.

use super::scan::{self, Around, Case, File, Scan, Verdict};
use crate::codecs::format::line;
use crate::ground::id::Seq;
use crate::ground::limits::{JOURNAL_SEGMENT_BYTES, RUN_JOURNAL_BYTES_MAX};
use crate::ports::disk::{self, Dir, Kind, Open};
use crate::shells::commit_log::overlay::{Overlay, overlay};
use crate::shells::commit_log::tail::Piece;
use crate::shells::run_dir::dir::{FORMAT_VERSION, RunDir};

/// No segment of ours is longer; one that is must not fill the memory.
const SEGMENT_BYTES_MAX: u64 = 2 * JOURNAL_SEGMENT_BYTES;

/// Reads and judges the journal of a run that others may be writing. `witness` is what the caller
/// knows to have existed.
#[must_use]
pub fn read(run: &RunDir, witness: Option<Seq>) -> Scan {
    let log = run.root().map(|meta| overlay(&**meta)).unwrap_or_default();
    read_over(run, witness, &log)
}

/// The same with what the root's commit log was found to hold: the journal is seen with the lines
/// that a recovery would put into it.
#[must_use]
pub fn read_over(run: &RunDir, witness: Option<Seq>, log: &Overlay) -> Scan {
    let first = read_once(run, witness, Open::Read, log);
    if first.verdict() == Verdict::Torn { read_once(run, witness, Open::Read, log) } else { first }
}

/// The same for the holder of the run's lock: the last segment is read from the device.
#[must_use]
pub fn read_locked(run: &RunDir, witness: Option<Seq>) -> Scan {
    read_once(run, witness, Open::Truth, &Overlay::default())
}

fn read_once(run: &RunDir, witness: Option<Seq>, last: Open, log: &Overlay) -> Scan {
    // Witnesses first: a writer may go on meanwhile, and then only the journal may be ahead.
    let witness = witness.max(run.witness());
    match files(run, last) {
        Ok(Ok((mut files, has_other_files))) => {
            lay_over(&mut files, log.pieces(run.id()));
            scan::scan(run.id(), &files, Around { has_other_files, witness })
        }
        Ok(Err((case, file, why))) => Scan::unreadable(run.id(), case, &file, why),
        Err(e) => {
            let why = format!("{e}: {}", e.source);
            let file = e.path.display().to_string();
            let mut scan = Scan::unreadable(run.id(), Case::J60, &file, why);
            scan.may_pass = e.kind == Kind::TooManyOpen;
            scan
        }
    }
}

/// Adds the lines that the log has and the journal lacks. Where the journal has more, or its
/// durable part is too short, it is judged as it is.
fn lay_over(files: &mut Vec<File>, pieces: &[Piece]) {
    for piece in pieces {
        let name = line::segment_name(piece.file);
        let off = usize::try_from(piece.off).unwrap_or(usize::MAX);
        let whole = off.saturating_add(piece.bytes.len());
        match files.iter_mut().find(|file| file.name == name) {
            Some(file) if file.bytes.len() >= off && file.bytes.len() <= whole => {
                file.bytes.truncate(off);
                file.bytes.extend_from_slice(&piece.bytes);
            }
            None if off == 0 => files.push(File { name, bytes: piece.bytes.clone() }),
            _ => {}
        }
    }
}

type Refusal = (Case, String, String);

fn files(run: &RunDir, last: Open) -> disk::Result<Result<(Vec<File>, bool), Refusal>> {
    if let Some(strange) = run.strange(last == Open::Read)? {
        return Ok(Err((Case::J61, strange.file, strange.why)));
    }
    if let Some(format) = run.run_json().map(|json| json.format_version)
        && format > FORMAT_VERSION
    {
        let why = format!("it has format {format}, this version reads up to {FORMAT_VERSION}");
        return Ok(Err((Case::J62, "run.json".into(), why)));
    }
    let has_other_files = run.has_other_files()?;
    let Some(journal) = disk::optional(run.dir().open_dir("journal"))? else {
        return Ok(Ok((Vec::new(), has_other_files)));
    };
    let names = journal.list()?;
    let newest = names.iter().filter(|name| line::segment_first(name).is_some()).max().cloned();
    let mut files = Vec::with_capacity(names.len());
    let mut total = 0;
    for name in names {
        // Only segments are read; of other files the name says all.
        let is_segment = line::segment_first(&name).is_some();
        let mode = if Some(&name) == newest.as_ref() { last } else { Open::Read };
        let bytes = if is_segment { read_segment(&*journal, &name, mode)? } else { Vec::new() };
        total += bytes.len() as u64;
        if total > RUN_JOURNAL_BYTES_MAX + SEGMENT_BYTES_MAX {
            let why = "the journal is larger than any that is written".to_owned();
            return Ok(Err((Case::J25, name, why)));
        }
        files.push(File { name, bytes });
    }
    Ok(Ok((files, has_other_files)))
}

/// Every line of every segment of a journal, as it stands there: verified or not.
pub fn lines_of(dir: &dyn Dir) -> disk::Result<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    let Some(journal) = disk::optional(dir.open_dir("journal"))? else { return Ok(lines) };
    let mut left = RUN_JOURNAL_BYTES_MAX;
    for name in journal.list()?.iter().filter(|name| line::segment_first(name).is_some()) {
        let bytes = read_segment(&*journal, name, Open::Read)?;
        left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            let why = "the journal is larger than any that is written";
            disk::Error::of_kind("read", journal.path().join(name), Kind::TooLarge, why)
        })?;
        lines.extend(bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec));
    }
    Ok(lines)
}

pub(super) fn read_segment(journal: &dyn Dir, name: &str, mode: Open) -> disk::Result<Vec<u8>> {
    journal.read_file(name, mode, SEGMENT_BYTES_MAX)
}
