//! What claiming asks: which effects could be started, which are, which a claim has started.
//!
//! May not decide who gets what. Invariant: what nobody may start, because it is held or its run is
//! paused, is not even read.

use std::collections::HashSet;

use rusqlite::types::Value;
use rusqlite::{Row, params};

use super::read::bound;
use super::rows::{self, EffectRow};
use super::{Index, Result};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId};
use crate::machines::limits::Demand;
use crate::machines::ready::Ready;
use crate::machines::replay::facts::ReadyFacts;

/// Which ready effects are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ReadyFilter {
    /// Of this kind.
    pub kind: String,
    /// Of this run.
    pub run: Option<RunId>,
    /// What the worker offers: effects that need more are left out.
    pub offers: Vec<String>,
    /// Tasks of agents with one of these names; none: whoever the agent is.
    pub agents: Vec<String>,
}

impl ReadyFilter {
    /// Whether an effect of a run is wanted, whenever it can be started.
    #[must_use]
    pub fn fits(&self, run: &RunId, kind: &str, ready: &ReadyFacts) -> bool {
        let offered = |name| self.offers.contains(name);
        let named = |name| self.agents.contains(name);
        self.kind == kind
            && self.run.as_ref().is_none_or(|wanted| wanted == run)
            && ready.requires.iter().all(offered)
            && (self.agents.is_empty() || ready.agent.as_ref().is_some_and(named))
    }

    /// The effect of a row, if it is wanted and could be started.
    fn pick(&self, row: &EffectRow, now: Timestamp) -> Option<Ready> {
        let EffectRow { run_id, facts } = row;
        let ready = facts.ready.as_ref()?;
        let is_wanted = ready.at <= now && self.fits(run_id, &facts.kind, ready);
        is_wanted.then(|| facts.as_ready(run_id, ready))
    }
}

/// Effects that could be started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Candidates {
    /// Those that were looked at.
    pub ready: Vec<Ready>,
    /// There may be others.
    pub has_more: bool,
}

/// An effect, with its run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectName {
    /// The run.
    pub run_id: RunId,
    /// The effect.
    pub effect_id: EffectId,
}

/// What became of a claim that was named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claimed {
    /// What it has started and nobody has ended.
    pub started: Vec<EffectName>,
    /// It has started something.
    pub is_known: bool,
}

const READY: &str = "WHERE kind = ?1 AND ready_at IS NOT NULL AND rank <= ?2 \
    ORDER BY rank, run_id, effect LIMIT ?3";
const ALL_READY: &str = "WHERE kind >= '' AND ready_at IS NOT NULL AND rank <= ?1 \
    ORDER BY kind, limit_keys, run_id, rank, effect LIMIT ?2";
const READY_OF_RUN: &str = "WHERE run_id = ?3 AND kind = ?1 AND ready_at IS NOT NULL \
    AND rank <= ?2 ORDER BY rank, effect LIMIT ?4";
/// Who wants the same limits in the same run, after others who do.
const NEXT_GROUP: &str = "SELECT limit_keys, run_id FROM effects WHERE kind = ?1 \
    AND ready_at IS NOT NULL AND (limit_keys, run_id) > (?2, ?3) \
    ORDER BY limit_keys, run_id LIMIT 1";
/// The same, of those who want other limits.
const NEXT_LIMITS: &str = "SELECT limit_keys, run_id FROM effects WHERE kind = ?1 \
    AND ready_at IS NOT NULL AND limit_keys > ?2 ORDER BY limit_keys, run_id LIMIT 1";
const READY_OF_GROUP: &str = "WHERE kind = ?1 AND limit_keys = ?3 AND run_id = ?4 \
    AND ready_at IS NOT NULL AND rank <= ?2 ORDER BY rank, effect LIMIT ?5";
/// Groups of effects of which the first are looked for when not all can be looked at.
const GROUPS_MAX: usize = 512;
/// Of each so many.
const OF_GROUP_MAX: usize = 4;
const NEXT_READY: &str = "SELECT ready_at FROM effects \
    WHERE kind = ?1 AND ready_at IS NOT NULL AND ready_at > ?2 ORDER BY ready_at LIMIT 1";
const STARTED: &str = "WHERE status = 'started' AND (run_id, effect) > (?1, ?2) \
    ORDER BY run_id, effect LIMIT ?3";
const CLAIMED: &str = "SELECT run_id, effect FROM claims \
    WHERE claim = ?1 AND worker = ?2 ORDER BY run_id, effect LIMIT ?3";
const STILL: &str = "WHERE run_id = ?1 AND effect = ?2";

fn of(tail: &str) -> String {
    format!("SELECT {} FROM effects {tail}", rows::EFFECT)
}

/// All queries of this module, for the test of their plans.
#[cfg(test)]
pub(super) fn queries() -> Vec<String> {
    let mut all = [NEXT_READY, CLAIMED, NEXT_GROUP, NEXT_LIMITS].map(str::to_owned).to_vec();
    all.extend([READY, ALL_READY, READY_OF_RUN, READY_OF_GROUP, STARTED, STILL].map(of));
    all
}

