//! What a job was asked: read from the inputs of its run.
//!
//! May not guess. Invariant: a run that no message made has the goal that its inputs name, or none.

use serde::Deserialize;

use crate::codecs::event::{Event, Payload};
use crate::codecs::json::Json;
use crate::machines::replay::state::RunState;
use crate::services::runs::view::Look;

/// What begins the tag of a run that a message made; the agent's id follows.
const TAG: &str = "agent:";

/// The tag of an agent's jobs.
pub(super) fn tag_of(agent: &str) -> String {
    format!("{TAG}{agent}")
}

/// The agent that a job was given to; empty for other runs.
pub(super) fn agent_of(state: &RunState) -> &str {
    state.tags.iter().find_map(|tag| tag.strip_prefix(TAG)).unwrap_or("")
}

/// What a job was asked, as a text.
pub(super) fn goal_of(look: &Look<'_>) -> Option<String> {
    #[derive(Deserialize)]
    struct Inputs {
        goal: Option<Json>,
        message: Option<Json>,
    }
    let Some(Event::RunCreated(created)) = look.records.first().map(|record| &record.event) else {
        return None;
    };
    let inputs = Payload::join(created.inputs.as_ref(), created.inputs_blob.as_ref())?;
    let inputs = look.value(&inputs).ok()?.read::<Inputs>().ok()?;
    let goal = inputs.goal.or(inputs.message)?;
    Some(goal.read::<String>().unwrap_or_else(|_| goal.as_str().to_owned()))
}
