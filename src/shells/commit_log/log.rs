//! The log: takes units, writes frames, copies lines to journals.
//!
//! May not start threads or wait for jobs. Invariant: one frame at a time; a unit is called durable
//! after its frame is and its lines were handed to the journal; after a failed write of the log
//! nothing is written any more.

use super::copy::{Place, RunCopy};
use super::figures::Figures;
use super::job::{SpareDone, SpareJob};
use super::remark::Remark;
use super::runs::Runs;
use super::segment::{self, Active, Extent, Origin, Spare};
use super::{Committed, Error, Settings, Unit, Why, WriterState, rebuild};
use crate::codecs::format::frame::{self, HEADER_BYTES, Tip};
use crate::codecs::format::line;
use crate::codecs::format::log_entry::{Append, Entry};
use crate::ground::clock::{self, Clock};
use crate::ground::id::{RunId, Seq};
use crate::ground::limits::{LOG_FRAME_BYTES_MAX, LOG_SEGMENT_BYTES_MIN};
use crate::ground::sabotage::{self, Guard};
use crate::ports::disk::{self, Dir, Kind};
use crate::shells::run_dir::root::RootView;
use crate::shells::run_dir::root_file::{RootFile, RootState, uuid_bytes};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Where a log lives and whom it asks.
#[derive(Clone)]
pub struct Home {
    /// The runs root.
    pub root: RootView,
    /// The root's own directory.
    pub meta: Arc<dyn Dir>,
    /// `root.json`.
    pub file: Arc<RootFile>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

/// What a call of [`Log::commit`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The queue is empty, or what was in it was refused.
    Empty,
    /// A frame was written; there may be more in the queue.
    Written,
    /// The next unit waits for a spare segment: run jobs.
    NeedsSpare,
    /// The next unit waits for files to be closed: run jobs.
    Crowded,
}

/// Why there is no room for new work.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent reasons for one state")]
pub(super) struct Trouble {
    /// No spare segment could be made.
    pub(super) spare: bool,
    /// The filesystem is nearly full.
    pub(super) space: bool,
    /// `root.json` could not be replaced.
    pub(super) root: bool,
    /// A run's directory could not be made or synced.
    pub(super) dirs: bool,
    /// Too many files are open.
    pub(super) files: bool,
}

impl Trouble {
    /// Whether something failed that is tried again.
    pub(super) const fn waits(&self) -> bool {
        self.spare || self.root || self.dirs
    }

    /// Remembers what is short.
    pub(super) fn note(&mut self, error: &disk::Error) {
        self.files |= error.kind == Kind::TooManyOpen;
    }
}

/// The log of a root that was recovered and is open for writing.
pub struct Log {
    pub(super) home: Home,
    pub(super) dir: Arc<dyn Dir>,
    pub(super) settings: Settings,
    origin: Origin,
    pub(super) active: Active,
    pub(super) spare: Option<Spare>,
    /// Segments behind the active one that are not released.
    pub(super) closed: BTreeMap<u64, Extent>,
    pub(super) runs: Runs,
    state: WriterState,
    pub(super) trouble: Trouble,
    failure: Option<String>,
    events: Vec<Committed>,
    remarks: Vec<Remark>,
    pub(super) duty: super::duty::Duty,
    pub(super) figures: Figures,
}