impl Index {
    /// Effects that could be started now, nearly in the order in which they should be: those that
    /// come first of all, and if there are more, the first of each run as well. What `admits` does
    /// not let start takes nobody's place.
    pub fn ready(
        &self,
        filter: &ReadyFilter,
        now: Timestamp,
        limit: usize,
        admits: &dyn Fn(&Demand) -> bool,
    ) -> Result<Candidates> {
        if !admits(&Demand::new(&filter.kind, &[])) {
            return Ok(Candidates::default());
        }
        let pick = |row: &EffectRow| Ok(filter.pick(row, now).filter(|r| admits(&r.demand)));
        let (kind, now_micros) = (Value::Text(filter.kind.clone()), Value::from(now.micros()));
        if let Some(run) = &filter.run {
            let params = vec![kind, now_micros, Value::Text(run.to_string())];
            let ready = self.walk(&of(READY_OF_RUN), params, limit, rows::effect, pick)?.0;
            return Ok(Candidates { has_more: ready.len() >= limit, ready });
        }
        let params = params![filter.kind, now.micros(), bound(limit)];
        let first = self.all(&of(READY), params, rows::effect)?;
        let mut found = Vec::new();
        for row in &first {
            found.extend(pick(row)?);
        }
        let has_more = first.len() >= limit;
        if has_more {
            let others = self.ready_by_group(filter, now, admits)?;
            let known: HashSet<_> =
                found.iter().map(|ready| (ready.run_id.clone(), ready.effect_id)).collect();
            let is_new = |ready: &Ready| !known.contains(&(ready.run_id.clone(), ready.effect_id));
            found.extend(others.into_iter().filter(is_new));
        }
        Ok(Candidates { ready: found, has_more })
    }

    /// The first effects of each run, and in a run of those who want the same limits. Whoever wants
    /// a limit that is used up is passed over in one go.
    fn ready_by_group(
        &self,
        filter: &ReadyFilter,
        now: Timestamp,
        admits: &dyn Fn(&Demand) -> bool,
    ) -> Result<Vec<Ready>> {
        let group = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (mut keys, mut run) = (String::new(), String::new());
        let (mut found, mut is_admitted) = (Vec::new(), true);
        for _ in 0..GROUPS_MAX {
            let next: Vec<(String, String)> = if is_admitted {
                self.all(NEXT_GROUP, params![filter.kind, keys, run], group)?
            } else {
                self.all(NEXT_LIMITS, params![filter.kind, keys], group)?
            };
            let Some((next_keys, next_run)) = next.into_iter().next() else { break };
            (keys, run) = (next_keys, next_run);
            let names: Vec<String> = serde_json::from_str(&keys).unwrap_or_default();
            is_admitted = admits(&Demand::new(&filter.kind, &names));
            if is_admitted {
                let bound = bound(OF_GROUP_MAX);
                let params = params![filter.kind, now.micros(), keys, run, bound];
                let rows = self.all(&of(READY_OF_GROUP), params, rows::effect)?;
                found.extend(rows.iter().filter_map(|row| filter.pick(row, now)));
            }
        }
        Ok(found)
    }

    /// Effects of all kinds that could be started now, together those who want the same limits.
    pub fn all_ready(&self, now: Timestamp, limit: usize) -> Result<Vec<Ready>> {
        let rows = self.all(&of(ALL_READY), params![now.micros(), bound(limit)], rows::effect)?;
        let ready = |row: &EffectRow| {
            let ready = row.facts.ready.as_ref().filter(|ready| ready.at <= now)?;
            Some(row.facts.as_ready(&row.run_id, ready))
        };
        Ok(rows.iter().filter_map(ready).collect())
    }

    /// When the next effect of a kind can be started that cannot be now.
    pub fn next_ready(&self, kind: &str, now: Timestamp) -> Result<Option<Timestamp>> {
        let times = self.all(NEXT_READY, params![kind, now.micros()], |row| rows::time(row, 0))?;
        Ok(times.first().copied())
    }

    /// Effects that somebody is at, after `after` by name.
    pub fn started(&self, after: Option<&EffectName>, limit: usize) -> Result<Vec<EffectRow>> {
        let run = after.map_or("", |name| name.run_id.as_str());
        let effect = after.map_or(0, |name| name.effect_id.ordinal());
        self.all(&of(STARTED), params![run, effect, bound(limit)], rows::effect)
    }

    /// What the claim of this name by this worker has started.
    pub fn claimed(&self, worker: &str, claim: &str, limit: usize) -> Result<Claimed> {
        let name = |row: &Row<'_>| {
            Ok(EffectName { run_id: rows::text(row, 0)?, effect_id: rows::effect_id(row, 1)? })
        };
        let all: Vec<EffectName> = self.all(CLAIMED, params![claim, worker, bound(limit)], name)?;
        let is_known = !all.is_empty();
        let mut started = Vec::new();
        for name in all {
            let id = params![name.run_id.as_str(), name.effect_id.ordinal()];
            let rows = self.all(&of(STILL), id, rows::effect)?;
            let holds = |row: &EffectRow| {
                let same =
                    row.facts.start.as_ref().is_some_and(|s| s.claim.as_deref() == Some(claim));
                same && row.facts.worker.as_deref() == Some(worker)
            };
            started.extend(rows.iter().any(holds).then_some(name));
        }
        Ok(Claimed { started, is_known })
    }
}
