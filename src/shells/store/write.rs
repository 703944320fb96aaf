//! Writing: a batch of changes as one transaction.
//!
//! May not know where changes come from. Invariant: a row never goes back to an earlier head by
//! itself; a change that builds on more than the row has is noted, never guessed.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Batch, Change, Counts, Index, Result, file, read, rows};
use crate::codecs::event::Head;
use crate::ground::clock::Timestamp;
use crate::ground::id::{RunId, Seq};
use crate::machines::ledger::State;
use crate::machines::ready::rank;
use crate::machines::replay::facts::{EffectFacts, KeyFacts, Reason, RunFacts, Update};

impl Index {
    /// Applies a batch: all of it, or nothing.
    pub fn apply(&mut self, batch: &Batch) -> Result<()> {
        self.apply_all(std::slice::from_ref(batch))
    }

    /// Applies several batches in one transaction.
    pub fn apply_all(&mut self, batches: &[Batch]) -> Result<()> {
        let applied = batches.iter().map(|batch| batch.frame).fold(self.applied, u64::max);
        // In memory, and right only when the transaction is: after an error nobody reads them.
        let mut counts = std::mem::take(&mut self.counts);
        let (mut missed, mut mended) = (false, false);
        let transaction = self.db()?.unchecked_transaction()?;
        for change in batches.iter().flat_map(|batch| &batch.changes) {
            let outcome = put(&transaction, &mut counts, change)?;
            missed |= outcome == Outcome::Missed;
            mended |= outcome == Outcome::Mended;
        }
        if mended {
            // What was wrong may have been counted wrongly, too.
            counts = read::counts(&transaction)?;
        }
        if applied != self.applied {
            file::put_meta(
                &transaction,
                "applied_seq",
                i64::try_from(applied).unwrap_or(i64::MAX),
            )?;
        }
        transaction.commit()?;
        (self.counts, self.applied) = (counts, applied);
        self.missed |= missed;
        Ok(())
    }
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Done,
    /// It builds on more than there is.
    Missed,
    Mended,
}

fn put(db: &Connection, counts: &mut Counts, change: &Change) -> rusqlite::Result<Outcome> {
    match change {
        Change::Put(update) => {
            let old = Old::of(db, &update.run.run_id)?;
            let stored = old.as_ref().map_or(Seq(0), |old| old.head.seq);
            let head = update.run.head.seq;
            match update.base {
                _ if stored > head && update.run.problem.is_none() => {}
                Some(base) if stored < base => {
                    note_reread(db, &update.run.run_id, head)?;
                    return Ok(Outcome::Missed);
                }
                _ => replace(db, counts, old.as_ref(), update)?,
            }
        }
        Change::Mend { run, seen, right } => {
            let old = Old::of(db, run)?;
            if old.as_ref().map(|old| old.head) != *seen {
                return Ok(Outcome::Done);
            }
            remove(db, counts, run, old.as_ref())?;
            if right.as_ref().is_none_or(|right| right.run.problem.is_none()) {
                forget_keys(db, run)?;
            }
            match right {
                Some(update) => replace(db, counts, None, update)?,
                None => forget_reread(db, run)?,
            }
            return Ok(Outcome::Mended);
        }
        Change::Gone(run) => {
            remove(db, counts, run, Old::of(db, run)?.as_ref())?;
            forget_keys(db, run)?;
            forget_reread(db, run)?;
        }
    }
    Ok(Outcome::Done)
}

/// What a row says that decides how it is replaced.
struct Old {
    state: String,
    head: Head,
    pending: std::collections::BTreeMap<String, u64>,
    wake_at: Option<i64>,
    runnable: bool,
    process_digest: Option<String>,
    problem: bool,
}

