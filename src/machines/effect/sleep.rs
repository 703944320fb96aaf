//! Sleep: a moment that the runtime waits for (`ctx.sleep`, `ctx.sleepUntil`, `setTimeout`).
//!
//! May not know the present time but as an argument. Invariant: a sleep ends at or after its
//! target, never before unless someone posts it.

use super::life::Effect;
use super::{Wait, member, resolve_ok};
use crate::codecs::event::Event;
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;

/// The moment a sleep's definition names: `targetEpochMs`, milliseconds since 1970.
#[must_use]
pub fn target(def: &serde_json::Value) -> Option<Timestamp> {
    let millis = member(def, "sleep", "targetEpochMs")?;
    let whole = millis.as_i64().or_else(|| {
        // A date may have a fraction of a millisecond; it is due at the next whole one.
        #[expect(clippy::cast_possible_truncation, reason = "dates are far below 2^53")]
        millis.as_f64().map(|ms| ms.ceil() as i64)
    })?;
    Some(Timestamp::from_millis(whole))
}

/// The end of the key of a timer that only ends what takes too long: nobody waits for it.
pub const DEADLINE_MARK: &str = "~deadline";

/// When a sleep that somebody waits for ends.
#[must_use]
pub fn awaited(effect: &Effect) -> Option<Timestamp> {
    match effect.wait {
        Wait::Sleep { target } if !effect.key.ends_with(DEADLINE_MARK) => Some(target),
        _ => None,
    }
}

/// The end of a sleep that is due.
#[must_use]
pub fn due(effect: &Effect) -> Event {
    resolve_ok(effect, &Json::null(), "timer")
}
