//! Between runs and the commit log: lines go out, what became durable comes back.
//!
//! May not write anything. Invariant: lines of one run go out in their order, and an answer goes
//! out after the last record that it rests on came back.

use crate::ground::clock::monotonic_micros;
use crate::ground::id::{RunId, Seq};
use crate::ports::disk::Kind;
use crate::services::commit::Rejected;
use crate::services::runs::Error;
use crate::services::runs::trouble::{Trouble, too_many_open};
use crate::shells::commit_log::{Committed, Unit, Why, WriterState};
use crate::shells::journal::shared::Lines;
use crate::shells::store::{Batch, Change};

use super::Manager;
use super::asks::no_room;
use super::handle::Flow;
use super::leases::LeaseNews;
use super::mend::Mended;
use super::seat::{Answer, Coming, Seat};

/// What became durable, before anybody was told.
#[derive(Default)]
struct News {
    changes: Vec<Change>,
    /// Runs that were here.
    moved: Vec<RunId>,
    /// Answers to whoever created a run, or mended one.
    answers: Vec<Answer>,
    /// Runs that were mended.
    mended: Vec<RunId>,
}

impl Manager {
    /// Hands what a run has made to the log, with what the index is to know once it is durable.
    pub(super) fn hand_over(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        let lines = here.run.take_lines();
        let rests = here.rest.is_some();
        if lines.is_empty() && (here.row_rests || !rests) {
            return;
        }
        here.gathers = None;
        here.row_rests = rests;
        let seq = here.run.written().seq;
        let change = here.change(rests);
        here.changes.push_back((seq, change));
        self.outbox.extend(lines.into_iter().map(|lines| unit(id, lines, Flow::Outcome)));
        self.pump();
        self.settle_changes(id);
    }

    /// A host works for a run: its lines wait a little for what that adds.
    pub(super) fn gather(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        if here.gathers.is_none() && here.run.has_lines() {
            let until = monotonic_micros().saturating_add(here.gathers_micros);
            here.gathers = Some(until);
            self.gathering.insert((until, id.clone()));
        }
    }

    /// Hands over what waited for its turn to add something, when the turn takes longer.
    pub(super) fn hand_over_gathered(&mut self, now_micros: u64) {
        while let Some((until, id)) = self.gathering.pop_first() {
            let waits = match self.seats.get(&id) {
                Some(Seat::Here(here)) => here.gathers == Some(until),
                _ => false,
            };
            if waits && now_micros < until {
                self.gathering.insert((until, id));
                return;
            }
            if waits {
                self.hand_over(&id);
            }
        }
    }

    /// Gives the log what it takes.
    pub(super) fn pump(&mut self) {
        while let Some(unit) = self.outbox.pop_front() {
            let Err(back) = self.parts.committer.submit(unit) else { continue };
            let (why, unit) = *back;
            match why {
                Rejected::QueueFull | Rejected::UnsettledMax => {
                    // It takes more when the batch that is under way is done.
                    self.outbox.push_front(unit);
                    return;
                }
                Rejected::DiskFull => self.rejected(unit.entry.run(), Why::NoRoom),
                Rejected::Failed | Rejected::Stopping => {
                    self.rejected(unit.entry.run(), Why::Failed);
                }
            }
        }
    }

    /// What became of what was handed over.
    pub(super) fn committed(&mut self, events: Vec<Committed>) {
        let mut news = News::default();
        for event in events {
            match event {
                Committed::Durable { run, seq, frame } => {
                    self.frame = self.frame.max(frame);
                    self.durable(run, seq, &mut news);
                    continue;
                }
                Committed::Mark { frame } => {
                    self.frame = self.frame.max(frame);
                    continue;
                }
                _ => {}
            }
            // Whoever waits for what is durable hears that before anything else happens; more of
            // the same frame may follow.
            self.pass_on(std::mem::take(&mut news), 0);
            match event {
                Committed::Made { run } => self.made(&run),
                Committed::State(WriterState::Failed) => self.fail(),
                Committed::State(WriterState::Healthy) => {
                    self.leave_all_that_ended();
                    self.feed_starved();
                }
                Committed::State(WriterState::Full) => self.refuse_resters(),
                Committed::NotWritten { run, why, .. } => self.rejected(&run, why),
                Committed::Removed { run } => {
                    tracing::error!(%run, "its directory was removed while the daemon has it");
                }
                // What is unknown is said of everything by the state that follows.
                _ => {}
            }
        }
        self.pass_on(news, self.frame);
        self.pump();
    }

