//! Runs on their way in: opened by worker threads, bounded in number.
//!
//! May not read a journal itself. Invariant: a run is opened once at a time, and never beside one
//! that is here.

use std::sync::Arc;

use crate::ground::id::RunId;
use crate::machines::effect::Wait;
use crate::machines::replay::facts::Update;
use crate::services::runs::open::OpenRun;
use crate::services::runs::{Error, Result};
use crate::shells::store::{Batch, Change};

use super::seat::{Coming, Here, Seat};
use super::workers::WORKERS;
use super::{Manager, Message};

impl Manager {
    /// Opens runs that wait for a seat, as far as there is room.
    pub(super) fn seat_queued(&mut self) {
        while self.arriving < WORKERS
            && self.has_seat()
            && let Some(id) = self.queue.pop_front()
        {
            let wanted = match self.seats.get_mut(&id) {
                Some(Seat::Coming(coming)) => {
                    let first = !std::mem::replace(&mut coming.begun, true);
                    self.outside -= usize::from(first);
                    first
                }
                Some(Seat::Here(_)) => {
                    if !self.stopping {
                        self.play(&id);
                    }
                    false
                }
                Some(Seat::Leaving(leaving)) => {
                    leaving.returns = true;
                    false
                }
                // Nobody wants it for more than going on.
                None if self.stopping => false,
                None => {
                    let coming = Coming { plays: true, begun: true, ..Coming::default() };
                    self.seats.insert(id.clone(), Seat::Coming(coming));
                    true
                }
            };
            if wanted {
                self.open(id);
            }
        }
    }

    /// Whether one more run may come in. Runs that only wait to come take no seat, or a crowd of
    /// them would keep everybody out, themselves included.
    pub(super) fn has_seat(&self) -> bool {
        self.seats.len() - self.outside < self.limits.loaded + WORKERS
            || (self.arriving == 0 && self.is_jammed())
    }

    /// Whether everybody who is here waits for somebody who is not: parents for their child runs.
    fn is_jammed(&self) -> bool {
        self.seats.values().all(|seat| match seat {
            Seat::Here(here) => here.is_quiet() && !here.resters.is_empty(),
            Seat::Coming(coming) => !coming.begun,
            Seat::Leaving(_) => false,
        })
    }

    fn open(&mut self, id: RunId) {
        self.arriving += 1;
        let (runs, root, inbox) = (self.runs.clone(), self.view.clone(), self.inbox.clone());
        self.workers.run(move || {
            let opened = Box::new(runs.open_shared(&root, &id, None));
            // A manager that has ended needs no runs.
            let _ = inbox.send(Message::Arrived(id, opened));
        });
    }

    /// A run was opened, or could not be.
    pub(super) fn arrived(&mut self, id: &RunId, opened: Result<OpenRun>) {
        self.arriving -= 1;
        let Some(Seat::Coming(coming)) = self.seats.remove(id) else { return };
        match opened {
            Ok(run) => self.sit_down(id, run, coming),
            Err(e) => self.cannot_come(id, &e, coming),
        }
        self.seat_queued();
    }

    pub(super) fn cannot_come(&mut self, id: &RunId, why: &Error, coming: Coming) {
        let trouble = why.trouble();
        let (code, what) = (trouble.code, &trouble.what);
        tracing::warn!(run = %id, code, "the run cannot be opened: {what}");
        self.timers.set(id, self.retry_at(why));
        self.say_damaged(id, why);
        for ask in coming.asks {
            ask.refuse(why.clone());
        }
        self.desk.lose(id);
        self.probes.forget(id);
        self.report_parents();
    }

    /// The index knows that a run cannot be read: nothing wakes it but an operator.
    pub(super) fn say_damaged(&mut self, id: &RunId, why: &Error) {
        if matches!(why, Error::Damaged(_)) {
            self.set_aside(id, Some(why.trouble().code));
            let update = Update::damaged(id.clone(), why.trouble().what.clone());
            let changes = vec![Change::Put(Box::new(update))];
            self.indexer.apply(Batch { frame: 0, changes });
        }
    }

    /// A run is here.
    pub(super) fn sit_down(&mut self, id: &RunId, mut run: OpenRun, coming: Coming) {
        run.served_by(Arc::new(self.desk.registry.clone()));
        self.set_aside(id, None);
        self.restless.remove(id);
        let durable = run.written().seq;
        let mut here = Here::new(run, durable);
        here.bytes = here.run.journal_bytes();
        self.loaded_bytes += here.bytes;
        here.used = self.next_use();
        self.idle.insert(here.used, id.clone());
        let effects = here.run.state().effects.values();
        let cancelled: Vec<_> = effects
            .filter(|e| matches!(e.wait, Wait::Run(_)) && e.status.name() == "cancelled")
            .map(|e| e.id)
            .collect();
        let plays = coming.plays || coming.asks.iter().any(super::seat::Ask::plays);
        self.seats.insert(id.clone(), Seat::Here(Box::new(here)));
        for effect in cancelled {
            self.cancel_child(id, effect);
        }
        if let Err(e) = self.adopt(id) {
            self.broke(id, &e);
        }
        self.hand_over(id);
        for ask in coming.asks {
            self.ask(id.clone(), ask);
        }
        if plays {
            self.play(id);
        }
    }
}
