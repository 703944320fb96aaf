//! Lists, page by page: runs and open effects by filter, with cursors.
//!
//! May not count what it has not read. Invariant: a page reads a bounded number of rows along one
//! index; a cursor names a place that never moves, so that rows which are added or changed between
//! two pages make no other row appear twice or not at all.

use std::fmt;

use rusqlite::types::Value;
use rusqlite::{Row, params_from_iter};

use super::rows::{self, EffectRow};
use super::{Index, Result};
use crate::ground::clock::Timestamp;
use crate::ground::digest::hex;
use crate::ground::id::{EffectId, RunId};
use crate::ground::limits::{INDEX_PAGE_ROWS_MAX, INDEX_SCAN_ROWS_MAX};
use crate::machines::effect::life::EffectStatus;
use crate::machines::replay::facts::{END_STATES, RunFacts};

/// A text that is not a cursor of this list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the page token is not one of this list")]
pub struct BadCursor;

/// In which order runs are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The last created first.
    #[default]
    Newest,
    /// The first created first.
    Oldest,
}

/// Which runs are wanted. What is empty or absent does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunFilter {
    /// One of these states.
    pub states: Vec<String>,
    /// In this finer state.
    pub native_state: Option<String>,
    /// Of this process.
    pub process: Option<String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// A child of this run.
    pub parent: Option<RunId>,
    /// Created at or after this.
    pub created_from: Option<Timestamp>,
    /// Created before this.
    pub created_until: Option<Timestamp>,
    /// Last record at or after this.
    pub updated_from: Option<Timestamp>,
    /// Last record before this.
    pub updated_until: Option<Timestamp>,
    /// With this text in its id, its process or a tag; case does not matter.
    pub text: Option<String>,
}

impl RunFilter {
    fn admits(&self, run: &RunFacts) -> bool {
        let within = |at: Timestamp, from: Option<Timestamp>, until: Option<Timestamp>| {
            from.is_none_or(|from| at >= from) && until.is_none_or(|until| at < until)
        };
        let has = |text: &String| {
            let text = text.to_lowercase();
            let mut words = run.tags.iter().map(String::as_str).chain(run.process_id.as_deref());
            run.run_id.as_str().to_lowercase().contains(&text)
                || words.any(|word| word.to_lowercase().contains(&text))
        };
        (self.states.is_empty() || self.states.iter().any(|state| state == run.state))
            && self.native_state.as_ref().is_none_or(|state| state == run.native_state)
            && (self.process.is_none() || self.process == run.process_id)
            && self.tags.iter().all(|tag| run.tags.contains(tag))
            && self
                .parent
                .as_ref()
                .is_none_or(|id| run.parent.as_ref().is_some_and(|p| p.run_id == *id))
            && within(run.created_at, self.created_from, self.created_until)
            && within(run.last_at, self.updated_from, self.updated_until)
            && self.text.as_ref().is_none_or(has)
    }

    /// The narrowest index for it: a condition with one parameter, and that parameter.
    fn driver(&self) -> (&'static str, Option<&str>) {
        let ended = |state: &String| END_STATES.contains(&state.as_str());
        if let Some(parent) = &self.parent {
            return ("parent_id = ?4", Some(parent.as_str()));
        }
        match (&self.process, self.states.as_slice()) {
            (Some(process), _) => ("process_id = ?4", Some(process)),
            (None, [state]) => ("state = ?4", Some(state)),
            (None, [_, ..]) if !self.states.iter().any(ended) => ("open = 1", None),
            _ => ("1", None),
        }
    }
}

/// Where a page of runs ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPlace {
    order: Order,
    created_at: Timestamp,
    run_id: RunId,
}

/// A page of runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunPage {
    /// The runs.
    pub rows: Vec<RunFacts>,
    /// Where the next page begins; nothing: this is the last. A page may be shorter than asked for,
    /// even empty, and not the last.
    pub next: Option<RunPlace>,
}

/// Which open effects are wanted. What is absent does not restrict.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EffectFilter {
    /// Of this run.
    pub run: Option<RunId>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Standing there.
    pub status: Option<EffectStatus>,
    /// Last started by this worker.
    pub worker: Option<String>,
    /// With this invocation key.
    pub key: Option<String>,
    /// Asked for before this.
    pub requested_until: Option<Timestamp>,
    /// Due before this.
    pub due_until: Option<Timestamp>,
}