impl Log {
    /// Begins a new segment. The root's log must be empty: recovered, or stopped cleanly.
    pub fn start(home: Home, settings: Settings, now_ms: u64) -> Result<Self, Error> {
        check(&settings)?;
        let json = home.file.json();
        let dir = segment::open_dir(&*home.meta)?;
        let boot_id = home.root.disk().boot_id();
        let origin = Origin {
            root: uuid_bytes(&json.root).unwrap_or_default(),
            boot: uuid_bytes(&boot_id).unwrap_or_default(),
            generation: json.generation,
            segment_bytes: settings.segment_bytes,
        };
        let first = SpareJob {
            dir: Arc::clone(&dir),
            segno: json.max_segment + 1,
            bytes: settings.segment_bytes,
            file: Arc::clone(&home.file),
        };
        let spare = match first.run() {
            SpareDone::Made(spare) => spare,
            SpareDone::NotMade(e) | SpareDone::NotRecorded(e) => return Err(e.into()),
        };
        let before = Tip { seq: json.last_seq, crc: 0 };
        let (nonce, now) = (home.root.disk().random(), home.clock.now());
        let active = Active::activate(spare, &origin, before, true, nonce, now)?;
        home.file.replace(|json| {
            json.state = RootState::Open;
            json.boot_id.clone_from(&boot_id);
        })?;
        let figures = Figures {
            segments: 1,
            last_frame: json.last_seq,
            buffered: active.extent.header.buffered,
            ..Figures::default()
        };
        Ok(Self {
            home,
            dir,
            settings,
            origin,
            active,
            spare: None,
            closed: BTreeMap::new(),
            runs: Runs::default(),
            state: WriterState::Healthy,
            trouble: Trouble::default(),
            failure: None,
            events: Vec::new(),
            remarks: Vec::new(),
            duty: super::duty::Duty::starting(now_ms, json.oldest_segment),
            figures,
        })
    }

    /// What the writer takes.
    #[must_use]
    pub const fn state(&self) -> WriterState {
        self.state
    }

    /// What made the writer fail.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// What has happened since the last call, in order.
    pub fn events(&mut self) -> Vec<Committed> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn event(&mut self, event: Committed) {
        self.events.push(event);
    }

    /// What is to be said about the disk since the last call.
    pub fn remarks(&mut self) -> Vec<Remark> {
        std::mem::take(&mut self.remarks)
    }

    /// Notes a failure that costs nobody an answer.
    pub(super) fn alarm(&mut self, what: String) {
        self.figures.alarms += 1;
        self.remarks.push(Remark::Survived(what));
    }

