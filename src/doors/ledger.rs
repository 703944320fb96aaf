//! The ledger: every effect under the key by which the outside knows it.
//!
//! May not print or know HTTP. Invariant: a row is a function of its run's verified journal.

use serde::Serialize;
use utoipa::ToSchema;

use crate::codecs::event::Event;
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, RunId};
use crate::machines::effect::life::{Effect, EffectStatus};
use crate::services::runs::view::Look;

/// Rows of the ledger
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ledger {
    /// In order of request
    pub(crate) rows: Vec<Row>,
    /// Where the next page begins, if there is one
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next_page_token: Option<String>,
}

/// One effect and its key
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    /// The key by which the outside knows it
    key: String,
    /// Whether its author gave it
    explicit: bool,
    /// The run
    #[schema(value_type = String)]
    run_id: RunId,
    /// The effect
    #[schema(value_type = String)]
    effect_id: EffectId,
    /// Its kind
    kind: String,
    /// The number of its last start; 0: none
    epoch: u64,
    /// Attempts that were started
    attempt: u32,
    /// Who started it last
    #[schema(required)]
    worker: Option<String>,
    /// `open`, `uncertain`, `ok`, `error`, `cancelled`
    state: &'static str,
    /// When it was asked for
    #[schema(value_type = String)]
    requested_at: Timestamp,
    /// When it was last started
    #[schema(required, value_type = Option<String>)]
    started_at: Option<Timestamp>,
    /// When it ended
    #[schema(required, value_type = Option<String>)]
    ended_at: Option<Timestamp>,
    /// Digest of its value
    #[schema(required, value_type = Option<String>)]
    value_digest: Option<Digest>,
    /// Who decided its outcome, and why, if somebody did
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    decision: Option<Json>,
    /// The effect whose outcome it took over
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    reused_from: Option<Json>,
}

/// Which rows are wanted. What is absent does not restrict.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Under this key.
    pub(crate) key: Option<String>,
    /// Last started by this worker.
    pub(crate) worker: Option<String>,
    /// In this state.
    pub(crate) state: Option<String>,
    /// Asked for at or after this.
    pub(crate) since: Option<Timestamp>,
}

/// The states of the ledger.
pub(crate) const STATES: [&str; 5] = ["open", "uncertain", "ok", "error", "cancelled"];

const fn state_of(status: EffectStatus) -> &'static str {
    match status {
        EffectStatus::Requested | EffectStatus::Started => "open",
        other => other.name(),
    }
}

impl Wanted {
    fn admits(&self, run: &RunId, effect: &Effect) -> bool {
        self.key.as_ref().is_none_or(|key| *key == effect.idempotency_key(run))
            && (self.worker.is_none() || self.worker == effect.worker)
            && self.state.as_ref().is_none_or(|state| state == state_of(effect.status))
            && self.since.is_none_or(|since| effect.requested_at >= since)
    }

    /// The rows of a run.
    pub(crate) fn rows(&self, look: Look<'_>) -> Vec<Row> {
        let run = look.dir.id();
        let wanted = look.state.effects.values().filter(|effect| self.admits(run, effect));
        wanted.map(|effect| Row::of(look, effect)).collect()
    }
}

impl Row {
    /// The row of an effect.
    pub(crate) fn of(look: Look<'_>, effect: &Effect) -> Self {
        let run = look.dir.id();
        let ended = effect.ended.as_ref();
        let record = ended.and_then(|ended| {
            let at = usize::try_from(ended.seq.0.checked_sub(1)?).ok()?;
            look.records.get(at)
        });
        let resolved = record.and_then(|record| match &record.event {
            Event::EffectResolved(resolved) => Some(resolved),
            _ => None,
        });
        Self {
            key: effect.idempotency_key(run),
            explicit: effect.policy.idempotency_key.is_some(),
            run_id: run.clone(),
            effect_id: effect.id,
            kind: effect.kind.clone(),
            epoch: effect.epoch.0,
            attempt: effect.attempts,
            worker: effect.worker.clone(),
            state: state_of(effect.status),
            requested_at: effect.requested_at,
            started_at: effect.started_at,
            ended_at: ended.map(|ended| ended.at),
            value_digest: resolved.and_then(|resolved| resolved.value_digest),
            decision: resolved.and_then(|r| r.decision.as_ref()).map(Json::of),
            reused_from: resolved.and_then(|r| r.reused_from.as_ref()).map(Json::of),
        }
    }

    /// In which order rows stand.
    pub(crate) fn place(&self) -> (Timestamp, RunId, EffectId) {
        (self.requested_at, self.run_id.clone(), self.effect_id)
    }
}

/// The effect that a key names which nobody gave: `<run>/<effect>`.
pub(crate) fn named(key: &str) -> Option<(RunId, EffectId)> {
    let (run, effect) = key.split_once('/')?;
    Some((run.parse().ok()?, effect.parse().ok()?))
}
