//! The runs root: `root.json`, `root.lock`, creating runs whole, finding them.
//!
//! May not know what a run's journal says. Invariant: a run's directory appears under its name
//! complete and durable, or not at all.

use super::blob;
use super::dir::{RunDir, descend};
use super::former::{Former, GONE};
use super::lock::{self, Held};
use super::root_file::{self, ROOT_JSON};
use crate::codecs::event::{BlobRef, Event, Head, Record};
use crate::codecs::format::line;
use crate::ground::clock::{Clock, Timestamp};
use crate::ground::digest;
use crate::ground::id::{self, RunId, Seq};
use crate::ground::limits::{JOURNAL_RECORD_BYTES_MAX, JOURNAL_SEGMENT_BYTES};
use crate::ports::disk::{
    self, Dir, Disk, FileHandle, FileKind, FsClass, Kind, Lock, Open, Rename,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use super::root_file::{RootJson, RootState};

/// The root's own directory.
pub const META: &str = ".dormouse";
/// Name of the root's lock file.
pub const ROOT_LOCK: &str = "root.lock";
/// Name of the socket that a daemon answers on, in the root's own directory.
pub const SOCKET: &str = "socket";

/// Marks of runs that were written without a daemon, in the root's own directory.
pub(super) const TOUCHED: &str = "touched";

/// Deepest directory of a run that is removed: as deep as any that is made.
pub(crate) const TREE_DEPTH_MAX: u32 = 64;
const RUN_JSON_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why a root or a run in it is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no run or root of that name.
    #[error("{0} not found")]
    NotFound(String),
    /// Several runs begin with what was given.
    #[error("{given:?} is the beginning of several runs: {}", list(candidates))]
    Ambiguous {
        /// What was given.
        given: String,
        /// The runs.
        candidates: Vec<RunId>,
    },
    /// A run of this id exists.
    #[error("run {0} exists already")]
    Exists(RunId),
    /// It does not exist any more, and its id is not given to another one.
    #[error("run {run} {}", past(former))]
    Former {
        /// The run.
        run: RunId,
        /// What became of it.
        former: Former,
    },
    /// The root must not be used as it is; the label is R1 to R5, or J61 for a run.
    #[error("{}: {why} [{label}]", path.display())]
    Refused {
        /// Label of the rule.
        label: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A daemon died: its commit log must be recovered first.
    #[error("{}: a daemon did not stop cleanly; recover the root first", .0.display())]
    NeedsRecovery(PathBuf),
    /// A first record that is longer than a record may be.
    #[error("a record of {0} bytes is longer than a record may be")]
    TooLong(usize),
    /// Not an id that a run can have.
    #[error(transparent)]
    Name(#[from] id::Error),
    /// The run may be there or not: look again.
    #[error("storage failed, the outcome is unknown")]
    Unknown(#[source] disk::Error),
    /// Somebody holds the lock.
    #[error(transparent)]
    Lock(#[from] lock::Error),
    /// The disk refused.
    #[error(transparent)]
    Disk(#[from] disk::Error),
}

impl From<root_file::Error> for Error {
    fn from(error: root_file::Error) -> Self {
        match error {
            root_file::Error::NotOurs { path, why } => Self::Refused { label: "R1", path, why },
            root_file::Error::Disk(e) => Self::Disk(e),
        }
    }
}

fn list(ids: &[RunId]) -> String {
    ids.iter().map(RunId::as_str).collect::<Vec<_>>().join(", ")
}

fn past(former: &Former) -> String {
    match former {
        Former::Deleted(Some(mark)) => format!("was deleted at {} by {}", mark.at, mark.by),
        Former::Deleted(None) => "was deleted".to_owned(),
        Former::Archived(path) => format!("is archived: {}", path.display()),
    }
}

/// How a root is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Make it when it is missing.
    pub create: bool,
    /// How long to wait for a daemon that starts or stops.
    pub wait_ms: u64,
    /// A filesystem type that is accepted although its promises are unknown.
    pub allow_fs: Option<String>,
}

/// A runs root, held together with other direct commands: no daemon runs meanwhile.
#[derive(Debug)]
pub struct Root {
    view: RootView,
    json: RootJson,
    _lock: Guard,
}

/// Keeps daemons off a root while it lives.
#[derive(Debug)]
pub struct Guard(#[allow(dead_code, reason = "held, not used")] Held);

/// Holds the root that a run stands in, if it stands in one, before the run is locked: a run that
/// was opened by its path may be written only while no daemon owns it.
pub fn guard(run: &RunDir, wait_ms: u64, clock: &dyn Clock) -> Result<Option<Guard>, Error> {
    let Some(meta) = run.root() else { return Ok(None) };
    let (guard, json) = hold(meta, wait_ms, clock, &**run.disk())?;
    match json {
        Some(json) if json.state == RootState::Open => {
            Err(Error::NeedsRecovery(meta.path().to_owned()))
        }
        _ => Ok(Some(guard)),
    }
}

fn hold(
    meta: &Arc<dyn Dir>,
    wait_ms: u64,
    clock: &dyn Clock,
    disk: &dyn Disk,
) -> Result<(Guard, Option<RootJson>), Error> {
    let lock = lock::take(meta, ROOT_LOCK, Lock::Shared, wait_ms, clock, disk)?;
    Ok((Guard(lock), root_file::read(&**meta)?))
}

/// A runs root for looking: nothing is locked, made or written.
#[derive(Debug, Clone)]
pub struct RootView {
    disk: Arc<dyn Disk>,
    dir: Arc<dyn Dir>,
    meta: Option<Arc<dyn Dir>>,
}

impl RootView {
    /// Opens a root for looking.
    pub fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<Self, Error> {
        let dir = disk::optional(disk.open_dir(path))?;
        let dir = dir.ok_or_else(|| Error::NotFound(format!("runs root {}", path.display())))?;
        let meta = disk::optional(dir.open_dir(META))?;
        Ok(Self { disk: Arc::clone(disk), dir, meta })
    }

    /// Where it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Arc<dyn Dir> {
        &self.dir
    }

    /// The disk it stands on.
    #[must_use]
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Its own directory, `.dormouse`, if it has one.
    #[must_use]
    pub fn meta(&self) -> Option<&Arc<dyn Dir>> {
        self.meta.as_ref()
    }

    /// The ids of all runs, sorted. Directories that cannot be runs are left out, those that
    /// cannot be looked into are not.
    pub fn run_ids(&self) -> Result<Vec<RunId>, Error> {
        let mut ids = Vec::new();
        for name in self.dir.list()? {
            let Ok(id) = name.parse::<RunId>() else { continue };
            let stat = disk::optional(self.dir.stat(&name))?;
            if stat.is_some_and(|stat| stat.kind == FileKind::Dir)
                && self.is_run(&name).unwrap_or(true)
            {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    fn is_run(&self, name: &str) -> Result<bool, Error> {
        let dir = self.dir.open_dir(name)?;
        for file in ["journal", "run.json", "run.lock"] {
            if disk::optional(dir.stat(file))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Runs that commands without a daemon have written since the index was last told.
    pub fn touched(&self) -> Result<Vec<RunId>, Error> {
        let Some(meta) = &self.meta else { return Ok(Vec::new()) };
        let touched = disk::optional(meta.open_dir(TOUCHED))?;
        let names = touched.map_or_else(|| Ok(Vec::new()), |dir| dir.list())?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes the marks of runs that the index was told of. Only for whoever owns the root alone.
    pub fn forget_touched(&self, runs: &[RunId]) -> Result<(), Error> {
        let Some(meta) = &self.meta else { return Ok(()) };
        let Some(touched) = disk::optional(meta.open_dir(TOUCHED))? else { return Ok(()) };
        for run in runs {
            disk::optional(touched.unlink(run.as_str()))?;
        }
        Ok(touched.sync()?)
    }

    /// The run of exactly this id.
    pub fn run(&self, id: &RunId) -> Result<RunDir, Error> {
        match self.dir.open_dir(id.as_str()) {
            Ok(dir) => Ok(RunDir::new(Arc::clone(&self.disk), dir, id.clone(), self.meta.clone())),
            Err(e) if e.is_not_found() => Err(Error::NotFound(format!("run {id}"))),
            Err(e) if e.kind == Kind::WrongKind => Err(Error::Refused {
                label: "J61",
                path: e.path,
                why: "the run is not a plain directory".into(),
            }),
            Err(e) => Err(e.into()),
        }
    }

    /// The run whose id is `text`, or the only one whose id begins with it, or the one whose
    /// directory `text` is a path to.
    pub fn find(&self, text: &str) -> Result<RunDir, Error> {
        if text.contains('/') {
            return run_at(&self.disk, Path::new(text));
        }
        if let Ok(id) = text.parse::<RunId>() {
            match self.run(&id) {
                Err(Error::NotFound(_)) => {}
                other => return other,
            }
        }
        let mut candidates = self.run_ids()?;
        candidates.retain(|id| !text.is_empty() && id.as_str().starts_with(text));
        match candidates.as_slice() {
            [] => Err(Error::NotFound(format!("run {text}"))),
            [id] => self.run(id),
            _ => Err(Error::Ambiguous { given: text.to_owned(), candidates }),
        }
    }
}

/// Opens a run by the path of its directory, in a root or alone. The path's last part must not be
/// a symbolic link. Alone, the directory may have any name: `run.json` has the id.
pub fn run_at(disk: &Arc<dyn Disk>, path: &Path) -> Result<RunDir, Error> {
    let refused =
        |why: &str| Error::Refused { label: "J61", path: path.to_owned(), why: why.to_owned() };
    let name = path.file_name().and_then(|name| name.to_str());
    let (above, name) = match (path.parent(), name) {
        (Some(above), Some(name)) => (above.to_owned(), name.to_owned()),
        // "." and ".." have no last part of their own.
        _ => split(&disk.canonicalize(path)?).ok_or_else(|| refused("it is no directory"))?,
    };
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above.as_path() };
    let above = disk.open_dir(above)?;
    let dir = above.open_dir(&name).map_err(|e| match e.kind {
        Kind::NotFound => Error::NotFound(format!("run {}", path.display())),
        Kind::WrongKind => refused("the run is not a plain directory"),
        _ => e.into(),
    })?;
    let meta = disk::optional(above.open_dir(META))?;
    let root = match meta {
        Some(meta) if disk::optional(meta.stat(ROOT_JSON))?.is_some() => Some(meta),
        _ => None,
    };
    let stated = || {
        let bytes = dir.read_file("run.json", Open::Read, RUN_JSON_BYTES_MAX).ok()?;
        let json: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
        json.get("runId")?.as_str()?.parse::<RunId>().ok()
    };
    let id = match (&root, stated()) {
        (None, Some(id)) => id,
        _ => name.parse()?,
    };
    Ok(RunDir::new(Arc::clone(disk), dir, id, root))
}

fn split(path: &Path) -> Option<(PathBuf, String)> {
    Some((path.parent()?.to_owned(), path.file_name()?.to_str()?.to_owned()))
}

impl Root {
    /// Opens a root for direct commands or a daemon, making it if asked to.
    pub fn open(
        disk: &Arc<dyn Disk>,
        path: &Path,
        options: &Options,
        clock: &dyn Clock,
    ) -> Result<Self, Error> {
        let (view, meta) = RootView::prepare(disk, path, options)?;
        let (lock, json) = hold(&meta, options.wait_ms, clock, &**disk)?;
        let json = match json {
            Some(json) => json,
            None => view.make_root_json(&*meta)?,
        };
        if json.state == RootState::Open {
            return Err(Error::NeedsRecovery(path.to_owned()));
        }
        let root = Self { view, json, _lock: lock };
        root.view.sweep_staging();
        Ok(root)
    }

    /// The root for looking.
    #[must_use]
    pub fn view(&self) -> &RootView {
        &self.view
    }

    /// What `root.json` says.
    #[must_use]
    pub fn json(&self) -> &RootJson {
        &self.json
    }

    /// Begins to build the directory of a new run, out of sight.
    pub fn stage(&self, id: &RunId) -> Result<Staged, Error> {
        self.view.must_be_absent(id)?;
        self.view.must_be_new(id)?;
        self.view.begin(id)
    }
}

impl Root {
    /// Takes a run out of the root, durably, then removes it. False if something of it stays in
    /// staging: that is removed after the next start of the machine. For the holder of its lock.
    ///
    /// # Errors
    /// [`Error::Unknown`]: look again whether the run is there. Otherwise it is.
    pub fn remove(&self, run: &RunDir) -> Result<bool, Error> {
        // Tells the next daemon to forget it.
        run.touch()?;
        self.view.remove(run.id())
    }

    /// Whether the directory that was opened for a run is the one that stands under its name.
    pub fn still_has(&self, run: &RunDir) -> Result<bool, Error> {
        let named = disk::optional(self.view.dir.stat(run.id().as_str()))?;
        Ok(named.map(|stat| stat.inode) == Some(run.dir().stat_self()?.inode))
    }
}

impl RootView {
    /// The same for the owner of the root, who has told whoever must know.
    ///
    /// # Errors
    /// As [`Root::remove`].
    pub fn remove(&self, run: &RunId) -> Result<bool, Error> {
        let staging = self.dir.open_dir(META)?.ensure_durable_dir("staging")?;
        let name = staging_name(&format!("{GONE}{run}"), &*self.disk);
        self.dir.rename(run.as_str(), &*staging, &name, Rename::NoReplace)?;
        // The new name first: a run of no name at all would be lost on the disk.
        staging.sync().and_then(|()| self.dir.sync()).map_err(Error::Unknown)?;
        let removed = remove_tree(&*staging, &name, TREE_DEPTH_MAX);
        // Somebody else may sweep as well.
        Ok(removed.is_ok() || disk::optional(staging.stat(&name))?.is_none())
    }

    /// Begins to build the directory of a run that may have been here before, and comes back as it
    /// was. For whoever keeps others off the root.
    pub fn stage_again(&self, id: &RunId) -> Result<Staged, Error> {
        self.must_be_absent(id)?;
        self.begin(id)
    }

    fn must_be_absent(&self, id: &RunId) -> Result<(), Error> {
        match self.dir.stat(id.as_str()) {
            Ok(_) => Err(Error::Exists(id.clone())),
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn begin(&self, id: &RunId) -> Result<Staged, Error> {
        let staging = self.dir.open_dir(META)?.ensure_dir("staging")?;
        let name = staging_name(id.as_str(), &*self.disk);
        staging.mkdir(&name)?;
        let dir = staging.open_dir(&name)?;
        Ok(Staged { view: self.clone(), staging, name, dir, id: id.clone(), dirs: Vec::new() })
    }

    /// Whether an id was never given to a run that is gone.
    ///
    /// # Errors
    /// [`Error::Former`].
    pub fn must_be_new(&self, id: &RunId) -> Result<(), Error> {
        match self.former(id)? {
            None => Ok(()),
            Some(former) => Err(Error::Former { run: id.clone(), former }),
        }
    }

    /// Opens a root that will be written, making it if asked to. Gives its own directory too.
    pub(super) fn prepare(
        disk: &Arc<dyn Disk>,
        path: &Path,
        options: &Options,
    ) -> Result<(Self, Arc<dyn Dir>), Error> {
        if options.create && disk::optional(disk.open_dir(path))?.is_none() {
            disk.create_dirs(path)?;
        }
        let mut view = Self::open(disk, path)?;
        view.check_place(options)?;
        let meta = view.dir.ensure_dir(META)?;
        view.meta = Some(Arc::clone(&meta));
        Ok((view, meta))
    }

    /// Removes what commands of an earlier start of the machine left in staging. Best effort: it is
    /// in nobody's way.
    pub(super) fn sweep_staging(&self) {
        let Some(Ok(staging)) = self.meta.as_ref().map(|meta| meta.open_dir("staging")) else {
            return;
        };
        let boot = boot_mark(&self.disk.boot_id());
        for name in staging.list().unwrap_or_default() {
            let mark = name.rsplit('-').nth(1);
            if mark.is_some_and(|mark| mark != boot) {
                let _ = remove_tree(&*staging, &name, TREE_DEPTH_MAX);
            }
        }
    }

    /// R4, R5: whether this is a place to keep runs in.
    pub fn check_place(&self, options: &Options) -> Result<(), Error> {
        let refused =
            |label, why: String| Error::Refused { label, path: self.dir.path().to_owned(), why };
        if let FsClass::Unfit(name) = self.dir.fs_class()?
            && options.allow_fs.as_ref() != Some(&name)
        {
            return Err(refused("R4", format!("its filesystem ({name}) gives no firm promises")));
        }
        let stat = self.dir.stat_self()?;
        if stat.uid != self.disk.effective_uid() {
            return Err(refused("R5", "it belongs to somebody else".into()));
        }
        if stat.mode & 0o022 != 0 {
            return Err(refused("R5", "others may write it".into()));
        }
        Ok(())
    }

    /// Makes `root.json` for a root that has none and holds nothing yet (else R1).
    pub(super) fn make_root_json(&self, meta: &dyn Dir) -> Result<RootJson, Error> {
        let has_log = disk::optional(meta.stat("commit-log"))?.is_some();
        if has_log || !self.run_ids()?.is_empty() {
            let path = meta.path().join(ROOT_JSON);
            let why = "it is missing although runs exist".to_owned();
            return Err(Error::Refused { label: "R1", path, why });
        }
        let json = root_file::make(meta, &*self.disk)?;
        self.dir.sync()?;
        Ok(json)
    }
}

/// A fresh name in `staging/` for what becomes, or was, `what`. Names of an earlier start of the
/// machine are told by it and swept.
pub(crate) fn staging_name(what: &str, disk: &dyn Disk) -> String {
    let random = digest::hex(&disk.random()[..8]);
    format!("{what}-{}-{random}", boot_mark(&disk.boot_id()))
}

/// Eight characters that tell one start of the machine from another, for names.
fn boot_mark(boot_id: &str) -> String {
    digest::Digest::of(boot_id.as_bytes()).hex()[..8].to_owned()
}

/// Removes a directory and what is in it, `depth` levels down at most.
pub(crate) fn remove_tree(dir: &dyn Dir, name: &str, depth: u32) -> disk::Result<()> {
    let inner = dir.open_dir(name)?;
    for entry in inner.list()? {
        if inner.stat(&entry)?.kind != FileKind::Dir {
            inner.unlink(&entry)?;
        } else if depth > 0 {
            remove_tree(&*inner, &entry, depth - 1)?;
        }
    }
    dir.rmdir(name)
}

/// A run's directory that is being built in `.dormouse/staging/`. Dropped, it is removed.
#[derive(Debug)]
pub struct Staged {
    view: RootView,
    staging: Arc<dyn Dir>,
    name: String,
    dir: Arc<dyn Dir>,
    id: RunId,
    /// Every directory that was made, outermost first.
    dirs: Vec<Arc<dyn Dir>>,
}

impl Staged {
    /// Adds a file by its path below the run directory; durable once the run is.
    pub fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        let file = self.create(path)?;
        file.write_at(0, bytes)?;
        Ok(file.sync_file()?)
    }

    /// Begins a file that its writer fills and syncs.
    pub fn create(&mut self, path: &str) -> Result<Box<dyn FileHandle>, Error> {
        let (dir, name) = self.ensure(path)?;
        Ok(dir.create_excl(&name)?)
    }

    /// The run as it stands so far, out of any root.
    #[must_use]
    pub fn dir(&self) -> RunDir {
        RunDir::new(Arc::clone(&self.view.disk), Arc::clone(&self.dir), self.id.clone(), None)
    }

    /// Adds a large value.
    pub fn blob(&mut self, bytes: &[u8]) -> Result<BlobRef, Error> {
        self.ensure("blobs/x")?;
        Ok(blob::put(&*self.dir.open_dir("blobs")?, bytes)?)
    }

    /// Writes the first records of the journal; called once. Gives them back as reading would.
    pub fn journal(&mut self, events: &[(Timestamp, Event)]) -> Result<Vec<Record>, Error> {
        let mut head = Head { seq: Seq(0), sum: line::genesis(&self.id) };
        let (mut begins, mut bytes) = (Seq(1), Vec::new());
        let mut records = Vec::with_capacity(events.len());
        for (at, event) in events {
            let seq = head.seq.next();
            let (line, sum) = line::encode(seq, *at, event, head.sum);
            if line.len() > JOURNAL_RECORD_BYTES_MAX {
                return Err(Error::TooLong(line.len()));
            }
            if (bytes.len() + line.len()) as u64 > JOURNAL_SEGMENT_BYTES {
                self.segment(begins, &std::mem::take(&mut bytes))?;
                begins = seq;
            }
            bytes.extend_from_slice(&line);
            head = Head { seq, sum };
            records.push(Record { seq, at: *at, event: event.clone(), sum });
        }
        self.segment(begins, &bytes)?;
        Ok(records)
    }

    fn segment(&mut self, begins: Seq, bytes: &[u8]) -> Result<(), Error> {
        self.file(&format!("journal/{}", line::segment_name(begins)), bytes)
    }

    /// Makes the run appear under its id, complete and durable.
    pub fn publish(mut self) -> Result<RunDir, Error> {
        for dir in self.dirs.iter().rev() {
            dir.sync()?;
        }
        self.dir.sync()?;
        // Tells the next daemon to index it.
        let touched = self.view.dir.open_dir(META)?.ensure_durable_dir("touched")?;
        touched.open_or_create(self.id.as_str())?;
        touched.sync()?;
        let renamed =
            self.staging.rename(&self.name, &*self.view.dir, self.id.as_str(), Rename::NoReplace);
        match renamed {
            Err(e) if e.is_exists() => return Err(Error::Exists(self.id.clone())),
            other => other.map_err(Error::Unknown)?,
        }
        self.name.clear();
        self.view.dir.sync().map_err(Error::Unknown)?;
        self.view.run(&self.id)
    }

    /// The directory that `path` stands in, made if missing.
    fn ensure(&mut self, path: &str) -> Result<(Arc<dyn Dir>, String), Error> {
        // Checks the path before anything is made.
        if let Ok(found) = descend(&self.dir, path, false) {
            return Ok(found);
        }
        let mut dir = Arc::clone(&self.dir);
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().unwrap_or_default().to_owned();
        for part in parts {
            dir = match dir.open_dir(part) {
                Err(e) if e.is_not_found() => {
                    let made = dir.ensure_dir(part)?;
                    self.dirs.push(Arc::clone(&made));
                    made
                }
                other => other?,
            };
        }
        Ok((dir, name))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            // What stays is swept after the next start of the machine.
            let _ = remove_tree(&*self.staging, &self.name, TREE_DEPTH_MAX);
        }
    }
}
