//! Hook: something the runtime runs for the process once (`ctx.hook`).
//!
//! May not start anything. Invariant: a hook is answered once and its answer is journaled; replay
//! never runs it again.

use serde::{Deserialize, Serialize};

use super::life::Effect;
use super::{resolve_ok, text};
use crate::codecs::event::Event;
use crate::codecs::json::Json;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The kind of hook.
    pub hook_type: String,
}

impl Facts {
    pub(super) fn of(def: &serde_json::Value) -> Self {
        let named = text(def, "hook", "hookType").or_else(|| text(def, "hook", "type"));
        Self { hook_type: named.unwrap_or_default() }
    }

    /// The answer where no hooks are configured: success, and nothing was executed.
    pub(in crate::machines) fn no_hooks(&self, effect: &Effect) -> Event {
        let value = serde_json::json!({
            "hookType": self.hook_type, "success": true, "executedHooks": [],
        });
        resolve_ok(effect, &Json::of(&value), "executor:hook")
    }
}