impl EffectFilter {
    fn admits(&self, row: &EffectRow) -> bool {
        let effect = &row.facts;
        self.run.as_ref().is_none_or(|run| *run == row.run_id)
            && self.kind.as_ref().is_none_or(|kind| *kind == effect.kind)
            && self.status.is_none_or(|status| status == effect.status)
            && (self.worker.is_none() || self.worker == effect.worker)
            && self.key.as_ref().is_none_or(|key| *key == effect.key)
            && self.requested_until.is_none_or(|until| effect.requested_at < until)
            && self.due_until.is_none_or(|until| effect.due_at.is_some_and(|due| due < until))
    }

    fn driver(&self) -> (&'static str, Option<&str>) {
        match (&self.worker, self.status, &self.kind) {
            (Some(worker), ..) => ("worker = ?4", Some(worker)),
            (None, Some(EffectStatus::Uncertain), _) => ("status = 'uncertain'", None),
            (None, _, Some(kind)) => ("kind = ?4", Some(kind)),
            _ => ("1", None),
        }
    }
}

/// Where a page of effects ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectPlace {
    since: Timestamp,
    run_id: RunId,
    effect_id: EffectId,
}

/// A page of effects, the first that was or will be ready first; those of one run in the order of
/// their calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectPage {
    /// The effects.
    pub rows: Vec<EffectRow>,
    /// As in [`RunPage::next`].
    pub next: Option<EffectPlace>,
}

impl Index {
    /// One page of runs.
    pub fn runs(
        &self,
        filter: &RunFilter,
        order: Order,
        size: usize,
        after: Option<&RunPlace>,
    ) -> Result<RunPage> {
        let (start, end) = bounds(filter, order, after);
        let place = |run: &RunFacts| RunPlace {
            order,
            created_at: run.created_at,
            run_id: run.run_id.clone(),
        };
        let mut params = vec![start.0.into(), Value::Text(start.1.to_owned()), end.into()];
        let (rows, next) = if filter.parent.is_none()
            && let Some(tag) = filter.tags.first()
        {
            params.push(Value::Text(tag.clone()));
            let read = |row: &Row<'_>| Ok((rows::text(row, 0)?, rows::time(row, 1)?));
            let (tagged, more) = self.walk(&tag_query(order), params, size, read, |(id, _)| {
                Ok(self.run(id)?.filter(|run| filter.admits(run)))
            })?;
            let next = more.map(|(run_id, created_at)| RunPlace { order, created_at, run_id });
            (tagged, next)
        } else {
            let (condition, value) = filter.driver();
            params.extend(value.map(|value| Value::Text(value.to_owned())));
            let query = run_query(condition, order);
            let (found, more) = self.walk(&query, params, size, rows::run, |run| {
                Ok(filter.admits(run).then(|| run.clone()))
            })?;
            (found, more.as_ref().map(place))
        };
        Ok(RunPage { rows, next })
    }

    /// One page of open effects.
    pub fn effects(
        &self,
        filter: &EffectFilter,
        size: usize,
        after: Option<&EffectPlace>,
    ) -> Result<EffectPage> {
        let effect = after.map_or(0, |place| i64::from(place.effect_id.ordinal()));
        let (query, params) = if let Some(run) = &filter.run {
            let run = Value::Text(run.as_str().to_owned());
            (run_effects_query(), vec![run, effect.into()])
        } else {
            let from = after.map_or(i64::MIN, |place| place.since.micros());
            let run = after.map_or("", |place| place.run_id.as_str()).to_owned();
            let (condition, value) = filter.driver();
            let mut params = vec![from.into(), Value::Text(run), effect.into()];
            params.extend(value.map(|value| Value::Text(value.to_owned())));
            (effect_query(condition), params)
        };
        let (rows, last) = self.walk(&query, params, size, rows::effect, |row| {
            Ok(filter.admits(row).then(|| row.clone()))
        })?;
        let next = last.map(|row| EffectPlace {
            since: row.facts.since(),
            run_id: row.run_id,
            effect_id: row.facts.effect_id,
        });
        Ok(EffectPage { rows, next })
    }

