//! Keys at work: effects that end because of who holds their key, and those that may go on.
//!
//! May not judge: that is the ledger's. Invariant: an outcome is taken over only after the record
//! of it was read where it stands.

use crate::codecs::event::ReusedFrom;
use crate::codecs::json::Json;
use crate::ground::id::{EffectId, RunId};
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::effect::refusal::{Hold, Refusal};
use crate::machines::ledger::{BY, Settled, settled};
use crate::services::runs::open::OpenRun;
use crate::services::runs::{Error, Result};
use crate::services::why::memory;
use crate::shells::commit_log::WriterState;

use super::gate::{Admission, Called};
use super::handle::Flow;
use super::seat::{Answer, Ask, Seat};
use super::{Manager, Message};

impl Manager {
    /// Asks for the requested effects of a run that have keys, and ends those that are never to be
    /// started. True when its process may have to hear of one.
    pub(super) fn settle_keys(&mut self, id: &RunId) -> bool {
        let Some(Seat::Here(here)) = self.seats.get(id) else { return false };
        let standing = here.run.state().standing(self.runs.clock.now());
        let asks = |effect: &&Effect| {
            effect.status == EffectStatus::Requested
                && effect.policy.idempotency_key.is_some()
                && !effect.wait.is_never_started()
                && !standing.gives_up(effect)
        };
        let asking: Vec<Effect> = here.run.state().open_effects().filter(asks).cloned().collect();
        let mut answered = false;
        for effect in asking {
            answered |= self.settle_key(id, &effect);
        }
        answered
    }

    fn settle_key(&mut self, id: &RunId, effect: &Effect) -> bool {
        let now = self.runs.clock.now();
        self.gate.requested(id, effect);
        let Admission::Ends(ends) = self.gate.look(id, effect, now) else { return false };
        let events = match ends {
            Settled::Conflict { holder, digest } => {
                self.runs.telemetry.metrics.key_conflicts.one();
                vec![settled::conflict(effect, &holder, digest)]
            }
            Settled::Unknown(holder) => settled::unknown(effect, &holder, None, now),
            Settled::Reuse(from) => {
                self.copy_outcome(id, effect.id, from);
                return false;
            }
        };
        let Some(Seat::Here(here)) = self.seats.get_mut(id) else { return false };
        for event in events {
            if let Err(e) = here.run.append(event) {
                self.broke(id, &e);
                return false;
            }
        }
        true
    }

    /// Has the outcome of another effect read, for an effect that takes it over.
    fn copy_outcome(&mut self, id: &RunId, effect: EffectId, from: ReusedFrom) {
        let Some(Seat::Here(here)) = self.seats.get(id) else { return };
        if !self.gate.begin_copy(id, effect) {
            return;
        }
        let (runs, dir, inbox) = (self.runs.clone(), here.run.dir.clone(), self.inbox.clone());
        // Journals lag only while there is no room: then the log is read as well.
        let lags = self.parts.committer.state() != WriterState::Healthy;
        let run = id.clone();
        self.workers.run(move || {
            let value = runs.outcome_for(&dir, &from, lags);
            let tell = move |manager: &mut Self| manager.copied(run, effect, from, value);
            // A manager that has ended takes nothing over; the next one does.
            let _ = inbox.send(Message::Look(Box::new(tell)));
        });
    }

    fn copied(
        &mut self,
        id: RunId,
        effect: EffectId,
        from: ReusedFrom,
        value: Result<Option<Json>>,
    ) {
        self.gate.end_copy(&id, effect);
        let (run, metrics) = (id.clone(), std::sync::Arc::clone(&self.runs.telemetry.metrics));
        let act = move |opened: Result<&mut OpenRun>| -> Answer {
            let done = opened.and_then(|opened| opened.take_over(effect, &from, value));
            Box::new(move |durable| match done.and_then(|taken| durable.map(|()| taken)) {
                Ok(true) => metrics.key_reuses.one(),
                Ok(false) => {}
                Err(e) => tracing::warn!(%run, %effect, "an outcome was not taken over: {e}"),
            })
        };
        let (by, flow) = (BY.to_owned(), Flow::Outcome);
        self.ask(id, Ask::Deed { by, flow, act: Box::new(act) });
    }

    /// Lets effects go on for which a key is free, or has an outcome.
    pub(super) fn wake_for_keys(&mut self) {
        while !self.stopping
            && let Some(Called { holder, kind, is_free }) = self.gate.next_called()
        {
            // Whoever is outside takes what is free by themselves.
            if !is_free || kind == "run" || self.desk.registry.get(&kind).is_some() {
                self.count_wake("key");
                self.wake(&holder.run);
            }
            if is_free {
                self.claims.book.ready(&kind, &holder);
            }
        }
    }
}

/// The refusal of a start that the gate does not let in.
pub(super) fn refused(run: &RunId, effect: EffectId, admission: &Admission) -> Option<Error> {
    let (by, until, holder) = match admission {
        Admission::Free => return None,
        Admission::Held(memory::Hold::Limit { holder, until, .. }) => {
            (Hold::Limit, *until, holder.as_ref())
        }
        Admission::Held(memory::Hold::Key { holder, .. }) => (Hold::Key, None, Some(holder)),
        Admission::Held(_) | Admission::Ends(_) => (Hold::Key, None, None),
    };
    let refusal = Error::from(Refusal::Held { id: effect, by, until });
    let refusal = refusal.named(run.as_str(), &effect.to_string());
    let refusal = match admission {
        Admission::Held(memory::Hold::Limit { limit, .. }) => {
            refusal.and_fact("limit", limit.to_string())
        }
        _ => refusal,
    };
    Some(match holder {
        Some(holder) => refusal
            .and_fact("holder", holder.to_string())
            .and_next(format!("dormouse task show {} {}", holder.run, holder.effect)),
        None => refusal,
    })
}
