//! Bringing a root to rest after a crash: what its commit log holds goes into the journals, then
//! the log is emptied.
//!
//! May not serve or start anything; the log's writer begins a new segment afterwards. Invariant:
//! every step can be repeated and may die anywhere; no segment is removed before each of its runs
//! is durable or its lines are kept; a log that lost something is left as it is.

use super::label::{Label, RunCase};
use super::reconcile::{self, Outcome, Reconcile};
use super::scan::{self, Corruption, Error, Note, Scanned, Torn};
use super::tail::{self, Tail};
use super::{LOG_DIR, segment_file, segment_number};
use crate::ground::clock::Clock;
use crate::ground::id::RunId;
use crate::ground::limits::{LOG_UNSETTLED_BYTES_MAX, SETTLE_THREADS};
use crate::ports::disk::{self, Dir, Open};
use crate::shells::run_dir::make;
use crate::shells::run_dir::owned::OwnedRoot;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Files of torn logs that are kept.
const TORN_KEPT_MAX: usize = 4;

/// With what effort runs are recovered.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How many runs at a time.
    pub threads: usize,
    /// How long to wait for a run that somebody else holds.
    pub lock_wait_ms: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { threads: SETTLE_THREADS, lock_wait_ms: crate::ground::limits::LOCK_WAIT_MS_DEFAULT }
    }
}

/// What a recovery did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// L0, or L1: the last batch was cut short.
    pub verdict: Label,
    /// What is worth saying.
    pub notes: Vec<Note>,
    /// Runs that had something in the log, and how each stood.
    pub runs: Vec<(RunId, Option<RunCase>)>,
    /// Runs that an operator has to look at: what the log held of them is in a quarantine.
    pub set_aside: Vec<(RunId, RunCase, String)>,
    /// Number of the first batch that the log held; nothing: it was empty.
    pub first_seq: Option<u64>,
    /// Number of the last batch; the next one is one more.
    pub last_seq: u64,
    /// This opening of the root.
    pub generation: u64,
}