    /// Reads rows in order until `size` of them were picked or the limit of a page is reached.
    /// Gives what was picked, and the last row that was read if there may be more.
    pub(super) fn walk<R, T>(
        &self,
        query: &str,
        mut params: Vec<Value>,
        size: usize,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<R>,
        pick: impl Fn(&R) -> Result<Option<T>>,
    ) -> Result<(Vec<T>, Option<R>)> {
        let size = size.min(INDEX_PAGE_ROWS_MAX);
        params.push(super::read::bound(INDEX_SCAN_ROWS_MAX).into());
        let mut statement = self.db()?.prepare_cached(query)?;
        let mut rows = statement.query(params_from_iter(params))?;
        let (mut picked, mut last, mut scanned) = (Vec::new(), None, 0);
        while let Some(row) = rows.next()? {
            if picked.len() >= size {
                return Ok((picked, last));
            }
            let row = read(row)?;
            picked.extend(pick(&row)?);
            scanned += 1;
            last = Some(row);
        }
        Ok((picked, last.filter(|_| scanned >= INDEX_SCAN_ROWS_MAX)))
    }
}

/// The place after which a page of runs begins, and the time at which the list ends.
fn bounds<'a>(
    filter: &RunFilter,
    order: Order,
    after: Option<&'a RunPlace>,
) -> ((i64, &'a str), i64) {
    let after = after.map(|place| (place.created_at.micros(), place.run_id.as_str()));
    let from = filter.created_from.map_or(i64::MIN, Timestamp::micros);
    let until = filter.created_until.map_or(i64::MAX, Timestamp::micros);
    match order {
        Order::Newest => (after.map_or((until, ""), |place| place.min((until, ""))), from),
        Order::Oldest => (after.map_or((from, ""), |place| place.max((from, ""))), until),
    }
}

fn run_query(condition: &str, order: Order) -> String {
    let (columns, (beyond, within, direction)) = (rows::RUN, words(order));
    let limit = if condition.contains("?4") { "?5" } else { "?4" };
    format!(
        "SELECT {columns} FROM runs WHERE {condition} AND (created_at, run_id) {beyond} (?1, ?2) \
         AND created_at {within} ?3 ORDER BY created_at {direction}, run_id {direction} \
         LIMIT {limit}"
    )
}

fn tag_query(order: Order) -> String {
    let (beyond, within, direction) = words(order);
    format!(
        "SELECT run_id, created_at FROM tags WHERE tag = ?4 \
         AND (created_at, run_id) {beyond} (?1, ?2) AND created_at {within} ?3 \
         ORDER BY created_at {direction}, run_id {direction} LIMIT ?5"
    )
}

const fn words(order: Order) -> (&'static str, &'static str, &'static str) {
    match order {
        Order::Newest => ("<", ">=", "DESC"),
        Order::Oldest => (">", "<", "ASC"),
    }
}

fn run_effects_query() -> String {
    let columns = rows::EFFECT;
    format!(
        "SELECT {columns} FROM effects WHERE run_id = ?1 AND effect > ?2 ORDER BY effect LIMIT ?3"
    )
}

fn effect_query(condition: &str) -> String {
    let columns = rows::EFFECT;
    let limit = if condition.contains("?4") { "?5" } else { "?4" };
    format!(
        "SELECT {columns} FROM effects WHERE {condition} \
         AND (since, run_id, effect) > (?1, ?2, ?3) \
         ORDER BY since, run_id, effect LIMIT {limit}"
    )
}

impl fmt::Display for RunPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = if self.order == Order::Newest { "n" } else { "o" };
        let micros = hex(&self.created_at.micros().to_be_bytes());
        write!(f, "{letter}{micros}{}", hex(self.run_id.as_str().as_bytes()))
    }
}

impl RunPlace {
    /// Reads a cursor of a list in this order.
    pub fn parse(text: &str, order: Order) -> std::result::Result<Self, BadCursor> {
        let letter = if order == Order::Newest { "n" } else { "o" };
        let (micros, rest) = split(text.strip_prefix(letter).ok_or(BadCursor)?)?;
        let run_id = rest.parse().map_err(|_| BadCursor)?;
        Ok(Self { order, created_at: micros, run_id })
    }
}

