//! Reading: one run, timers, waits, keys, what must be woken, counts.
//!
//! May not write. Invariant: every query is bounded by its caller and walks an index.

use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::{Counts, Index, Result, rows};
use crate::codecs::event::{Head, IdempotencyRef};
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId, Seq};
use crate::machines::replay::facts::{KeyFacts, RunFacts, Update};

/// A moment at which a run has to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    /// When.
    pub at: Timestamp,
    /// Which.
    pub run_id: RunId,
}

/// An effect that waits for a signal, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiter {
    /// Since when.
    pub since: Timestamp,
    /// The run.
    pub run_id: RunId,
    /// The effect.
    pub effect_id: EffectId,
}

/// A run that was created under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateKey {
    /// The run.
    pub run_id: RunId,
    /// The key, and what was asked for.
    pub idempotency: IdempotencyRef,
}

const TIMERS: &str = "SELECT wake_at, run_id FROM runs \
    WHERE wake_at IS NOT NULL AND (wake_at, run_id) > (?1, ?2) AND wake_at <= ?3 \
    ORDER BY wake_at, run_id LIMIT ?4";
const RUNNABLE: &str = "SELECT run_id FROM runs WHERE runnable = 1 AND run_id > ?1 \
    ORDER BY run_id LIMIT ?2";
/// At opening only: it goes through all that waits for child runs.
const UNHEARD: &str = "SELECT DISTINCT effects.run_id FROM effects \
    LEFT JOIN runs ON runs.parent_id = effects.run_id AND runs.parent_effect = effects.effect \
    WHERE effects.kind = 'run' AND effects.run_id > ?1 \
    AND (runs.run_id IS NULL OR runs.open = 0) ORDER BY effects.run_id LIMIT ?2";
/// At opening only: workers of this name are daemons.
const BEGUN_BY_DAEMONS: &str = "SELECT DISTINCT run_id FROM effects \
    WHERE worker >= '@daemon/' AND worker < '@daemon0' AND status = 'started' AND run_id > ?1 \
    ORDER BY run_id LIMIT ?2";
const REQUESTED_OF: &str = "SELECT DISTINCT run_id FROM effects \
    WHERE kind = ?1 AND status = 'requested' AND run_id > ?2 ORDER BY run_id LIMIT ?3";
pub(super) const OPEN: &str = "FROM runs WHERE open = 1 AND run_id > ?1 ORDER BY run_id LIMIT ?2";
pub(super) const EVERY: &str = "FROM runs WHERE run_id > ?1 ORDER BY run_id LIMIT ?2";
const WAITERS_KEYED: &str = "SELECT requested_at, run_id, effect FROM effects \
    WHERE signal_name = ?1 AND signal_key = ?2 ORDER BY requested_at, run_id, effect LIMIT ?3";
const WAITERS_ANY: &str = "SELECT requested_at, run_id, effect FROM effects \
    WHERE signal_name = ?1 AND signal_key IS NULL \
    ORDER BY requested_at, run_id, effect LIMIT ?2";
const WAITERS_BY_KEY: &str = "SELECT requested_at, run_id, effect FROM effects \
    WHERE signal_key = ?1 ORDER BY requested_at, run_id, effect LIMIT ?2";
const CORRELATED: &str = "SELECT requested_at, run_id, effect FROM effects \
    WHERE signal_key = ?1 AND (?2 IS NULL OR signal_name = ?2) \
    ORDER BY requested_at, run_id, effect LIMIT ?3";
const CREATE_KEY: &str = "SELECT run_id, create_key, create_digest FROM runs \
    WHERE create_key = ?1 ORDER BY created_at, run_id LIMIT 1";
pub(super) const EFFECT_KEYS: &str =
    "FROM effect_keys WHERE key = ?1 ORDER BY run_id, effect LIMIT ?2";
pub(super) const LIVE_KEYS: &str = "FROM effect_keys WHERE until IS NOT NULL \
    AND (until, run_id, effect) > (?1, ?2, ?3) ORDER BY until, run_id, effect LIMIT ?4";
const REREADS: &str = "SELECT run_id, head_seq FROM rereads ORDER BY run_id LIMIT ?1";

