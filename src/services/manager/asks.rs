//! What doors ask of a run, as the manager's thread does it.
//!
//! May not know who asks. Invariant: nothing is done to a run while a host works for it, and
//! whoever asked is answered exactly once.

use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId};
use crate::machines::effect::life::EffectStatus;
use crate::services::commit::Committer;
use crate::services::runs::Error;
use crate::services::runs::trouble::{Trouble, too_many_open};
use crate::shells::commit_log::WriterState;

use super::gate::{Admission, Gate};
use super::handle::Flow;
use super::seat::{Ask, Coming, Here, LookAct, Seat, StartAct};
use super::{GATHER_MICROS, GATHER_REPORTS_MICROS, Manager, handle, keys};

impl Manager {
    /// Takes an ask in: it is done at once, or as soon as the run is here and stands still.
    pub(super) fn ask(&mut self, run: RunId, ask: Ask) {
        if self.stopping || self.failed {
            return ask.refuse(handle::gone());
        }
        self.admit(run, ask);
    }

    /// The same for what was begun before: it is finished when the daemon stops.
    pub(super) fn admit(&mut self, run: RunId, ask: Ask) {
        if self.failed {
            return ask.refuse(handle::gone());
        }
        match (self.seats.get_mut(&run), ask) {
            (Some(Seat::Coming(coming)), ask) => coming.asks.push(ask),
            (Some(Seat::Leaving(leaving)), ask) => leaving.asks.push(ask),
            (Some(Seat::Here(here)), ask) if here.is_in_turn() || here.broken => {
                here.asks.push_back(ask);
            }
            (Some(Seat::Here(_)), ask) => self.perform(&run, ask),
            (None, Ask::Look(act)) => self.look_from_outside(run, act),
            (None, ask) => {
                let coming = Coming { asks: vec![ask], ..Coming::default() };
                self.seats.insert(run.clone(), Seat::Coming(coming));
                self.outside += 1;
                self.queue.push_back(run);
                self.seat_queued();
            }
        }
    }

    /// Does what was asked of a run that is here and stands still.
    pub(super) fn perform(&mut self, run: &RunId, ask: Ask) {
        let full = self.parts.committer.state() == WriterState::Full;
        let Some(Seat::Here(here)) = self.seats.get_mut(run) else {
            return ask.refuse(handle::gone());
        };
        match ask {
            Ask::Look(act) => {
                let answer = act(Ok(here.run.look()));
                here.answers.push_back((here.run.written().seq, answer));
            }
            Ask::Deed { flow: Flow::Inflow, act, .. } if full => {
                act(Err(no_room(&self.parts.committer)))(Ok(()));
            }
            Ask::Start { act, .. } if full => act(Err(no_room(&self.parts.committer)))(Ok(())),
            Ask::Deed { by, flow, act } => {
                here.gathers_micros = gathers_micros(flow);
                here.act(&by, act);
                self.count_wake(if flow == Flow::Inflow { "inflow" } else { "outcome" });
                self.play(run);
            }
            Ask::Start { by, effect, act } => {
                start(here, &mut self.gate, effect, &by, act, self.runs.clock.now());
                self.count_wake("inflow");
                self.play(run);
            }
            Ask::Rest(rester) => {
                here.resters.push(rester);
                self.count_wake("iterate");
                self.play(run);
            }
        }
        match self.seats.get(run) {
            // What its turn adds goes into the same batch.
            Some(Seat::Here(here)) if here.is_in_turn() => {}
            _ => self.hand_over(run),
        }
        self.answer(run);
    }

    /// A run that is not in memory is looked at where it stands: its journal holds what is durable,
    /// and nothing else.
    fn look_from_outside(&self, run: RunId, act: LookAct) {
        let runs = self.runs.clone();
        // Journals lag only while there is no room: then the log is read as well.
        let lags = self.parts.committer.state() != WriterState::Healthy;
        let look = move || match run.as_str() {
            id if lags => runs.look(id),
            id => runs.look_owned(id),
        };
        self.workers.run(move || match look() {
            Ok(seen) => act(Ok(seen.look()))(Ok(())),
            Err(e) => act(Err(e))(Ok(())),
        });
    }
}

/// Starts an effect that the gate lets in; whatever else stands against it, its run says.
fn start(
    here: &mut Here,
    gate: &mut Gate,
    effect: EffectId,
    by: &str,
    act: StartAct,
    now: Timestamp,
) {
    if let Err(refusal) = here.run.must_be_outside(effect) {
        return act(Err(refusal))(Ok(()));
    }
    let run = here.run.dir.id().clone();
    let admission = match here.run.state().effect(effect) {
        Some(its) if its.status == EffectStatus::Requested => gate.admit(&run, its, now),
        _ => Admission::Free,
    };
    if let Some(refusal) = keys::refused(&run, effect, &admission) {
        act(Err(refusal))(Ok(()));
    } else {
        let its = here.run.state().effect(effect);
        let slots = its.map(|its| gate.slots.names(its)).unwrap_or_default();
        here.act(by, Box::new(|run| act(run.map(|run| (run, slots)))));
    }
    match here.run.state().effect(effect).map(|effect| effect.status) {
        Some(EffectStatus::Requested) => gate.withdraw(&run, effect),
        Some(EffectStatus::Started) => gate.slots.began(&run, effect),
        _ => gate.slots.give_back(&run, effect),
    }
}

/// How long lines may wait for what a turn adds to them.
const fn gathers_micros(flow: Flow) -> u64 {
    match flow {
        Flow::Inflow | Flow::Outcome => GATHER_MICROS,
        Flow::Report => GATHER_REPORTS_MICROS,
    }
}

/// The refusal of new work while the log takes none: for want of descriptors, or of room.
pub(super) fn no_room(committer: &Committer) -> Error {
    if committer.figures().crowded {
        return too_many_open("new work waits until the log can open its journals");
    }
    disk_full()
}

fn disk_full() -> Error {
    let what = "there is no room on the disk for new work; outcomes are still taken";
    let trouble = Trouble::new("disk_full", what);
    Error::Refused(trouble.next("free some space; the daemon goes on by itself"))
}
