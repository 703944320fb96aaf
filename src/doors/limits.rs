//! Limits as answers show them.
//!
//! May not print or know HTTP. Invariant: whoever is named as a holder had a slot when asked.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ground::clock::Timestamp;
use crate::ground::id::EffectName;
use crate::services::limits::Written;
use crate::services::manager::limits::{Full, LimitSeen, Waiter};

/// What a limit is to be
///
/// What is absent stays as configured; nothing at all takes back what was set.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LimitWanted {
    /// How many may be at work; 0: nothing starts
    #[schema(maximum = 1_000_000)]
    pub(crate) concurrency: Option<u64>,
    /// How many may start, such as `10/s`, `100/min`, `5/h`
    pub(crate) rate: Option<String>,
    /// How many may start at once after a pause; else as many as the rate names
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub(crate) burst: Option<u64>,
    /// Whether an effect keeps its slot while its outcome is unknown; else under keys only
    pub(crate) hold_uncertain: Option<bool>,
}

impl From<LimitWanted> for Written {
    fn from(wanted: LimitWanted) -> Self {
        Self {
            concurrency: wanted.concurrency,
            rate: wanted.rate,
            burst: wanted.burst,
            hold_uncertain: wanted.hold_uncertain,
        }
    }
}

/// Limits
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LimitsShown {
    /// By scope and name
    pub(crate) limits: Vec<LimitShown>,
}

/// A limit, and how much of it is used
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LimitShown {
    /// `kind` or `key`
    scope: &'static str,
    /// The kind, the key, or `NAME:*` for every key that begins so
    name: String,
    /// How many may be at work
    #[schema(required)]
    concurrency: Option<u64>,
    /// How many may start
    #[schema(required)]
    rate: Option<String>,
    /// How many may start at once
    #[schema(required)]
    burst: Option<u64>,
    /// Whether an effect keeps its slot while its outcome is unknown
    #[schema(required)]
    hold_uncertain: Option<bool>,
    /// Whether it was set while a daemon ran
    changed: bool,
    /// Effects at work under it
    in_use: usize,
    /// Some of them, longest first
    holders: Vec<EffectNamed>,
    /// Kinds or keys under it that start nothing at the moment
    full: Vec<FullShown>,
    /// Effects that it keeps from starting, as far as they were counted
    waiting: usize,
    /// Some of them
    waiters: Vec<WaiterShown>,
}

/// An effect
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EffectNamed {
    /// The run
    run_id: String,
    /// The effect
    effect_id: String,
}

/// A kind or key that starts nothing at the moment
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FullShown {
    /// The kind or key
    name: String,
    /// When time alone will give room; else whoever has a slot does
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    until: Option<Timestamp>,
}

/// An effect that waits
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WaiterShown {
    /// The run
    run_id: String,
    /// The effect
    effect_id: String,
    /// Since when it could start
    #[schema(value_type = String)]
    since: Timestamp,
}

impl From<EffectName> for EffectNamed {
    fn from(holder: EffectName) -> Self {
        Self { run_id: holder.run.to_string(), effect_id: holder.effect.to_string() }
    }
}

impl From<Full> for FullShown {
    fn from(full: Full) -> Self {
        Self { name: full.name, until: full.until }
    }
}

impl From<Waiter> for WaiterShown {
    fn from(waiter: Waiter) -> Self {
        let EffectNamed { run_id, effect_id } = waiter.effect.into();
        Self { run_id, effect_id, since: waiter.since }
    }
}

impl From<LimitSeen> for LimitShown {
    fn from(seen: LimitSeen) -> Self {
        let Written { concurrency, rate, burst, hold_uncertain } = Written::from(seen.limit);
        Self {
            scope: seen.place.scope.name(),
            name: seen.place.name,
            concurrency,
            rate,
            burst,
            hold_uncertain,
            changed: seen.is_changed,
            in_use: seen.in_use,
            holders: seen.holders.into_iter().map(Into::into).collect(),
            full: seen.full.into_iter().map(Into::into).collect(),
            waiting: seen.waiting,
            waiters: seen.waiters.into_iter().map(Into::into).collect(),
        }
    }
}