/// All queries that other modules of the store do not build, for the test of their plans.
#[cfg(test)]
pub(super) const QUERIES: &[&str] = &[
    TIMERS,
    RUNNABLE,
    WAITERS_KEYED,
    WAITERS_ANY,
    WAITERS_BY_KEY,
    CORRELATED,
    CREATE_KEY,
    REREADS,
];

impl Index {
    /// One run.
    pub fn run(&self, run: &RunId) -> Result<Option<RunFacts>> {
        let mut one = self
            .db()?
            .prepare_cached(&format!("SELECT {} FROM runs WHERE run_id = ?1", rows::RUN))?;
        Ok(one.query_row([run.as_str()], rows::run).optional()?)
    }

    /// Everything there is about one run, as [`Update::whole`] would tell it.
    pub fn whole(&self, run: &RunId) -> Result<Option<Update>> {
        let Some(facts) = self.run(run)? else { return Ok(None) };
        let effects =
            format!("SELECT {} FROM effects WHERE run_id = ?1 ORDER BY effect", rows::EFFECT);
        let open = self.all(&effects, [run.as_str()], rows::effect)?;
        let keys =
            format!("SELECT {} FROM effect_keys WHERE run_id = ?1 ORDER BY effect", rows::KEY);
        let keys = self.all(&keys, [run.as_str()], rows::key)?;
        let keys = keys.into_iter().map(|(_, key)| key).collect();
        let open = open.into_iter().map(|row| row.facts).collect();
        Ok(Some(Update { run: facts, base: None, open, ended: Vec::new(), keys }))
    }

    /// Where the index sees the journal of a run end.
    pub fn head(&self, run: &RunId) -> Result<Option<Head>> {
        let mut head =
            self.db()?.prepare_cached("SELECT head_seq, head_sum FROM runs WHERE run_id = ?1")?;
        Ok(head.query_row([run.as_str()], |row| rows::head(row, 0)).optional()?)
    }

