//! Signal: a wait for a named message from outside (`ctx.signal`, `ctx.waitForSignal`).
//!
//! May not know who sends. Invariant: a signal is consumed by at most one wait, oldest signal and
//! oldest wait first.

use serde::{Deserialize, Serialize};

use super::life::Effect;
use super::{plain_error, resolve_error, resolve_ok, text};
use crate::codecs::event::Event;
use crate::codecs::json::Json;

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

    /// Whether the wait takes a signal of this name and correlation key.
    #[must_use]
    pub fn takes(&self, name: &str, correlation_key: Option<&str>) -> bool {
        let wanted = self.correlation_key.as_deref();
        self.name == name && (wanted.is_none() || wanted == correlation_key)
    }

    pub(in crate::machines) fn timed_out(&self, effect: &Effect) -> Event {
        if let Some(default) = &self.default {
            return resolve_ok(effect, default, "timer");
        }
        let error = plain_error("SignalTimeoutError", format!("no signal {:?} in time", self.name));
        resolve_error(effect, error, "timer")
    }
}
