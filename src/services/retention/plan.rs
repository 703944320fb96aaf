//! The plan: which runs of a root a policy lets go, and why others stay.
//!
//! May not write or lock. Invariant: a run that has not ended, cannot be read, or has a parent that
//! has not ended is in no plan.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::ground::clock::Timestamp;
use crate::ground::id::RunId;
use crate::machines::replay::state::End;
use crate::services::runs::delete::Deletion;
use crate::services::runs::open::look_over;
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Result, Runs};
use crate::services::usage::{Kinds, Seen};
use crate::shells::commit_log::overlay::Overlay;
use crate::shells::run_dir::root::RootView;

use super::Policy;

/// A run that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaving {
    /// The run.
    pub run_id: RunId,
    /// How it ended.
    pub end: &'static str,
    /// When something was written to it last.
    pub last_at: Timestamp,
    /// What it takes.
    pub bytes: u64,
    /// The same by folder.
    pub kinds: Kinds,
}

/// A run that is old enough and stays all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Staying {
    /// The run.
    pub run_id: RunId,
    /// The code of the reason.
    pub code: &'static str,
    /// The reason.
    pub why: String,
}

/// Which runs go.
#[derive(Debug, Default)]
pub struct Plan {
    /// These.
    pub leaving: Vec<Leaving>,
    /// These would, but for something.
    pub staying: Vec<Staying>,
}

/// An ended run.
struct Ended {
    id: RunId,
    end: End,
    last_at: Timestamp,
    process: Option<String>,
    parent: Option<RunId>,
}

impl Runs {
    /// What the policy lets go, as of now.
    ///
    /// # Errors
    /// The root cannot be read.
    pub(in crate::services) fn plan_gc(
        &self,
        root: &RootView,
        log: &Overlay,
        policy: &Policy,
    ) -> Result<Plan> {
        let mut plan = Plan::default();
        let (mut ended, mut open) = (Vec::new(), BTreeSet::new());
        for id in root.run_ids()?.into_iter().filter(|id| !log.is_gone(id)) {
            match root.run(&id).map_err(Error::from).and_then(|dir| look_over(dir, log)) {
                Err(Error::NotFound(_)) => {}
                Err(e) => {
                    plan.staying.push(staying(&id, &e));
                    open.insert(id);
                }
                Ok(seen) => match seen.state.end {
                    None => drop(open.insert(id)),
                    Some((end, _)) => ended.push(Ended {
                        id,
                        end,
                        last_at: seen.state.last_at,
                        process: seen.state.process.map(|process| process.process_id),
                        parent: seen.state.parent.map(|parent| parent.run_id),
                    }),
                },
            }
        }
        let how = policy.deletion();
        for run in policy.choose(ended, self.clock.now()) {
            if let Some(parent) = run.parent.as_ref().filter(|parent| open.contains(*parent)) {
                let what = format!("its parent {parent} has not ended, or cannot be read");
                let why = Error::Conflict(Trouble::new("parent_open", what));
                plan.staying.push(staying(&run.id, &why));
                continue;
            }
            let Ok(dir) = root.run(&run.id) else { continue };
            if let Err(e) = self.judge_leaver(root, &dir, log, how) {
                plan.staying.push(staying(&run.id, &e));
                continue;
            }
            let kinds = Seen::default().of_run(&dir)?;
            plan.leaving.push(Leaving {
                run_id: run.id,
                end: run.end.name(),
                last_at: run.last_at,
                bytes: kinds.values().sum(),
                kinds,
            });
        }
        Ok(plan)
    }
}

impl Policy {
    /// How a run is let go.
    pub(super) const fn deletion(&self) -> Deletion {
        Deletion { force: false, keys_kept_ms: self.keys_kept_ms, dry_run: false }
    }

    /// Those that are old enough, oldest first, and not among the newest of their process.
    fn choose(&self, mut ended: Vec<Ended>, now: Timestamp) -> Vec<Ended> {
        ended.sort_by(|a, b| (b.last_at, &b.id).cmp(&(a.last_at, &a.id)));
        let mut seen: BTreeMap<Option<String>, usize> = BTreeMap::new();
        ended.retain(|run| {
            let newer = seen.entry(run.process.clone()).or_default();
            *newer += 1;
            *newer > self.keep
                && self.ends.contains(&run.end)
                && run.last_at.later_by(self.older_than_ms) <= now
        });
        ended.reverse();
        ended
    }
}

pub(super) fn staying(run: &RunId, error: &Error) -> Staying {
    let trouble = error.trouble();
    Staying { run_id: run.clone(), code: trouble.code, why: trouble.what.clone() }
}