impl Old {
    fn of(db: &Connection, run: &RunId) -> rusqlite::Result<Option<Self>> {
        let mut old = db.prepare_cached(
            "SELECT state, head_seq, head_sum, pending, wake_at, runnable, process_digest, \
             problem IS NOT NULL FROM runs WHERE run_id = ?1",
        )?;
        old.query_row([run.as_str()], |row| {
            Ok(Self {
                state: row.get(0)?,
                head: rows::head(row, 1)?,
                pending: rows::json(row, 3)?,
                wake_at: row.get(4)?,
                runnable: row.get(5)?,
                process_digest: row.get(6)?,
                problem: row.get(7)?,
            })
        })
        .optional()
    }
}

/// The run must be read again up to `head` at least.
fn note_reread(db: &Connection, run: &RunId, head: Seq) -> rusqlite::Result<()> {
    let mut note = db.prepare_cached(
        "INSERT INTO rereads (run_id, head_seq) VALUES (?1, ?2) \
         ON CONFLICT (run_id) DO UPDATE SET head_seq = max(head_seq, excluded.head_seq)",
    )?;
    note.execute(params![run.as_str(), whole(head.0)])?;
    Ok(())
}

fn forget_reread(db: &Connection, run: &RunId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM rereads WHERE run_id = ?1")?.execute([run.as_str()])?;
    Ok(())
}

/// The run says nothing about keys any more. One that cannot be read has said what it said: nobody
/// else may take its work for undone.
fn forget_keys(db: &Connection, run: &RunId) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM effect_keys WHERE run_id = ?1")?.execute([run.as_str()])?;
    Ok(())
}

fn replace(
    db: &Connection,
    counts: &mut Counts,
    old: Option<&Old>,
    update: &Update,
) -> rusqlite::Result<()> {
    let (run, id) = (&update.run, update.run.run_id.as_str());
    match old {
        // What never changes in a run's life may change when another copy of it is read.
        Some(old) if old.problem || run.problem.is_some() => {
            remove(db, counts, &run.run_id, Some(old))?;
            if run.problem.is_none() {
                forget_keys(db, &run.run_id)?;
            }
            insert(db, run)?;
        }
        None => insert(db, run)?,
        Some(old) => renew(db, old, run)?,
    }
    if update.base.is_none() {
        db.prepare_cached("DELETE FROM effects WHERE run_id = ?1")?.execute([id])?;
        db.prepare_cached("DELETE FROM rereads WHERE run_id = ?1 AND head_seq <= ?2")?
            .execute(params![id, whole(run.head.seq.0)])?;
    }
    for effect in &update.ended {
        db.prepare_cached("DELETE FROM effects WHERE run_id = ?1 AND effect = ?2")?
            .execute(params![id, effect.ordinal()])?;
    }
    update.open.iter().try_for_each(|effect| put_effect(db, id, effect))?;
    update.keys.iter().try_for_each(|key| put_key(db, id, key))?;
    count(counts, old.filter(|old| !old.problem && run.problem.is_none()), run);
    Ok(())
}

fn count(counts: &mut Counts, old: Option<&Old>, run: &RunFacts) {
    if let Some(old) = old {
        discount(counts, old);
    }
    *counts.runs.entry(run.state.to_owned()).or_default() += 1;
    for (kind, n) in &run.pending {
        *counts.effects.entry(kind.clone()).or_default() += u64::from(*n);
    }
}

fn discount(counts: &mut Counts, old: &Old) {
    take(&mut counts.runs, &old.state, 1);
    for (kind, n) in &old.pending {
        take(&mut counts.effects, kind, *n);
    }
}

/// A name that counts nothing is not listed, as if it had never been.
fn take(counts: &mut std::collections::BTreeMap<String, u64>, name: &str, n: u64) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_sub(n);
        if *count == 0 {
            counts.remove(name);
        }
    }
}

