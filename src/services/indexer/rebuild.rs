//! Filling the index from journals: all of them, or those of some runs.
//!
//! May not decide when. Invariant: what is told of a run is the fold of its verified journal, or
//! that it cannot be read; one run never hides another.

use super::Indexer;
use crate::codecs::event::Head;
use crate::ground::id::RunId;
use crate::machines::replay::facts::{Reasons, Update};
use crate::services::runs::open::{SeenRun, look_over};
use crate::services::runs::{self, Runs};
use crate::shells::commit_log::overlay::Overlay;
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::root::{self, RootView};
use crate::shells::store::{self, Batch, Change, Index};

/// Runs that are read before what was read is handed over.
const RUNS_AT_ONCE: usize = 256;
/// Longest text that is kept about a run that cannot be read.
const PROBLEM_CHARS_MAX: usize = 500;

/// What stopped a rebuild.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root cannot be listed.
    #[error(transparent)]
    Runs(#[from] runs::Error),
    /// The index cannot be written.
    #[error(transparent)]
    Index(#[from] store::Error),
}

/// What a journal says.
#[derive(Debug, Clone, PartialEq)]
pub struct Journaled {
    /// Everything; as if its process had not yet answered its last input.
    pub update: Update,
    /// What will wake it if it has.
    pub resting: Reasons,
}

/// Reads one run of a root that this process owns; nothing if there is none. One that cannot be
/// read is told as damaged.
#[must_use]
pub fn read(root: &RootView, run: &RunId) -> Option<Journaled> {
    read_as(root, run, |dir| look_over(dir, &Overlay::default()))
}

/// The same with what only the commit log holds, which is read for it: slow.
#[must_use]
pub fn read_with_log(runs: &Runs, root: &RootView, run: &RunId) -> Option<Journaled> {
    read_as(root, run, |dir| runs.look_dir(dir))
}

fn read_as(
    root: &RootView,
    run: &RunId,
    look: impl FnOnce(RunDir) -> Result<SeenRun, runs::Error>,
) -> Option<Journaled> {
    let dir = match root.run(run) {
        Err(root::Error::NotFound(_)) => return None,
        other => other.map_err(runs::Error::from),
    };
    Some(match dir.and_then(look) {
        Ok(seen) => Journaled {
            update: Update::whole(&seen.state, false),
            resting: Reasons::of(&seen.state, true),
        },
        Err(error) => {
            let problem = error.to_string().chars().take(PROBLEM_CHARS_MAX).collect();
            let update = Update::damaged(run.clone(), problem);
            Journaled { resting: update.run.reasons, update }
        }
    })
}

/// Reads all journals into an index that nobody else uses. `frame` is the last frame of the commit
/// log that journals contain.
pub fn rebuild(
    runs: &Runs,
    index: &mut Index,
    frame: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), Error> {
    index.reset()?;
    walk(runs, progress, |changes| Ok(index.apply(&Batch { frame: 0, changes })?))?;
    index.apply(&Batch { frame, changes: Vec::new() })?;
    index.set_complete(true)?;
    Ok(index.checkpoint_full()?)
}

/// The same while the index serves: for [`super::Need::Rebuild`] number `ticket`. `frame` was the
/// last durable frame before this call; later ones come by themselves.
pub fn rebuild_live(
    runs: &Runs,
    indexer: &Indexer,
    ticket: u64,
    frame: u64,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), Error> {
    walk(runs, progress, |changes| {
        indexer.apply(Batch { frame: 0, changes });
        // One portion at a time: live changes need the queue more.
        let _ = indexer.settled().blocking_recv();
        Ok(())
    })?;
    indexer.apply(Batch { frame, changes: Vec::new() });
    indexer.rebuilt(ticket);
    Ok(())
}

fn walk(
    runs: &Runs,
    progress: &mut dyn FnMut(usize, usize),
    mut put: impl FnMut(Vec<Change>) -> Result<(), Error>,
) -> Result<(), Error> {
    let root = match runs.view_root() {
        Err(runs::Error::NotFound(_)) => return Ok(()),
        other => other?,
    };
    let ids = root.run_ids().map_err(runs::Error::from)?;
    let mut done = 0;
    for portion in ids.chunks(RUNS_AT_ONCE) {
        let read = portion.iter().filter_map(|run| read(&root, run));
        put(read.map(|journaled| Change::Put(Box::new(journaled.update))).collect())?;
        done += portion.len();
        progress(done, ids.len());
    }
    Ok(())
}

/// The changes that bring runs up to date whose journals somebody else wrote. `seen` are the heads
/// that their rows had before this call.
pub fn reread(runs: &Runs, seen: Vec<(RunId, Option<Head>)>) -> Result<Vec<Change>, runs::Error> {
    let root = runs.view_root()?;
    let mend = |(run, seen)| {
        let right = read(&root, &run).map(|journaled| Box::new(journaled.update));
        Change::Mend { run, seen, right }
    };
    Ok(seen.into_iter().map(mend).collect())
}

/// X5: tells the index of runs that commands without a daemon have written, then removes their
/// marks. Only for whoever owns the root alone.
pub fn take_touched(runs: &Runs, index: &mut Index) -> Result<usize, Error> {
    let root = match runs.view_root() {
        Err(runs::Error::NotFound(_)) => return Ok(0),
        other => other?,
    };
    let touched = root.touched().map_err(runs::Error::from)?;
    for portion in touched.chunks(RUNS_AT_ONCE) {
        let heads = portion.iter().map(|run| Ok((run.clone(), index.head(run)?)));
        let seen = heads.collect::<store::Result<_>>()?;
        index.apply(&Batch { frame: 0, changes: reread(runs, seen)? })?;
    }
    index.checkpoint_full()?;
    root.forget_touched(&touched).map_err(runs::Error::from)?;
    Ok(touched.len())
}