    /// Numbers.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let count = |n: usize| n as u64;
        Figures {
            last_frame: self.active.extent.tip.seq,
            unsettled_bytes: count(self.closed.len()) * self.settings.segment_bytes
                + self.active.extent.end,
            unsettled_runs: count(self.runs.pinned()),
            lagging: count(self.runs.lagging().count()),
            open_files: count(self.runs.open_files()),
            crowded: self.trouble.files && !self.trouble.space,
            ..self.figures
        }
    }

    /// Whether outcomes are still taken while there is no room for new work.
    #[must_use]
    pub fn takes_outcomes(&self) -> bool {
        let spare = self.spare.as_ref().map_or(0, |_| self.settings.segment_bytes);
        self.active.extent.room() + spare >= self.settings.reserve_bytes
    }

    /// Never writes again, for a reason that the log cannot see.
    pub fn give_up(&mut self, why: &str) {
        self.fail(&why);
    }

    /// Says and notes that the writer will never write again.
    pub(super) fn fail(&mut self, why: &dyn std::fmt::Display) {
        if self.state != WriterState::Failed && !sabotage::is_removed(Guard::AppendAfterError) {
            self.state = WriterState::Failed;
            self.failure = Some(why.to_string());
            self.remarks.push(Remark::Failed(why.to_string()));
            self.events.push(Committed::State(WriterState::Failed));
        }
    }

    /// Takes the state from what troubles it.
    pub(super) fn refresh(&mut self) {
        let reasons = self.reasons();
        let (state, remark) = if reasons.is_empty() {
            (WriterState::Healthy, Remark::Healthy)
        } else {
            (WriterState::Full, Remark::Full(reasons.join("; ")))
        };
        if self.state != WriterState::Failed && self.state != state {
            self.state = state;
            self.events.push(Committed::State(state));
            self.remarks.push(remark);
        }
    }

    /// Why there is no room for new work; nothing if there is.
    fn reasons(&self) -> Vec<&'static str> {
        let Trouble { spare, space, root, dirs, files } = self.trouble;
        let reasons = [
            (spare, "no further segment of the log could be made"),
            (space, "less space is free than disk.free_min asks for"),
            (files, "too many files are open"),
            (root, "root.json could not be replaced for want of room"),
            (dirs, "a run's directory could not be made or synced for want of room"),
            (self.runs.has_lagging(), "journals are behind the log for want of room"),
        ];
        reasons.into_iter().filter_map(|(so, reason)| so.then_some(reason)).collect()
    }

    /// Takes units from the front of the queue and makes them durable as one frame; says in
    /// [`Log::events`] what became of each.
    pub fn commit(&mut self, queue: &mut VecDeque<Unit>, now_ms: u64) -> Step {
        let mut batch = Vec::new();
        let mut step = Step::Empty;
        if self.state != WriterState::Failed {
            step = self.assemble(queue, &mut batch, now_ms);
        }
        // Beginning a segment may fail too: then nothing may follow, in whatever segment.
        if self.state == WriterState::Failed {
            while let Some(unit) = queue.pop_front() {
                self.refuse(&unit, Why::Failed);
            }
            return Step::Empty;
        }
        if batch.is_empty() { step } else { self.write(batch, now_ms) }
    }

    fn refuse(&mut self, unit: &Unit, why: Why) {
        self.figures.refused += 1;
        if why == Why::Unreadable(Kind::TooManyOpen) {
            // Full for a second: then whoever was refused may come again.
            self.trouble.files = true;
            self.refresh();
        }
        let (run, seq) = (unit.entry.run().clone(), unit.last_seq());
        self.events.push(Committed::NotWritten { run, seq, why });
    }

    fn frame_bytes_max(&self) -> usize {
        let segment = &self.active.extent.header;
        let frames = segment.segment_bytes - segment.frames_at();
        LOG_FRAME_BYTES_MAX.min(usize::try_from(frames).unwrap_or(usize::MAX))
    }

    /// Moves what fits into one frame from the queue to the batch.
    fn assemble(&mut self, queue: &mut VecDeque<Unit>, batch: &mut Vec<Unit>, now_ms: u64) -> Step {
        let frame_max = self.frame_bytes_max();
        let batch_max = self.settings.batch_bytes_max.min(frame_max);
        let (mut bytes, mut records) = (HEADER_BYTES + 5, 0);
        while let Some(unit) = queue.front() {
            let with = bytes + unit.entry.bytes_max();
            let count = records + unit.entry.records() as usize;
            let full = with > batch_max || count > self.settings.batch_records_max;
            let alone = !matches!(unit.entry, Entry::Append(_));
            if !batch.is_empty() && (full || alone) {
                break;
            }
            let taken = if with > frame_max {
                Err(Why::TooLong)
            } else if self.is_full_for(unit) {
                Err(Why::NoRoom)
            } else if self.needs_segment(with) {
                if !batch.is_empty() {
                    break;
                }
                match self.rotate() {
                    Ok(true) => continue,
                    Ok(false) if !self.trouble.spare => return Step::NeedsSpare,
                    Ok(false) => Err(Why::NoRoom),
                    Err(()) => return Step::Empty,
                }
            } else if self.is_crowded(&unit.entry) {
                return Step::Crowded;
            } else {
                self.admit(&unit.entry, now_ms)
            };
            let Some(unit) = queue.pop_front() else { break };
            match taken {
                Ok(()) => batch.push(unit),
                Err(why) => self.refuse(&unit, why),
            }
            if !batch.is_empty() && alone {
                break;
            }
            (bytes, records) = if taken.is_ok() { (with, count) } else { (bytes, records) };
        }
        Step::Empty
    }

    /// Whether there is no room for this one.
    fn is_full_for(&self, unit: &Unit) -> bool {
        self.state == WriterState::Full
            && (unit.inflow || !self.takes_outcomes())
            && !sabotage::is_removed(Guard::FullIsOk)
    }

    fn needs_segment(&self, bytes: usize) -> bool {
        let extent = &self.active.extent;
        frame::padded(bytes as u64, extent.header.block_bytes) > extent.room()
    }

    /// Whether a file would have to be opened that there is no room for.
    fn is_crowded(&mut self, entry: &Entry) -> bool {
        let Entry::Append(append) = entry else { return false };
        let max = self.settings.open_files_max;
        if self.runs.open_files() < max || append.seq == Seq(1) || self.runs.contains(&append.run) {
            return false;
        }
        self.runs.close_idle(max - 1);
        self.runs.open_files() >= max
    }

    /// Checks that the entry builds on its run's head and moves the head.
    fn admit(&mut self, entry: &Entry, now_ms: u64) -> Result<(), Why> {
        let Entry::Append(append) = entry else {
            let unmade = |copy: &RunCopy| matches!(copy.place, Place::Unmade | Place::Making);
            let early = self.runs.get(entry.run()).is_some_and(unmade);
            return if early { Err(Why::NotMade) } else { Ok(()) };
        };
        if !ends_as_stated(append) {
            return Err(Why::NotTheHead);
        }
        if !self.runs.contains(&append.run) {
            let copy = RunCopy::open(&**self.home.root.dir(), append)?;
            self.runs.replace(&append.run, Some(copy));
        }
        let advanced = self.runs.with(&append.run, |copy| {
            let fits = copy.place != Place::Gone && copy.continues(append);
            if fits {
                copy.advance(append);
            }
            fits
        });
        if advanced != Some(true) {
            return Err(Why::NotTheHead);
        }
        // From here on the run needs the segment that the frame goes to, and stays known.
        let segno = self.active.extent.header.segno;
        self.runs.note(&append.run, segno, now_ms, self.settings.settle_idle_ms);
        Ok(())
    }

    /// Begins the next segment; false if there is no spare.
    pub(super) fn rotate(&mut self) -> Result<bool, ()> {
        let Some(spare) = self.spare.take() else { return Ok(false) };
        let before = self.active.extent;
        let (nonce, now) = (self.home.root.disk().random(), self.home.clock.now());
        match Active::activate(spare, &self.origin, before.tip, false, nonce, now) {
            Ok(active) => self.active = active,
            Err(e) => {
                self.fail(&e);
                return Err(());
            }
        }
        self.closed.insert(before.header.segno, before);
        self.figures.segments += 1;
        self.runs.hurry_closed(self.active.extent.header.segno);
        Ok(true)
    }

    fn write(&mut self, batch: Vec<Unit>, now_ms: u64) -> Step {
        let began = clock::monotonic_micros();
        if sabotage::is_removed(Guard::JournalFirst) {
            self.copy_before(&batch);
        }
        let entries = batch.iter().map(|unit| &unit.entry);
        match self.active.write(entries, self.home.clock.now()) {
            Ok(bytes) => self.figures.bytes += bytes as u64,
            Err(e) => {
                for unit in batch {
                    let (run, seq) = (unit.entry.run().clone(), unit.last_seq());
                    self.events.push(Committed::Unknown { run, seq });
                }
                self.fail(&e);
                return Step::Written;
            }
        }
        self.figures.sync_micros.add(clock::monotonic_micros().saturating_sub(began));
        self.figures.batch_units.add(batch.len() as u64);
        self.figures.frames += 1;
        self.duty.wrote(now_ms, true);
        for unit in batch {
            self.figures.records += u64::from(unit.entry.records());
            self.publish(unit, now_ms);
        }
        self.refresh();
        Step::Written
    }

    /// What must never be done: journals are ahead of the log until the frame is written.
    fn copy_before(&mut self, batch: &[Unit]) {
        for unit in batch {
            if let Entry::Append(append) = &unit.entry {
                let root = &**self.home.root.dir();
                let _ = self.runs.with(&append.run, |copy| copy.copy(root, append.clone()));
            }
        }
    }

    /// Copies what is durable to the journal and says so.
    fn publish(&mut self, unit: Unit, now_ms: u64) {
        let frame = self.active.extent.tip.seq;
        let segno = self.active.extent.header.segno;
        let (run, seq) = (unit.entry.run().clone(), unit.last_seq());
        match unit.entry {
            Entry::Append(append) => {
                let root = &**self.home.root.dir();
                if let Some(Err(e)) = self.runs.with(&run, |copy| copy.copy(root, append)) {
                    self.copy_failed(&run, &e);
                }
            }
            Entry::Rebase { .. } => self.runs.replace(&run, None),
            Entry::Gone { .. } => {
                self.runs.replace(&run, Some(RunCopy::gone()));
                self.runs.note(&run, segno, now_ms, self.settings.settle_idle_ms);
            }
        }
        self.events.push(Committed::Durable { run, seq, frame });
    }

    /// A copy that failed costs nobody an answer: the file is built again, or the run lags.
    fn copy_failed(&mut self, run: &RunId, error: &disk::Error) {
        self.alarm(format!("the journal of {run} was not written: {error}"));
        self.trouble.note(error);
        if !error.kind.may_pass() {
            self.mend(run);
        }
    }

    /// Brings a journal that lags up to the log.
    pub(super) fn mend(&mut self, run: &RunId) {
        let Some(copy) = self.runs.get(run) else { return };
        if let Some(first) = copy.broken {
            let from = self.runs.oldest_pin().unwrap_or(0);
            let extents = self.closed.range(from..).map(|(_, extent)| extent);
            let extents = extents.chain([&self.active.extent]);
            let (root, log) = (&**self.home.root.dir(), &*self.dir);
            match rebuild::rebuild(root, log, extents, run, first) {
                Ok(file) => {
                    self.figures.rebuilds += 1;
                    self.remarks.push(Remark::Rebuilt { run: run.clone(), first });
                    self.runs.with(run, |copy| copy.rebuilt(first, file.into()));
                }
                Err(e) if e.kind.may_pass() => return self.trouble.note(&e),
                Err(e) => return self.fail(&e),
            }
        }
        let root = &**self.home.root.dir();
        if let Some(Err(e)) = self.runs.with(run, |copy| copy.flush(root))
            && !e.kind.may_pass()
            && self.runs.get(run).is_some_and(|copy| copy.broken.is_some())
        {
            // The new file fails too: this disk is not to be written to.
            self.fail(&e);
        }
    }
}

