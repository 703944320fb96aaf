//! Why a run does not go on, and what an agent that comes back must know of it.
//!
//! Everything here is a function of journals, the time and what a daemon's memory knows; without a
//! daemon the answer is the same and says less. May not change anything nor know doors. Invariant:
//! an open run has a reason, a reason has a code of a closed set, and commands that end it.

pub mod brief;
pub mod code;
pub mod found;
pub mod memory;
pub mod reason;
pub mod unblock;
pub mod walk;
mod words;

use serde::Serialize;

use crate::codecs::event::ParentRef;
use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, RunId};
use crate::ground::limits::CHILD_DEPTH_MAX;
use crate::machines::replay::facts::DAMAGED;
use crate::services::repair::Order;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::view::Look;
use crate::services::runs::{Error, Result, Runs};

use brief::Brief;
use code::Code;
use found::{Found, Seen};
use memory::Memory;
use reason::Reason;
use walk::{Child, Walk};

/// Why a run does not go on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The run.
    pub run_id: RunId,
    /// The finer name of its state.
    pub state: &'static str,
    /// The most important reason in a sentence.
    pub headline: String,
    /// Since when that has been so; nothing for a run that cannot be read.
    pub since: Option<Timestamp>,
    /// Most important first; those of child runs included.
    pub reasons: Vec<Reason>,
    /// Reasons that are left out.
    pub omitted: usize,
    /// What will wake it; nothing once it has ended.
    pub wake: Option<Wake>,
    /// The runs that wait for it, nearest first.
    pub parents: Vec<Above>,
}

/// What will wake a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wake {
    /// A word of the index: `runnable`, `timer`, `outside`, `person`, `signal`, `child`,
    /// `operator`.
    pub kind: &'static str,
    /// When time alone will.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// A run that waits for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Above {
    /// The run.
    pub run_id: RunId,
    /// The effect for which it waits.
    pub effect_id: EffectId,
}

impl Runs {
    /// Why a run does not go on, from files alone.
    pub fn why(&self, reference: &str) -> Result<Why> {
        let now = self.clock.now();
        let top = match self.look(reference) {
            Ok(seen) => found(&name(reference, seen.look()), seen.look(), now, None),
            Err(Error::Damaged(trouble)) => self.found_damaged(reference, &trouble)?,
            Err(e) => return Err(e),
        };
        let parents = self.above(top.parent.clone());
        let mut walk = Walk::from(top, false, now);
        while let Some(run) = walk.next_run() {
            let child = match self.look(run.as_str()) {
                Ok(seen) => Child::Found(Box::new(found(run.as_str(), seen.look(), now, None))),
                Err(e) => self.child_unread(&run, &e),
            };
            walk.heard(&run, child);
        }
        Ok(walk.why(parents))
    }

    /// A run in brief, from files alone.
    pub fn brief(&self, reference: &str, worker: Option<&str>) -> Result<Brief> {
        let seen = self.look(reference)?;
        let now = self.clock.now();
        Ok(brief(&name(reference, seen.look()), seen.look(), now, None, worker))
    }

    /// What is said of a child run that cannot be read.
    #[must_use]
    pub fn child_unread(&self, run: &RunId, why: &Error) -> Child {
        match why {
            Error::NotFound(_) => Child::Missing,
            Error::Damaged(trouble) => match self.found_damaged(run.as_str(), trouble) {
                Ok(found) => Child::Found(Box::new(found)),
                Err(_) => Child::Unread,
            },
            _ => Child::Unread,
        }
    }

    /// What is said of a run whose journal cannot be read.
    pub fn found_damaged(&self, reference: &str, trouble: &Trouble) -> Result<Found> {
        let dir = self.find(reference)?;
        let outlook = self.repair_outlook(reference, &Order::default())?;
        let loss = match (&outlook.lost, outlook.lost_records) {
            (None, _) => unblock::Loss::None,
            (Some(_), Some(count)) => unblock::Loss::Records(count),
            (Some(_), None) => unblock::Loss::Unknown,
        };
        let name =
            unblock::quoted(if reference.contains('/') { reference } else { dir.id().as_str() });
        let has_plan = outlook.plan.is_some();
        let how = if has_plan { "" } else { "; a copy of the run mends it" };
        let what = format!("it cannot be read: {}{how}", trouble.what);
        let unblock = unblock::of_damage(&name, has_plan, loss);
        let reason = Reason::of_run(Code::Damaged, dir.id(), what, unblock);
        Ok(Found {
            run_id: dir.id().clone(),
            state: DAMAGED,
            reasons: vec![reason],
            omitted: 0,
            wake_at: None,
            parent: dir.run_json().and_then(|run| run.parent),
            ended: None,
            is_idle: false,
        })
    }

    /// The runs above one, nearest first, as far as they are known.
    #[must_use]
    pub fn above(&self, parent: Option<ParentRef>) -> Vec<Above> {
        let (mut above, mut next) = (Vec::new(), parent);
        while let Some(ParentRef { run_id, effect_id, .. }) = next {
            next = match self.find(run_id.as_str()) {
                Ok(dir) if above.len() < CHILD_DEPTH_MAX as usize => {
                    dir.run_json().and_then(|run| run.parent)
                }
                _ => None,
            };
            above.push(Above { run_id, effect_id });
        }
        above
    }
}

/// What keeps one run from going on. Commands call it `name`.
#[must_use]
pub fn found(name: &str, look: Look<'_>, now: Timestamp, memory: Option<&Memory>) -> Found {
    let (state, records) = (look.state, look.records);
    Found::of(Seen { name, state, records, now, memory })
}

/// A run in brief. Commands call it `name`.
#[must_use]
pub fn brief(
    name: &str,
    look: Look<'_>,
    now: Timestamp,
    memory: Option<&Memory>,
    worker: Option<&str>,
) -> Brief {
    let (state, records) = (look.state, look.records);
    Brief::of(Seen { name, state, records, now, memory }, worker)
}

/// How commands name the run that `reference` meant.
fn name(reference: &str, look: Look<'_>) -> String {
    unblock::quoted(if reference.contains('/') { reference } else { look.dir.id().as_str() })
}
