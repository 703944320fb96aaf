//! All runs that the log holds something of, and who is next: to be made, to be settled, to have
//! its files closed.
//!
//! May not touch files. Invariant: a segment is pinned by exactly the runs that have an entry in
//! it, or before it, that no finished settle covers.

use super::copy::{Place, RunCopy, Running};
use crate::ground::id::RunId;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The runs.
#[derive(Debug, Default)]
pub(super) struct Runs {
    copies: HashMap<RunId, RunCopy>,
    /// How many runs begin to need the log at each segment.
    pins: BTreeMap<u64, usize>,
    /// When to look whether a pinned run should be settled.
    due: BTreeSet<(u64, RunId)>,
    /// Settled runs whose files are open, by when they were last used.
    idle: BTreeSet<(u64, RunId)>,
    /// Runs without a directory, by when they came; those somebody waits for come at 0.
    unmade: BTreeSet<(u64, RunId)>,
    /// Runs whose lines wait although the directory is there.
    lagging: BTreeSet<RunId>,
    open_files: usize,
    tickets: u64,
}

impl Runs {
    pub(super) fn get(&self, run: &RunId) -> Option<&RunCopy> {
        self.copies.get(run)
    }

    pub(super) fn contains(&self, run: &RunId) -> bool {
        self.copies.contains_key(run)
    }

    pub(super) const fn open_files(&self) -> usize {
        self.open_files
    }

    pub(super) fn lagging(&self) -> impl Iterator<Item = &RunId> {
        self.lagging.iter()
    }

    pub(super) fn has_lagging(&self) -> bool {
        !self.lagging.is_empty()
    }

    /// The oldest segment that a run needs.
    pub(super) fn oldest_pin(&self) -> Option<u64> {
        self.pins.keys().next().copied()
    }

    /// Runs that are not settled.
    pub(super) fn pinned(&self) -> usize {
        self.pins.values().sum()
    }

    /// Runs without a directory.
    pub(super) fn unmade(&self) -> usize {
        self.unmade.len()
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(super) fn next_ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn unpin(&mut self, segno: Option<u64>) {
        let Some(segno) = segno else { return };
        if let Some(count) = self.pins.get_mut(&segno) {
            *count -= 1;
            if *count == 0 {
                self.pins.remove(&segno);
            }
        }
    }

    /// Puts a run in, or takes it out and forgets everything about it.
    pub(super) fn replace(&mut self, run: &RunId, copy: Option<RunCopy>) {
        let before = self.copies.remove(run).map_or_else(Books::default, |old| Books::of(&old));
        let after = copy.as_ref().map_or_else(Books::default, Books::of);
        self.rebook(run, &before, &after);
        if let Some(copy) = copy {
            self.copies.insert(run.clone(), copy);
        }
    }

    /// Changes a run and keeps all books about it.
    pub(super) fn with<T>(
        &mut self,
        run: &RunId,
        change: impl FnOnce(&mut RunCopy) -> T,
    ) -> Option<T> {
        let copy = self.copies.get_mut(run)?;
        let before = Books::of(copy);
        let result = change(copy);
        let after = Books::of(copy);
        if before != after {
            self.rebook(run, &before, &after);
        }
        Some(result)
    }

    fn rebook(&mut self, run: &RunId, before: &Books, after: &Books) {
        self.open_files = self.open_files + after.files - before.files;
        if before.pin != after.pin {
            if let Some(segno) = after.pin {
                *self.pins.entry(segno).or_default() += 1;
            }
            self.unpin(before.pin);
        }
        for (set, old, new) in [
            (&mut self.due, before.due, after.due),
            (&mut self.idle, before.idle, after.idle),
            (&mut self.unmade, before.unmade, after.unmade),
        ] {
            if old != new {
                if let Some(at) = old {
                    set.remove(&(at, run.clone()));
                }
                if let Some(at) = new {
                    set.insert((at, run.clone()));
                }
            }
        }
        match (before.lags, after.lags) {
            (false, true) => _ = self.lagging.insert(run.clone()),
            (true, false) => _ = self.lagging.remove(run),
            _ => {}
        }
    }

    /// Notes an entry in `segno`. `wait_ms` is how long the run may stay quiet before it is
    /// settled.
    pub(super) fn note(&mut self, run: &RunId, segno: u64, now_ms: u64, wait_ms: u64) {
        self.with(run, |copy| {
            copy.last_ms = now_ms;
            if copy.since.is_none() {
                (copy.since, copy.dirty_ms) = (Some(segno), now_ms);
                copy.due_ms = Some(copy.due_ms.unwrap_or(u64::MAX).min(now_ms + wait_ms));
            }
            if copy.place == Place::Unmade && copy.waiting.is_empty() {
                // The first records; 0 is for runs that somebody waits for.
                copy.made_by_ms = now_ms.max(1);
            }
        });
    }

    /// The next run whose time to be looked at has come. It is looked at again only when that is
    /// asked for.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<RunId> {
        let (at, run) = self.due.first().cloned()?;
        if at > now_ms {
            return None;
        }
        self.with(&run, |copy| copy.due_ms = None);
        Some(run)
    }

