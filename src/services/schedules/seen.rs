//! Schedules as they are shown.
//!
//! May not change one. Invariant: the next times are those that will be decided next.

use crate::ground::clock::Timestamp;
use crate::machines::schedule::state::State;
use crate::machines::schedule::{CatchUp, Name, Overlap};
use crate::services::runs::Error;

use super::book::{Card, Kept};

/// How many of the next times are shown.
const NEXT_SHOWN: usize = 5;

/// Something that keeps a schedule from its work.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The code of the error.
    pub code: &'static str,
    /// What is wrong.
    pub what: String,
    /// When it is tried again, if it is.
    pub again_at: Option<Timestamp>,
}

impl Problem {
    pub(super) fn of(error: &Error, again_at: Option<Timestamp>) -> Self {
        Self { code: error.trouble().code, what: error.trouble().what.clone(), again_at }
    }
}

/// All schedules.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// Those at work, by name.
    pub schedules: Vec<Seen>,
    /// Those whose files cannot be read, and why.
    pub damaged: Vec<(Name, Problem)>,
}

/// A schedule.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Who applied it.
    pub card: Card,
    /// Its expression.
    pub expression: String,
    /// On whose clocks.
    pub zone: String,
    /// The first time that may count.
    pub begin: Option<Timestamp>,
    /// The last time that may count.
    pub end: Option<Timestamp>,
    /// What happens while an earlier run has not ended.
    pub overlap: &'static str,
    /// What happens to times that nobody looked at.
    pub catch_up: &'static str,
    /// How late a run may begin.
    pub deadline_s: Option<u64>,
    /// How many ended runs are counted on: well, otherwise.
    pub keeps: (usize, usize),
    /// What was decided.
    pub state: State,
    /// What is decided next.
    pub next: Vec<Timestamp>,
    /// What keeps it from its work.
    pub problem: Option<Problem>,
    now: Timestamp,
}

impl Seen {
    pub(super) fn of(kept: &Kept, now: Timestamp, problem: Option<Problem>) -> Self {
        let (plan, state) = (&kept.described.plan, kept.state.clone());
        let first = state.next(plan).filter(|_| state.ended_at.is_none());
        let after = |time: &Timestamp| plan.timetable.next_after(*time);
        let next = std::iter::successors(first, after).take(NEXT_SHOWN).collect();
        let timetable = &plan.timetable;
        Self {
            card: kept.card.clone(),
            expression: timetable.expression.text().to_owned(),
            zone: timetable.zone.iana_name().unwrap_or("UTC").to_owned(),
            begin: timetable.begin,
            end: timetable.end,
            overlap: match plan.overlap {
                Overlap::Allow => "Allow",
                Overlap::Forbid => "Forbid",
                Overlap::Replace => "Replace",
            },
            catch_up: match plan.catch_up {
                CatchUp::Latest => "latest",
                CatchUp::All => "all",
                CatchUp::None => "none",
            },
            deadline_s: plan.deadline_s,
            keeps: (plan.keep_succeeded, plan.keep_failed),
            state,
            next,
            problem,
            now,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.card.name
    }

    /// `active`, `suspended`, `ended`, or `waiting` for something that is tried again.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self { state: State { ended_at: Some(_), .. }, .. } => "ended",
            Self { state: State { is_suspended: true, .. }, .. } => "suspended",
            Self { problem: Some(_), .. } => "troubled",
            _ => "active",
        }
    }

    /// What somebody may wonder about.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        if let Some(problem) = &self.problem {
            return Some(problem.what.clone());
        }
        let State { decided_until, is_suspended, ended_at, backfill, .. } = &self.state;
        if ended_at.is_some() {
            return Some("its last time has passed".to_owned());
        }
        if *is_suspended {
            return Some("times pass without a run until it is resumed".to_owned());
        }
        if *decided_until > self.now {
            let until = decided_until.iso_seconds();
            return Some(format!("the clock was set back: all times until {until} are decided"));
        }
        let count = backfill.len();
        (count > 0).then(|| format!("{count} times that somebody asked for wait for their turn"))
    }
}
