//! The auditor: compares what the index says of runs with what their journals say.
//!
//! May not trust the index, and writes nothing: it gives the changes that mend. Invariant: what is
//! found was wrong while nobody was changing it; a run that moves while it is looked at is left for
//! the next round.

mod words;

use std::collections::BTreeSet;
use std::fmt;

use crate::ground::id::{EffectId, RunId};
use crate::machines::replay::facts::{EffectFacts, Update};
use crate::services::indexer::Unavailable;
use crate::services::indexer::rebuild::{Journaled, read, read_with_log};
use crate::services::runs::{self, Runs};
use crate::shells::run_dir::root::RootView;
use crate::shells::store::{self, Change, Index};

use words::Words as _;

/// Runs that are looked at in one step of a whole round.
const RUNS_AT_ONCE: usize = 256;

/// What is wrong with a run's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The run has none.
    MissingRow,
    /// There is no such run.
    ExtraRow,
    /// The run is open, and the index knows nothing that will wake it.
    EmptyReasons,
    /// The index knows no timer, or a later one than the journal.
    LostTimer,
    /// The index does not know that this effect is open, and for what it waits.
    LostEffect(EffectId),
    /// The index takes an effect for open that is not.
    ExtraEffect(EffectId),
    /// The two say different things.
    Differs {
        /// About what.
        field: &'static str,
        /// What the index says.
        index: String,
        /// What the journal says.
        journal: String,
    },
}

impl What {
    /// A word for it: a label of a metric.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MissingRow => "missing_row",
            Self::ExtraRow => "extra_row",
            Self::EmptyReasons => "empty_reasons",
            Self::LostTimer => "lost_timer",
            Self::LostEffect(_) => "lost_effect",
            Self::ExtraEffect(_) => "extra_effect",
            Self::Differs { .. } => "differs",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingRow => f.write_str("the run has no row"),
            Self::ExtraRow => f.write_str("there is no such run"),
            Self::EmptyReasons => f.write_str("the run is open, and nothing would wake it"),
            Self::LostTimer => f.write_str("its timer is missing or too late"),
            Self::LostEffect(id) => write!(f, "effect {id} is open, and the index does not know"),
            Self::ExtraEffect(id) => write!(f, "effect {id} is not open, and the index thinks so"),
            Self::Differs { field, index, journal } => {
                write!(f, "{field} is {index} in the index and {journal} in the journal")
            }
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// With which run.
    pub run: RunId,
    /// What.
    pub what: What,
}

/// What one call of [`Auditor::some`] has done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Audited {
    /// Runs that were compared.
    pub looked: usize,
    /// What was wrong.
    pub findings: Vec<Finding>,
    /// What mends it.
    pub mending: Vec<Change>,
    /// All runs were looked at; the next call begins anew.
    pub round_done: bool,
}

