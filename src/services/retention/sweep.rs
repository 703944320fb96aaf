//! Sweeping: files that nobody names any more.
//!
//! May not remove what is younger than the policy says, nor wait for whoever has a run open.
//! Invariant: what a record names stays; what a repair set aside stays unless that was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use crate::codecs::event::Record;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Digest;
use crate::ground::id::RunId;
use crate::ports::disk::{self, Dir, FileKind};
use crate::services::runs::open::look_over;
use crate::services::runs::{Result, Runs};
use crate::services::usage::Seen;
use crate::shells::commit_log::overlay::Overlay;
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::former;
use crate::shells::run_dir::root::{RootView, TREE_DEPTH_MAX, remove_tree};

use super::Policy;

const UPLOADS: &str = "uploads that nothing names";
const SET_ASIDE: &str = "set aside by repairs";
const STAGED: &str = "left in staging";
const COPIES: &str = "archives and marks of runs that are here";

/// What was left over, of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Swept {
    /// What it is.
    pub what: &'static str,
    /// Files, and directories with what is in them.
    pub count: u64,
    /// What they take.
    pub bytes: u64,
}

/// One pass.
struct Broom<'a> {
    policy: &'a Policy,
    now: Timestamp,
    dry_run: bool,
    swept: BTreeMap<&'static str, (u64, u64)>,
}

impl Runs {
    /// Removes what was left over.
    pub(in crate::services) fn sweep(
        &self,
        root: &RootView,
        log: &Overlay,
        policy: &Policy,
        dry_run: bool,
    ) -> Result<Vec<Swept>> {
        let now = self.clock.now();
        let mut broom = Broom { policy, now, dry_run, swept: BTreeMap::new() };
        if let Some(meta) = root.meta() {
            broom.staging(meta)?;
            broom.unfinished(meta)?;
            broom.set_aside(meta)?;
        }
        let former: BTreeSet<RunId> = root.archived()?.into_iter().chain(root.removed()?).collect();
        for id in root.run_ids()? {
            let Ok(dir) = root.run(&id) else { continue };
            // Whoever has it open may be about to name something.
            let lock = (!dry_run).then(|| dir.lock(0, &*self.clock));
            if matches!(lock, Some(Err(_))) {
                continue;
            }
            if let Ok(seen) = look_over(dir.clone(), log) {
                if former.contains(&id) {
                    broom.copies(dir.root(), &id)?;
                }
                broom.uploads(&dir, &seen.records)?;
                broom.set_aside(dir.dir())?;
            }
            drop(lock);
        }
        let swept = broom.swept.into_iter();
        Ok(swept.map(|(what, (count, bytes))| Swept { what, count, bytes }).collect())
    }
}

impl Broom<'_> {
    /// Removes one thing, if it is old enough.
    fn take(
        &mut self,
        what: &'static str,
        dir: &Arc<dyn Dir>,
        name: &str,
        age_ms: u64,
    ) -> Result<()> {
        let Some(stat) = disk::optional(dir.stat(name))? else { return Ok(()) };
        if age_ms > 0 && stat.changed.later_by(age_ms) > self.now {
            return Ok(());
        }
        let bytes = Seen::default().bytes_at(dir, name)?;
        if !self.dry_run {
            if stat.kind == FileKind::Dir {
                disk::optional(remove_tree(&**dir, name, TREE_DEPTH_MAX))?;
            } else {
                disk::optional(dir.unlink(name))?;
            }
        }
        let sum = self.swept.entry(what).or_default();
        *sum = (sum.0 + 1, sum.1 + bytes);
        Ok(())
    }

    /// Directories of runs that are gone, whatever their age; what somebody began and died.
    fn staging(&mut self, meta: &Arc<dyn Dir>) -> Result<()> {
        let Some(staging) = disk::optional(meta.open_dir("staging"))? else { return Ok(()) };
        for name in staging.list()? {
            if name == "blobs" {
                let blobs = staging.open_dir(&name)?;
                for blob in blobs.list()? {
                    self.take(STAGED, &blobs, &blob, self.policy.left_over_ms)?;
                }
            } else {
                let age = if former::is_gone(&name) { 0 } else { self.policy.left_over_ms };
                self.take(STAGED, &staging, &name, age)?;
            }
        }
        Ok(())
    }

    /// An archive or a mark beside the run itself: somebody died between the two.
    fn copies(&mut self, meta: Option<&Arc<dyn Dir>>, run: &RunId) -> Result<()> {
        for (place, name) in former::places(run) {
            let dir = meta.map(|meta| disk::optional(meta.open_dir(place))).transpose()?;
            if let Some(dir) = dir.flatten() {
                self.take(COPIES, &dir, &name, 0)?;
            }
        }
        Ok(())
    }

    /// What somebody wrote who died.
    fn unfinished(&mut self, meta: &Arc<dyn Dir>) -> Result<()> {
        for place in [former::ARCHIVE, former::REMOVED] {
            let Some(dir) = disk::optional(meta.open_dir(place))? else { continue };
            for name in dir.list()?.iter().filter(|name| disk::is_temporary(name)) {
                self.take(STAGED, &dir, name, self.policy.left_over_ms)?;
            }
        }
        Ok(())
    }

    fn uploads(&mut self, dir: &RunDir, records: &[Arc<Record>]) -> Result<()> {
        let Some(blobs) = disk::optional(dir.dir().open_dir("blobs"))? else { return Ok(()) };
        let named = records.iter().flat_map(|record| record.event.blobs());
        let named: BTreeSet<Digest> = named.map(|blob| blob.digest).collect();
        for name in blobs.list()? {
            let is_unnamed = match format!("b3:{name}").parse::<Digest>() {
                Ok(digest) => !named.contains(&digest),
                Err(_) => disk::is_temporary(&name),
            };
            if is_unnamed {
                self.take(UPLOADS, &blobs, &name, self.policy.left_over_ms)?;
            }
        }
        Ok(())
    }

    fn set_aside(&mut self, above: &Arc<dyn Dir>) -> Result<()> {
        let Some(age) = self.policy.set_aside_ms else { return Ok(()) };
        let Some(dir) = disk::optional(above.open_dir("quarantine"))? else { return Ok(()) };
        for name in dir.list()? {
            self.take(SET_ASIDE, &dir, &name, age)?;
        }
        Ok(())
    }
}
