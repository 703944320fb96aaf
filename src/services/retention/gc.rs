//! Collecting: what a policy lets go leaves the root, run by run.
//!
//! May not stop half-way through a run. Invariant: a run is judged again under its lock before it
//! goes; one that cannot go hides no other.

use serde::Serialize;

use crate::services::runs::custody::Custody;
use crate::services::runs::{Error, Result, Runs};
use crate::shells::commit_log::overlay::overlay;

use super::Policy;
use super::plan::{Leaving, Staying, staying};
use super::sweep::Swept;

/// What was collected, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collected {
    /// Nothing was done.
    pub dry_run: bool,
    /// Runs were archived, not deleted.
    pub archived: bool,
    /// Runs that left.
    pub runs: Vec<Leaving>,
    /// Runs that are old enough and stay.
    pub staying: Vec<Staying>,
    /// What was left over, by what it is.
    pub swept: Vec<Swept>,
    /// What all of that took.
    pub bytes: u64,
    /// What new archives take.
    pub archive_bytes: u64,
}

impl Runs {
    /// Lets go what the policy says, and sweeps what was left over. `progress` hears of runs done
    /// and runs in all.
    ///
    /// # Errors
    /// The root cannot be had, or storage failed; what was done stays done.
    pub fn gc(
        &self,
        root: &dyn Custody,
        policy: &Policy,
        dry_run: bool,
        progress: &dyn Fn(usize, usize),
    ) -> Result<Collected> {
        let _held = root.hold()?;
        let view = self.view_root()?;
        let log = view.meta().map(|meta| overlay(&**meta)).unwrap_or_default();
        let plan = self.plan_gc(&view, &log, policy)?;
        let mut done = Collected {
            dry_run,
            archived: policy.archive,
            runs: Vec::new(),
            staying: plan.staying,
            swept: Vec::new(),
            bytes: 0,
            archive_bytes: 0,
        };
        let all = plan.leaving.len();
        for (i, run) in plan.leaving.into_iter().enumerate() {
            let left = if dry_run { Ok(0) } else { self.let_go(root, &run, policy) };
            match left {
                Ok(archive_bytes) => {
                    done.archive_bytes += archive_bytes;
                    done.runs.push(run);
                }
                Err(e @ Error::Storage { .. }) => return Err(e),
                Err(e) => done.staying.push(staying(&run.run_id, &e)),
            }
            progress(i + 1, all);
        }
        done.swept = self.sweep(&view, &log, policy, dry_run)?;
        let (runs, swept) = (done.runs.iter().map(|r| r.bytes), done.swept.iter().map(|s| s.bytes));
        done.bytes = runs.chain(swept).sum();
        Ok(done)
    }

    /// Gives the size of the archive.
    fn let_go(&self, root: &dyn Custody, run: &Leaving, policy: &Policy) -> Result<u64> {
        let id = run.run_id.as_str();
        if policy.archive {
            return Ok(self.archive(root, id, policy.keys_kept_ms, None)?.file_bytes);
        }
        self.delete(root, id, policy.deletion()).map(|_| 0)
    }
}