    fn durable(&mut self, id: RunId, seq: Seq, news: &mut News) {
        self.was_logged(&id, || Ok(()));
        self.publish(&id, seq);
        match self.seats.get_mut(&id) {
            Some(Seat::Here(here)) => {
                let span = here.became_durable(seq);
                let now_ms = self.runs.clock.passed_millis();
                let mut leases = Vec::new();
                for record in &here.run.records()[span] {
                    self.runs.telemetry.committed(here.run.state(), record);
                    self.feed.tell(&id, record.seq, record.event.name());
                    leases.extend(LeaseNews::of(here.run.state(), record, now_ms));
                    self.gate.committed(&id, here.run.state(), record);
                }
                news.changes.extend(here.durable_changes());
                news.moved.push(id);
                self.take_lease_news(leases);
            }
            Some(Seat::Coming(coming)) => {
                if let Some(fresh) = &mut coming.fresh {
                    fresh.durable = true;
                    self.feed.tell(&id, fresh.record.seq, fresh.record.event.name());
                    news.changes.extend(fresh.change.take());
                    news.answers.append(&mut fresh.answers);
                }
            }
            Some(Seat::Leaving(leaving)) => {
                if let Some((answer, change)) = leaving.mended.take().map(Mended::done) {
                    news.changes.push(change);
                    news.answers.push(answer);
                    news.mended.push(id);
                }
            }
            None => {}
        }
    }

    /// Tells the index first: whoever is answered finds in lists what they did.
    fn pass_on(&mut self, news: News, frame: u64) {
        self.hear_ready(&news.changes);
        if frame > 0 || !news.changes.is_empty() {
            self.indexer.apply(Batch { frame, changes: news.changes });
        }
        for answer in news.answers {
            answer(Ok(()));
        }
        for run in news.moved {
            self.answer(&run);
        }
        for run in news.mended {
            self.left(&run);
        }
    }

    /// Sends the index what rests on nothing that is under way.
    fn settle_changes(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        let changes: Vec<Change> = here.durable_changes().collect();
        if !changes.is_empty() {
            self.hear_ready(&changes);
            self.indexer.apply(Batch { frame: self.frame, changes });
        }
    }

    /// Answers whoever waits for records that are durable.
    pub(super) fn answer(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        while here.answers.front().is_some_and(|(seq, _)| *seq <= here.durable) {
            if let Some((_, answer)) = here.answers.pop_front() {
                answer(Ok(()));
            }
        }
        self.leave_when_durable(id);
    }

    /// There is no room: nothing goes on until there is, and nobody is kept waiting for that.
    fn refuse_resters(&mut self) {
        let committer = &self.parts.committer;
        for seat in self.seats.values_mut() {
            if let Seat::Here(here) = seat {
                for rester in std::mem::take(&mut here.resters) {
                    rester(Err(no_room(committer)));
                }
            }
        }
    }

    /// The log did not take what a run has made: what is in memory never happened. The run is
    /// opened anew when there is room.
    fn rejected(&mut self, id: &RunId, why: Why) {
        tracing::error!(run = %id, "the log refused records: {why}");
        let full = no_room(&self.parts.committer);
        let refusal = || match why {
            Why::NoRoom => full.clone(),
            Why::Unreadable(Kind::TooManyOpen) => too_many_open("the journal of the run"),
            _ => not_written(),
        };
        self.was_logged(id, || Err(refusal()));
        self.drop_instance(id);
        self.outbox.retain(|unit| unit.entry.run() != id);
        match self.seats.remove(id) {
            Some(Seat::Here(here)) => {
                self.idle.remove(&here.used);
                self.warm.remove(&here.used);
                self.starve(id);
                self.loaded_bytes = self.loaded_bytes.saturating_sub(here.bytes);
                here.disappoint(refusal, refusal);
            }
            Some(Seat::Coming(coming @ Coming { fresh: Some(_), .. })) => {
                coming.disappoint(refusal, refusal);
            }
            Some(Seat::Leaving(mut leaving)) if leaving.mended.is_some() => {
                if let Some(mended) = leaving.mended.take() {
                    mended.refuse(refusal());
                }
                self.seats.insert(id.clone(), Seat::Leaving(leaving));
                self.left(id);
            }
            Some(seat) => {
                self.seats.insert(id.clone(), seat);
            }
            None => {}
        }
        self.report_parents();
    }

    /// The log failed: nothing is written any more. Whoever waits learns that nobody knows.
    fn fail(&mut self) {
        self.failed = true;
        (self.outside, self.leaving) = (0, 0);
        // Their owners learn that nobody knows.
        self.logging.clear();
        for (_, seat) in self.seats.drain() {
            match seat {
                Seat::Here(here) => here.disappoint(unknown, not_written),
                Seat::Coming(coming) => coming.disappoint(unknown, not_written),
                Seat::Leaving(leaving) => {
                    if let Some(mend) = leaving.mend {
                        mend.refuse(not_written());
                    }
                    if let Some(mended) = leaving.mended {
                        mended.refuse(unknown());
                    }
                    for ask in leaving.asks {
                        ask.refuse(not_written());
                    }
                }
            }
        }
    }
}

/// Lines as the log takes them.
pub(super) fn unit(run: &RunId, lines: Lines, flow: Flow) -> Unit {
    Unit::append(lines.into_append(run), flow == Flow::Inflow)
}

pub(super) fn unknown() -> Error {
    let what = "storage failed while this was written: it may stand or not";
    let trouble = Trouble::new("unknown_outcome", what);
    Error::Storage { trouble: trouble.next("ask again when the daemon runs"), unknown: true }
}

fn not_written() -> Error {
    let trouble = Trouble::new("not_written", "storage failed; nothing was written");
    Error::Storage { trouble: trouble.next("ask again when the daemon runs"), unknown: false }
}
