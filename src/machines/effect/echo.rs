//! Echo: an effect whose answer stands in its definition, for trying workflow documents out.
//!
//! May not make answers up. Invariant: it is answered as soon as it stands in the journal.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::life::Effect;
use super::{member, resolve_ok};
use crate::codecs::event::Event;
use crate::codecs::json::Json;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// What it is answered with.
    pub answer: Json,
}

impl Facts {
    /// Nothing for a definition without an answer: that is somebody's own kind.
    pub(super) fn of(def: &Value) -> Option<Self> {
        def.get("echo")?;
        Some(Self { answer: Json::of(member(def, "echo", "answer")?) })
    }

    pub(in crate::machines) fn resolved(&self, effect: &Effect) -> Event {
        resolve_ok(effect, &self.answer, "executor:echo")
    }
}
