//! The keeper: looks at the clock, decides what is due, and has it done.
//!
//! May not wait for time to pass. Invariant: a decision is durable before its run is made, and the
//! id of the run follows from the time: whoever dies in between has it made at the next start.

use std::collections::BTreeMap;

use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::ground::limits::{
    SCHEDULE_CATCH_UP_MAX, SCHEDULE_RETRY_MS, SCHEDULE_RUNS_EVERY_MS, SCHEDULES_MAX,
};
use crate::machines::schedule::state::Fire;
use crate::machines::schedule::{Name, Overlap};
use crate::ports::disk::optional;
use crate::services::runs::create::{NewRun, Source};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::pin::EntrySpec;
use crate::shells::run_dir::root::META;

use super::book::{Book, Document, Kept};
use super::hands::{Hands, Standing};
use super::seen::{Listed, Problem, Seen};
use super::{Glance, exists, not_found};

/// All schedules of a root, in memory.
pub struct Keeper {
    runs: Runs,
    book: Book,
    hands: Box<dyn Hands>,
    entries: BTreeMap<Name, Entry>,
    /// Schedules whose files cannot be read, and why.
    aside: BTreeMap<Name, Error>,
}

/// A schedule at work.
struct Entry {
    kept: Kept,
    /// The next time that is not decided.
    next: Option<Timestamp>,
    /// Its state is ahead of its file.
    is_unsaved: bool,
    /// When something that failed is tried again, and why it failed.
    retry: Option<(Timestamp, Error)>,
    /// When its runs were last looked at.
    looked_at: Timestamp,
}

impl Entry {
    fn new(kept: Kept) -> Self {
        let next = kept.state.next(&kept.described.plan);
        Self { kept, next, is_unsaved: false, retry: None, looked_at: Timestamp::default() }
    }

    fn name(&self) -> &Name {
        &self.kept.described.name
    }

    /// Whether there is anything to do at a time.
    fn is_due(&self, now: Timestamp) -> bool {
        let state = &self.kept.state;
        if self.retry.as_ref().is_some_and(|(at, _)| *at > now && at.earlier_by(RETRY_MS) <= now) {
            return false;
        }
        let is_over = self.kept.described.plan.timetable.end.is_some_and(|end| end < now);
        self.is_unsaved
            || !state.wanted.is_empty()
            || self.next.is_some_and(|next| next <= now)
            || (!state.open.is_empty() || !state.backfill.is_empty()) && self.is_time_to_look(now)
            || is_over && state.ended_at.is_none()
    }

    /// Whether its runs have to be looked at again. A clock that was set back looks at once.
    fn is_time_to_look(&self, now: Timestamp) -> bool {
        let passed = now.micros() - self.looked_at.micros();
        !(0..SCHEDULE_RUNS_EVERY_MS * 1000).contains(&passed)
    }

    fn save(&mut self) -> Result<()> {
        self.is_unsaved = true;
        self.kept.save()?;
        self.is_unsaved = false;
        Ok(())
    }
}

const RETRY_MS: u64 = SCHEDULE_RETRY_MS.unsigned_abs();

impl Keeper {
    /// Reads the schedules of a root. One that cannot be read is set aside.
    pub fn open(runs: &Runs, hands: Box<dyn Hands>) -> Result<Self> {
        let meta = runs.disk.open_dir(&runs.root.join(META))?;
        let book = Book::open(&meta)?;
        let (mut entries, mut aside) = (BTreeMap::new(), BTreeMap::new());
        for name in book.names()? {
            match book.load(&name) {
                Ok(kept) => drop(entries.insert(name, Entry::new(kept))),
                Err(e) => {
                    tracing::error!(code = "schedule_damaged", "schedule {name} does nothing: {e}");
                    aside.insert(name, e);
                }
            }
        }
        Ok(Self { runs: runs.clone(), book, hands, entries, aside })
    }

    /// Does everything that is due.
    pub fn pass(&mut self) -> Glance {
        let now = self.runs.clock.now();
        for entry in self.entries.values_mut().filter(|entry| entry.is_due(now)) {
            entry.retry = attend(entry, &mut *self.hands, now).err().map(|e| {
                let name = entry.name();
                tracing::warn!(code = e.trouble().code, "schedule {name} tries again: {e}");
                (now.later_by(RETRY_MS), e)
            });
        }
        let awake = self.entries.values().filter(|entry| !entry.kept.state.is_suspended);
        let next = awake.filter_map(|entry| entry.next).min();
        Glance { count: self.entries.len() + self.aside.len(), next }
    }

