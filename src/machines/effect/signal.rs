//! Signal: a wait for a named message from outside (`ctx.signal`, `ctx.waitForSignal`).
//!
//! May not know who sends. Invariant: a signal is consumed by at most one wait, oldest signal and
//! oldest wait first.

use serde::{Deserialize, Serialize};

use super::{plain_error, resolution, resolve_error, resolve_ok, text};
use crate::codecs::event::{EffectResolved, Event, Status};
use crate::codecs::format::json::Json;
use crate::machines::effect::Wait;
use crate::machines::replay::state::{Effect, RunState, Signal};

/// What a wait names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Name of the signal.
    pub name: String,
    /// Correlation key; a wait without one takes any.
    pub correlation_key: Option<String>,
    /// What a timeout resolves with; without it a timeout rejects.
    pub default: Option<Json>,
}

impl Facts {
    pub(super) fn of(def: &serde_json::Value) -> Self {
        let section = def.get("signal").unwrap_or(def);
        Self {
            name: text(def, "signal", "name").unwrap_or_default(),
            correlation_key: text(def, "signal", "correlationKey"),
            default: section.get("default").map(Json::of),
        }
    }

    fn takes(&self, signal: &Signal) -> bool {
        self.name == signal.name
            && (self.correlation_key.is_none() || self.correlation_key == signal.correlation_key)
    }

    pub(super) fn timed_out(&self, effect: &Effect) -> Event {
        if let Some(default) = &self.default {
            return resolve_ok(effect, default, "timer");
        }
        let error = plain_error("SignalTimeoutError", format!("no signal {:?} in time", self.name));
        resolve_error(effect, error, "timer")
    }
}

/// The first signal that a wait takes. Its payload is not copied: `signalSeq` names the record that
/// holds it.
#[must_use]
pub fn meeting(state: &RunState) -> Option<Event> {
    let mut waits = Vec::new();
    if !state.signals.is_empty() {
        waits.extend(state.open_effects().filter_map(|effect| match &effect.wait {
            Wait::Signal(facts) => Some((effect, facts)),
            _ => None,
        }));
    }
    state.signals.iter().find_map(|signal| {
        let (effect, _) = waits.iter().find(|(_, facts)| facts.takes(signal))?;
        let resolved = EffectResolved {
            signal_seq: Some(signal.seq),
            ..resolution(effect, Status::Ok, "engine")
        };
        Some(resolved.into())
    })
}
