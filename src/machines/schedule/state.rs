//! What was decided about the times of a schedule so far, and what became of its runs.
//!
//! May not decide: that is `decide`'s. Invariant: its size is bounded however long a schedule
//! lives.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::ground::limits::SCHEDULE_DECISIONS_SHOWN_MAX;

/// What was decided about a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It has a run.
    Started,
    /// An earlier run had not ended.
    SkippedForbid,
    /// It was too late.
    SkippedDeadline,
    /// The schedule was suspended.
    SkippedSuspended,
    /// Nobody looked in time, and it is not made up for.
    Missed,
    /// More times than may be made up for had passed, or too many runs are open.
    Dropped,
    /// Its run could not be created.
    Refused,
}

impl Decision {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Started,
        Self::SkippedForbid,
        Self::SkippedDeadline,
        Self::SkippedSuspended,
        Self::Missed,
        Self::Dropped,
        Self::Refused,
    ];

    /// Its name.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::SkippedForbid => "skipped-forbid",
            Self::SkippedDeadline => "skipped-deadline",
            Self::SkippedSuspended => "skipped-suspended",
            Self::Missed => "missed",
            Self::Dropped => "dropped",
            Self::Refused => "refused",
        }
    }
}

/// Why there is a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// Its time came.
    Schedule,
    /// Somebody asked for it.
    Trigger,
    /// Somebody asked for a time that had passed.
    Backfill,
}

/// A run that was decided on and is not known to exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fire {
    /// Its id.
    pub run_id: RunId,
    /// Its time.
    pub scheduled_at: Timestamp,
}

/// A decision, or several of the same kind in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decided {
    /// What.
    pub decision: Decision,
    /// About which time; the first of several.
    pub first: Timestamp,
    /// The last of several.
    pub last: Timestamp,
    /// How many.
    pub count: u64,
    /// When the last of them was decided.
    pub at: Timestamp,
    /// Why there is a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Why the run could not be created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Everything that is known of a schedule besides its plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// Every time up to this one is decided.
    pub decided_until: Timestamp,
    /// Whether times are passed over.
    pub is_suspended: bool,
    /// When no time was left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How many runs somebody asked for besides.
    pub triggers: u32,
    /// Runs that were decided on and are not known to exist, oldest first.
    pub wanted: Vec<Fire>,
    /// Times that somebody asked for and that wait for their turn, oldest first.
    pub backfill: VecDeque<Timestamp>,
    /// Runs that have not ended, as far as is known.
    pub open: Vec<RunId>,
    /// Runs that ended well, oldest first.
    pub succeeded: VecDeque<RunId>,
    /// Runs that ended otherwise, oldest first.
    pub failed: VecDeque<RunId>,
    /// How often each decision was taken.
    pub counts: BTreeMap<Decision, u64>,
    /// The last decisions, oldest first.
    pub recent: VecDeque<Decided>,
}

impl State {
    /// Nothing was decided yet: no time before `now` counts.
    #[must_use]
    pub fn new(now: Timestamp, is_suspended: bool) -> Self {
        Self {
            decided_until: now,
            is_suspended,
            ended_at: None,
            triggers: 0,
            wanted: Vec::new(),
            backfill: VecDeque::new(),
            open: Vec::new(),
            succeeded: VecDeque::new(),
            failed: VecDeque::new(),
            counts: BTreeMap::new(),
            recent: VecDeque::new(),
        }
    }

    /// Writes a decision about a time without a run down.
    pub(super) fn pass_over(&mut self, decision: Decision, time: Timestamp, now: Timestamp) {
        *self.counts.entry(decision).or_default() += 1;
        if let Some(last) = self.recent.back_mut()
            && (last.decision, &last.run_id) == (decision, &None)
        {
            (last.last, last.at) = (time, now);
            last.count += 1;
            return;
        }
        self.tell(Decided {
            decision,
            first: time,
            last: time,
            count: 1,
            at: now,
            cause: None,
            run_id: None,
            why: None,
        });
    }

    /// Writes down that a time has a run, which is to be created.
    pub(super) fn start(&mut self, fire: Fire, cause: Cause, now: Timestamp) {
        *self.counts.entry(Decision::Started).or_default() += 1;
        self.tell(Decided {
            decision: Decision::Started,
            first: fire.scheduled_at,
            last: fire.scheduled_at,
            count: 1,
            at: now,
            cause: Some(cause),
            run_id: Some(fire.run_id.clone()),
            why: None,
        });
        self.wanted.push(fire);
    }

    fn tell(&mut self, decided: Decided) {
        self.recent.push_back(decided);
        if self.recent.len() > SCHEDULE_DECISIONS_SHOWN_MAX {
            self.recent.pop_front();
        }
    }

    /// A run that was decided on exists.
    pub fn exists(&mut self, run: &RunId) {
        self.wanted.retain(|fire| fire.run_id != *run);
        if !self.has(run) {
            self.open.push(run.clone());
        }
    }

    /// A run that was decided on can never be created.
    pub fn refuse(&mut self, run: &RunId, why: &str) {
        self.wanted.retain(|fire| fire.run_id != *run);
        let told = self.recent.iter_mut().rev().find(|told| told.run_id.as_ref() == Some(run));
        if let Some(told) = told {
            told.decision = Decision::Refused;
            told.why = Some(why.to_owned());
        }
        *self.counts.entry(Decision::Refused).or_default() += 1;
        if let Some(started) = self.counts.get_mut(&Decision::Started) {
            *started = started.saturating_sub(1);
        }
    }

    /// A run ended, well or not.
    pub fn ended(&mut self, run: &RunId, well: bool) {
        self.open.retain(|open| open != run);
        let ended = if well { &mut self.succeeded } else { &mut self.failed };
        if !ended.contains(run) {
            ended.push_back(run.clone());
        }
    }

    /// A run is not there any more.
    pub fn removed(&mut self, run: &RunId) {
        self.open.retain(|open| open != run);
        self.succeeded.retain(|ended| ended != run);
        self.failed.retain(|ended| ended != run);
    }

    /// Whether somebody, or something, has begun what has not ended.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.open.is_empty() || !self.wanted.is_empty()
    }

    fn has(&self, run: &RunId) -> bool {
        self.open.contains(run) || self.succeeded.contains(run) || self.failed.contains(run)
    }
}
