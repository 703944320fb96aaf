//! Disk use of a root, by run and by what it is for.
//!
//! May not remove anything. Invariant: a file with several names, as pinned code has, is counted
//! once, where it is met first.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::Serialize;

use crate::ground::id::RunId;
use crate::ports::disk::{self, Dir, FileKind};
use crate::shells::run_dir::dir::RunDir;

use super::runs::{Result, Runs};

/// Deepest directory that is looked into.
const DEPTH_MAX: u32 = 64;

/// Bytes by what they are for.
pub type Kinds = BTreeMap<&'static str, u64>;

/// Disk use of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfRun {
    /// The run.
    pub run_id: RunId,
    /// All of it.
    pub bytes: u64,
    /// By folder.
    pub kinds: Kinds,
}

/// Disk use of a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// All of it.
    pub bytes: u64,
    /// What the root keeps for itself.
    pub root: Kinds,
    /// What its runs keep, together.
    pub kinds: Kinds,
    /// Archived runs; what they take is the root's.
    pub archived: usize,
    /// Each run, largest first.
    pub runs: Vec<OfRun>,
}

/// Files of a run's directory by what they are for.
const OF_RUN: &[(&str, &str)] = &[
    ("journal", "journal"),
    ("blobs", "blobs"),
    ("tasks", "tasks"),
    ("state", "state"),
    ("quarantine", "quarantine"),
    ("workspace", "workspace"),
    ("process", "code"),
];

/// Files of the root's own directory by what they are for.
const OF_ROOT: &[(&str, &str)] = &[
    ("commit-log", "log"),
    ("code", "code"),
    ("inbox", "inbox"),
    ("outbox", "outbox"),
    ("staging", "staging"),
    ("quarantine", "quarantine"),
    ("archive", "archives"),
    ("removed", "marks"),
    ("index.db", "index"),
];

impl Runs {
    /// Measures the root, or some of its runs.
    pub fn usage(&self, references: &[String]) -> Result<Usage> {
        let view = self.view_root()?;
        let mut seen = Seen::default();
        let (root, kinds) = (Kinds::new(), Kinds::new());
        let archived = if references.is_empty() { view.archived()?.len() } else { 0 };
        let mut usage = Usage { bytes: 0, root, kinds, archived, runs: Vec::new() };
        let mut dirs = Vec::new();
        if references.is_empty() {
            if let Some(meta) = view.meta() {
                seen.measure(meta, OF_ROOT, &mut usage.root)?;
            }
            for id in view.run_ids()? {
                // One that was deleted meanwhile takes no room.
                dirs.extend(view.run(&id).ok());
            }
        }
        for reference in references {
            dirs.push(self.find(reference)?);
        }
        for dir in dirs {
            let kinds = seen.of_run(&dir)?;
            for (kind, bytes) in &kinds {
                *usage.kinds.entry(kind).or_default() += bytes;
            }
            let bytes = kinds.values().sum();
            usage.runs.push(OfRun { run_id: dir.id().clone(), bytes, kinds });
        }
        usage.runs.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.run_id.cmp(&b.run_id)));
        usage.bytes = usage.root.values().chain(usage.kinds.values()).sum();
        Ok(usage)
    }
}

/// Files with several names that were met.
#[derive(Default)]
pub(super) struct Seen(HashSet<u64>);

impl Seen {
    /// What stands below the directory of a run, by kind.
    pub(super) fn of_run(&mut self, dir: &RunDir) -> disk::Result<Kinds> {
        let mut kinds = Kinds::new();
        self.measure(dir.dir(), OF_RUN, &mut kinds)?;
        Ok(kinds)
    }

    fn measure(
        &mut self,
        dir: &Arc<dyn Dir>,
        names: &[(&str, &'static str)],
        kinds: &mut Kinds,
    ) -> disk::Result<()> {
        for name in disk::optional(dir.list())?.unwrap_or_default() {
            let is = |prefix: &str| name.strip_prefix(prefix).is_some_and(is_variant);
            let kind =
                names.iter().find(|(prefix, _)| is(prefix)).map_or("other", |(_, kind)| kind);
            let bytes = self.bytes_at(dir, &name)?;
            *kinds.entry(kind).or_default() += bytes;
        }
        Ok(())
    }

    /// What stands under a name, as deep as anybody looks.
    pub(super) fn bytes_at(&mut self, dir: &Arc<dyn Dir>, name: &str) -> disk::Result<u64> {
        self.bytes(dir, name, DEPTH_MAX)
    }

    fn bytes(&mut self, dir: &Arc<dyn Dir>, name: &str, depth: u32) -> disk::Result<u64> {
        // Files come and go while a daemon works.
        let Some(stat) = disk::optional(dir.stat(name))? else { return Ok(0) };
        if stat.kind != FileKind::Dir {
            let is_new = stat.links < 2 || self.0.insert(stat.inode);
            return Ok(if is_new { stat.bytes } else { 0 });
        }
        let Some(inner) = disk::optional(dir.open_dir(name))?.filter(|_| depth > 0) else {
            return Ok(0);
        };
        let mut bytes = 0;
        for name in disk::optional(inner.list())?.unwrap_or_default() {
            bytes += self.bytes(&inner, &name, depth - 1)?;
        }
        Ok(bytes)
    }
}

/// What may follow the name of a kind: nothing, or what says which of several it is.
fn is_variant(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('-')
}