    /// Moments after `after` and up to `until`, earliest first.
    pub fn timers(
        &self,
        after: Option<&Timer>,
        until: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Timer>> {
        let (at, run) =
            after.map_or((i64::MIN, ""), |timer| (timer.at.micros(), timer.run_id.as_str()));
        let until = until.map_or(i64::MAX, Timestamp::micros);
        self.all(TIMERS, params![at, run, until, bound(limit)], |row| {
            Ok(Timer { at: rows::time(row, 0)?, run_id: rows::text(row, 1)? })
        })
    }

    /// Runs after `after` that can go on now: what must be woken at start.
    pub fn runnable(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunId>> {
        let after = after.map_or("", RunId::as_str);
        self.all(RUNNABLE, params![after, bound(limit)], |row| rows::text(row, 0))
    }

    /// Runs that wait for a child run which has ended, or was never made, after `after` by id.
    pub fn unheard(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunId>> {
        let after = after.map_or("", RunId::as_str);
        self.all(UNHEARD, params![after, bound(limit)], |row| rows::text(row, 0))
    }

    /// Runs after `after` by id with effects that a daemon has started.
    pub fn begun_by_daemons(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunId>> {
        let after = after.map_or("", RunId::as_str);
        self.all(BEGUN_BY_DAEMONS, params![after, bound(limit)], |row| rows::text(row, 0))
    }

    /// Runs after `after` by id with effects of a kind that nobody executes.
    pub fn requested_of(
        &self,
        kind: &str,
        after: Option<&RunId>,
        limit: usize,
    ) -> Result<Vec<RunId>> {
        let after = after.map_or("", RunId::as_str);
        self.all(REQUESTED_OF, params![kind, after, bound(limit)], |row| rows::text(row, 0))
    }

    /// Runs after `after` by id: those that have not ended, or every one.
    pub fn runs_after(
        &self,
        after: Option<&RunId>,
        ended_too: bool,
        limit: usize,
    ) -> Result<Vec<RunFacts>> {
        let after = after.map_or("", RunId::as_str);
        let query = format!("SELECT {} {}", rows::RUN, if ended_too { EVERY } else { OPEN });
        self.all(&query, params![after, bound(limit)], rows::run)
    }

    /// Effects that take a signal of this name and correlation key, oldest first. Without a name:
    /// those that wait for exactly this correlation key.
    pub fn waiters(
        &self,
        name: Option<&str>,
        correlation_key: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Waiter>> {
        let limit_column = bound(limit);
        let mut found = match (name, correlation_key) {
            (Some(name), _) => self.all(WAITERS_ANY, params![name, limit_column], waiter)?,
            (None, Some(key)) => self.all(WAITERS_BY_KEY, params![key, limit_column], waiter)?,
            (None, None) => Vec::new(),
        };
        if let (Some(name), Some(key)) = (name, correlation_key) {
            found.extend(self.all(WAITERS_KEYED, params![name, key, limit_column], waiter)?);
            found.sort();
            found.truncate(limit);
        }
        Ok(found)
    }

    /// Effects that wait for exactly this correlation key, oldest first; of this name, if given.
    pub fn correlated(&self, name: Option<&str>, key: &str, limit: usize) -> Result<Vec<Waiter>> {
        self.all(CORRELATED, params![key, name, bound(limit)], waiter)
    }

    /// The run that was created under a key; the oldest, should copies have brought a second one.
    pub fn created_under(&self, key: &str) -> Result<Option<CreateKey>> {
        let mut one = self.db()?.prepare_cached(CREATE_KEY)?;
        let found = one.query_row([key], |row| {
            let idempotency = IdempotencyRef { key: row.get(1)?, digest: rows::text(row, 2)? };
            Ok(CreateKey { run_id: rows::text(row, 0)?, idempotency })
        });
        Ok(found.optional()?)
    }

    /// The effects that have an explicit idempotency key.
    pub fn effects_under(&self, key: &str, limit: usize) -> Result<Vec<(RunId, KeyFacts)>> {
        let query = format!("SELECT {} {EFFECT_KEYS}", rows::KEY);
        self.all(&query, params![key, bound(limit)], rows::key)
    }

    /// Effects with explicit keys that others may have to know of, after `after` in this order:
    /// those that ended after `since`, as time brought them, then those that have not.
    pub fn live_keys(
        &self,
        since: Timestamp,
        after: Option<&(RunId, KeyFacts)>,
        limit: usize,
    ) -> Result<Vec<(RunId, KeyFacts)>> {
        let query = format!("SELECT {} {LIVE_KEYS}", rows::KEY);
        let (until, run, effect) = match after {
            None => (since.micros(), "", 0),
            Some((run, key)) => {
                let ended_at = key.row.as_ref().and_then(|row| row.ended_at);
                let until = ended_at.map_or(i64::MAX, Timestamp::micros);
                (until, run.as_str(), key.effect_id.ordinal())
            }
        };
        self.all(&query, params![until, run, effect, bound(limit)], rows::key)
    }

    /// Runs of which the index has missed something, with the place up to which they must be read.
    pub fn rereads(&self, limit: usize) -> Result<Vec<(RunId, Seq)>> {
        self.all(REREADS, [bound(limit)], |row| {
            Ok((rows::text(row, 0)?, Seq(rows::number(row, 1)?)))
        })
    }

    /// All rows of a query.
    pub(super) fn all<T>(
        &self,
        query: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.db()?.prepare_cached(query)?;
        let found = statement.query_map(params, read)?.collect::<rusqlite::Result<_>>();
        Ok(found?)
    }

    /// What SQLite means to do for a query.
    #[cfg(test)]
    pub(super) fn plan(&self, query: &str) -> Vec<String> {
        let mut statement =
            self.db().unwrap().prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let nulls = vec![rusqlite::types::Null; statement.parameter_count()];
        let plan = statement.query_map(rusqlite::params_from_iter(nulls), |row| row.get(3));
        plan.unwrap().map(rusqlite::Result::unwrap).collect()
    }
}

fn waiter(row: &Row<'_>) -> rusqlite::Result<Waiter> {
    let since = rows::time(row, 0)?;
    Ok(Waiter { since, run_id: rows::text(row, 1)?, effect_id: rows::effect_id(row, 2)? })
}

pub(super) fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Counts everything; at opening only.
pub(super) fn counts(db: &Connection) -> rusqlite::Result<Counts> {
    let by_name = |query: &str| -> rusqlite::Result<_> {
        let mut statement = db.prepare(query)?;
        let pairs = statement.query_map([], |row| Ok((row.get(0)?, rows::number(row, 1)?)))?;
        pairs.collect()
    };
    Ok(Counts {
        runs: by_name("SELECT state, count(*) FROM runs GROUP BY state")?,
        effects: by_name("SELECT kind, count(*) FROM effects GROUP BY kind")?,
    })
}
