//! What the runtime answers by itself: due timers, met signals, approvals that nobody has to give.
//!
//! May not read a clock. Invariant: the answer is a function of the folded run and the time given,
//! so that a crash between two answers loses neither and repeats neither.

use super::state::RunState;
use crate::codecs::event::{EffectResolved, EffectUncertain, Event, Status};
use crate::ground::clock::Timestamp;
use crate::machines::effect::attempt::never_known;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::effect::{self, Wait, resolution};

/// The next event that follows from the folded run and the time alone: an effect the runtime
/// answers itself, a signal that meets its wait, a limit that has passed. Nothing when all is done.
#[must_use]
pub fn automatic(state: &RunState, now: Timestamp) -> Option<Event> {
    let suspect = || Some(uncertain(state.effect(*state.suspects.first()?)?));
    let immediate = || {
        let effect = state.effect(*state.immediate.first()?)?;
        Some(match &effect.wait {
            Wait::Hook(facts) => facts.no_hooks(effect),
            Wait::Echo(facts) => facts.resolved(effect),
            _ => effect::breakpoint::approve_at_once(effect),
        })
    };
    let due = || {
        let (_, id) = state.timers.first().filter(|(due, _)| *due <= now)?;
        let effect = state.effect(*id)?;
        if effect.status == EffectStatus::Uncertain {
            let cause = effect.uncertain_cause.as_deref().unwrap_or_default();
            return Some(never_known(effect, cause, "timer"));
        }
        Some(match &effect.wait {
            Wait::Sleep { .. } => effect::sleep::due(effect),
            Wait::Signal(facts) => facts.timed_out(effect),
            Wait::Breakpoint(facts) => facts.timed_out(effect),
            _ => effect::task::timed_out(effect, now),
        })
    };
    suspect().or_else(immediate).or_else(|| meeting(state)).or_else(due)
}

/// Nobody knows whether this was executed: records were lost.
#[must_use]
pub fn uncertain(suspect: &Effect) -> Event {
    EffectUncertain {
        effect_id: suspect.id,
        epoch: suspect.epoch,
        cause: "repaired".into(),
        evidence: None,
    }
    .into()
}

/// The first signal that a wait takes. Its payload is not copied: `signalSeq` names the record that
/// holds it.
fn meeting(state: &RunState) -> Option<Event> {
    let mut waits = Vec::new();
    if !state.signals.is_empty() {
        waits.extend(state.open_effects().filter_map(|effect| match &effect.wait {
            Wait::Signal(facts) => Some((effect, facts)),
            _ => None,
        }));
    }
    state.signals.iter().find_map(|signal| {
        let (effect, _) = waits
            .iter()
            .find(|(_, facts)| facts.takes(&signal.name, signal.correlation_key.as_deref()))?;
        let resolved = EffectResolved {
            signal_seq: Some(signal.seq),
            ..resolution(effect, Status::Ok, "engine")
        };
        Some(resolved.into())
    })
}
