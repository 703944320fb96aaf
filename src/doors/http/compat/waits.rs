//! The waits of a run that somebody answers: signals and breakpoints.
//!
//! May not answer them. Invariant: a key means a wait only if the wait itself names it.

use crate::machines::effect::Wait;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::replay::state::RunState;

/// The key by which an answer names a wait, if somebody answers it.
pub(super) fn key_of(effect: &Effect) -> Option<String> {
    match &effect.wait {
        Wait::Signal(facts) => {
            Some(facts.correlation_key.clone().unwrap_or_else(|| facts.name.clone()))
        }
        Wait::Breakpoint(facts) => {
            Some(facts.breakpoint_id.clone().unwrap_or_else(|| effect.id.to_string()))
        }
        _ => None,
    }
}

/// Whether an answer under this key is for a wait.
pub(super) fn is_named(effect: &Effect, key: &str) -> bool {
    key_of(effect).is_some_and(|own| own == key || effect.id.to_string() == key)
}

/// The waits that are open, in order of request.
pub(super) fn open(state: &RunState) -> impl Iterator<Item = &Effect> {
    state
        .open_effects()
        .filter(|effect| effect.status == EffectStatus::Requested && key_of(effect).is_some())
}
