//! What the log holds of each run, folded: bytes that must stand in its journal, and where.
//!
//! May not open files. Invariant: the pieces of a run follow from each other, byte and sum; entries
//! that a later one made void are gone.

use super::label::Label;
use super::scan::{Corruption, Error, Logged, Scanned};
use crate::codecs::event::Head;
use crate::codecs::format::line;
use crate::codecs::format::log_entry::{Append, Entry};
use crate::ground::digest::Sum;
use crate::ground::id::{RunId, Seq};
use std::collections::BTreeMap;

/// Bytes of one journal segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The segment, by the place of its first record.
    pub file: Seq,
    /// Where in it they begin.
    pub off: u64,
    /// Place of the first record.
    pub seq: Seq,
    /// The sum that it builds on.
    pub prev: Sum,
    /// The last record.
    pub last: Head,
    /// The lines.
    pub bytes: Vec<u8>,
}

/// What becomes of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its journal ends with these pieces.
    Lives(Vec<Piece>),
    /// Its journal is durable up to here.
    Rebased(Head),
    /// It was deleted.
    Gone,
}

/// What the log holds of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// What becomes of it.
    pub fate: Fate,
    /// An earlier run of this id was deleted: what stands there may be its remains.
    pub after_gone: bool,
    /// The opening of the root that wrote the first entry that counts.
    pub generation: u64,
}

impl Tail {
    /// The pieces, if there are any.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        if let Fate::Lives(pieces) = &self.fate { pieces } else { &[] }
    }

    /// All lines, in order.
    #[must_use]
    pub fn lines(&self) -> Vec<u8> {
        self.pieces().iter().flat_map(|piece| piece.bytes.iter().copied()).collect()
    }

    /// Whether the log holds the run from its first record on.
    #[must_use]
    pub fn from_birth(&self) -> bool {
        self.pieces().first().is_some_and(|piece| piece.seq == Seq(1))
    }
}

/// Folds what a scan found.
///
/// # Errors
/// L3: entries of a run do not follow from each other.
pub fn fold(scanned: &Scanned) -> Result<BTreeMap<RunId, Tail>, Error> {
    let mut tails: BTreeMap<RunId, Tail> = BTreeMap::new();
    for logged in &scanned.entries {
        let run = logged.entry.run();
        let before = tails.remove(run);
        let tail = match &logged.entry {
            Entry::Gone { .. } => tail_of(Fate::Gone, logged, true),
            Entry::Rebase { seq, sum, .. } => {
                tail_of(Fate::Rebased(Head { seq: *seq, sum: *sum }), logged, false)
            }
            Entry::Append(append) => {
                extend(before, append, logged).map_err(|why| impossible(scanned, logged, why))?
            }
        };
        tails.insert(run.clone(), tail);
    }
    Ok(tails)
}

fn tail_of(fate: Fate, logged: &Logged, after_gone: bool) -> Tail {
    Tail { fate, after_gone, generation: logged.generation }
}

fn impossible(scanned: &Scanned, logged: &Logged, why: &'static str) -> Error {
    Error::Corrupt(Box::new(Corruption {
        label: Label::L3,
        at: logged.at,
        seq: logged.seq,
        why: format!("run {}: {why}", logged.entry.run()),
        runs: scanned.runs(),
    }))
}

fn extend(before: Option<Tail>, append: &Append, logged: &Logged) -> Result<Tail, &'static str> {
    let born = append.seq == Seq(1);
    if born && (append.prev != line::genesis(&append.run) || append.off != 0) {
        return Err("its first record does not follow from its id");
    }
    if append.off == 0 && append.file != append.seq {
        return Err("a journal segment begins with another record than its name says");
    }
    let Some(mut tail) = before else {
        return Ok(tail_of(Fate::Lives(vec![piece(append)]), logged, false));
    };
    let head = match &tail.fate {
        Fate::Gone if born => None,
        Fate::Gone => return Err("it goes on after it was deleted"),
        Fate::Rebased(head) => Some(*head),
        Fate::Lives(pieces) => pieces.last().map(|piece| piece.last),
    };
    if head.is_some_and(|head| head.seq.next() != append.seq || head.sum != append.prev) {
        return Err("its records do not follow from each other");
    }
    let Fate::Lives(pieces) = &mut tail.fate else {
        return Ok(tail_of(Fate::Lives(vec![piece(append)]), logged, tail.after_gone));
    };
    match pieces.last_mut() {
        Some(last) if last.file == append.file && append.off != 0 => {
            if last.off + last.bytes.len() as u64 != append.off {
                return Err("its lines leave a gap");
            }
            last.bytes.extend_from_slice(&append.lines);
            last.last = Head { seq: append.last_seq(), sum: append.last };
        }
        _ if append.off == 0 => pieces.push(piece(append)),
        _ => return Err("its lines leave a gap"),
    }
    Ok(tail)
}

fn piece(append: &Append) -> Piece {
    Piece {
        file: append.file,
        off: append.off,
        seq: append.seq,
        prev: append.prev,
        last: Head { seq: append.last_seq(), sum: append.last },
        bytes: append.lines.clone(),
    }
}
