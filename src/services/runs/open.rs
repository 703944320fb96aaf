//! Opening a run: its lock, its verified journal, its fold.
//!
//! May not decide what happens next. Invariant: a record is folded before it is written, so that
//! nothing illegal reaches a journal; what is not durable is not acknowledged.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::codecs::event::{Event, Head, Payload, Record};
use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::ground::limits::JSON_DEPTH_MAX;
use crate::machines::replay::drafts::Draft;
use crate::machines::replay::engine::{Engine, Input};
use crate::machines::replay::state::RunState;
use crate::shells::commit_log::overlay::{Overlay, overlay};
use crate::shells::journal::plan::Plan;
use crate::shells::journal::reader;
use crate::shells::journal::scan::{Scan, Verdict};
use crate::shells::journal::shared::{self, Lines, SharedWriter};
use crate::shells::journal::writer::{self, Writer};
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::root::{self, Root, RootView};

use super::inside::Inside;
use super::trouble::{Trouble, damaged};
use super::{Error, Result, Runs, derived};

/// A run that this command owns until it is closed.
pub struct OpenRun {
    pub(super) runs: Runs,
    /// Its directory.
    pub dir: RunDir,
    pub(super) engine: Engine,
    records: Vec<Arc<Record>>,
    writer: Ink,
    /// What opening had to repair.
    pub repair: Option<Plan>,
    pub(super) root: Option<Arc<Root>>,
    /// Effects whose next attempt somebody wants at once.
    pub(super) hurried: BTreeSet<EffectId>,
    /// Whoever executes some of its effects itself.
    pub(super) inside: Option<Arc<dyn Inside>>,
}

/// How the records of an open run become durable.
enum Ink {
    /// One by one, before the call returns.
    Direct(Box<Writer>),
    /// Together with other runs' records, by whoever takes the lines.
    Shared(Box<SharedWriter>),
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
    pub(in crate::services) fn open_dir(
        &self,
        dir: RunDir,
        root: Option<Arc<Root>>,
    ) -> Result<OpenRun> {
        let root = match root {
            None if dir.in_root() => Some(Arc::new(self.open_root_of(&dir)?)),
            other => other,
        };
        let lock = dir.lock(self.lock_wait_ms, &*self.clock)?;
        // Whoever waited for the lock may have waited for somebody who deleted the run.
        if let Some(root) = &root
            && !root.still_has(&dir)?
        {
            return Err(root::Error::NotFound(format!("run {}", dir.id())).into());
        }
        let hint = format!("dormouse run repair-journal {}", dir.id());
        let opened = writer::open(&dir, lock, &*self.clock, None)
            .map_err(|e| with_hint(Error::from(e), &hint))?;
        let (ink, repair) = (Ink::Direct(Box::new(opened.writer)), opened.repair);
        OpenRun::of(self.clone(), dir, opened.scan.records, ink, repair, root)
    }

    /// Opens a run of a root that this process owns: its lines go through the commit log. `witness`
    /// is a record that something else than the journal vouches for.
    pub fn open_shared(
        &self,
        root: &RootView,
        id: &RunId,
        witness: Option<Seq>,
    ) -> Result<OpenRun> {
        let dir = root.run(id)?;
        let lock = dir.lock(self.lock_wait_ms, &*self.clock)?;
        let hint = format!("dormouse run repair-journal {id}");
        let opened = shared::open(&dir, lock, &*self.clock, witness)
            .map_err(|e| with_hint(Error::from(e), &hint))?;
        let (ink, repair) = (Ink::Shared(Box::new(opened.writer)), opened.repair);
        OpenRun::of(self.clone(), dir, opened.scan.records, ink, repair, None)
    }

    /// A run that begins with `record`, whose line `writer` has made: its directory was made since.
    pub fn open_made(
        &self,
        root: &RootView,
        record: Record,
        mut writer: SharedWriter,
    ) -> Result<OpenRun> {
        let Event::RunCreated(created) = &record.event else {
            return Err(Error::Bug(Trouble::new("bug", "a run begins with RUN_CREATED")));
        };
        let dir = root.run(&created.run_id)?;
        writer.hold(dir.lock(self.lock_wait_ms, &*self.clock)?);
        OpenRun::of(self.clone(), dir, vec![record], Ink::Shared(Box::new(writer)), None, None)
    }

    /// Opens the root that a run directory stands in, shared.
    pub(super) fn open_root_of(&self, dir: &RunDir) -> Result<Root> {
        // The path may be relative, or end in a dot.
        let path = self.disk.canonicalize(dir.path())?;
        self.share_root(path.parent().unwrap_or(&self.root), false)
    }

    /// Reads a run without owning it; nothing is written.
    pub fn look(&self, reference: &str) -> Result<SeenRun> {
        self.look_dir(self.find(reference)?)
    }

    /// The same for the process that owns the root: every durable line stands in its journal,
    /// unless the disk is full. Reading the whole commit log for each run would cost more than the
    /// run.
    pub fn look_owned(&self, reference: &str) -> Result<SeenRun> {
        look_over(self.find(reference)?, &Overlay::default())
    }