    /// Applies a document. Gives the schedule and whether it was there, with this very text.
    pub fn apply(&mut self, document: &Document, by: &str) -> Result<(Seen, bool)> {
        let name = &document.described.name;
        if let Some(entry) = self.entries.get(name) {
            if entry.kept.document()? == document.text.as_bytes() {
                return Ok((self.show(name)?, true));
            }
            return Err(exists(name));
        }
        if self.book.has(name)? {
            return Err(self.absent(name));
        }
        if self.entries.len() + self.aside.len() >= SCHEDULES_MAX {
            let what = format!("there are {SCHEDULES_MAX} schedules already");
            let next = "dormouse schedule delete NAME";
            return Err(Error::Refused(Trouble::new("schedules_full", what).next(next)));
        }
        let uid = self.runs.fresh_id().to_string();
        let kept = self.book.add(document, by, uid, self.runs.clock.now())?;
        self.entries.insert(name.clone(), Entry::new(kept));
        Ok((self.show(name)?, false))
    }

    /// Removes a schedule. Its runs stay.
    pub fn delete(&mut self, name: &Name) -> Result<()> {
        if !self.book.has(name)? {
            return Err(not_found(name));
        }
        self.book.remove(name)?;
        self.entries.remove(name);
        self.aside.remove(name);
        Ok(())
    }

    /// Lets times pass over a schedule, or no more.
    pub fn suspend(&mut self, name: &Name, is_suspended: bool) -> Result<Seen> {
        // What came before is decided as it was.
        self.pass();
        self.change(name, |kept, _| {
            kept.state.is_suspended = is_suspended;
            Ok(())
        })?;
        self.show(name)
    }

    /// Makes a run besides the schedule. Gives its id.
    pub fn trigger(&mut self, name: &Name) -> Result<RunId> {
        self.look_again(name);
        let run = self.change(name, |kept, now| {
            let Kept { state, described, .. } = kept;
            state.trigger(&described.plan, &described.name, now).map_err(|e| {
                let what = format!("{e}, and {name} forbids another");
                let next = format!("dormouse schedule show {name}");
                Error::Conflict(Trouble::new("schedule_busy", what).next(next))
            })
        })?;
        self.pass();
        let retry = self.entries.get(name).and_then(|entry| entry.retry.as_ref());
        match retry {
            Some((_, e)) => Err(e.clone()),
            None => Ok(run),
        }
    }

    /// Has runs made for times that have passed and have none. Gives these times.
    pub fn backfill(
        &mut self,
        name: &Name,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<Timestamp>> {
        self.look_again(name);
        let entry = self.entries.get(name).ok_or_else(|| self.absent(name))?;
        let (plan, state) = (&entry.kept.described.plan, &entry.kept.state);
        let (mut times, mut looked_at) = (Vec::new(), 0);
        let mut last = Timestamp::from_micros(from.micros() - 1);
        let until = until.min(state.decided_until);
        while let Some(time) = plan.timetable.next_after(last).filter(|time| *time <= until) {
            last = time;
            looked_at += 1;
            if looked_at + state.backfill.len() > SCHEDULE_CATCH_UP_MAX {
                let what = format!("there are more than {SCHEDULE_CATCH_UP_MAX} times to look at");
                let next = "name a shorter span, or wait for those that were asked for";
                return Err(Error::Refused(Trouble::new("backfill_too_long", what).next(next)));
            }
            let Some(run) = name.run_at(time) else { continue };
            let is_wanted = state.wanted.iter().any(|fire| fire.run_id == run);
            if !is_wanted && self.hands.standing(&run)? == Standing::Gone {
                times.push(time);
            }
        }
        self.change(name, |kept, _| {
            kept.state.ask_for(times.iter().copied());
            Ok(())
        })?;
        self.look_again(name);
        self.pass();
        Ok(times)
    }

    /// One schedule.
    pub fn show(&self, name: &Name) -> Result<Seen> {
        let entry = self.entries.get(name).ok_or_else(|| self.absent(name))?;
        let trouble = entry.retry.as_ref().map(|(at, e)| Problem::of(e, Some(*at)));
        Ok(Seen::of(&entry.kept, self.runs.clock.now(), trouble))
    }

    /// All schedules, and those that cannot be read.
    #[must_use]
    pub fn list(&self) -> Listed {
        let damaged = self.aside.iter().map(|(name, e)| (name.clone(), Problem::of(e, None)));
        Listed {
            schedules: self.entries.keys().filter_map(|name| self.show(name).ok()).collect(),
            damaged: damaged.collect(),
        }
    }

    /// The error of a schedule that is not at work.
    fn absent(&self, name: &Name) -> Error {
        self.aside.get(name).cloned().unwrap_or_else(|| not_found(name))
    }

    /// Has the runs of a schedule looked at, now.
    fn look_again(&mut self, name: &Name) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.looked_at = Timestamp::default();
        }
        self.pass();
    }

    /// Changes the state of a schedule durably, or not at all.
    fn change<T>(
        &mut self,
        name: &Name,
        act: impl FnOnce(&mut Kept, Timestamp) -> Result<T>,
    ) -> Result<T> {
        let now = self.runs.clock.now();
        let Some(entry) = self.entries.get_mut(name) else { return Err(self.absent(name)) };
        let before = entry.kept.state.clone();
        let done = act(&mut entry.kept, now).and_then(|done| entry.save().map(|()| done));
        if done.is_err() {
            entry.kept.state = before;
        }
        done
    }
}

