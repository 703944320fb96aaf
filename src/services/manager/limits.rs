//! Limits as operators see and set them.
//!
//! May not start anything. Invariant: a limit that was set counts when its setting is answered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::ground::clock::Timestamp;
use crate::ground::id::EffectName;
use crate::ground::limits::{INDEX_SCAN_ROWS_MAX, LIMIT_NAMES_SHOWN_MAX};
use crate::machines::limits::{Bucket, Demand, Level, Limit};
use crate::machines::ready::Ready;
use crate::ports::telemetry::Metrics;
use crate::services::indexer::Unavailable;
use crate::services::runs::Result;
use crate::shells::store::{self, Index};

use super::claims::unavailable;
use super::handle::Handle;
use super::slots::Slots;

/// A limit, and how much of it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSeen {
    /// Its place.
    pub place: Bucket,
    /// What counts.
    pub limit: Limit,
    /// It was set while a daemon ran.
    pub is_changed: bool,
    /// Effects at work under it.
    pub in_use: usize,
    /// Some of them, longest first.
    pub holders: Vec<EffectName>,
    /// Kinds and keys under it that start nothing at the moment.
    pub full: Vec<Full>,
    /// Effects that it keeps from starting, as far as they were counted.
    pub waiting: usize,
    /// Some of them.
    pub waiters: Vec<Waiter>,
}

/// A kind or key that starts nothing at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Its name.
    pub name: String,
    /// When time alone will give room.
    pub until: Option<Timestamp>,
}

/// An effect that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiter {
    /// The effect.
    pub effect: EffectName,
    /// Since when it could start.
    pub since: Timestamp,
}

/// Who waits for a limit.
#[derive(Default)]
struct Line {
    count: usize,
    first: Vec<Waiter>,
}

impl Handle {
    /// All limits that are set.
    pub async fn limits(&self) -> Result<Vec<LimitSeen>> {
        self.limits_seen(None).await
    }

    /// One limit, or what is known of its place if none is set there.
    pub async fn limit(&self, place: &Bucket) -> Result<LimitSeen> {
        let mut seen = self.limits_seen(Some(place.clone())).await?.into_iter();
        let none = || LimitSeen {
            place: place.clone(),
            limit: Limit::default(),
            is_changed: false,
            in_use: 0,
            holders: Vec::new(),
            full: Vec::new(),
            waiting: 0,
            waiters: Vec::new(),
        };
        Ok(seen.next().unwrap_or_else(none))
    }

    /// Writes down how much of each limit is used; waits for the index.
    pub fn gauge_limits(&self, metrics: &Metrics) {
        let (slots, now) = (self.slots().clone(), self.runs().clock.now());
        let levels = slots.levels();
        if levels.is_empty() {
            return;
        }
        // An index that does not answer leaves the numbers as they were.
        let lines = self.indexer().ask(move |index| lines(index, &slots, now)).ok();
        for level in levels {
            let labels = [level.limit.scope.name(), level.limit.name.as_str()];
            metrics.limit_in_use.with(labels).set(level.in_use as u64);
            if let Some(lines) = &lines {
                let waiting = lines.get(&level.limit).map_or(0, |line| line.count);
                metrics.limit_waiting.with(labels).set(waiting as u64);
            }
        }
    }

    /// Sets a limit for good; one that says nothing is as configured.
    pub async fn set_limit(&self, place: &Bucket, limit: Limit) -> Result<()> {
        let (handle, place) = (self.clone(), place.clone());
        self.aside(move |_| {
            let tell = |limit| handle.slots().set(place.clone(), limit);
            handle.limit_book().set(&place, limit, tell)
        })
        .await?;
        // The manager looks whose turn it is now.
        self.look(|_| ()).await
    }

    /// Limits the effects of agents as their file says.
    pub fn limit_agents(&self, limits: &BTreeMap<Bucket, Limit>) {
        let tell = |place: &Bucket, limit| self.slots().set(place.clone(), limit);
        self.limit_book().limit_agents(limits, tell);
        // The manager looks whose turn it is. One that has ended needs no limits.
        let _ = self.tell(|_| ());
    }

    async fn limits_seen(&self, only: Option<Bucket>) -> Result<Vec<LimitSeen>> {
        let (slots, now) = (self.slots().clone(), self.runs().clock.now());
        let levels = slots.levels().into_iter();
        let levels: Vec<Level> =
            levels.filter(|level| only.as_ref().is_none_or(|only| *only == level.limit)).collect();
        let (asked, is_any_full) = (slots.clone(), levels.iter().any(|l| !l.full.is_empty()));
        let mut lines = if is_any_full {
            let lines = self.indexer().query(move |index| lines(index, &asked, now)).await;
            lines.unwrap_or(Err(Unavailable::Stopped)).map_err(unavailable)?
        } else {
            HashMap::new()
        };
        let seen = levels.into_iter().map(|level| {
            let line = lines.remove(&level.limit).unwrap_or_default();
            LimitSeen {
                is_changed: self.limit_book().is_changed(&level.limit),
                place: level.limit,
                limit: level.set,
                in_use: level.in_use,
                holders: level.holders,
                full: level.full.iter().map(|held| slots.full(held, now)).collect(),
                waiting: line.count,
                waiters: line.first,
            }
        });
        Ok(seen.collect())
    }
}

/// Who waits for which limit, of those who could start otherwise.
fn lines(index: &Index, slots: &Slots, now: Timestamp) -> store::Result<HashMap<Bucket, Line>> {
    let mut lines: HashMap<Bucket, Line> = HashMap::new();
    let mut known: BTreeMap<Arc<Demand>, Option<Bucket>> = BTreeMap::new();
    for Ready { run_id, effect_id, at, demand, .. } in index.all_ready(now, INDEX_SCAN_ROWS_MAX)? {
        let limit = known.entry(demand).or_insert_with_key(|demand| slots.limit_that_holds(demand));
        let Some(limit) = limit else { continue };
        let line = lines.entry(limit.clone()).or_default();
        line.count += 1;
        if line.first.len() < LIMIT_NAMES_SHOWN_MAX {
            let effect = EffectName { run: run_id, effect: effect_id };
            line.first.push(Waiter { effect, since: at });
        }
    }
    Ok(lines)
}
