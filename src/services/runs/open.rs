//! Opening a run: its lock, its verified journal, its fold.
//!
//! May not decide what happens next. Invariant: a record is folded before it is written, so that
//! nothing illegal reaches a journal; what is not durable is not acknowledged.

use std::sync::Arc;

use crate::codecs::event::{Event, Payload, Record};
use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::id::Seq;
use crate::ground::limits::JSON_DEPTH_MAX;
use crate::machines::replay::drafts::Draft;
use crate::machines::replay::engine::{Engine, Input};
use crate::machines::replay::state::RunState;
use crate::shells::commit_log::overlay::{Overlay, overlay};
use crate::shells::journal::plan::Plan;
use crate::shells::journal::reader;
use crate::shells::journal::scan::{Scan, Verdict};
use crate::shells::journal::writer::{self, Writer};
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::root::Root;

use super::trouble::{Trouble, damaged};
use super::{Error, Result, Runs, derived};

/// A run that this command owns until it is closed.
pub struct OpenRun {
    pub(super) runs: Runs,
    /// Its directory.
    pub dir: RunDir,
    pub(super) engine: Engine,
    records: Vec<Arc<Record>>,
    writer: Writer,
    /// What opening had to repair.
    pub repair: Option<Plan>,
    pub(super) root: Option<Arc<Root>>,
}

/// A run that is looked at: verified and folded, not owned.
#[derive(Debug)]
pub struct SeenRun {
    /// Its directory.
    pub dir: RunDir,
    /// Its verified records.
    pub records: Vec<Arc<Record>>,
    /// Their fold.
    pub state: RunState,
    /// The scan, without its records.
    pub scan: Scan,
}

impl Runs {
    /// Opens a run for writing: root lock shared, run lock alone, journal repaired where nothing
    /// acknowledged is lost by that.
    pub fn open(&self, reference: &str) -> Result<OpenRun> {
        let dir = self.find_to_write(reference)?;
        self.open_dir(dir, None)
    }

    /// The same for a directory that was found already, by a command that may hold the root.
    pub(super) fn open_dir(&self, dir: RunDir, root: Option<Arc<Root>>) -> Result<OpenRun> {
        let root = match root {
            None if dir.in_root() => Some(Arc::new(self.open_root_of(&dir)?)),
            other => other,
        };
        let lock = dir.lock(self.lock_wait_ms, &*self.clock)?;
        let hint = format!("dormouse run repair-journal {}", dir.id());
        let opened = writer::open(&dir, lock, &*self.clock, None)
            .map_err(|e| with_hint(Error::from(e), &hint))?;
        let scan = opened.scan;
        let mut run = OpenRun {
            runs: self.clone(),
            dir,
            engine: Engine::new(),
            records: scan.records.iter().cloned().map(Arc::new).collect(),
            writer: opened.writer,
            repair: opened.repair,
            root,
        };
        run.reload().map_err(|e| match e {
            Error::Bug(t) => Error::Damaged(Trouble { code: "J24", ..t }.next(hint)),
            other => other,
        })?;
        Ok(run)
    }

    /// Opens the root that a run directory stands in, shared.
    fn open_root_of(&self, dir: &RunDir) -> Result<Root> {
        // The path may be relative, or end in a dot.
        let path = self.disk.canonicalize(dir.path())?;
        self.share_root(path.parent().unwrap_or(&self.root), false)
    }

    /// Reads a run without owning it; nothing is written.
    pub fn look(&self, reference: &str) -> Result<SeenRun> {
        self.look_dir(self.find(reference)?)
    }

    /// The same for a directory.
    pub fn look_dir(&self, dir: RunDir) -> Result<SeenRun> {
        let log = dir.root().map(|meta| overlay(&**meta)).unwrap_or_default();
        look_over(dir, &log)
    }
}

/// Reads one of many runs of a root whose commit log was read already.
pub(super) fn look_over(dir: RunDir, log: &Overlay) -> Result<SeenRun> {
    let mut scan = reader::read_over(&dir, None, log);
    let hint = format!("dormouse journal verify {}", dir.id());
    if scan.verdict() >= Verdict::Damaged {
        return Err(with_hint(damaged(&scan), &hint));
    }
    let records: Vec<Arc<Record>> =
        std::mem::take(&mut scan.records).into_iter().map(Arc::new).collect();
    let state = fold(&records)
        .map_err(|e| Error::Damaged(Trouble::new("J24", e.to_string()).next(hint.clone())))?;
    let state = state
        .ok_or_else(|| Error::Damaged(Trouble::new("J02", "the journal is empty").next(hint)))?;
    Ok(SeenRun { dir, records, state, scan })
}

fn with_hint(error: Error, hint: &str) -> Error {
    if matches!(error, Error::Damaged(_)) { error.and_next(hint) } else { error }
}

