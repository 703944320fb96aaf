//! Run: a child run (`ctx.run`, `ctx.subprocess`).
//!
//! May not create or drive anything. Invariant: a child's id is a function of its parent and
//! effect, so that asking twice finds the same child.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::life::Effect;
use super::{resolution, text};
use crate::codecs::event::{EffectResolved, ErrorInfo, Event, Status};
use crate::codecs::json::Json;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, RUN_ID_BYTES_MAX, RunId};

/// What a child run is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Module below the parent's process root, already resolved.
    pub process: String,
    /// Export to call.
    pub export_name: Option<String>,
    /// The child's process id.
    pub process_id: Option<String>,
    /// The child's run id, if the author chose one.
    pub run_id: Option<String>,
    /// `cancel` or `abandon`.
    pub on_parent_end: Option<String>,
    /// Resolves as soon as the child exists.
    pub detached: bool,
    /// Asked for by `ctx.subprocess`: resolves with the child's place besides its output.
    pub subprocess: bool,
}

impl Facts {
    pub(super) fn of(def: &serde_json::Value) -> Option<Self> {
        let field = |name: &str| text(def, "run", name);
        let flag = |name: &str| {
            super::member(def, "run", name).and_then(serde_json::Value::as_bool).unwrap_or(false)
        };
        Some(Self {
            process: field("process").or_else(|| field("processPath"))?,
            export_name: field("exportName"),
            process_id: field("processId"),
            run_id: field("runId"),
            on_parent_end: field("onParentEnd"),
            detached: flag("detached"),
            subprocess: flag("subprocess"),
        })
    }
}

/// The id of the child run behind one effect: the author's, else the parent's id and the effect's,
/// cut and completed by a digest where that would be too long.
///
/// # Errors
/// When the author's id is not a run id.
pub fn child_id(
    parent: &RunId,
    effect: EffectId,
    facts: &Facts,
) -> Result<RunId, crate::ground::id::Error> {
    if let Some(chosen) = &facts.run_id {
        return chosen.parse();
    }
    let plain = format!("{parent}.{effect}");
    if plain.len() <= RUN_ID_BYTES_MAX {
        return plain.parse();
    }
    let mark = &Digest::of(plain.as_bytes()).hex()[..16];
    let kept: String = plain.chars().take(RUN_ID_BYTES_MAX - 17).collect();
    format!("{kept}-{mark}").parse()
}

/// What the parent gets when its child has ended as `end`; `output` is given when it completed.
#[must_use]
pub fn child_ended(
    effect: &Effect,
    child: &RunId,
    end: &str,
    output: Option<Json>,
    error: Option<&ErrorInfo>,
) -> EffectResolved {
    let by = "executor:run";
    if let Some(value) = output {
        return EffectResolved {
            value_digest: Some(Digest::of(value.as_str().as_bytes())),
            value: Some(value),
            ..resolution(effect, Status::Ok, by)
        };
    }
    let message = error.map_or_else(
        || format!("child run {child} is {end}"),
        |e| format!("child run {child} is {end}: {}", e.message),
    );
    let data = json!({ "runId": child.as_str(), "state": end, "error": error });
    let error = ErrorInfo {
        name: "ChildRunError".into(),
        message,
        stack: None,
        data: Some(Json::of(&data)),
    };
    EffectResolved { error: Some(error), ..resolution(effect, Status::Error, by) }
}

/// What the parent gets at once for a detached child.
#[must_use]
pub fn child_detached(effect: &Effect, child: &RunId) -> Event {
    super::resolve_ok(effect, &Json::of(&json!({ "runId": child.as_str() })), "executor:run")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_ids_fit_and_stay_apart() {
        let parent: RunId = "p".repeat(64).parse().unwrap();
        let facts = Facts::of(&json!({ "process": "./c.js" })).unwrap();
        let one = child_id(&parent, EffectId::new(1), &facts).unwrap();
        let two = child_id(&parent, EffectId::new(2), &facts).unwrap();
        assert_eq!(one.as_str().len(), RUN_ID_BYTES_MAX);
        assert_ne!(one, two);
        let short = child_id(&"a".parse().unwrap(), EffectId::new(3), &facts).unwrap();
        assert_eq!(short.as_str(), "a.e0003");
    }
}
