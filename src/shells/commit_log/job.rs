//! The slow work beside the log: each job is made by the log, run by any thread, and its result
//! given back to the log.
//!
//! May not decide what is due. Invariant: a job touches no file that another job of the same log
//! touches at the same time, journals that are only synced aside.

use super::copy::{JournalFile, Names};
use super::segment::Spare;
use super::segment_file;
use crate::codecs::format::line;
use crate::codecs::format::log_entry::Append;
use crate::ground::id::{RunId, Seq};
use crate::ground::sabotage::{self, Guard};
use crate::ports::disk::{self, Dir};
use crate::shells::run_dir::make;
use crate::shells::run_dir::root::RootView;
use crate::shells::run_dir::root_file::RootFile;
use std::sync::Arc;

/// Attempts to sync a directory before the failure is final.
const DIR_ATTEMPTS: u32 = 3;

/// Something to do beside the log.
#[derive(Debug)]
pub struct Job(pub(super) Kinds);

/// What became of a job: for [`super::log::Log::done`].
#[derive(Debug)]
pub struct Done(pub(super) Results);

impl Done {
    /// How many journals the job settled; none if that was not its work.
    #[must_use]
    pub fn journals(&self) -> usize {
        if let Results::Settle(synced) = &self.0 { synced.len() } else { 0 }
    }
}

#[derive(Debug)]
pub(super) enum Kinds {
    Spare(SpareJob),
    Make(MakeJob),
    Settle(SettleJob),
    Release(ReleaseJob),
}

#[derive(Debug)]
pub(super) enum Results {
    Spare(SpareDone),
    Make(MakeDone),
    Settle(Vec<Synced>),
    Release(ReleaseDone),
}

impl Job {
    /// Does it.
    #[must_use]
    pub fn run(self) -> Done {
        Done(match self.0 {
            Kinds::Spare(job) => Results::Spare(job.run()),
            Kinds::Make(job) => Results::Make(job.run()),
            Kinds::Settle(job) => Results::Settle(job.run()),
            Kinds::Release(job) => Results::Release(job.run()),
        })
    }
}

/// Makes a spare segment.
#[derive(Debug)]
pub(super) struct SpareJob {
    pub(super) dir: Arc<dyn Dir>,
    pub(super) segno: u64,
    pub(super) bytes: u64,
    pub(super) file: Arc<RootFile>,
}

#[derive(Debug)]
pub(super) enum SpareDone {
    Made(Spare),
    /// Another attempt may succeed.
    NotMade(disk::Error),
    /// `root.json` could not be replaced.
    NotRecorded(disk::Error),
}

impl SpareJob {
    pub(super) fn run(self) -> SpareDone {
        let segno = self.segno;
        let made = match Spare::make(&*self.dir, segno, self.bytes) {
            Ok(made) => made,
            Err(e) => return SpareDone::NotMade(e),
        };
        match self.file.replace(|json| json.max_segment = json.max_segment.max(segno)) {
            Ok(()) => SpareDone::Made(made),
            Err(e) => SpareDone::NotRecorded(e),
        }
    }
}

/// Makes the directory of a run and writes the lines that wait for it.
#[derive(Debug)]
pub(super) struct MakeJob {
    pub(super) root: RootView,
    pub(super) run: RunId,
    pub(super) ticket: u64,
    pub(super) lines: Vec<Append>,
}

#[derive(Debug)]
pub(super) struct MakeDone {
    pub(super) run: RunId,
    pub(super) ticket: u64,
    /// Handed back, for the next attempt.
    pub(super) lines: Vec<Append>,
    pub(super) made: disk::Result<(Vec<JournalFile>, Names)>,
}

impl MakeJob {
    fn run(self) -> MakeDone {
        let made = self.make();
        MakeDone { run: self.run, ticket: self.ticket, lines: self.lines, made }
    }

    fn make(&self) -> disk::Result<(Vec<JournalFile>, Names)> {
        let lines: Vec<&[u8]> = self.lines.iter().map(|append| &*append.lines).collect();
        let dir = make::make(&self.root, &self.run, &lines.concat())?;
        let journal = dir.dir().ensure_dir("journal")?;
        let mut files: Vec<JournalFile> = Vec::new();
        for append in &self.lines {
            if files.last().is_none_or(|file| file.first != append.file) {
                let file = journal.open_or_create(&line::segment_name(append.file))?;
                let first = append.file;
                files.push(JournalFile { first, file: file.into(), dirty: true, created: true });
            }
            if let Some(open) = files.last() {
                open.file.write_at(append.off, &append.lines)?;
            }
        }
        Ok((files, Names { dirs: Vec::new(), made: Some(dir) }))
    }
}

/// Syncs the journals of some runs.
#[derive(Debug)]
pub(super) struct SettleJob {
    pub(super) root: Arc<dyn Dir>,
    pub(super) parts: Vec<Part>,
}

/// One run's share.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) run: RunId,
    pub(super) ticket: u64,
    pub(super) files: Vec<JournalFile>,
    pub(super) names: Names,
    /// The run is deleted: its directory must not be there.
    pub(super) gone: bool,
}

