//! What is due beside commits: marks, new segments, jobs and what comes of them, the clean stop.
//!
//! May not write entries. Invariant: a segment is released only when no run needs it, the index has
//! applied its last frame, and `root.json` says that it is not needed.

use super::copy::{Place, RunCopy, Running};
use super::job::{
    self, Done, Failure, Job, Kinds, MakeDone, MakeJob, Part, ReleaseDone, ReleaseJob, Results,
    SettleJob, SpareDone, SpareJob, Synced,
};
use super::log::Log;
use super::runs::Runs;
use super::{Committed, Error, WriterState};
use crate::codecs::format::log_entry::Entry;
use crate::ground::id::RunId;
use crate::ground::sabotage::{self, Guard};
use crate::ports::disk;
use crate::shells::run_dir::root_file::RootState;
use std::sync::Arc;

/// Between attempts to do what failed.
const RETRY_MS: u64 = 1_000;
/// Between looks at the free space while all is well.
const PROBE_MS: u64 = 5_000;
/// Attempts in a row to make a spare or a directory before it counts as trouble.
const ATTEMPTS: u32 = 3;
/// Runs that one job settles: their new names share one sync of the root.
const SETTLE_GROUP: usize = 16;

/// When things were done last, and what is being done.
#[derive(Debug)]
pub(super) struct Duty {
    last_frame_ms: u64,
    /// The last frame was no mark.
    unmarked: bool,
    probe_ms: u64,
    spare_running: bool,
    spare_failures: u32,
    spare_retry_ms: u64,
    /// Jobs that settle and are not done.
    settling: usize,
    release_running: bool,
    release_retry_ms: u64,
    /// First segment whose file may still be there.
    oldest: u64,
    index_applied: u64,
}

impl Duty {
    pub(super) const fn starting(now_ms: u64, oldest: u64) -> Self {
        Self {
            last_frame_ms: now_ms,
            unmarked: false,
            probe_ms: now_ms,
            spare_running: false,
            spare_failures: 0,
            spare_retry_ms: 0,
            settling: 0,
            release_running: false,
            release_retry_ms: 0,
            oldest,
            index_applied: 0,
        }
    }

    pub(super) const fn wrote(&mut self, now_ms: u64, data: bool) {
        (self.last_frame_ms, self.unmarked) = (now_ms, data);
    }
}

impl Log {
    /// The index holds everything up to this frame, durably.
    pub fn index_applied(&mut self, frame: u64) {
        self.duty.index_applied = self.duty.index_applied.max(frame);
    }

    /// A run's directory is wanted: it is made before others.
    pub fn ensure_made(&mut self, run: &RunId) {
        let unmade = |copy: &RunCopy| matches!(copy.place, Place::Unmade | Place::Making);
        if self.runs.get(run).is_some_and(unmade) {
            self.runs.with(run, |copy| copy.made_by_ms = 0);
        } else {
            self.event(Committed::Made { run: run.clone() });
        }
    }

    /// A run is to be settled as soon as possible.
    pub fn settle(&mut self, run: &RunId) {
        match self.runs.get(run) {
            Some(copy) if copy.is_pinned() => self.runs.ask(run),
            Some(copy) => {
                let event = Committed::Settled { run: run.clone(), seq: copy.head.seq };
                self.event(event);
            }
            None => {}
        }
    }

    /// Everything is to be settled as soon as possible: the log will be stopped.
    pub fn settle_all(&mut self) {
        // What is settled needs no proof, and the last frame should stay the last.
        self.duty.unmarked = false;
        self.runs.ask_all();
    }

