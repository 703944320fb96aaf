//! From a run through its child runs to whatever keeps the last of them from going on.
//!
//! May not read a run: whoever walks does. Invariant: each run is looked at once, and at most
//! `WHY_RUNS_MAX` of them.

use std::collections::{BTreeSet, VecDeque};

use super::code::Code;
use super::found::{Found, is_late};
use super::reason::Reason;
use super::unblock;
use super::{Above, Wake, Why};
use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::ground::limits::{WHY_REASONS_MAX, WHY_RUNS_MAX};
use crate::machines::replay::state::End;

/// A walk down from one run.
#[derive(Debug)]
pub struct Walk {
    top: Found,
    is_served: bool,
    now: Timestamp,
    reasons: Vec<Reason>,
    omitted: usize,
    wake_at: Option<Timestamp>,
    todo: VecDeque<RunId>,
    known: BTreeSet<RunId>,
    /// Runs of which a daemon knows that nobody is at them.
    idle: BTreeSet<RunId>,
    looked: usize,
}

/// What became of looking at a child run.
#[derive(Debug)]
pub enum Child {
    /// It was read.
    Found(Box<Found>),
    /// It does not exist yet.
    Missing,
    /// It cannot be read for now.
    Unread,
}

impl Walk {
    /// Begins at the run that was asked about.
    #[must_use]
    pub fn from(mut top: Found, is_served: bool, now: Timestamp) -> Self {
        let reasons = std::mem::take(&mut top.reasons);
        let known = BTreeSet::from([top.run_id.clone()]);
        let (omitted, wake_at) = (top.omitted, top.wake_at);
        let idle = top.is_idle.then(|| top.run_id.clone()).into_iter().collect();
        let (todo, looked) = (VecDeque::new(), 0);
        let mut walk =
            Self { top, is_served, now, reasons, omitted, wake_at, todo, known, idle, looked };
        walk.follow(0);
        walk
    }

    /// The next child run to be looked at.
    pub fn next_run(&mut self) -> Option<RunId> {
        let next = self.todo.pop_front().filter(|_| self.looked < WHY_RUNS_MAX)?;
        self.looked += 1;
        Some(next)
    }

    /// Takes in what was seen of it.
    pub fn heard(&mut self, run: &RunId, child: Child) {
        match child {
            Child::Found(found) if found.ended.is_some() => self.has_ended(run, &found),
            Child::Found(found) => {
                let from = self.reasons.len();
                self.idle.extend(found.is_idle.then_some(found.run_id));
                self.omitted += found.omitted;
                self.wake_at = self.wake_at.into_iter().chain(found.wake_at).min();
                self.reasons.extend(found.reasons);
                self.follow(from);
            }
            Child::Missing => {
                let what = format!("its child run {run} is still to be made");
                self.goes_on(run, |_| Code::Runnable, &what);
            }
            Child::Unread => {}
        }
    }

    /// What it comes to. `parents` stand above the run, nearest first.
    #[must_use]
    pub fn why(mut self, parents: Vec<Above>) -> Why {
        // What keeps a child from going on comes before that its parent waits for it. A remark
        // that something may be missing stays at the end.
        let first = self.top.run_id.clone();
        self.reasons.sort_by_key(|reason| (reason.is_guess, reason.code, reason.run_id != first));
        self.omitted += self.reasons.len().saturating_sub(WHY_REASONS_MAX);
        self.reasons.truncate(WHY_REASONS_MAX);
        let (state, run_id) = (self.top.state, self.top.run_id);
        let Some(main) = self.reasons.first() else {
            let (end, at) = self.top.ended.unzip();
            let headline = format!("it has ended: {}", end.map_or(state, End::name));
            let (reasons, omitted) = (Vec::new(), 0);
            let (since, wake) = (at, None);
            return Why { run_id, state, headline, since, reasons, omitted, wake, parents };
        };
        let place =
            if main.run_id == run_id { String::new() } else { format!("run {}: ", main.run_id) };
        let more = match self.reasons.len() + self.omitted - 1 {
            0 => String::new(),
            1 => " (and one more reason)".to_owned(),
            count => format!(" (and {count} more reasons)"),
        };
        let headline = format!("{place}{}{more}", main.what);
        let wake = Wake { kind: main.code.waker().name(), at: self.wake_at };
        Why {
            state,
            headline,
            since: main.since,
            wake: Some(wake),
            omitted: self.omitted,
            run_id,
            parents,
            reasons: self.reasons,
        }
    }

    /// Queues the child runs that the reasons from `from` on wait for.
    fn follow(&mut self, from: usize) {
        for reason in &self.reasons[from..] {
            if let Some(child) = &reason.child_run_id
                && self.todo.len() + self.looked < WHY_RUNS_MAX
                && self.known.insert(child.clone())
            {
                self.todo.push_back(child.clone());
            }
        }
    }

    /// A child has ended: its parent takes the outcome when it goes on.
    fn has_ended(&mut self, child: &RunId, found: &Found) {
        let Some((end, at)) = found.ended else { return };
        let is_late = is_late(at, self.now);
        let idle = std::mem::take(&mut self.idle);
        let is_lost = |parent: &RunId| is_late && idle.contains(parent);
        let code = |of: &RunId| if is_lost(of) { Code::LostWake } else { Code::Runnable };
        let end = end.name();
        let what = format!("its child run {child} ended as {end}, and it has not heard of that");
        self.goes_on(child, code, &what);
        self.idle = idle;
    }

    /// Whoever waits for `child` need not.
    fn goes_on(&mut self, child: &RunId, code: impl Fn(&RunId) -> Code, what: &str) {
        let waiting = |reason: &&mut Reason| reason.child_run_id.as_ref() == Some(child);
        for reason in self.reasons.iter_mut().filter(waiting) {
            what.clone_into(&mut reason.what);
            reason.code = code(&reason.run_id);
            let (run, is_served) = (reason.run_id.as_str(), self.is_served);
            reason.unblock = unblock::of_run(reason.code, run, "", is_served);
        }
    }
}