/// What became of one run's share.
#[derive(Debug)]
pub(super) struct Synced {
    pub(super) part: Part,
    pub(super) failure: Option<Failure>,
}

/// Why a run is not settled.
#[derive(Debug)]
pub(super) enum Failure {
    /// A sync of this journal segment failed: what the cache shows of it is no evidence.
    File(Seq),
    /// A directory could not be synced.
    Dir(disk::Error),
    /// The directory of the deleted run is there still.
    StillThere,
    /// Another file, or none, stands under this segment's name: what was synced is not in the run.
    Replaced(Seq),
    /// Somebody removed the run's directory.
    Removed,
}

/// Tries more than once: names do not lie in the page cache, so another attempt is worth something.
fn again(sync: impl Fn() -> disk::Result<()>) -> disk::Result<()> {
    let mut attempt = 1;
    loop {
        match sync() {
            Err(e) if attempt < DIR_ATTEMPTS && !e.kind.may_pass() => attempt += 1,
            other => return other,
        }
    }
}

impl SettleJob {
    fn run(self) -> Vec<Synced> {
        let mut done = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            let failure = part.sync(&*self.root).err();
            done.push(Synced { part, failure });
        }
        // One sync of the root serves all runs that are new or gone.
        let needs_root = |s: &Synced| s.failure.is_none() && s.part.changes_root();
        if done.iter().any(needs_root)
            && let Err(e) = again(|| self.root.sync())
        {
            let (kind, why) = (e.kind, e.to_string());
            for synced in done.iter_mut().filter(|s| needs_root(s)) {
                let path = self.root.path();
                let error = disk::Error::of_kind("sync directory", path, kind, &why);
                synced.failure = Some(Failure::Dir(error));
            }
        }
        done
    }
}

impl Part {
    const fn changes_root(&self) -> bool {
        self.names.made.is_some() || self.gone
    }

    fn sync(&self, root: &dyn Dir) -> Result<(), Failure> {
        if self.gone {
            return match disk::optional(root.stat(self.run.as_str())) {
                Ok(None) => Ok(()),
                Ok(Some(_)) => Err(Failure::StillThere),
                Err(e) => Err(Failure::Dir(e)),
            };
        }
        for open in &self.files {
            if sabotage::is_removed(Guard::SettleNoSync) {
                continue;
            }
            let file = &open.file;
            let sync = || if open.created { file.sync_file() } else { file.sync_data() };
            let synced = if sabotage::is_removed(Guard::RetryFsync) { again(sync) } else { sync() };
            synced.map_err(|_| Failure::File(open.first))?;
        }
        self.stands(root)?;
        if let Some(made) = &self.names.made {
            again(|| make::sync(made)).map_err(Failure::Dir)?;
        }
        self.names.dirs.iter().try_for_each(|dir| again(|| dir.sync())).map_err(Failure::Dir)
    }
}

impl Part {
    /// Whether the names of the run lead to the files that were synced: somebody may have replaced
    /// a journal, or removed it, and the log is about to forget what it holds of it.
    fn stands(&self, root: &dyn Dir) -> Result<(), Failure> {
        let found = |dir| disk::optional(dir).map_err(Failure::Dir);
        let Some(dir) = found(root.open_dir(self.run.as_str()))? else {
            return Err(Failure::Removed);
        };
        let journal = found(dir.open_dir("journal"))?;
        for open in &self.files {
            let name = line::segment_name(open.first);
            let named = journal.as_ref().map_or(Ok(None), |dir| disk::optional(dir.stat(&name)));
            let named = named.map_err(Failure::Dir)?.map(|stat| stat.inode);
            if named != Some(open.file.stat().map_err(Failure::Dir)?.inode) {
                return Err(Failure::Replaced(open.first));
            }
        }
        Ok(())
    }
}

/// Removes segments that nothing needs any more.
#[derive(Debug)]
pub(super) struct ReleaseJob {
    pub(super) dir: Arc<dyn Dir>,
    pub(super) file: Arc<RootFile>,
    pub(super) from: u64,
    pub(super) upto: u64,
}

#[derive(Debug)]
pub(super) struct ReleaseDone {
    pub(super) upto: u64,
    pub(super) recorded: disk::Result<()>,
    /// Only tried after the record; what is left is tried again with the next release.
    pub(super) removed: disk::Result<()>,
}

impl ReleaseJob {
    fn run(self) -> ReleaseDone {
        let upto = self.upto;
        let recorded =
            self.file.replace(|json| json.oldest_segment = json.oldest_segment.max(upto + 1));
        let removed = if recorded.is_ok() { remove(&*self.dir, self.from, upto) } else { Ok(()) };
        ReleaseDone { upto, recorded, removed }
    }
}

/// Removes segments, oldest first.
pub(super) fn remove(dir: &dyn Dir, from: u64, upto: u64) -> disk::Result<()> {
    for segno in from..=upto {
        disk::optional(dir.unlink(&segment_file(segno)))?;
    }
    dir.sync()
}