    /// Looks at a run at `at_ms`, or before if that was asked for.
    pub(super) fn look_at(&mut self, run: &RunId, at_ms: u64) {
        self.with(run, |copy| copy.due_ms = Some(copy.due_ms.unwrap_or(u64::MAX).min(at_ms)));
    }

    /// Settles soon every run that pins a segment before `active`.
    pub(super) fn hurry_closed(&mut self, active: u64) {
        if self.pins.range(..active).next().is_some() {
            let waiting: Vec<RunId> = self.due.iter().map(|(_, run)| run.clone()).collect();
            for run in waiting {
                if self.get(&run).and_then(|copy| copy.since).is_some_and(|since| since < active) {
                    self.look_at(&run, 0);
                }
            }
        }
    }

    /// Settles soon as many runs as there are files open beyond `files_max`.
    pub(super) fn hurry_crowded(&mut self, files_max: usize) {
        let excess = self.open_files.saturating_sub(files_max);
        let open = |run: &&RunId| self.get(run).is_some_and(|copy| !copy.files.is_empty());
        let due = self.due.iter().map(|(_, run)| run);
        let first: Vec<RunId> = due.filter(open).take(excess).cloned().collect();
        for run in first {
            self.ask(&run);
        }
    }

    /// Settles a run as soon as possible.
    pub(super) fn ask(&mut self, run: &RunId) {
        self.with(run, |copy| {
            if copy.is_pinned() {
                copy.asked = true;
                copy.due_ms = Some(0);
                copy.made_by_ms = 0;
            }
        });
    }

    /// Settles everything as soon as possible.
    pub(super) fn ask_all(&mut self) {
        let all: Vec<RunId> = self.copies.keys().cloned().collect();
        for run in all {
            self.ask(&run);
        }
    }

    /// The next run whose directory should be made.
    pub(super) fn next_unmade(&self, now_ms: u64) -> Option<RunId> {
        let (at, run) = self.unmade.first()?;
        (*at <= now_ms).then(|| run.clone())
    }

    /// Closes files of settled runs, least recently used first, until `files_max` are open.
    pub(super) fn close_idle(&mut self, files_max: usize) {
        while self.open_files > files_max {
            let Some((_, run)) = self.idle.first().cloned() else { return };
            self.replace(&run, None);
        }
    }

    /// Forgets a settled run that has no open files: nothing is known of it that its journal does
    /// not say.
    pub(super) fn forget_if_done(&mut self, run: &RunId) {
        let done = |copy: &RunCopy| !copy.is_pinned() && copy.files.is_empty() && !copy.lags();
        if self.copies.get(run).is_some_and(done) {
            self.replace(run, None);
        }
    }

    /// Takes back what a job was to cover.
    pub(super) fn uncover(copy: &mut RunCopy) -> Option<Running> {
        let running = copy.running.take()?;
        copy.since = match (running.since, copy.since) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Some(running)
    }
}

fn oldest(copy: &RunCopy) -> Option<u64> {
    match (copy.since, copy.running.and_then(|running| running.since)) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// What the books say about one run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Books {
    files: usize,
    pin: Option<u64>,
    due: Option<u64>,
    idle: Option<u64>,
    unmade: Option<u64>,
    lags: bool,
}

impl Books {
    fn of(copy: &RunCopy) -> Self {
        let settled = !copy.is_pinned() && !copy.lags() && copy.place == Place::Made;
        Self {
            files: copy.files.len(),
            pin: oldest(copy),
            due: copy.due_ms,
            idle: (settled && !copy.files.is_empty()).then_some(copy.last_ms),
            unmade: (copy.place == Place::Unmade && !copy.waiting.is_empty())
                .then_some(copy.made_by_ms),
            lags: copy.lags(),
        }
    }
}
