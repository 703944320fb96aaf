//! Runs on their way out, and instances that make room: what was not used longest goes first.
//!
//! May not drop anything that is not durable. Invariant: a run leaves at rest, with nobody waiting.

use crate::ground::id::RunId;
use crate::machines::replay::engine::Rest;
use crate::shells::commit_log::WriterState;

use super::seat::{Leaving, Seat};
use super::{Manager, Message};

impl Manager {
    /// Lets go what was not used longest until what is left fits.
    pub(super) fn make_room(&mut self) {
        let full = self.parts.committer.state() == WriterState::Full;
        let mut wanted = if full { 0 } else { self.starved.len() };
        while (wanted > 0 || self.parts.pool.bytes() > self.limits.hosts_bytes)
            && let Some((_, id)) = self.warm.pop_first()
        {
            self.drop_instance(&id);
            wanted = wanted.saturating_sub(1);
        }
        let mut kept = Vec::new();
        while self.is_crowded()
            && let Some((used, id)) = self.idle.pop_first()
        {
            if !self.leave(&id) {
                kept.push((used, id));
            }
        }
        self.idle.extend(kept);
    }

    fn is_crowded(&self) -> bool {
        self.seats.len() - self.outside - self.leaving > self.limits.loaded
            || self.loaded_bytes > self.limits.loaded_bytes
    }

    /// Lets a run go that has ended or broke, once everything it made is durable.
    pub(super) fn leave_when_durable(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get(id) else { return };
        let done = here.broken || matches!(here.rest, Some(Rest::Ended(_)));
        if done && here.resters.is_empty() {
            self.leave(id);
        }
    }

    /// Journals have caught up with the log: whoever stayed for that goes.
    pub(super) fn leave_all_that_ended(&mut self) {
        let here: Vec<RunId> = self.seats.keys().cloned().collect();
        for id in here {
            self.leave_when_durable(&id);
        }
    }

    /// Lets a run go. False if it is here still, because something of it is under way.
    pub(super) fn leave(&mut self, id: &RunId) -> bool {
        let may_stay = match self.seats.get(id) {
            // Whoever asks a broken run for something waits for it to be opened anew.
            Some(Seat::Here(here)) if here.broken => !here.is_written(),
            Some(Seat::Here(here)) => !here.is_quiet() || !here.resters.is_empty(),
            _ => return true,
        };
        // While the log lags, lines of the run may still be on their way to its journal: whoever
        // opened it next would read less than its last note vouches for.
        let lags = self.parts.committer.state() == WriterState::Full && !self.stopping;
        if may_stay || lags {
            return false;
        }
        self.drop_instance(id);
        self.note_restless(id);
        // All that it made is durable and was heard of.
        self.gate.lose(id);
        let Some(Seat::Here(mut here)) = self.seats.remove(id) else { return true };
        self.idle.remove(&here.used);
        self.loaded_bytes = self.loaded_bytes.saturating_sub(here.bytes);
        let asks = here.asks.drain(..).collect();
        self.seats.insert(id.clone(), Seat::Leaving(Leaving { asks, ..Leaving::default() }));
        self.leaving += 1;
        let (inbox, id) = (self.inbox.clone(), id.clone());
        self.workers.run(move || {
            here.run.files_since(here.filed).write();
            // What is written here is derived: whoever opens the run next makes it anew.
            if let Err(e) = here.run.close() {
                tracing::warn!(run = %id, "the run was not closed well: {e}");
            }
            let _ = inbox.send(Message::Left(id));
        });
        true
    }

    /// A run was closed.
    pub(super) fn left(&mut self, id: &RunId) {
        let Some(Seat::Leaving(mut leaving)) = self.seats.remove(id) else { return };
        self.leaving -= 1;
        if let Some(mend) = leaving.mend.take() {
            return self.begin_mend(id, leaving, mend);
        }
        for ask in leaving.asks {
            self.ask(id.clone(), ask);
        }
        if leaving.returns {
            self.wake(id);
        }
        self.report_parents();
    }
}
