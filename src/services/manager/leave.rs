//! Runs on their way out, and instances that make room: what was not used longest goes first.
//!
//! May not drop anything that is not durable. Invariant: a run leaves at rest, with nobody waiting.

use crate::ground::id::RunId;
use crate::machines::replay::engine::Rest;

use super::seat::{Leaving, Seat};
use super::{Manager, Message};

impl Manager {
    /// Lets go what was not used longest until what is left fits.
    pub(super) fn make_room(&mut self) {
        let mut wanted = self.starved.len();
        while (wanted > 0 || self.parts.pool.bytes() > self.limits.hosts_bytes_max)
            && let Some((_, id)) = self.warm.pop_first()
        {
            self.drop_instance(&id);
            wanted = wanted.saturating_sub(1);
        }
        let crowded = |manager: &Self| {
            manager.present > manager.limits.loaded_max
                || manager.loaded_bytes > manager.limits.loaded_bytes_max
        };
        let mut busy = Vec::new();
        while crowded(self)
            && let Some((used, id)) = self.idle.pop_first()
        {
            if !self.leave(&id) {
                busy.push((used, id));
            }
        }
        self.idle.extend(busy);
    }

    /// Lets a run go that has ended or broke, once everything it made is durable.
    pub(super) fn leave_when_durable(&mut self, id: &RunId) {
        let Some(Seat::Here(here)) = self.seats.get(id) else { return };
        let done = here.broken || matches!(here.rest, Some(Rest::Ended(_)));
        if done && here.resters.is_empty() {
            self.leave(id);
        }
    }

    /// False if something still keeps it.
    fn leave(&mut self, id: &RunId) -> bool {
        let quiet = match self.seats.get(id) {
            Some(Seat::Here(here)) => here.is_quiet() && here.resters.is_empty(),
            _ => false,
        };
        if !quiet {
            return false;
        }
        self.drop_instance(id);
        let Some(Seat::Here(here)) = self.seats.remove(id) else { return false };
        self.idle.remove(&here.used);
        self.loaded_bytes = self.loaded_bytes.saturating_sub(here.bytes);
        self.seats.insert(id.clone(), Seat::Leaving(Leaving::default()));
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
        self.present -= 1;
        let Some(Seat::Leaving(leaving)) = self.seats.remove(id) else { return };
        for ask in leaving.asks {
            self.ask(id.clone(), ask);
        }
        if leaving.returns {
            self.wake(id);
        }
    }
}
