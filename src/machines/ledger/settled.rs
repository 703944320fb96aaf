//! Settled: the records of an effect that its key keeps from being started.
//!
//! May not read the outcome that is taken over: it is given. Invariant: what is recorded names the
//! effect that holds the key, so that a person finds it.

use serde_json::json;

use super::BY;
use crate::codecs::event::{
    EffectResolved, EffectUncertain, Event, OnUncertain, ReusedFrom, Status,
};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::EffectName;
use crate::machines::effect::attempt::never_known;
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::machines::effect::{plain_error, resolution, resolve_error};

/// The name of the error of an effect whose key stands for other work.
pub const KEY_CONFLICT: &str = "KeyConflict";
/// Why an effect is uncertain that was never started.
const KEY_OUTCOME_UNKNOWN: &str = "key_outcome_unknown";

/// T03: the key stands for other work.
#[must_use]
pub fn conflict(effect: &Effect, holder: &EffectName, digest: Digest) -> Event {
    let key = effect.policy.idempotency_key.as_deref().unwrap_or_default();
    let EffectName { run, effect: other } = holder;
    let what = format!("the idempotency key {key:?} stands for other work, that of {run}/{other}");
    let data = Json::of(&json!({
        "key": key, "defDigest": effect.def_digest,
        "holder": { "runId": run, "effectId": other, "defDigest": digest },
    }));
    let mut error = plain_error(KEY_CONFLICT, what);
    error.data = Some(data);
    resolve_error(effect, error, BY)
}

/// T09: the work was done already, and `value` came of it.
#[must_use]
pub fn reuse(effect: &Effect, from: &ReusedFrom, value: Option<Json>) -> Event {
    EffectResolved {
        value_digest: from.value_digest,
        value,
        reused_from: Some(from.clone()),
        ..resolution(effect, Status::Ok, BY)
    }
    .into()
}

/// T10: nobody knows whether the work was done. `why` is what keeps its outcome from being read, if
/// there is one.
#[must_use]
pub fn unknown(
    effect: &Effect,
    holder: &EffectName,
    why: Option<&str>,
    now: Timestamp,
) -> Vec<Event> {
    let EffectName { run, effect: other } = holder;
    let mut evidence = json!({ "holder": { "runId": run, "effectId": other } });
    if let Some(why) = why {
        evidence["unreadable"] = why.into();
    }
    let uncertain = EffectUncertain {
        effect_id: effect.id,
        epoch: effect.epoch,
        cause: KEY_OUTCOME_UNKNOWN.to_owned(),
        evidence: Some(Json::of(&evidence)),
    };
    let is_over = effect.deadline().is_some_and(|at| at <= now);
    let gives_up = effect.policy.on_uncertain == OnUncertain::Error || is_over;
    let end = gives_up.then(|| {
        let effect = Effect { status: EffectStatus::Uncertain, ..effect.clone() };
        never_known(&effect, KEY_OUTCOME_UNKNOWN, BY)
    });
    [uncertain.into()].into_iter().chain(end).collect()
}