fn remove(
    db: &Connection,
    counts: &mut Counts,
    run: &RunId,
    old: Option<&Old>,
) -> rusqlite::Result<()> {
    let id = run.as_str();
    let mut tags = db.prepare_cached("SELECT tags, created_at FROM runs WHERE run_id = ?1")?;
    let tagged = tags
        .query_row([id], |row| Ok((rows::json::<Vec<String>>(row, 0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    for tag in tagged.iter().flat_map(|(tags, _)| tags) {
        let created_at = tagged.as_ref().map(|(_, at)| *at);
        db.prepare_cached("DELETE FROM tags WHERE tag = ?1 AND created_at = ?2 AND run_id = ?3")?
            .execute(params![tag, created_at, id])?;
    }
    for table in ["effects", "claims", "runs"] {
        db.prepare_cached(&format!("DELETE FROM {table} WHERE run_id = ?1"))?.execute([id])?;
    }
    if let Some(old) = old {
        discount(counts, old);
    }
    Ok(())
}

fn insert(db: &Connection, run: &RunFacts) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO runs (run_id, state, native_state, open, runnable, process_id, \
         process_digest, parent_id, parent_effect, parent_depth, tags, created_at, last_at, \
         head_seq, head_sum, pending, create_key, create_digest, reasons, wake_at, problem) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
         ?18, ?19, ?20, ?21)",
    )?;
    let (parent, key) = (run.parent.as_ref(), run.idempotency.as_ref());
    insert.execute(params![
        run.run_id.as_str(),
        run.state,
        run.native_state,
        run.is_open(),
        run.reasons.has(Reason::Runnable),
        run.process_id,
        run.process_digest.map(|digest| digest.to_string()),
        parent.map(|p| p.run_id.as_str()),
        parent.map(|p| p.effect_id.ordinal()),
        parent.map(|p| p.depth),
        as_json(&run.tags),
        run.created_at.micros(),
        run.last_at.micros(),
        whole(run.head.seq.0),
        run.head.sum.as_bytes(),
        as_json(&run.pending),
        key.map(|key| &key.key),
        key.map(|key| key.digest.to_string()),
        run.reasons.bits(),
        run.wake_at.map(Timestamp::micros),
        run.problem,
    ])?;
    for tag in &run.tags {
        db.prepare_cached(
            "INSERT OR IGNORE INTO tags (tag, created_at, run_id) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![tag, run.created_at.micros(), run.run_id.as_str()])?;
    }
    Ok(())
}

/// Brings a row up to date. Columns that stand in an index are written only when they change: an
/// update of one is an update of the index.
fn renew(db: &Connection, old: &Old, run: &RunFacts) -> rusqlite::Result<()> {
    let runnable = run.reasons.has(Reason::Runnable);
    let mut hot = db.prepare_cached(
        "UPDATE runs SET native_state = ?2, last_at = ?3, head_seq = ?4, head_sum = ?5, \
         pending = ?6, reasons = ?7 WHERE run_id = ?1",
    )?;
    hot.execute(params![
        run.run_id.as_str(),
        run.native_state,
        run.last_at.micros(),
        whole(run.head.seq.0),
        run.head.sum.as_bytes(),
        as_json(&run.pending),
        run.reasons.bits(),
    ])?;
    if runnable != old.runnable {
        db.prepare_cached("UPDATE runs SET runnable = ?2 WHERE run_id = ?1")?
            .execute(params![run.run_id.as_str(), runnable])?;
    }
    let wake_at = run.wake_at.map(Timestamp::micros);
    if wake_at != old.wake_at {
        db.prepare_cached("UPDATE runs SET wake_at = ?2 WHERE run_id = ?1")?
            .execute(params![run.run_id.as_str(), wake_at])?;
    }
    if run.state != old.state {
        db.prepare_cached("UPDATE runs SET state = ?2, open = ?3 WHERE run_id = ?1")?
            .execute(params![run.run_id.as_str(), run.state, run.is_open()])?;
    }
    let digest = run.process_digest.map(|digest| digest.to_string());
    if digest != old.process_digest {
        db.prepare_cached(
            "UPDATE runs SET process_id = ?2, process_digest = ?3 WHERE run_id = ?1",
        )?
        .execute(params![run.run_id.as_str(), run.process_id, digest])?;
    }
    Ok(())
}

fn put_effect(db: &Connection, run: &str, effect: &EffectFacts) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached(
        "INSERT INTO effects (run_id, effect, kind, status, key, title, task_id, requested_at, \
         epoch, worker, due_at, signal_name, signal_key, ready_at, priority, rank, requires, \
         agent, ttl_ms, claim, overdue_at, limit_keys, not_before, since) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, \
         ?18, ?19, ?20, ?21, ?22, ?23, ?24) \
         ON CONFLICT (run_id, effect) DO UPDATE SET status = excluded.status, \
         epoch = excluded.epoch, worker = excluded.worker, due_at = excluded.due_at, \
         ready_at = excluded.ready_at, priority = excluded.priority, rank = excluded.rank, \
         requires = excluded.requires, agent = excluded.agent, ttl_ms = excluded.ttl_ms, \
         claim = excluded.claim, overdue_at = excluded.overdue_at, \
         not_before = excluded.not_before, since = excluded.since",
    )?;
    let (signal, ready) = (effect.signal.as_ref(), effect.ready.as_ref());
    let start = effect.start.as_ref();
    put.execute(params![
        run,
        effect.effect_id.ordinal(),
        effect.kind,
        effect.status.name(),
        effect.key,
        effect.title,
        effect.task_id,
        effect.requested_at.micros(),
        whole(effect.epoch.0),
        effect.worker,
        effect.due_at.map(Timestamp::micros),
        signal.map(|signal| &signal.name),
        signal.and_then(|signal| signal.correlation_key.as_ref()),
        ready.map(|ready| ready.at.micros()),
        ready.map(|ready| ready.priority),
        ready.map(|ready| rank(ready.at, ready.priority)),
        ready.map(|ready| as_json(&ready.requires)),
        ready.and_then(|ready| ready.agent.as_ref()),
        start.map(|start| whole(start.ttl_ms)),
        start.and_then(|start| start.claim.as_ref()),
        start.and_then(|start| start.overdue_at).map(Timestamp::micros),
        as_json(&effect.limit_keys),
        ready.and_then(|ready| ready.not_before).map(Timestamp::micros),
        effect.since().micros(),
    ])?;
    if let (Some(worker), Some(claim)) = (&effect.worker, start.and_then(|s| s.claim.as_ref())) {
        db.prepare_cached(
            "INSERT OR IGNORE INTO claims (claim, worker, run_id, effect) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![claim, worker, run, effect.effect_id.ordinal()])?;
    }
    Ok(())
}

fn put_key(db: &Connection, run: &str, key: &KeyFacts) -> rusqlite::Result<()> {
    let mut put = db.prepare_cached(
        "INSERT OR REPLACE INTO effect_keys (key, run_id, effect, kind, status, digest, \
         standing, outcome_seq, value_digest, decided, until) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    let row = key.row.as_ref();
    let (seq, value) = match row.map(|row| &row.state) {
        Some(State::Ok { seq, value_digest }) => (Some(whole(seq.0)), *value_digest),
        _ => (None, None),
    };
    put.execute(params![
        key.key,
        run,
        key.effect_id.ordinal(),
        key.kind,
        key.status.name(),
        key.digest.to_string(),
        row.map(|row| row.state.name()),
        seq,
        value.map(|digest| digest.to_string()),
        row.is_some_and(|row| row.is_decided),
        until(key),
    ])?;
    Ok(())
}

/// When what an effect says about its key ended, at the end of time while it may change; nothing if
/// it says nothing and wants nothing.
fn until(key: &KeyFacts) -> Option<i64> {
    match &key.row {
        Some(row) => Some(row.ended_at.map_or(i64::MAX, Timestamp::micros)),
        None => key.status.is_open().then_some(i64::MAX),
    }
}

fn as_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