    /// Runs that are not settled.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.runs.pinned()
    }

    /// When [`Log::tick`] or [`Log::jobs`] have something to do without a commit or a finished job.
    #[must_use]
    pub fn wake_at(&self) -> u64 {
        if self.state() == WriterState::Failed {
            return u64::MAX;
        }
        let duty = &self.duty;
        let mut at = self.next_probe();
        if duty.unmarked {
            at = at.min(duty.last_frame_ms + self.settings.mark_after_ms);
        } else if !self.active.extent.is_empty() && self.spare.is_some() {
            at = at.min(duty.last_frame_ms + self.settings.idle_rotate_ms);
        }
        if self.spare.is_none() && !duty.spare_running {
            at = at.min(duty.spare_retry_ms);
        }
        if duty.settling < self.settings.settle_jobs_max {
            at = at.min(self.runs.next_due().unwrap_or(u64::MAX));
        }
        at
    }

    fn next_probe(&self) -> u64 {
        let every = if self.state() == WriterState::Full { RETRY_MS } else { PROBE_MS };
        self.duty.probe_ms + every
    }

    /// Does what time asks for: a mark, a new segment, another attempt, a look at the free space.
    pub fn tick(&mut self, now_ms: u64) {
        if self.state() == WriterState::Failed {
            return;
        }
        if now_ms >= self.next_probe() {
            self.duty.probe_ms = now_ms;
            self.probe();
            if self.state() == WriterState::Failed {
                return;
            }
        }
        let quiet = now_ms.saturating_sub(self.duty.last_frame_ms);
        if self.duty.unmarked && quiet >= self.settings.mark_after_ms {
            self.mark(now_ms);
        } else if quiet >= self.settings.idle_rotate_ms && !self.active.extent.is_empty() {
            // A failure has been noted by rotating.
            let _ = self.rotate();
        }
        self.refresh();
    }

    fn mark(&mut self, now_ms: u64) {
        if self.active.extent.room() < u64::from(self.active.extent.header.block_bytes) {
            // The header of the next segment proves the last frame as well.
            if self.rotate() != Ok(false) {
                self.duty.unmarked = false;
            }
            return;
        }
        match self.active.write(std::iter::empty::<&Entry>(), self.home.clock.now()) {
            Ok(bytes) => {
                self.figures.marks += 1;
                self.figures.bytes += bytes as u64;
                self.duty.wrote(now_ms, false);
                let frame = self.active.extent.tip.seq;
                self.event(Committed::Mark { frame });
            }
            Err(e) => self.fail(&e),
        }
    }

    /// Looks at the free space and tries again what failed for want of it.
    fn probe(&mut self) {
        let (free, least) = (self.home.root.dir().free_space(), self.settings.free_bytes_min);
        if let Ok(free) = free {
            let wanted = if self.trouble.space { least + least / 2 } else { least };
            self.trouble.space = free < wanted;
        }
        // Whatever else needed a file says so again when it still cannot have one.
        self.trouble.files &= self.trouble.waits() || self.runs.has_lagging();
        let lagging: Vec<RunId> = self.runs.lagging().cloned().collect();
        for run in lagging {
            self.mend(&run);
        }
    }

    /// The jobs to be run now, `room` or a few more; those that settle are counted on their own.
    /// Each must be run, and its result given to [`Log::done`].
    pub fn jobs(&mut self, now_ms: u64, room: usize) -> Vec<Job> {
        let mut jobs = Vec::new();
        if self.state() == WriterState::Failed {
            return jobs;
        }
        // A directory that is made opens a file, which needs a place.
        let kept = self.settings.open_files_max.saturating_sub(room.min(self.runs.unmade()));
        self.runs.hurry_crowded(kept);
        self.runs.close_idle(kept);
        jobs.extend(self.spare_job(now_ms).map(|job| Job(Kinds::Spare(job))));
        jobs.extend(self.release_job(now_ms).map(|job| Job(Kinds::Release(job))));
        // Somebody waits for a directory, nobody for a sync.
        while jobs.len() < room && self.runs.open_files() < self.settings.open_files_max {
            let Some(run) = self.runs.next_unmade(now_ms) else { break };
            jobs.extend(self.make_job(&run));
        }
        let mut parts = Vec::new();
        while self.duty.settling < self.settings.settle_jobs_max {
            let Some(run) = self.runs.take_due(now_ms) else { break };
            match self.part(&run, now_ms) {
                Some(Next::Settle(part)) => parts.push(part),
                Some(Next::Make) => jobs.extend(self.make_job(&run)),
                None => {}
            }
            if parts.len() >= SETTLE_GROUP {
                jobs.push(self.settle_job(std::mem::take(&mut parts)));
            }
        }
        if !parts.is_empty() {
            jobs.push(self.settle_job(parts));
        }
        jobs
    }

    fn spare_job(&mut self, now_ms: u64) -> Option<SpareJob> {
        let duty = &mut self.duty;
        if self.spare.is_some() || duty.spare_running || now_ms < duty.spare_retry_ms {
            return None;
        }
        duty.spare_running = true;
        Some(SpareJob {
            dir: Arc::clone(&self.dir),
            segno: self.active.extent.header.segno + 1,
            bytes: self.settings.segment_bytes,
            file: Arc::clone(&self.home.file),
        })
    }

    fn release_job(&mut self, now_ms: u64) -> Option<ReleaseJob> {
        if self.duty.release_running || now_ms < self.duty.release_retry_ms {
            return None;
        }
        let pin = self.runs.oldest_pin().filter(|_| !sabotage::is_removed(Guard::ReleaseEarly));
        let pin = pin.unwrap_or(u64::MAX);
        let applied = self.duty.index_applied;
        let free = |segno: u64, last: u64| segno < pin && last <= applied;
        let done = self.closed.iter().take_while(|(segno, e)| free(**segno, e.tip.seq));
        let upto = done.last().map(|(segno, _)| *segno)?;
        self.duty.release_running = true;
        Some(ReleaseJob {
            dir: Arc::clone(&self.dir),
            file: Arc::clone(&self.home.file),
            from: self.duty.oldest,
            upto,
        })
    }

    fn make_job(&mut self, run: &RunId) -> Option<Job> {
        let ticket = self.runs.next_ticket();
        let lines = self.runs.with(run, |copy| {
            copy.place = Place::Making;
            copy.making = ticket;
            copy.waiting.drain(..).collect()
        })?;
        let root = self.home.root.clone();
        Some(Job(Kinds::Make(MakeJob { root, run: run.clone(), ticket, lines })))
    }

    fn settle_job(&mut self, parts: Vec<Part>) -> Job {
        self.duty.settling += 1;
        Job(Kinds::Settle(SettleJob { root: Arc::clone(self.home.root.dir()), parts }))
    }

    /// What a run whose time has come needs. It is looked at again later if it is not yet ripe.
    fn part(&mut self, run: &RunId, now_ms: u64) -> Option<Next> {
        let settings = &self.settings;
        let copy = self.runs.get(run)?;
        let since = copy.since?;
        if copy.running.is_some() || copy.place == Place::Making {
            return None; // looked at when that job is done
        }
        let ripe_ms = (copy.last_ms + settings.settle_idle_ms)
            .min(copy.dirty_ms + settings.settle_age_max_ms);
        let closed = since < self.active.extent.header.segno;
        if !copy.asked && !closed && now_ms < ripe_ms {
            self.runs.look_at(run, ripe_ms);
            return None;
        }
        if copy.place == Place::Unmade {
            return Some(Next::Make);
        }
        if copy.lags() {
            self.runs.look_at(run, now_ms + RETRY_MS);
            return None;
        }
        let ticket = self.runs.next_ticket();
        self.runs.with(run, |copy| Next::Settle(take_part(copy, run, ticket)))
    }

    /// Takes the result of a job.
    pub fn done(&mut self, done: Done, now_ms: u64) {
        if self.state() == WriterState::Failed {
            return;
        }
        match done.0 {
            Results::Spare(spare) => self.spare_done(spare, now_ms),
            Results::Make(made) => self.made(made, now_ms),
            Results::Settle(parts) => {
                self.duty.settling = self.duty.settling.saturating_sub(1);
                for synced in parts {
                    self.settled(synced, now_ms);
                }
            }
            Results::Release(release) => self.released(&release, now_ms),
        }
        self.refresh();
    }

    fn spare_done(&mut self, done: SpareDone, now_ms: u64) {
        self.duty.spare_running = false;
        self.duty.spare_retry_ms = now_ms + RETRY_MS;
        match done {
            SpareDone::Made(spare) => {
                (self.duty.spare_failures, self.duty.spare_retry_ms) = (0, 0);
                (self.trouble.spare, self.trouble.root) = (false, false);
                self.spare = Some(spare);
                self.probe();
            }
            SpareDone::NotRecorded(e) => self.not_recorded(&e),
            SpareDone::NotMade(e) => {
                self.alarm(format!("no further segment of the log could be made: {e}"));
                self.duty.spare_failures += 1;
                let often = self.duty.spare_failures >= ATTEMPTS;
                self.trouble.spare |= often || e.kind.may_pass();
                self.trouble.note(&e);
            }
        }
    }

    /// `root.json` could not be replaced: for want of room another attempt may succeed.
    fn not_recorded(&mut self, error: &disk::Error) {
        self.alarm(format!("root.json was not replaced: {error}"));
        self.trouble.note(error);
        if error.kind.may_pass() { self.trouble.root = true } else { self.fail(error) }
    }

    fn made(&mut self, done: MakeDone, now_ms: u64) {
        let mine = |copy: &RunCopy| copy.place == Place::Making && copy.making == done.ticket;
        if !self.runs.get(&done.run).is_some_and(mine) {
            return; // deleted meanwhile
        }
        let MakeDone { run, lines, made, .. } = done;
        match made {
            Ok((files, names)) => {
                self.figures.made += 1;
                self.trouble.dirs = false;
                self.runs.with(&run, |copy| {
                    (copy.place, copy.files, copy.names, copy.failures) =
                        (Place::Made, files, names, 0);
                });
                self.mend(&run);
                self.runs.look_at(&run, now_ms);
                self.event(Committed::Made { run });
            }
            Err(e) => {
                let failures = self.runs.with(&run, |copy| {
                    for append in lines.into_iter().rev() {
                        copy.waiting.push_front(append);
                    }
                    copy.place = Place::Unmade;
                    copy.made_by_ms = now_ms + RETRY_MS;
                    copy.failures += 1;
                    copy.failures
                });
                self.runs.look_at(&run, now_ms + RETRY_MS);
                self.dir_failed(&e, failures.unwrap_or(0));
            }
        }
    }

    /// A directory could not be made or synced.
    fn dir_failed(&mut self, error: &disk::Error, attempts: u32) {
        self.alarm(format!("a run's directory was not made or synced: {error}"));
        self.trouble.note(error);
        if error.kind.may_pass() {
            self.trouble.dirs = true;
        } else if attempts >= ATTEMPTS {
            self.fail(error);
        }
    }

    fn settled(&mut self, synced: Synced, now_ms: u64) {
        let Synced { part, failure } = synced;
        let mine = |copy: &RunCopy| copy.running.is_some_and(|r| r.ticket == part.ticket);
        if !self.runs.get(&part.run).is_some_and(mine) {
            return; // deleted or repaired meanwhile
        }
        let run = part.run.clone();
        let Some(failure) = failure else { return self.is_settled(&part, now_ms) };
        self.runs.with(&run, |copy| give_back(copy, part));
        match failure {
            Failure::Removed => {
                self.alarm(format!("the directory of {run} was removed"));
                self.runs.replace(&run, None);
                self.event(Committed::Removed { run });
            }
            // A rebuilt journal has what the log holds on top of what stands there. Where that does
            // not fit, the writer fails, and recovery says what is to become of the run.
            Failure::File(first) | Failure::Replaced(first) => {
                self.alarm(format!("the journal of {run} was not synced"));
                self.runs.with(&run, |copy| copy.broken = Some(first));
                self.mend(&run);
                self.runs.look_at(&run, now_ms);
            }
            Failure::Dir(e) => {
                // The job has tried more than once.
                self.dir_failed(&e, ATTEMPTS);
                self.runs.look_at(&run, now_ms + RETRY_MS);
            }
            Failure::StillThere => self.runs.look_at(&run, now_ms + RETRY_MS),
        }
    }

    fn is_settled(&mut self, part: &Part, now_ms: u64) {
        let run = part.run.clone();
        self.trouble.dirs = false;
        self.figures.settles += 1;
        let ended = self.runs.with(&run, |copy| {
            let head = copy.running.take().map_or(copy.head.seq, |running| running.head);
            copy.failures = 0;
            copy.asked &= copy.since.is_some();
            (head, copy.since.is_some())
        });
        let Some((seq, goes_on)) = ended else { return };
        self.event(Committed::Settled { run: run.clone(), seq });
        if part.gone {
            self.runs.replace(&run, None);
        } else if goes_on {
            self.runs.look_at(&run, now_ms);
        } else {
            self.runs.forget_if_done(&run);
        }
    }

    fn released(&mut self, done: &ReleaseDone, now_ms: u64) {
        self.duty.release_running = false;
        if let Err(e) = &done.recorded {
            self.duty.release_retry_ms = now_ms + RETRY_MS;
            return self.not_recorded(e);
        }
        self.trouble.root = false;
        let kept = self.closed.split_off(&(done.upto + 1));
        self.figures.released += self.closed.len() as u64;
        self.closed = kept;
        self.event(Committed::Released { segno: done.upto });
        match &done.removed {
            Ok(()) => self.duty.oldest = done.upto + 1,
            // Their names are tried again with the next release, or by the next opening.
            Err(e) => self.alarm(format!("old segments of the log were not removed: {e}")),
        }
    }

    /// Ends with everything in the journals and no segment left. No job may be running.
    pub fn finish(self) -> Result<(), Error> {
        if let Some(why) = self.failure() {
            return Err(Error::Failed(why.to_owned()));
        }
        if self.unsettled() > 0 {
            return Err(Error::Unsettled(self.unsettled()));
        }
        let (applied, last) = (self.duty.index_applied, self.active.extent.tip.seq);
        if applied < last {
            return Err(Error::Index { applied, last });
        }
        self.home.file.replace(|json| {
            json.state = RootState::AtRest;
            json.oldest_segment = json.max_segment + 1;
            json.last_seq = last;
        })?;
        let active = self.active.extent.header.segno;
        // A spare that was not recorded has the next number.
        job::remove(&*self.dir, self.duty.oldest, active + 1)?;
        Ok(())
    }
}

/// What a run needs next.
enum Next {
    Make,
    Settle(Part),
}

/// Gives a job everything of the run that is not synced.
fn take_part(copy: &mut RunCopy, run: &RunId, ticket: u64) -> Part {
    let since = copy.since.take();
    copy.running = Some(Running { ticket, since, head: copy.head.seq });
    let mut files = Vec::new();
    for open in &mut copy.files {
        if open.dirty || open.created {
            files.push(open.clone());
            (open.dirty, open.created) = (false, false);
        }
    }
    let names = std::mem::take(&mut copy.names);
    Part { run: run.clone(), ticket, files, names, gone: copy.place == Place::Gone }
}

/// Takes back what a job could not sync.
fn give_back(copy: &mut RunCopy, part: Part) {
    Runs::uncover(copy);
    for file in part.files {
        match copy.files.iter_mut().find(|open| open.first == file.first) {
            Some(open) => (open.dirty, open.created) = (true, open.created || file.created),
            None => copy.files.push(file),
        }
    }
    let newer = std::mem::replace(&mut copy.names, part.names);
    copy.names.dirs.extend(newer.dirs);
    copy.names.made = copy.names.made.take().or(newer.made);
}