impl fmt::Display for EffectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = hex(&self.since.micros().to_be_bytes());
        let rest = format!("{}/{}", self.run_id, self.effect_id);
        write!(f, "e{micros}{}", hex(rest.as_bytes()))
    }
}

impl std::str::FromStr for EffectPlace {
    type Err = BadCursor;

    fn from_str(text: &str) -> std::result::Result<Self, BadCursor> {
        let (since, rest) = split(text.strip_prefix('e').ok_or(BadCursor)?)?;
        let (run, effect) = rest.split_once('/').ok_or(BadCursor)?;
        let run_id = run.parse().map_err(|_| BadCursor)?;
        let effect_id = effect.parse().map_err(|_| BadCursor)?;
        Ok(Self { since, run_id, effect_id })
    }
}

/// The time and the text that a cursor holds.
fn split(digits: &str) -> std::result::Result<(Timestamp, String), BadCursor> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if !digits.len().is_multiple_of(2) || digits.len() > 512 || !digits.bytes().all(lower) {
        return Err(BadCursor);
    }
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| BadCursor);
    let bytes =
        (0..digits.len()).step_by(2).map(byte).collect::<std::result::Result<Vec<_>, _>>()?;
    let (micros, rest) = bytes.split_first_chunk::<8>().ok_or(BadCursor)?;
    let rest = String::from_utf8(rest.to_vec()).map_err(|_| BadCursor)?;
    Ok((Timestamp::from_micros(i64::from_be_bytes(*micros)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::std::StdDisk;

    /// No list reads a table from end to end or sorts what it has read.
    #[test]
    fn every_list_walks_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let (index, _) = Index::open(&StdDisk, dir.path()).unwrap();
        let mut queries = vec![run_effects_query()];
        for order in [Order::Newest, Order::Oldest] {
            queries.push(tag_query(order));
            for condition in ["parent_id = ?4", "process_id = ?4", "state = ?4", "open = 1", "1"] {
                queries.push(run_query(condition, order));
            }
        }
        for condition in ["worker = ?4", "status = 'uncertain'", "kind = ?4", "1"] {
            queries.push(effect_query(condition));
        }
        queries.extend(super::super::read::QUERIES.iter().map(|query| (*query).to_owned()));
        queries.extend(super::super::ready::queries());
        let tails = [super::super::read::OPEN, super::super::read::EVERY];
        queries.extend(tails.map(|tail| format!("SELECT {} {tail}", rows::RUN)));
        let tails = [super::super::read::EFFECT_KEYS, super::super::read::LIVE_KEYS];
        queries.extend(tails.map(|tail| format!("SELECT {} {tail}", rows::KEY)));
        for query in queries {
            let plan = index.plan(&query);
            let bounded = |step: &String| {
                step.starts_with("SEARCH") && step.contains(" (")
                    || step.starts_with("SCAN rereads")
            };
            assert!(!plan.is_empty() && plan.iter().all(bounded), "{query}\n{plan:#?}");
        }
    }

    #[test]
    fn cursors_are_read_as_they_are_printed_and_nothing_else_is() {
        let created_at = Timestamp::from_micros(-5);
        let run_id: RunId = "run-1".parse().unwrap();
        for order in [Order::Newest, Order::Oldest] {
            let place = RunPlace { order, created_at, run_id: run_id.clone() };
            assert_eq!(RunPlace::parse(&place.to_string(), order), Ok(place.clone()));
            let other = if order == Order::Newest { Order::Oldest } else { Order::Newest };
            assert_eq!(RunPlace::parse(&place.to_string(), other), Err(BadCursor));
        }
        let effect_id = EffectId::new(7);
        let place = EffectPlace { since: created_at, run_id, effect_id };
        assert_eq!(place.to_string().parse(), Ok(place));
        for bad in ["", "n", "n00", "e0", "nzz", "n0000000000000000", "é", "n+1+1+1+1+1+1+1+1+1"] {
            assert_eq!(RunPlace::parse(bad, Order::Newest), Err(BadCursor), "{bad}");
            assert_eq!(bad.parse::<EffectPlace>(), Err(BadCursor), "{bad}");
        }
    }
}