/// Why an audit could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The index does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The index cannot be read.
    #[error(transparent)]
    Index(#[from] store::Error),
    /// The root cannot be listed.
    #[error(transparent)]
    Runs(#[from] runs::Error),
}

/// The index, as an auditor asks it.
pub trait Rows {
    /// Ids of runs after `after`, in order: of those that have not ended, or of all.
    fn after(
        &mut self,
        after: Option<&RunId>,
        all: bool,
        limit: usize,
    ) -> Result<Vec<RunId>, Error>;
    /// Everything about one run.
    fn whole(&mut self, run: &RunId) -> Result<Option<Update>, Error>;
    /// Waits until everything has arrived in the index that journals show by now.
    fn settle(&mut self) -> Result<(), Error> {
        Ok(())
    }
    /// Whether somebody is changing the run right now.
    fn is_moving(&mut self, _run: &RunId) -> Result<bool, Error> {
        Ok(false)
    }
}

/// The journals, as an auditor reads them.
pub trait Journals {
    /// Ids of runs after `after`, in order.
    fn after(&mut self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunId>, Error>;
    /// What the journal says; nothing if there is no such run.
    fn read(&mut self, run: &RunId) -> Result<Option<Journaled>, Error>;
    /// The same for a run whose row seems wrong: with everything that is durable, however slow.
    fn read_all(&mut self, run: &RunId) -> Result<Option<Journaled>, Error> {
        self.read(run)
    }
}

/// An index that nobody else uses.
impl Rows for &Index {
    fn after(
        &mut self,
        after: Option<&RunId>,
        all: bool,
        limit: usize,
    ) -> Result<Vec<RunId>, Error> {
        Ok(self.runs_after(after, all, limit)?.into_iter().map(|run| run.run_id).collect())
    }

    fn whole(&mut self, run: &RunId) -> Result<Option<Update>, Error> {
        Ok(Index::whole(self, run)?)
    }
}

/// The journals of a root, without what only a daemon's memory or commit log holds.
pub struct RootJournals {
    runs: Runs,
    root: RootView,
    ids: Vec<RunId>,
}

impl RootJournals {
    /// The journals of the root of `runs`.
    pub fn new(runs: &Runs) -> Result<Self, Error> {
        Ok(Self { runs: runs.clone(), root: runs.view_root()?, ids: Vec::new() })
    }
}

impl Journals for RootJournals {
    fn after(&mut self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunId>, Error> {
        if after.is_none() {
            // Listed once a round: runs that come later are in the next one.
            self.ids = self.root.run_ids().map_err(runs::Error::from)?;
        }
        let from = after.map_or(0, |after| self.ids.partition_point(|id| id <= after));
        Ok(self.ids[from..].iter().take(limit).cloned().collect())
    }

    fn read(&mut self, run: &RunId) -> Result<Option<Journaled>, Error> {
        Ok(read(&self.root, run))
    }

    fn read_all(&mut self, run: &RunId) -> Result<Option<Journaled>, Error> {
        Ok(read_with_log(&self.runs, &self.root, run))
    }
}

/// Walks over all runs, a few at a time, for ever.
#[derive(Debug, Clone, Default)]
pub struct Auditor {
    cursor: Option<RunId>,
    ended_too: bool,
}

impl Auditor {
    /// An auditor of runs that have not ended, and with `ended_too` of all: then every journal of
    /// the root is read.
    #[must_use]
    pub const fn new(ended_too: bool) -> Self {
        Self { cursor: None, ended_too }
    }

    /// Looks at up to `budget` further runs.
    pub fn some(
        &mut self,
        rows: &mut dyn Rows,
        journals: &mut dyn Journals,
        budget: usize,
    ) -> Result<Audited, Error> {
        let after = self.cursor.as_ref();
        // Both lists begin after the cursor, so the first of both together miss nobody.
        let mut ids: BTreeSet<RunId> = journals.after(after, budget)?.into_iter().collect();
        ids.extend(rows.after(after, self.ended_too, budget)?);
        let mut audited = Audited { round_done: ids.len() < budget, ..Audited::default() };
        for run in ids.into_iter().take(budget) {
            self.look(&run, rows, journals, &mut audited)?;
            self.cursor = Some(run);
        }
        if audited.round_done {
            self.cursor = None;
        }
        Ok(audited)
    }

    fn look(
        &self,
        run: &RunId,
        rows: &mut dyn Rows,
        journals: &mut dyn Journals,
        audited: &mut Audited,
    ) -> Result<(), Error> {
        let before = rows.whole(run)?;
        if !self.ended_too && before.as_ref().is_some_and(|row| !row.run.is_open()) {
            return Ok(());
        }
        audited.looked += 1;
        let journal = journals.read(run)?;
        if judge(before.as_ref(), journal.as_ref(), before.as_ref()).is_empty() {
            return Ok(());
        }
        // It may have moved since, or its last change was still on its way.
        rows.settle()?;
        let now = rows.whole(run)?;
        if judge(before.as_ref(), journal.as_ref(), now.as_ref()).is_empty() {
            return Ok(());
        }
        if rows.is_moving(run)? {
            return Ok(());
        }
        // Its journal may lag behind the log.
        let journal = journals.read_all(run)?;
        rows.settle()?;
        let now = rows.whole(run)?;
        let found = judge(before.as_ref(), journal.as_ref(), now.as_ref());
        if !found.is_empty() && !rows.is_moving(run)? {
            audited.mending.push(Change::Mend {
                run: run.clone(),
                seen: now.map(|row| row.run.head),
                right: journal.map(|journal| Box::new(journal.update)),
            });
            audited
                .findings
                .extend(found.into_iter().map(|what| Finding { run: run.clone(), what }));
        }
        Ok(())
    }
}

/// Looks at every run of a root once, ended ones too.
pub fn whole_round(rows: &mut dyn Rows, journals: &mut dyn Journals) -> Result<Audited, Error> {
    let (mut auditor, mut all) = (Auditor::new(true), Audited::default());
    while !all.round_done {
        let some = auditor.some(rows, journals, RUNS_AT_ONCE)?;
        all.looked += some.looked;
        all.findings.extend(some.findings);
        all.mending.extend(some.mending);
        all.round_done = some.round_done;
    }
    Ok(all)
}

/// What is wrong with a row that was read before and after its journal.
#[must_use]
pub fn judge(
    before: Option<&Update>,
    journal: Option<&Journaled>,
    now: Option<&Update>,
) -> Vec<What> {
    let head = |row: Option<&Update>| row.map(|row| row.run.head);
    let moved = head(before) != head(now);
    match (now, journal) {
        (None, None) => Vec::new(),
        (None, _) | (_, None) if moved => Vec::new(),
        (None, Some(_)) => vec![What::MissingRow],
        (Some(_), None) => vec![What::ExtraRow],
        (Some(row), Some(journal)) if moved && row.run.head.seq > journal.update.run.head.seq => {
            Vec::new()
        }
        (Some(row), Some(journal)) => compare(row, journal),
    }
}

/// Every difference between a row and a journal that stand at the same place.
#[must_use]
pub fn compare(row: &Update, journal: &Journaled) -> Vec<What> {
    let (index, right) = (&row.run, &journal.update.run);
    let mut found = Vec::new();
    macro_rules! differs {
        ($($field:ident),*) => {$(
            if index.$field != right.$field {
                found.push(What::Differs {
                    field: stringify!($field),
                    index: index.$field.words(),
                    journal: right.$field.words(),
                });
            }
        )*};
    }
    if index.is_open() && index.reasons.is_empty() {
        found.push(What::EmptyReasons);
    } else if index.reasons != journal.resting {
        differs!(reasons);
    }
    match (index.wake_at, right.wake_at) {
        (None, Some(_)) => found.push(What::LostTimer),
        (Some(index), Some(journal)) if index > journal => found.push(What::LostTimer),
        _ => differs!(wake_at),
    }
    differs!(
        head,
        state,
        native_state,
        process_id,
        process_digest,
        parent,
        tags,
        created_at,
        last_at,
        pending,
        idempotency,
        problem
    );
    found.extend(compare_effects(&row.open, &journal.update.open));
    if row.keys != journal.update.keys {
        found.push(What::Differs {
            field: "keys",
            index: row.keys.words(),
            journal: journal.update.keys.words(),
        });
    }
    found
}

fn compare_effects(index: &[EffectFacts], journal: &[EffectFacts]) -> Vec<What> {
    let ids: BTreeSet<EffectId> = index.iter().chain(journal).map(|e| e.effect_id).collect();
    let find = |effects: &[EffectFacts], id| {
        let at = effects.binary_search_by_key(&id, |effect| effect.effect_id);
        at.ok().map(|at| effects[at].clone())
    };
    let judged = ids.into_iter().filter_map(|id| match (find(index, id), find(journal, id)) {
        (None, _) => Some(What::LostEffect(id)),
        (_, None) => Some(What::ExtraEffect(id)),
        (Some(row), Some(right)) if row.signal != right.signal => Some(What::LostEffect(id)),
        (Some(row), Some(right)) if row != right => {
            let (index, journal) = words::apart(&row, &right);
            Some(What::Differs { field: "effect", index, journal })
        }
        _ => None,
    });
    judged.collect()
}
