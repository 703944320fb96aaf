//! What claiming asks: which effects could be started, which are, which a claim has started.
//!
//! May not decide who gets what. Invariant: what nobody may start, because it is held or its run is
//! paused, is not even read.

use rusqlite::types::Value;
use rusqlite::{Row, params};

use super::read::bound;
use super::rows::{self, EffectRow};
use super::{Index, Result};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId};
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

    fn admits(&self, row: &EffectRow, now: Timestamp) -> bool {
        let EffectRow { run_id, facts } = row;
        let fits = |ready: &ReadyFacts| ready.at <= now && self.fits(run_id, &facts.kind, ready);
        facts.ready.as_ref().is_some_and(fits)
    }
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
const READY_OF_RUN: &str = "WHERE run_id = ?3 AND kind = ?1 AND ready_at IS NOT NULL \
    AND rank <= ?2 ORDER BY rank, effect LIMIT ?4";
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
    let mut all = vec![NEXT_READY.to_owned(), CLAIMED.to_owned()];
    all.extend([READY, READY_OF_RUN, STARTED, STILL].map(of));
    all
}

impl Index {
    /// Effects that could be started now, nearly in the order in which they should be.
    pub fn ready(&self, filter: &ReadyFilter, now: Timestamp, limit: usize) -> Result<Vec<Ready>> {
        let mut params = vec![Value::Text(filter.kind.clone()), now.micros().into()];
        params.extend(filter.run.as_ref().map(|run| Value::Text(run.to_string())));
        let query = of(if filter.run.is_some() { READY_OF_RUN } else { READY });
        let pick = |row: &EffectRow| {
            let ready = row.facts.ready.as_ref().filter(|_| filter.admits(row, now));
            Ok(ready.map(|ready| Ready {
                run_id: row.run_id.clone(),
                effect_id: row.facts.effect_id,
                kind: row.facts.kind.clone(),
                at: ready.at,
                priority: ready.priority,
            }))
        };
        Ok(self.walk(&query, params, limit, rows::effect, pick)?.0)
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