/// Whether the lines end with the sum that is said to be the last.
fn ends_as_stated(append: &Append) -> bool {
    debug_assert!(append.verifies(), "the lines of {} do not chain", append.run);
    let tail = append.lines.len().checked_sub(line::TRAILER_BYTES);
    let stated = tail.and_then(|at| line::split(&append.lines[at..]));
    append.n > 0 && stated.is_some_and(|(_, sum)| sum == append.last)
}

/// The relations between sizes.
fn check(settings: &Settings) -> Result<(), Error> {
    let small = settings.segment_bytes < LOG_SEGMENT_BYTES_MIN;
    if small || !settings.segment_bytes.is_multiple_of(LOG_SEGMENT_BYTES_MIN) {
        return Err(Error::Settings("a segment must be a multiple of 256 KiB"));
    }
    if settings.reserve_bytes >= settings.segment_bytes {
        return Err(Error::Settings("the reserve must be smaller than a segment"));
    }
    if settings.batch_bytes_max > LOG_FRAME_BYTES_MAX || settings.batch_records_max == 0 {
        return Err(Error::Settings("a batch must not be empty and must fit into a frame"));
    }
    if settings.open_files_max == 0 {
        return Err(Error::Settings("at least one journal file must be allowed to be open"));
    }
    Ok(())
}
