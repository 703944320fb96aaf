//! Decisions: what becomes of each time that has come.
//!
//! May not read a clock or create a run. Invariant: a time is decided when [`State::decided_until`]
//! has reached it; that never goes back, so a clock that is set back decides nothing a second time.

use std::collections::VecDeque;

use super::state::{Cause, Decision, Fire, State};
use super::{CatchUp, Name, Overlap, Plan};
use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::ground::limits::{
    SCHEDULE_ENDED_RUNS_MAX, SCHEDULE_LOOKED_AT_MAX, SCHEDULE_ON_TIME_MS, SCHEDULE_OPEN_RUNS_MAX,
};

/// What a look at a schedule came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advanced {
    /// Something was decided.
    pub has_changed: bool,
    /// More has come than one look decides.
    pub goes_on: bool,
}

/// A run cannot begin besides: another one has not ended, or too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run of this schedule has not ended")]
pub struct Busy;

impl State {
    /// The next time that is not decided.
    #[must_use]
    pub fn next(&self, plan: &Plan) -> Option<Timestamp> {
        plan.timetable.next_after(self.decided_until)
    }

    /// Decides about everything that has come.
    pub fn advance(&mut self, plan: &Plan, name: &Name, now: Timestamp) -> Advanced {
        let (due, goes_on) = self.due(plan, now);
        let mut has_changed = !due.is_empty();
        self.decide(plan, name, now, due, goes_on);
        has_changed |= self.serve_backfill(plan, name, now);
        let is_over = || plan.timetable.end.is_some_and(|end| end < now);
        if self.ended_at.is_none() && !goes_on && is_over() {
            self.ended_at = Some(now);
            has_changed = true;
        }
        Advanced { has_changed, goes_on }
    }

    /// The times that have come, as many as one look decides, and whether there are more.
    fn due(&self, plan: &Plan, now: Timestamp) -> (VecDeque<Timestamp>, bool) {
        let (mut due, mut last) = (VecDeque::new(), self.decided_until);
        while let Some(time) = plan.timetable.next_after(last).filter(|time| *time <= now) {
            if due.len() == SCHEDULE_LOOKED_AT_MAX {
                return (due, true);
            }
            due.push_back(time);
            last = time;
        }
        (due, false)
    }

    fn decide(
        &mut self,
        plan: &Plan,
        name: &Name,
        now: Timestamp,
        due: VecDeque<Timestamp>,
        goes_on: bool,
    ) {
        let passed =
            if plan.catch_up == CatchUp::All { Decision::Dropped } else { Decision::Missed };
        let made_up = match plan.catch_up {
            CatchUp::Latest | CatchUp::None => 1,
            CatchUp::All => plan.catch_up_max,
        };
        let mut left = due.len();
        for time in due {
            left -= 1;
            let late_ms = now.micros().saturating_sub(time.micros()) / 1000;
            let too_late =
                |s: u64| late_ms > i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1000);
            let decision = if self.is_suspended {
                Some(Decision::SkippedSuspended)
            } else if plan.deadline_s.is_some_and(too_late) {
                Some(Decision::SkippedDeadline)
            } else if left >= made_up || goes_on && left + 1 == made_up {
                // Of those that are not looked at yet, at least one is newer.
                Some(passed)
            } else if plan.catch_up == CatchUp::None && late_ms > SCHEDULE_ON_TIME_MS {
                Some(Decision::Missed)
            } else if goes_on {
                // Whether it is among the newest is known after the next look.
                return;
            } else {
                self.refusal(plan)
            };
            match decision.or_else(|| self.begin(name, time, Cause::Schedule, now)) {
                None => {}
                Some(decision) => self.pass_over(decision, time, now),
            }
            self.decided_until = time;
        }
    }

    /// Why no run may begin now, if none may.
    fn refusal(&self, plan: &Plan) -> Option<Decision> {
        if plan.overlap == Overlap::Forbid && self.is_busy() {
            return Some(Decision::SkippedForbid);
        }
        (self.open.len() + self.wanted.len() >= SCHEDULE_OPEN_RUNS_MAX).then_some(Decision::Dropped)
    }

    /// Decides on the run of a time.
    fn begin(
        &mut self,
        name: &Name,
        time: Timestamp,
        cause: Cause,
        now: Timestamp,
    ) -> Option<Decision> {
        // A name that is read makes an id that is one.
        let Some(run_id) = name.run_at(time) else { return Some(Decision::Dropped) };
        self.start(Fire { run_id, scheduled_at: time }, cause, now);
        None
    }

    /// Begins with times that somebody asked for. Unless runs may overlap, one after the other:
    /// nobody who asks for ten wants nine of them cancelled.
    fn serve_backfill(&mut self, plan: &Plan, name: &Name, now: Timestamp) -> bool {
        let mut has_begun = false;
        while !self.backfill.is_empty() {
            let waits = match plan.overlap {
                Overlap::Allow => self.refusal(plan).is_some(),
                Overlap::Forbid | Overlap::Replace => self.is_busy(),
            };
            if waits {
                break;
            }
            let Some(time) = self.backfill.pop_front() else { break };
            if let Some(decision) = self.begin(name, time, Cause::Backfill, now) {
                self.pass_over(decision, time, now);
            }
            has_begun = true;
        }
        has_begun
    }

    /// Decides on a run besides the schedule, of this moment. Gives its id.
    ///
    /// # Errors
    /// The schedule forbids a second run, or has too many.
    pub fn trigger(&mut self, plan: &Plan, name: &Name, now: Timestamp) -> Result<RunId, Busy> {
        if self.refusal(plan).is_some() {
            return Err(Busy);
        }
        let n = self.triggers + 1;
        let run_id = name.run_besides(now, n).ok_or(Busy)?;
        self.triggers = n;
        self.start(Fire { run_id: run_id.clone(), scheduled_at: now }, Cause::Trigger, now);
        Ok(run_id)
    }

    /// Lets times that have passed wait for their turn, each once.
    pub fn ask_for(&mut self, times: impl IntoIterator<Item = Timestamp>) {
        for time in times {
            if let Err(place) = self.backfill.binary_search(&time) {
                self.backfill.insert(place, time);
            }
        }
    }

    /// Ended runs that are more than the schedule lists, oldest first.
    #[must_use]
    pub fn surplus(&self, plan: &Plan) -> Vec<RunId> {
        let most = |limit: usize| if plan.keeps_all { SCHEDULE_ENDED_RUNS_MAX } else { limit };
        let beyond = |ended: &VecDeque<RunId>, limit: usize| -> Vec<RunId> {
            ended.iter().take(ended.len().saturating_sub(most(limit))).cloned().collect()
        };
        let mut all = beyond(&self.succeeded, plan.keep_succeeded);
        all.extend(beyond(&self.failed, plan.keep_failed));
        all
    }
}
