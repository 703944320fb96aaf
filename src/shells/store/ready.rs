//! What claiming asks: which effects could be started, which are, which a claim has started.
//!
//! May not decide who gets what. Invariant: what nobody may start, because it is held or its run is
//! paused, is not even read.

use std::collections::{BTreeSet, HashSet};

use rusqlite::types::Value;
use rusqlite::{Row, params};

use super::read::bound;
use super::rows::{self, EffectRow};
use super::{Index, Result};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectName, RunId};
use crate::machines::limits::Demand;
use crate::machines::ready::{Ready, rank};
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
        let is_wanted = ready.is_due(now) && self.fits(run_id, &facts.kind, ready);
        is_wanted.then(|| facts.as_ready(run_id, ready))
    }
}

/// What of a kind is executed by whoever serves the root, and so is nobody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// Tasks of these agents; none: all of the kind.
    pub agents: Option<BTreeSet<String>>,
    /// But not these effects, which it may not execute.
    pub held: BTreeSet<EffectName>,
}

impl Inside {
    /// The agents as queries take them: no row that names one of them is read.
    fn agents_json(&self) -> String {
        self.agents.as_ref().map_or_else(nobody, |agents| {
            serde_json::to_string(agents).unwrap_or_else(|_| nobody())
        })
    }
}

/// No agents.
fn nobody() -> String {
    "[]".to_owned()
}

/// Effects that could be started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Candidates {
    /// Those that were looked at.
    pub ready: Vec<Ready>,
    /// There may be others.
    pub has_more: bool,
}

/// What became of a claim that was named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claimed {
    /// What it has started and nobody has ended.
    pub started: Vec<EffectName>,
    /// It has started something.
    pub is_known: bool,
}

/// What is looked for.
struct Look<'a> {
    filter: &'a ReadyFilter,
    now: Timestamp,
    limit: usize,
    /// Agents whose tasks are not wanted.
    agents: String,
}

/// Those that never had to wait, whatever a clock says now…
const READY: &str = "WHERE kind = ?1 AND ready_at IS NOT NULL AND not_before IS NULL \
    AND instr(?3, json_quote(coalesce(agent, ''))) = 0 ORDER BY rank, run_id, effect LIMIT ?2";
/// …and those whose delay is over.
const READY_AGAIN: &str = "WHERE kind = ?1 AND not_before IS NOT NULL AND not_before <= ?4 \
    AND instr(?3, json_quote(coalesce(agent, ''))) = 0 ORDER BY not_before LIMIT ?2";
const ALL_READY: &str = "WHERE kind >= '' AND ready_at IS NOT NULL \
    AND (not_before IS NULL OR not_before <= ?1) \
    ORDER BY kind, limit_keys, run_id, rank, effect LIMIT ?2";
const READY_OF_RUN: &str = "WHERE run_id = ?3 AND kind = ?1 AND ready_at IS NOT NULL \
    AND (not_before IS NULL OR not_before <= ?2) \
    AND instr(?4, json_quote(coalesce(agent, ''))) = 0 ORDER BY rank, effect LIMIT ?5";
/// Who wants the same limits in the same run, after others who do.
const NEXT_GROUP: &str = "SELECT limit_keys, run_id FROM effects WHERE kind = ?1 \
    AND ready_at IS NOT NULL AND (limit_keys, run_id) > (?2, ?3) \
    AND instr(?4, json_quote(coalesce(agent, ''))) = 0 ORDER BY limit_keys, run_id LIMIT 1";
/// The same, of those who want other limits.
const NEXT_LIMITS: &str = "SELECT limit_keys, run_id FROM effects WHERE kind = ?1 \
    AND ready_at IS NOT NULL AND limit_keys > ?2 \
    AND instr(?3, json_quote(coalesce(agent, ''))) = 0 ORDER BY limit_keys, run_id LIMIT 1";
const READY_OF_GROUP: &str = "WHERE kind = ?1 AND limit_keys = ?3 AND run_id = ?4 \
    AND ready_at IS NOT NULL AND (not_before IS NULL OR not_before <= ?2) \
    AND instr(?5, json_quote(coalesce(agent, ''))) = 0 ORDER BY rank, effect LIMIT ?6";
/// Groups of effects of which the first are looked for when not all can be looked at.
const GROUPS_MAX: usize = 512;
/// Of each so many.
const OF_GROUP_MAX: usize = 4;
const NEXT_READY: &str = "SELECT not_before FROM effects \
    WHERE kind = ?1 AND not_before IS NOT NULL AND not_before > ?2 ORDER BY not_before LIMIT 1";
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
    all.extend([READY, READY_AGAIN, READY_OF_RUN, READY_OF_GROUP].map(of));
    all.extend([ALL_READY, STARTED, STILL].map(of));
    all
}

