//! Inside: what whoever serves a root says of effects that it executes itself.
//!
//! May not execute. Invariant: it is asked when an effect is requested and when somebody posts, and
//! never while a journal is replayed.

use serde_json::Value;

use crate::codecs::event::Event;
use crate::machines::effect::Wait;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::replay::drafts::Draft;

use super::open::OpenRun;

/// Says which effects are executed where the run is served.
pub trait Inside: Send + Sync {
    /// Whether an effect like this is, under today's configuration.
    fn executes(&self, kind: &str, definition: &Value, cwd: Option<&str>) -> bool;

    /// How long an attempt at it may take whose author said nothing about it.
    fn timeout_ms(&self, kind: &str, definition: &Value) -> Option<u64>;
}

impl OpenRun {
    /// Whether an effect that nobody has begun is for whoever serves the run to execute.
    pub(super) fn is_inside(&self, effect: &Effect, definition: &Value) -> bool {
        let is_open = effect.status == EffectStatus::Requested && effect.wait == Wait::Outside;
        let cwd = self.state().cwd.as_deref();
        is_open && self.inside.as_ref().is_some_and(|i| i.executes(&effect.kind, definition, cwd))
    }

    /// Completes the policy of a request with what only whoever executes it knows.
    pub(super) fn limit(&self, draft: &mut Draft) {
        let Event::EffectRequested(asked) = &mut draft.event else { return };
        let Some(inside) = &self.inside else { return };
        if asked.policy.attempt_timeout_ms.is_some() {
            return;
        }
        // A definition that is too large for the record is the first of its blobs.
        let apart = asked.def_blob.is_some().then(|| draft.blobs.first()).flatten();
        let Some(def) = apart.or(asked.def.as_ref()) else { return };
        asked.policy.attempt_timeout_ms = inside.timeout_ms(&asked.kind, &def.to_value());
    }
}
