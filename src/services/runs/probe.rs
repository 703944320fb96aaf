//! Probes of a run: what is asked about its effects, and what an answer makes of them.
//!
//! May not ask, nor know when. Invariant: an answer counts for the start that it was asked about,
//! and only while nobody knows its outcome.

use crate::codecs::event::Probe;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Epoch, Seq};
use crate::machines::effect::attempt::{fence_epoch, unanswered};
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::effect::probe::{Answer, answered, asks_at};
use crate::machines::effect::refusal::Refusal;

use super::open::OpenRun;
use super::post::value_fits;
use super::trouble::Trouble;
use super::{Error, Result};

/// What an answer made of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concluded {
    /// Where it stands now.
    pub status: EffectStatus,
    /// The last record about it.
    pub seq: Seq,
    /// Whether the answer is recorded; one that cannot be taken says nothing.
    pub is_taken: bool,
}

impl OpenRun {
    /// Effects about which the outside is to be asked, and when for the first time.
    pub fn questions(&self) -> impl Iterator<Item = (&Effect, Timestamp)> {
        let state = self.state();
        let may_ask = state.is_open() && state.held.is_none();
        state.open_effects().filter_map(move |effect| {
            may_ask.then(|| asks_at(effect)).flatten().map(|at| (effect, at))
        })
    }

    /// What is asked about an effect, if somebody may ask now.
    pub fn probe_of(&self, id: EffectId, epoch: Epoch) -> Result<Probe> {
        let effect = self.known(id)?;
        let refuse = |refusal: Refusal| self.name_them(id, refusal.into());
        fence_epoch(&effect, epoch).map_err(refuse)?;
        if let Some(ended) = &effect.ended {
            let (status, seq) = (effect.status.name(), ended.seq);
            return Err(refuse(Refusal::Ended { id, status, seq }));
        }
        if effect.status != EffectStatus::Uncertain {
            let (status, why) = (effect.status.name(), "there is nothing to ask");
            return Err(refuse(Refusal::WrongState { id, status, why }));
        }
        effect.policy.probe.ok_or_else(|| {
            let what = format!("effect {id} has no probe: nobody can be asked");
            let trouble = Trouble::new("no_probe", what).next("dormouse task decide RUN EFFECT");
            self.name_them(id, Error::Conflict(trouble))
        })
    }

    /// Records what the outside said about the start `epoch`.
    pub fn conclude(&mut self, id: EffectId, epoch: Epoch, answer: &Answer) -> Result<Concluded> {
        self.probe_of(id, epoch)?;
        let fits = match answer {
            Answer::Done(value) => {
                value_fits(value).is_ok() && self.schema_errors(id, value)?.is_empty()
            }
            _ => true,
        };
        let effect = self.known(id)?;
        let now = self.runs.clock.now();
        let events =
            if fits { answered(&self.standing(id, now), &effect, answer, now) } else { Vec::new() };
        let is_taken = !events.is_empty();
        for event in events {
            self.append(event)?;
        }
        let effect = self.known(id)?;
        Ok(Concluded { status: effect.status, seq: effect.seq, is_taken })
    }

    /// The outside was asked as often as it is to be, and did not know: what follows is recorded.
    pub fn leave_unanswered(&mut self, id: EffectId, epoch: Epoch) -> Result<()> {
        self.probe_of(id, epoch)?;
        let (effect, now) = (self.known(id)?, self.runs.clock.now());
        let event = unanswered(&self.standing(id, now), &effect, now, "timer");
        event.map_or(Ok(()), |event| self.append(event).map(|_| ()))
    }
}