impl Index {
    /// Effects that could be started now by somebody outside, nearly in the order in which they
    /// should be: those that come first of all, and if there are more, the first of each run as
    /// well. What `admits` does not let start takes nobody's place, and what is `inside` neither.
    pub fn ready(
        &self,
        filter: &ReadyFilter,
        inside: Option<&Inside>,
        now: Timestamp,
        limit: usize,
        admits: &dyn Fn(&Demand) -> bool,
    ) -> Result<Candidates> {
        if !admits(&Demand::new(&filter.kind, &[])) {
            return Ok(Candidates::default());
        }
        let pick = |row: &EffectRow| filter.pick(row, now).filter(|r| admits(&r.demand));
        let agents = inside.map_or_else(nobody, Inside::agents_json);
        let look = Look { filter, now, limit, agents };
        let is_all_inside = inside.is_some_and(|inside| inside.agents.is_none());
        let mut found = if is_all_inside {
            Candidates::default()
        } else if let Some(run) = &filter.run {
            self.ready_of_run(&look, run, &pick)?
        } else {
            self.ready_of_all(&look, &pick, admits)?
        };
        for name in inside.iter().flat_map(|inside| &inside.held).take(limit) {
            let id = params![name.run.as_str(), name.effect.ordinal()];
            found.ready.extend(self.all(&of(STILL), id, rows::effect)?.iter().filter_map(pick));
        }
        Ok(found)
    }

    fn ready_of_run(
        &self,
        look: &Look<'_>,
        run: &RunId,
        pick: &dyn Fn(&EffectRow) -> Option<Ready>,
    ) -> Result<Candidates> {
        let (kind, agents) = (Value::Text(look.filter.kind.clone()), look.agents.clone());
        let run = Value::Text(run.to_string());
        let params = vec![kind, look.now.micros().into(), run, Value::Text(agents)];
        let pick = |row: &EffectRow| Ok(pick(row));
        let ready = self.walk(&of(READY_OF_RUN), params, look.limit, rows::effect, pick)?.0;
        Ok(Candidates { has_more: ready.len() >= look.limit, ready })
    }

    fn ready_of_all(
        &self,
        look: &Look<'_>,
        pick: &dyn Fn(&EffectRow) -> Option<Ready>,
        admits: &dyn Fn(&Demand) -> bool,
    ) -> Result<Candidates> {
        let Look { filter, now, limit, agents } = look;
        let params = params![filter.kind, bound(*limit), agents];
        let first = self.all(&of(READY), params, rows::effect)?;
        let params = params![filter.kind, bound(*limit), agents, now.micros()];
        let again = self.all(&of(READY_AGAIN), params, rows::effect)?;
        let mut found: Vec<Ready> = first.iter().chain(&again).filter_map(pick).collect();
        found.sort_by_cached_key(|ready| {
            (rank(ready.at, ready.priority), ready.run_id.clone(), ready.effect_id)
        });
        let has_more = first.len() >= *limit || again.len() >= *limit;
        if has_more {
            let others = self.ready_by_group(look, admits)?;
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
        look: &Look<'_>,
        admits: &dyn Fn(&Demand) -> bool,
    ) -> Result<Vec<Ready>> {
        let Look { filter, now, agents, .. } = look;
        let group = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (mut keys, mut run) = (String::new(), String::new());
        let (mut found, mut is_admitted) = (Vec::new(), true);
        for _ in 0..GROUPS_MAX {
            let next: Vec<(String, String)> = if is_admitted {
                self.all(NEXT_GROUP, params![filter.kind, keys, run, agents], group)?
            } else {
                self.all(NEXT_LIMITS, params![filter.kind, keys, agents], group)?
            };
            let Some((next_keys, next_run)) = next.into_iter().next() else { break };
            (keys, run) = (next_keys, next_run);
            let names: Vec<String> = serde_json::from_str(&keys).unwrap_or_default();
            is_admitted = admits(&Demand::new(&filter.kind, &names));
            if is_admitted {
                let bound = bound(OF_GROUP_MAX);
                let params = params![filter.kind, now.micros(), keys, run, agents, bound];
                let rows = self.all(&of(READY_OF_GROUP), params, rows::effect)?;
                found.extend(rows.iter().filter_map(|row| filter.pick(row, *now)));
            }
        }
        Ok(found)
    }

    /// Effects of all kinds that could be started now, together those who want the same limits.
    pub fn all_ready(&self, now: Timestamp, limit: usize) -> Result<Vec<Ready>> {
        let rows = self.all(&of(ALL_READY), params![now.micros(), bound(limit)], rows::effect)?;
        let ready = |row: &EffectRow| {
            let ready = row.facts.ready.as_ref().filter(|ready| ready.is_due(now))?;
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
        let run = after.map_or("", |name| name.run.as_str());
        let effect = after.map_or(0, |name| name.effect.ordinal());
        self.all(&of(STARTED), params![run, effect, bound(limit)], rows::effect)
    }

    /// What the claim of this name by this worker has started.
    pub fn claimed(&self, worker: &str, claim: &str, limit: usize) -> Result<Claimed> {
        let name = |row: &Row<'_>| {
            Ok(EffectName { run: rows::text(row, 0)?, effect: rows::effect_id(row, 1)? })
        };
        let all: Vec<EffectName> = self.all(CLAIMED, params![claim, worker, bound(limit)], name)?;
        let is_known = !all.is_empty();
        let mut started = Vec::new();
        for name in all {
            let id = params![name.run.as_str(), name.effect.ordinal()];
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