/// Does what is due for one schedule.
fn attend(entry: &mut Entry, hands: &mut dyn Hands, now: Timestamp) -> Result<()> {
    look_at_runs(entry, hands, now)?;
    loop {
        let Kept { state, described, .. } = &mut entry.kept;
        let advanced = state.advance(&described.plan, &described.name, now);
        entry.is_unsaved |= advanced.has_changed;
        entry.next = entry.kept.state.next(&entry.kept.described.plan);
        // Nobody makes a run that is not decided on durably.
        if entry.is_unsaved {
            entry.save()?;
        }
        if !advanced.goes_on {
            break;
        }
    }
    let made = make(entry, hands);
    if entry.is_unsaved {
        entry.save()?;
    }
    made
}

/// Asks how the runs stand that had not ended.
fn look_at_runs(entry: &mut Entry, hands: &mut dyn Hands, now: Timestamp) -> Result<()> {
    entry.looked_at = now;
    for run in entry.kept.state.open.clone() {
        let state = &mut entry.kept.state;
        match hands.standing(&run)? {
            Standing::Open => continue,
            Standing::Gone => state.removed(&run),
            ended => state.ended(&run, ended == Standing::Succeeded),
        }
        entry.is_unsaved = true;
    }
    let Kept { state, described, .. } = &mut entry.kept;
    for run in state.surplus(&described.plan) {
        state.removed(&run);
    }
    Ok(())
}

/// Makes the runs that were decided on.
fn make(entry: &mut Entry, hands: &mut dyn Hands) -> Result<()> {
    let by = format!("schedule:{}", entry.name());
    for fire in entry.kept.state.wanted.clone() {
        if entry.kept.described.plan.overlap == Overlap::Replace {
            for run in entry.kept.state.open.clone() {
                hands.cancel(&run, &by)?;
            }
        }
        match hands.create(new_run(&entry.kept, &fire), &by) {
            Ok(()) => entry.kept.state.exists(&fire.run_id),
            Err(e) if may_pass(&e) => return Err(e),
            Err(e) => {
                let (name, run) = (entry.name(), &fire.run_id);
                tracing::error!(code = "schedule_refused", "{name} cannot make run {run}: {e}");
                entry.kept.state.refuse(&fire.run_id, &e.to_string());
            }
        }
        entry.is_unsaved = true;
    }
    Ok(())
}

/// Whether the same run may be made later.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Storage { .. } => true,
        other => matches!(other.trouble().code, "overloaded" | "disk_full" | "too_many_open"),
    }
}

/// The run of a time.
fn new_run(kept: &Kept, fire: &Fire) -> NewRun {
    let name = &kept.described.name;
    let root = kept.dir.path().to_owned();
    NewRun {
        run_id: Some(fire.run_id.clone()),
        source: Some(Source {
            entry: EntrySpec { path: kept.workflow(), export_name: None },
            root: Some(root),
            library_root: None,
            extra: Vec::new(),
            process_id: Some(name.name.clone()),
        }),
        idempotency_key: Some(format!("schedule:{}:{}", kept.card.uid, fire.run_id)),
        tags: vec![format!("schedule:{name}")],
        schedule: Some(name.origin(fire.scheduled_at)),
        ..NewRun::default()
    }
}

/// Schedules as their files say, for whoever has no daemon to ask.
pub fn look(runs: &Runs) -> Result<Listed> {
    let mut listed = Listed::default();
    let meta = optional(runs.disk.open_dir(&runs.root.join(META)))?;
    let Some(book) = meta.map(|meta| Book::look(&*meta)).transpose()?.flatten() else {
        return Ok(listed);
    };
    for name in book.names()? {
        match book.load(&name) {
            Ok(kept) => listed.schedules.push(Seen::of(&kept, runs.clock.now(), None)),
            Err(e) => listed.damaged.push((name, Problem::of(&e, None))),
        }
    }
    Ok(listed)
}