fn fold(
    records: &[Arc<Record>],
) -> std::result::Result<Option<RunState>, crate::machines::replay::state::IllegalEvent> {
    let mut state: Option<RunState> = None;
    for record in records {
        match &mut state {
            None => state = Some(RunState::first(record)?),
            Some(state) => state.apply(record)?,
        }
    }
    Ok(state)
}

impl OpenRun {
    /// The folded run.
    #[must_use]
    pub fn state(&self) -> &RunState {
        self.engine.state().unwrap_or_else(|| unreachable!("an open run has a first record"))
    }

    /// All records.
    #[must_use]
    pub fn records(&self) -> &[Arc<Record>] {
        &self.records
    }

    /// Feeds all records to a new engine.
    pub(super) fn reload(&mut self) -> Result<()> {
        self.engine = Engine::new();
        let now = self.runs.clock.now();
        for record in &self.records {
            self.engine.handle(now, Input::Loaded(Arc::clone(record)))?;
        }
        if self.engine.state().is_none() {
            return Err(Error::Damaged(Trouble::new("J02", "the journal is empty")));
        }
        Ok(())
    }

    /// Appends one record; it is durable when this returns.
    pub fn append(&mut self, event: Event) -> Result<Arc<Record>> {
        self.append_draft(crate::machines::replay::drafts::with_value(event))
    }

    pub(super) fn append_draft(&mut self, draft: Draft) -> Result<Arc<Record>> {
        for blob in &draft.blobs {
            self.dir.put_blob(blob.as_str().as_bytes())?;
        }
        let now = self.runs.clock.now();
        if let Some(repaired) = self.writer.begin(now)? {
            self.take(repaired)?;
        }
        let head = self.state().head;
        let at = now.max(self.state().last_at);
        let foreseen = Record { seq: head.seq.next(), at, event: draft.event, sum: head.sum };
        let foreseen = Arc::new(foreseen);
        self.engine.handle(now, Input::Loaded(Arc::clone(&foreseen)))?;
        let record = self.writer.append(head.seq, at, &foreseen.event)?;
        if matches!(record.event, Event::RunContinued(_)) {
            self.writer.rotate();
        }
        self.engine.sealed(record.sum);
        let record = Arc::new(record);
        self.records.push(Arc::clone(&record));
        derived::after_append(self, &record);
        Ok(record)
    }

    /// Takes in a record that the writer put into the journal by itself.
    fn take(&mut self, record: Record) -> Result<()> {
        let record = Arc::new(record);
        self.engine.handle(record.at, Input::Loaded(Arc::clone(&record)))?;
        self.records.push(record);
        Ok(())
    }

    /// The value behind a payload.
    pub fn value(&self, payload: &Payload) -> Result<Json> {
        value_of(&self.dir, payload)
    }

    /// Closes the run after a deed, whatever became of that: a refusal must leave the run as closed
    /// as it was, or the next writer would take this one for dead.
    pub fn close_after<T>(self, done: Result<T>) -> Result<T> {
        let closed = self.close();
        let done = done?;
        closed?;
        Ok(done)
    }

    /// Closes the run after a deed that failed, and gives why.
    #[must_use]
    pub fn close_failed(self, error: Error) -> Error {
        // The deed's error counts more than one of closing.
        let _ = self.close();
        error
    }

    pub(super) fn journal_bytes(&self) -> u64 {
        self.writer.journal_bytes()
    }

    /// Writes what is derived, says that everything is durable, lets the run go.
    pub fn close(self) -> Result<()> {
        // A record that could not be written was folded all the same. What is derived from it would
        // vouch for it, and the run would count as damaged.
        if self.writer.head() == self.state().head {
            derived::at_close(&self);
        }
        Ok(self.writer.close()?)
    }
}

impl SeenRun {
    /// The value behind a payload.
    pub fn value(&self, payload: &Payload) -> Result<Json> {
        value_of(&self.dir, payload)
    }

    /// The record at a place.
    #[must_use]
    pub fn record(&self, seq: Seq) -> Option<&Arc<Record>> {
        record_at(&self.records, seq)
    }
}

/// The record at a place of a whole journal.
pub(super) fn record_at(records: &[Arc<Record>], seq: Seq) -> Option<&Arc<Record>> {
    records.get(usize::try_from(seq.0.checked_sub(1)?).ok()?)
}

pub(super) fn value_of(dir: &RunDir, payload: &Payload) -> Result<Json> {
    match payload {
        Payload::Inline(json) => Ok(json.clone()),
        Payload::Blob(blob) => {
            let bytes = dir.get_blob(blob)?;
            gate(&bytes, JSON_DEPTH_MAX, Surrogates::Lone).map_err(|e| {
                Error::Damaged(Trouble::new("J51", format!("blob {}: {e}", blob.digest)))
            })
        }
    }
}
