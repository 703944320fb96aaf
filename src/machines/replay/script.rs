//! The script of a replay: what the journal still expects of an instance.
//!
//! May not know hosts. Invariant: inputs are fed in journal order, each once; an output is expected
//! exactly once, by the turn of its cause.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::state::cause_of;
use crate::codecs::event::{Event, Payload, Record};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Seq};

/// Journaled inputs that were not fed yet, and journaled outputs that no turn has put out yet.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Inputs in journal order.
    pub(super) inputs: VecDeque<Arc<Record>>,
    /// Outputs by the input of their turn.
    pub(super) outputs: BTreeMap<Seq, Vec<Arc<Record>>>,
    /// Ends of effects that nobody awaited when their turn came: a call that binds to such an
    /// effect later (after an accepted change of code) takes its outcome from here.
    pub(super) spare: BTreeMap<EffectId, Arc<Record>>,
    /// Payloads of signals, by record, until their effect was fed.
    pub(super) signals: BTreeMap<Seq, Payload>,
    /// The last input that was fed to the instance.
    pub(super) fed: Seq,
    /// When the generation began.
    pub(super) began: Timestamp,
}

impl Script {
    /// Takes a record of the journal in.
    pub(super) fn load(&mut self, record: &Arc<Record>) {
        match &record.event {
            Event::SignalReceived(signal) => {
                let payload = Payload::join(signal.payload.as_ref(), signal.payload_blob.as_ref());
                self.signals.extend(payload.map(|p| (record.seq, p)));
            }
            event => match cause_of(event) {
                // Outputs of a turn that this instance has run are its own, just made durable.
                Some(cause) if cause > self.fed => {
                    self.outputs.entry(cause).or_default().push(Arc::clone(record));
                }
                None if is_input(event) => self.inputs.push_back(Arc::clone(record)),
                Some(_) | None => {}
            },
        }
    }

    /// Begins anew at the start of a generation.
    pub(super) fn restart(&mut self, start: &Arc<Record>) {
        self.inputs.clear();
        self.outputs.clear();
        self.spare.clear();
        self.began = start.at;
        self.inputs.push_back(Arc::clone(start));
    }

    /// An accepted change of code: everything before it is past. Outcomes wait for calls that bind
    /// to them; nothing from before is expected any more. Only the generation's start and a cancel
    /// request are fed again.
    pub(super) fn accept(&mut self, accept: &Arc<Record>) {
        let past = std::mem::take(&mut self.inputs);
        self.outputs.clear();
        for record in past {
            match ended_effect(&record.event) {
                Some(id) => {
                    self.spare.insert(id, record);
                }
                None if matches!(record.event, Event::RunCancelRequested(_)) => {
                    self.inputs.push_back(record);
                }
                None => {}
            }
        }
        self.inputs.push_front(Arc::clone(accept));
    }
}

/// The effect that an input ends.
pub(super) fn ended_effect(event: &Event) -> Option<EffectId> {
    match event {
        Event::EffectResolved(e) => Some(e.effect_id),
        Event::EffectCancelled(e) => Some(e.effect_id),
        _ => None,
    }
}

/// Whether the event is fed to the process (the start of a generation is queued by
/// [`Script::restart`], an accept by [`Script::accept`]).
fn is_input(event: &Event) -> bool {
    ended_effect(event).is_some() || matches!(event, Event::RunCancelRequested(_))
}