    /// The same for a directory.
    pub fn look_dir(&self, dir: RunDir) -> Result<SeenRun> {
        let log = dir.root().map(|meta| overlay(&**meta)).unwrap_or_default();
        look_over(dir, &log)
    }
}

/// Reads one of many runs of a root whose commit log was read already.
pub(in crate::services) fn look_over(dir: RunDir, log: &Overlay) -> Result<SeenRun> {
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
    fn of(
        runs: Runs,
        dir: RunDir,
        records: Vec<Record>,
        writer: Ink,
        repair: Option<Plan>,
        root: Option<Arc<Root>>,
    ) -> Result<Self> {
        let records = records.into_iter().map(Arc::new).collect();
        let hint = format!("dormouse run repair-journal {}", dir.id());
        let (engine, hurried) = (Engine::new(), BTreeSet::new());
        let inside = None;
        let mut run = Self { runs, dir, engine, records, writer, repair, root, hurried, inside };
        run.reload().map_err(|e| match e {
            Error::Bug(t) => Error::Damaged(Trouble { code: "J24", ..t }.next(hint)),
            other => other,
        })?;
        Ok(run)
    }

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
    pub fn reload(&mut self) -> Result<()> {
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

    /// Whether nobody but this command looks after the run: no lease of it will ever lapse.
    #[must_use]
    pub(super) const fn is_direct(&self) -> bool {
        matches!(self.writer, Ink::Direct(_))
    }

    /// Who executes some of its effects from now on.
    pub fn served_by(&mut self, inside: Arc<dyn Inside>) {
        self.inside = Some(inside);
    }

    /// Does something for `by`, who stands in its records.
    pub fn acting_as<T>(&mut self, by: &str, act: impl FnOnce(&mut Self) -> T) -> T {
        let usual = std::mem::replace(&mut self.runs.by, by.to_owned());
        let done = act(self);
        self.runs.by = usual;
        done
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
        let repaired = match &mut self.writer {
            Ink::Direct(writer) => writer.begin(now)?,
            Ink::Shared(writer) => writer.begin(now)?,
        };
        if let Some(repaired) = repaired {
            self.take(repaired)?;
        }
        let head = self.state().head;
        let at = now.max(self.state().last_at);
        let foreseen = Record { seq: head.seq.next(), at, event: draft.event, sum: head.sum };
        let foreseen = Arc::new(foreseen);
        self.engine.handle(now, Input::Loaded(Arc::clone(&foreseen)))?;
        let record = self.write(head.seq, at, &foreseen.event)?;
        self.engine.sealed(record.sum);
        let record = Arc::new(record);
        self.records.push(Arc::clone(&record));
        if matches!(self.writer, Ink::Direct(_)) {
            derived::after_append(self, &record);
            self.runs.telemetry.committed(self.state(), &record);
        }
        Ok(record)
    }

    fn write(&mut self, expected: Seq, at: Timestamp, event: &Event) -> Result<Record> {
        let rotates = matches!(event, Event::RunContinued(_));
        match &mut self.writer {
            Ink::Direct(writer) => {
                let record = writer.append(expected, at, event)?;
                if rotates {
                    writer.rotate();
                }
                Ok(record)
            }
            Ink::Shared(writer) => {
                let record = writer.append(expected, at, event)?;
                if rotates {
                    writer.rotate();
                }
                Ok(record)
            }
        }
    }

    /// The last record that was written, or made for the log. Differs from the fold's head after a
    /// failure: then the run must be opened anew.
    #[must_use]
    pub fn written(&self) -> Head {
        match &self.writer {
            Ink::Direct(writer) => writer.head(),
            Ink::Shared(writer) => writer.head(),
        }
    }

    /// Hands over the lines that were made since the last call, for the commit log.
    pub fn take_lines(&mut self) -> Vec<Lines> {
        match &mut self.writer {
            Ink::Direct(_) => Vec::new(),
            Ink::Shared(writer) => writer.take_lines(),
        }
    }

    /// Whether lines were made since then.
    #[must_use]
    pub fn has_lines(&self) -> bool {
        match &self.writer {
            Ink::Direct(_) => false,
            Ink::Shared(writer) => writer.has_lines(),
        }
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

    /// Size of the whole journal.
    #[must_use]
    pub fn journal_bytes(&self) -> u64 {
        match &self.writer {
            Ink::Direct(writer) => writer.journal_bytes(),
            Ink::Shared(writer) => writer.journal_bytes(),
        }
    }

    /// Writes what is derived, says that everything is durable, lets the run go.
    pub fn close(self) -> Result<()> {
        // A record that could not be written was folded all the same. What is derived from it would
        // vouch for it, and the run would count as damaged.
        if self.written() == self.state().head {
            derived::at_close(&self);
        }
        let closed = match self.writer {
            Ink::Direct(writer) => writer.close(),
            Ink::Shared(writer) => writer.close(),
        };
        Ok(closed?)
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

/// The value behind a payload of a run.
pub(in crate::services) fn value_of(dir: &RunDir, payload: &Payload) -> Result<Json> {
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
