//! Rows as facts and back.
//!
//! May not decide what is written. Invariant: a row that reads is one that was written here;
//! anything else is an error, and the index is made anew.

use std::fmt;
use std::str::FromStr;

use rusqlite::Row;
use rusqlite::types::Type;

use crate::codecs::event::{Head, IdempotencyRef, ParentRef};
use crate::ground::clock::Timestamp;
use crate::ground::digest::Sum;
use crate::ground::id::{EffectId, EffectName, Epoch, RunId, Seq};
use crate::machines::effect::life::EffectStatus;
use crate::machines::ledger::{self, State};
use crate::machines::replay::facts::{
    EffectFacts, KeyFacts, ReadyFacts, Reasons, RunFacts, SignalWait, StartFacts, known_state,
};

/// The columns that [`run`] reads, in its order.
pub(super) const RUN: &str = "run_id, state, native_state, process_id, process_digest, parent_id, \
    parent_effect, parent_depth, tags, created_at, last_at, head_seq, head_sum, pending, \
    create_key, create_digest, reasons, wake_at, problem";

/// The columns that [`effect`] reads, in its order.
pub(super) const EFFECT: &str = "run_id, effect, kind, status, key, title, task_id, \
    requested_at, epoch, worker, due_at, signal_name, signal_key, ready_at, priority, requires, \
    agent, ttl_ms, claim, overdue_at, limit_keys, not_before";

/// The columns that [`key`] reads, in its order.
pub(super) const KEY: &str = "run_id, effect, key, kind, status, digest, standing, outcome_seq, \
    value_digest, decided, until";

/// One effect of a list, with its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectRow {
    /// The run.
    pub run_id: RunId,
    /// The effect.
    pub facts: EffectFacts,
}

fn wrong(column: usize, why: impl fmt::Display) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why.to_string().into())
}

/// A column that holds a name in its text form.
pub(super) fn text<T: FromStr<Err: fmt::Display>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str().map_err(|e| wrong(column, e))?;
    text.parse().map_err(|e| wrong(column, e))
}

fn optional_text<T: FromStr<Err: fmt::Display>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    let value = row.get_ref(column)?.as_str_or_null().map_err(|e| wrong(column, e))?;
    value.map(|text| text.parse().map_err(|e| wrong(column, e))).transpose()
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp::from_micros(row.get(column)?))
}

pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|e| wrong(column, e))
}

pub(super) fn effect_id(row: &Row<'_>, column: usize) -> rusqlite::Result<EffectId> {
    Ok(EffectId::new(row.get(column)?))
}

pub(super) fn status(row: &Row<'_>, column: usize) -> rusqlite::Result<EffectStatus> {
    let name = row.get_ref(column)?.as_str().map_err(|e| wrong(column, e))?;
    EffectStatus::named(name).ok_or_else(|| wrong(column, name))
}

fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<&'static str> {
    let name = row.get_ref(column)?.as_str().map_err(|e| wrong(column, e))?;
    known_state(name).ok_or_else(|| wrong(column, name))
}

pub(super) fn json<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str().map_err(|e| wrong(column, e))?;
    serde_json::from_str(text).map_err(|e| wrong(column, e))
}

/// Two adjacent columns with the head of a journal.
pub(super) fn head(row: &Row<'_>, column: usize) -> rusqlite::Result<Head> {
    let sum = row.get_ref(column + 1)?.as_blob().map_err(|e| wrong(column + 1, e))?;
    let sum = sum.try_into().map_err(|e| wrong(column + 1, e))?;
    Ok(Head { seq: Seq(number(row, column)?), sum: Sum::from_bytes(sum) })
}

/// Reads [`RUN`].
pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<RunFacts> {
    let parent = match optional_text(row, 5)? {
        Some(run_id) => {
            Some(ParentRef { run_id, effect_id: effect_id(row, 6)?, depth: row.get(7)? })
        }
        None => None,
    };
    let idempotency = match row.get(14)? {
        Some(key) => Some(IdempotencyRef { key, digest: text(row, 15)? }),
        None => None,
    };
    Ok(RunFacts {
        run_id: text(row, 0)?,
        state: state(row, 1)?,
        native_state: state(row, 2)?,
        process_id: row.get(3)?,
        process_digest: optional_text(row, 4)?,
        parent,
        tags: json(row, 8)?,
        created_at: time(row, 9)?,
        last_at: time(row, 10)?,
        head: head(row, 11)?,
        pending: json(row, 13)?,
        idempotency,
        reasons: Reasons::from_bits(row.get(16)?),
        wake_at: row.get::<_, Option<i64>>(17)?.map(Timestamp::from_micros),
        problem: row.get(18)?,
    })
}

/// Reads [`EFFECT`].
pub(super) fn effect(row: &Row<'_>) -> rusqlite::Result<EffectRow> {
    let signal = match row.get(11)? {
        Some(name) => Some(SignalWait { name, correlation_key: row.get(12)? }),
        None => None,
    };
    let ready = match row.get::<_, Option<i64>>(13)? {
        Some(at) => Some(ReadyFacts {
            at: Timestamp::from_micros(at),
            not_before: row.get::<_, Option<i64>>(21)?.map(Timestamp::from_micros),
            priority: row.get(14)?,
            requires: json(row, 15)?,
            agent: row.get(16)?,
        }),
        None => None,
    };
    let start = match row.get::<_, Option<i64>>(17)? {
        Some(_) => Some(StartFacts {
            ttl_ms: number(row, 17)?,
            claim: row.get(18)?,
            overdue_at: row.get::<_, Option<i64>>(19)?.map(Timestamp::from_micros),
        }),
        None => None,
    };
    let facts = EffectFacts {
        effect_id: effect_id(row, 1)?,
        kind: row.get(2)?,
        status: status(row, 3)?,
        key: row.get(4)?,
        title: row.get(5)?,
        task_id: row.get(6)?,
        requested_at: time(row, 7)?,
        epoch: Epoch(number(row, 8)?),
        worker: row.get(9)?,
        due_at: row.get::<_, Option<i64>>(10)?.map(Timestamp::from_micros),
        signal,
        limit_keys: json(row, 20)?,
        ready,
        start,
    };
    Ok(EffectRow { run_id: text(row, 0)?, facts })
}

/// Reads [`KEY`].
pub(super) fn key(row: &Row<'_>) -> rusqlite::Result<(RunId, KeyFacts)> {
    let (run, effect, digest): (RunId, _, _) = (text(row, 0)?, effect_id(row, 1)?, text(row, 5)?);
    let state = match row.get_ref(6)?.as_str_or_null().map_err(|e| wrong(6, e))? {
        None => None,
        Some("open") => Some(State::Open),
        Some("ok") => {
            Some(State::Ok { seq: Seq(number(row, 7)?), value_digest: optional_text(row, 8)? })
        }
        Some("failed") => Some(State::Failed),
        Some("unknown") => Some(State::Unknown),
        Some(other) => return Err(wrong(6, other)),
    };
    let (is_decided, until) = (row.get(9)?, row.get::<_, Option<i64>>(10)?);
    let ended_at = until.filter(|until| *until < i64::MAX).map(Timestamp::from_micros);
    let holder = EffectName::of(&run, effect);
    let says = state.map(|state| ledger::Row { holder, digest, state, ended_at, is_decided });
    let facts = KeyFacts {
        key: row.get(2)?,
        effect_id: effect,
        kind: row.get(3)?,
        status: status(row, 4)?,
        digest,
        row: says,
    };
    Ok((run, facts))
}
