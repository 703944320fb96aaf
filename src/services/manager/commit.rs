//! Between runs and the commit log: lines go out, what became durable comes back.
//!
//! May not write anything. Invariant: lines of one run go out in their order, and an answer goes out
//! after the last record that it rests on came back.

use crate::codecs::format::log_entry::Append;
use crate::ground::id::{RunId, Seq};
use crate::services::commit::Rejected;
use crate::services::runs::Error;
use crate::services::runs::trouble::Trouble;
use crate::shells::commit_log::{Committed, Unit, Why, WriterState};
use crate::shells::journal::shared::Lines;
use crate::shells::store::Batch;

use super::asks::disk_full;
use super::handle::Flow;
use super::seat::{Coming, Seat};
use super::{GATHER_MICROS, Manager};

impl Manager {
    /// Hands what a run has made to the log, with what the index is to know once it is durable.
    pub(super) fn hand_over(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return };
        let lines = here.run.take_lines();
        let rests = here.rest.is_some();
        if lines.is_empty() && (here.row_rests || !rests) {
            return;
        }
        here.row_rests = rests;
        let seq = here.run.written().seq;
        let change = here.change(rests);
        here.changes.push_back((seq, change));
        self.outbox.extend(lines.into_iter().map(|lines| unit(id, lines, Flow::Outcome)));
        self.pump();
        self.settle_changes(id);
    }

    /// Hands over what waited for its turn to add something, when the turn takes longer.
    pub(super) fn hand_over_gathered(&mut self, now_micros: u64) {
        while self
            .gathering
            .front()
            .is_some_and(|(since, _)| now_micros.saturating_sub(*since) >= GATHER_MICROS)
            && let Some((_, id)) = self.gathering.pop_front()
        {
            self.hand_over(&id);
        }
    }

    /// Gives the log what it takes.
    pub(super) fn pump(&mut self) {
        while let Some(unit) = self.outbox.pop_front() {
            match self.parts.committer.submit(unit) {
                Ok(()) => {}
                Err((Rejected::QueueFull | Rejected::UnsettledMax, unit)) => {
                    // It takes more when the batch that is under way is done.
                    self.outbox.push_front(unit);
                    return;
                }
                Err((Rejected::DiskFull, unit)) => self.rejected(unit.entry.run(), Why::NoRoom),
                Err((Rejected::Failed | Rejected::Stopping, unit)) => {
                    self.rejected(unit.entry.run(), Why::Failed);
                }
            }
        }
    }

    /// What became of what was handed over.
    pub(super) fn committed(&mut self, events: Vec<Committed>) {
        let mut batch = Batch::default();
        for event in events {
            match event {
                Committed::Durable { run, seq, frame } => {
                    self.frame = self.frame.max(frame);
                    self.durable(&run, seq, &mut batch);
                }
                Committed::Made { run } => self.made(&run),
                Committed::Mark { frame } => self.frame = self.frame.max(frame),
                Committed::State(WriterState::Failed) => self.fail(),
                Committed::State(WriterState::Full) => self.refuse_resters(),
                Committed::NotWritten { run, why, .. } => self.rejected(&run, why),
                // The state that follows says the same of everything.
                Committed::Unknown { .. } => {}
                Committed::State(_) | Committed::Settled { .. } | Committed::Released { .. } => {}
            }
        }
        batch.frame = self.frame;
        self.indexer.apply(batch);
        self.pump();
    }

    fn durable(&mut self, id: &RunId, seq: Seq, batch: &mut Batch) {
        self.publish(id, seq);
        match self.seats.get_mut(id) {
            Some(Seat::Here(here)) => {
                here.durable = here.durable.max(seq);
                while here.changes.front().is_some_and(|(at, _)| *at <= here.durable) {
                    batch.changes.extend(here.changes.pop_front().map(|(_, change)| change));
                }
                self.answer(id);
            }
            Some(Seat::Coming(coming)) => {
                if let Some(fresh) = &mut coming.fresh {
                    fresh.durable = true;
                    batch.changes.extend(fresh.change.take());
                    for answer in std::mem::take(&mut fresh.answers) {
                        answer(Ok(()));
                    }
                }
            }
            _ => {}
        }
    }

    /// Sends the index what rests on nothing that is under way.
    fn settle_changes(&mut self, id: &RunId) {
        let mut batch = Batch { frame: self.frame, ..Batch::default() };
        if let Some(Seat::Here(here)) = self.seats.get_mut(id) {
            while here.changes.front().is_some_and(|(at, _)| *at <= here.durable) {
                batch.changes.extend(here.changes.pop_front().map(|(_, change)| change));
            }
        }
        if !batch.changes.is_empty() {
            self.indexer.apply(batch);
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
        for seat in self.seats.values_mut() {
            if let Seat::Here(here) = seat {
                for rester in std::mem::take(&mut here.resters) {
                    rester(Err(disk_full()));
                }
            }
        }
    }

    /// The log did not take what a run made: what is in memory never happened. The run is opened
    /// anew when there is room.
    fn rejected(&mut self, id: &RunId, why: Why) {
        tracing::error!(run = %id, "the log refused records: {why}");
        let full = matches!(why, Why::NoRoom);
        let refusal = || if full { disk_full() } else { not_written() };
        self.drop_instance(id);
        self.outbox.retain(|unit| unit.entry.run() != id);
        match self.seats.remove(id) {
            Some(Seat::Here(here)) => {
                self.idle.remove(&here.used);
                self.warm.remove(&here.used);
                self.starve(id);
                self.loaded_bytes = self.loaded_bytes.saturating_sub(here.bytes);
                for (_, answer) in here.answers {
                    answer(Err(refusal()));
                }
                for rester in here.resters {
                    rester(Err(refusal()));
                }
                for ask in here.asks {
                    ask.refuse(refusal());
                }
            }
            Some(Seat::Coming(Coming { fresh: Some(fresh), asks, .. })) => {
                for answer in fresh.answers {
                    answer(Err(refusal()));
                }
                for ask in asks {
                    ask.refuse(refusal());
                }
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
        for (_, seat) in self.seats.drain() {
            match seat {
                Seat::Here(here) => {
                    for (_, answer) in here.answers {
                        answer(Err(unknown()));
                    }
                    for rester in here.resters {
                        rester(Err(unknown()));
                    }
                    for ask in here.asks {
                        ask.refuse(not_written());
                    }
                }
                Seat::Coming(coming) => {
                    for answer in coming.fresh.into_iter().flat_map(|fresh| fresh.answers) {
                        answer(Err(unknown()));
                    }
                    for ask in coming.asks {
                        ask.refuse(not_written());
                    }
                }
                Seat::Leaving(leaving) => {
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
    let append = Append {
        run: run.clone(),
        file: lines.file,
        off: lines.offset,
        seq: lines.seq,
        n: lines.count,
        prev: lines.prev,
        last: lines.last,
        lines: lines.bytes,
    };
    Unit::append(append, flow == Flow::Inflow)
}

fn unknown() -> Error {
    let what = "storage failed while this was written: it may stand or not";
    let trouble = Trouble::new("storage_unknown", what);
    Error::Storage { trouble: trouble.next("ask again when the daemon runs"), unknown: true }
}

fn not_written() -> Error {
    let trouble = Trouble::new("not_written", "storage failed; nothing was written");
    Error::Storage { trouble: trouble.next("ask again when the daemon runs"), unknown: false }
}