/// Why a root stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The log is damaged or cannot be read: nothing of it was removed.
    #[error(transparent)]
    Log(#[from] Error),
    /// A file could not be written: nothing of the log was removed. Try again when it can be.
    #[error("the recovery could not be finished")]
    Disk(#[from] disk::Error),
}

/// Recovers a root that is held alone. `applied_seq` is the last batch that the index has seen.
/// Afterwards the log is empty and every run directory complete; `root.json` still says `open`.
pub fn recover(
    root: &OwnedRoot,
    applied_seq: Option<u64>,
    patience: &Patience,
    clock: &dyn Clock,
) -> Result<Recovered, Failure> {
    let meta = &**root.meta();
    let scanned = scan::scan(meta, root.found(), Open::Truth)?;
    let tails = tail::fold(&scanned)?;
    witnesses(root, &scanned, applied_seq)?;
    let outcomes = reconcile_all(root, tails, patience, clock)?;
    let mut runs = Vec::new();
    let mut set_aside = Vec::new();
    for (run, outcome) in outcomes {
        let case = match outcome {
            // What was written to other runs came from batches that verify, and stays.
            Outcome::Ahead(why) => return Err(lost(&scanned, why).into()),
            Outcome::Whole(case) => Some(case),
            Outcome::Nothing => None,
            Outcome::SetAside(case, why) => {
                set_aside.push((run.clone(), case, why));
                Some(case)
            }
        };
        runs.push((run, case));
    }
    let mut notes = scanned.notes.clone();
    if let Some(torn) = &scanned.torn {
        keep_torn(meta, torn)?;
        // Whatever only a page cache holds by now becomes durable, or is known to be lost.
        meta.sync_filesystem()?;
        let why = format!("batch {} fails check {}", torn.seq, torn.check.letter());
        notes.insert(0, Note { label: Label::L1, at: torn.at, why });
    }
    root.view().dir().sync()?;
    let last_seq = scanned.torn.as_ref().map_or(scanned.last_seq, |torn| torn.seq);
    let boot_id = root.view().disk().boot_id();
    root.file().replace(|json| {
        // A spare may be there that was not written down. No number is given twice: a segment
        // below the oldest one would not count.
        json.max_segment = scanned.highest;
        json.oldest_segment = scanned.highest + 1;
        json.last_seq = last_seq;
        json.boot_id = boot_id;
    })?;
    empty(meta)?;
    let verdict = if scanned.torn.is_some() { Label::L1 } else { Label::L0 };
    let generation = root.file().json().generation;
    let first_seq = scanned.first_seq;
    Ok(Recovered { verdict, notes, runs, set_aside, first_seq, last_seq, generation })
}

/// The other half of the tail rule: what journals and index know that the log does not.
fn witnesses(root: &OwnedRoot, scanned: &Scanned, applied_seq: Option<u64>) -> Result<(), Failure> {
    let applied = applied_seq.unwrap_or(0);
    let Some(torn) = &scanned.torn else {
        if applied > scanned.last_seq {
            let last = scanned.last_seq;
            let why = format!("the index has applied batch {applied}, the log ends with {last}");
            return Err(scanned.corrupt(Label::L8, why).into());
        }
        return Ok(());
    };
    if applied >= torn.seq {
        let why = format!("the index has applied batch {applied}");
        return Err(scanned.corrupt(Label::L7, why).into());
    }
    for append in &torn.rest {
        if reconcile::bears_witness(root.view(), append)? {
            let why = format!("run {} has records of it in its journal", append.run);
            return Err(scanned.corrupt(Label::L7, why).into());
        }
    }
    Ok(())
}

/// A journal is ahead of the log: L7 behind a bad frame, L8 behind a log that ends well.
fn lost(scanned: &Scanned, why: String) -> Error {
    let label = if scanned.torn.is_some() { Label::L7 } else { Label::L8 };
    scanned.corrupt(label, why)
}

type Outcomes = BTreeMap<RunId, Outcome>;

/// Reconciles all runs, several at a time. The first failure stops it: runs that are done by then
/// are done.
fn reconcile_all(
    root: &OwnedRoot,
    tails: BTreeMap<RunId, Tail>,
    patience: &Patience,
    clock: &dyn Clock,
) -> Result<Outcomes, disk::Error> {
    let threads = patience.threads.clamp(1, tails.len().max(1));
    let todo = Mutex::new(tails.into_iter());
    let done = Mutex::new(Ok(Outcomes::new()));
    let work = || {
        loop {
            let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((run, tail)) = next else { break };
            let job = Reconcile { root: root.view(), run: &run, tail: &tail, patience, clock };
            let outcome = job.run();
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match (&mut *done, outcome) {
                (Ok(done), Ok(outcome)) => {
                    done.insert(run, outcome);
                }
                (Ok(_), Err(e)) => *done = Err(e),
                (Err(_), _) => {}
            }
            if done.is_err() {
                break;
            }
        }
    };
    if threads == 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    }
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the segment with the bad frame a second name, so that emptying the log leaves it.
fn keep_torn(meta: &dyn Dir, torn: &Torn) -> disk::Result<()> {
    let log = meta.open_dir(LOG_DIR)?;
    let quarantine = meta.ensure_durable_dir("quarantine")?;
    let name = format!("log-{:016x}-g{}.dlog", torn.at.segno, torn.generation);
    let segment = segment_file(torn.at.segno);
    match log.link(&segment, &*quarantine, &name) {
        Err(e) if e.is_exists() => {}
        Err(_) => {
            let bytes = log.read_file(&segment, Open::Truth, LOG_UNSETTLED_BYTES_MAX)?;
            disk::write_atomic(&*quarantine, &name, &bytes, disk::Atomic::DURABLE)?;
        }
        Ok(()) => {}
    }
    let mut kept = quarantine.list()?;
    kept.retain(|name| name.starts_with("log-") && name.strip_suffix(".dlog").is_some());
    for old in kept.iter().rev().skip(TORN_KEPT_MAX) {
        disk::optional(quarantine.unlink(old))?;
    }
    quarantine.sync()
}

/// Removes every segment: `root.json` says that none is needed.
fn empty(meta: &dyn Dir) -> disk::Result<()> {
    if let Some(log) = disk::optional(meta.open_dir(LOG_DIR))? {
        // Ascending: a crash in between leaves what is newest.
        for name in log.list()? {
            if segment_number(&name).is_some() || name.ends_with(".dlog.tmp") {
                disk::optional(log.unlink(&name))?;
            }
        }
        log.sync()?;
    }
    make::forget_staged_blobs(meta)
}

impl Corruption {
    /// One line a fact, for whoever has to decide.
    #[must_use]
    pub fn facts(&self) -> Vec<String> {
        let runs: Vec<&str> = self.runs.iter().map(RunId::as_str).collect();
        vec![
            format!("segment {} at byte {}", segment_file(self.at.segno), self.at.offset),
            format!("batch {}", self.seq),
            format!("runs with something in the log: {}", runs.join(", ")),
        ]
    }
}
