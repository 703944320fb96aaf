//! One run's directory: its files by name, nothing about their order.
//!
//! May not know what a record means or how a journal is judged. Invariant: derived files are
//! written whole or not at all and may be stale, missing or empty; nothing depends on them.

use super::root::{TOUCHED, remove_tree};
use super::{blob, lock};
use crate::codecs::event::{BlobRef, ForkedFrom, Head, ParentRef, ProcessRef};
use crate::codecs::format::line;
use crate::codecs::json::Json;
use crate::ground::clock::{Clock, Timestamp};
use crate::ground::digest::{Digest, Sum};
use crate::ground::id::{EffectId, Epoch, RunId, Seq};
use crate::ground::limits::{
    PROBE_FILES_MAX, RUN_JOURNAL_BYTES_MAX, STALE_FILES_MAX, VALUE_BYTES_MAX,
};
use crate::ports::disk::{
    self, Atomic, Dir, Disk, FileHandle, FileKind, Kind, Lock, Open, Rename, Stat,
};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// Name of a run's lock file.
pub const RUN_LOCK: &str = "run.lock";
/// Format of the run directory that this version writes.
pub const FORMAT_VERSION: u32 = 1;

const STATE_BYTES_MAX: u64 = 1024 * 1024 * 1024;
const STALE_BYTES_MAX: usize = 1024 * 1024;
/// How deep whatever asks the outside may nest directories that are cleared away.
const PROBE_ROOM_DEPTH_MAX: u32 = 8;
const LOG_TAIL_BYTES: u64 = 64 * 1024;

/// `run.json`: identity and process reference, re-made from the journal when missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunJson {
    /// The run.
    pub run_id: RunId,
    /// Format of the directory.
    pub format_version: u32,
    /// When it was created: of a fork, when it was forked.
    pub created_at: Timestamp,
    /// The program; absent in a bare run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessRef>,
    /// Set in a child run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
    /// Where the command was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Words for finding it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Breakpoints are answered at once.
    #[serde(default)]
    pub non_interactive: bool,
    /// Set in a fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<ForkedFrom>,
}

/// Content of `state/cache.mpk`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// The record up to which it was made.
    pub head: Head,
    /// What the maker put in.
    pub bytes: Vec<u8>,
}

/// The bytes of `state/cache.mpk`: named fields, because the file outlives versions.
#[derive(Serialize, Deserialize)]
struct CacheFile {
    format: u32,
    seq: u64,
    #[serde(with = "serde_bytes")]
    sum: Vec<u8>,
    #[serde(with = "serde_bytes")]
    state: Vec<u8>,
    /// Over the rest: the file is not synced, and a torn head would bear false witness.
    #[serde(with = "serde_bytes")]
    check: Vec<u8>,
}

impl CacheFile {
    fn checksum(&self) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.format.to_le_bytes()).update(&self.seq.to_le_bytes());
        hasher.update(&self.sum).update(&self.state);
        Sum::from_hasher(&hasher).as_bytes().to_vec()
    }
}

/// A file of the run that is not a plain file of its owner: J61.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strange {
    /// Path below the run directory; empty for the directory itself.
    pub file: String,
    /// What it is.
    pub why: String,
}

/// The directory of a run. Nothing in it has been verified: that is what reading its journal does.
#[derive(Debug, Clone)]
pub struct RunDir {
    disk: Arc<dyn Disk>,
    dir: Arc<dyn Dir>,
    id: RunId,
    /// `.dormouse/` of the root it stands in.
    root: Option<Arc<dyn Dir>>,
}

impl RunDir {
    /// Wraps an open directory of run `id`; `root` is the `.dormouse` directory beside it, if any.
    #[must_use]
    pub fn new(
        disk: Arc<dyn Disk>,
        dir: Arc<dyn Dir>,
        id: RunId,
        root: Option<Arc<dyn Dir>>,
    ) -> Self {
        Self { disk, dir, id, root }
    }

    /// The run.
    #[must_use]
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Whether it stands in a runs root.
    #[must_use]
    pub fn in_root(&self) -> bool {
        self.root.is_some()
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

    /// The `.dormouse` directory of the root that it stands in.
    #[must_use]
    pub fn root(&self) -> Option<&Arc<dyn Dir>> {
        self.root.as_ref()
    }

    /// Takes `run.lock` exclusively.
    pub fn lock(&self, wait_ms: u64, clock: &dyn Clock) -> Result<lock::Held, lock::Error> {
        lock::take(&self.dir, RUN_LOCK, Lock::Exclusive, wait_ms, clock, &*self.disk)
    }

    /// Tells the root that this run is written without a daemon, durably.
    pub fn touch(&self) -> disk::Result<()> {
        let Some(root) = &self.root else { return Ok(()) };
        let touched = root.ensure_durable_dir(TOUCHED)?;
        touched.open_or_create(self.id.as_str())?;
        touched.sync()
    }

    /// J61: the first file of the run that is not a plain file of its owner alone. Whoever only
    /// looks at a run that stands alone, a copy or a checkout, does not care whose file it is.
    pub fn strange(&self, looking: bool) -> disk::Result<Option<Strange>> {
        let owned_by = self.disk.effective_uid();
        let uid = (!looking || self.in_root()).then_some(owned_by);
        let found = |file: &str, why: &str| Strange { file: file.into(), why: why.into() };
        if let Some(why) = unfit(self.dir.stat_self()?, FileKind::Dir, uid) {
            return Ok(Some(found("", why)));
        }
        for (name, kind) in
            [("run.json", FileKind::File), (RUN_LOCK, FileKind::File), ("journal", FileKind::Dir)]
        {
            let stat = disk::optional(self.dir.stat(name))?;
            if let Some(why) = stat.and_then(|stat| unfit(stat, kind, uid)) {
                return Ok(Some(found(name, why)));
            }
        }
        let Some(journal) = disk::optional(self.dir.open_dir("journal"))? else { return Ok(None) };
        for name in journal.list()? {
            let stat = disk::optional(journal.stat(&name))?;
            if let Some(why) = stat.and_then(|stat| unfit(stat, FileKind::File, uid)) {
                return Ok(Some(found(&format!("journal/{name}"), why)));
            }
        }
        Ok(None)
    }

    /// Whether anything but a journal speaks for this being a run.
    pub fn has_other_files(&self) -> disk::Result<bool> {
        for name in ["run.json", "blobs", "process"] {
            if disk::optional(self.dir.stat(name))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The highest place that the closing note or the state cache vouches for.
    #[must_use]
    pub fn witness(&self) -> Option<Seq> {
        let note = lock::read_note(&*self.dir, RUN_LOCK).and_then(|note| note.witness());
        let cached = self.read_cache().map(|cache| cache.head.seq);
        note.max(cached).max(self.kept_tails().unwrap_or_default())
    }

    /// The last record in what a recovery kept for this run because its journal could not take it.
    fn kept_tails(&self) -> disk::Result<Option<Seq>> {
        let Some(quarantine) = disk::optional(self.dir.open_dir("quarantine"))? else {
            return Ok(None);
        };
        let mut last = None;
        for name in quarantine.list()?.iter().filter(|name| is_tail(name)) {
            let bytes = quarantine.read_file(name, Open::Read, RUN_JOURNAL_BYTES_MAX)?;
            for kept in bytes.split_inclusive(|b| *b == b'\n') {
                let body = line::split(kept).and_then(|(body, _)| std::str::from_utf8(body).ok());
                let seq = body.and_then(|body| line::envelope(body).ok()).map(|e| e.seq);
                last = last.max(seq);
            }
        }
        Ok(last)
    }

    /// Kept lines vouch for records no longer: a repair has said what became of them.
    pub fn retire_tails(&self) -> disk::Result<()> {
        let Some(quarantine) = disk::optional(self.dir.open_dir("quarantine"))? else {
            return Ok(());
        };
        for name in quarantine.list()?.iter().filter(|name| is_tail(name)) {
            quarantine.rename(name, &*quarantine, &format!("repaired-{name}"), Rename::Replace)?;
        }
        quarantine.sync()
    }

    /// `run.json`; nothing if it is missing or is not one.
    #[must_use]
    pub fn run_json(&self) -> Option<RunJson> {
        let bytes = self.dir.read_file("run.json", Open::Read, VALUE_BYTES_MAX as u64).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Replaces `run.json`.
    pub fn write_run_json(&self, run: &RunJson) -> disk::Result<()> {
        disk::write_atomic(&*self.dir, "run.json", &pretty(run), Atomic::DERIVED)
    }

    /// Replaces `inputs.json`.
    pub fn write_inputs(&self, inputs: &Json) -> disk::Result<()> {
        let text = format!("{}\n", inputs.as_str());
        disk::write_atomic(&*self.dir, "inputs.json", text.as_bytes(), Atomic::DERIVED)
    }

    /// Replaces a derived file of an effect, such as `task.json`.
    pub fn write_task_file(&self, effect: EffectId, name: &str, bytes: &[u8]) -> disk::Result<()> {
        let dir = self.dir.ensure_dir("tasks")?.ensure_dir(&effect.to_string())?;
        disk::write_atomic(&*dir, name, bytes, Atomic::DERIVED)
    }

    /// Keeps a refused post as evidence, durably. Gives the path below the run directory, or
    /// nothing when there are enough already or the post is too large to keep.
    pub fn keep_stale(
        &self,
        effect: EffectId,
        epoch: Option<Epoch>,
        bytes: &[u8],
    ) -> disk::Result<Option<String>> {
        let tasks = self.dir.ensure_dir("tasks")?;
        let task = tasks.ensure_dir(&effect.to_string())?;
        let stale = task.ensure_dir("stale")?;
        let kept = stale.list()?.iter().filter(|name| !disk::is_temporary(name)).count();
        if kept >= STALE_FILES_MAX || bytes.len() > STALE_BYTES_MAX {
            return Ok(None);
        }
        let epoch = epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
        let name = format!("{epoch}-{}.json", kept + 1);
        disk::write_atomic(&*stale, &name, bytes, Atomic::NEW)?;
        for dir in [&task, &tasks, &self.dir] {
            dir.sync()?;
        }
        Ok(Some(format!("tasks/{effect}/stale/{name}")))
    }

    /// Keeps what the outside said about an effect. Gives the path below the run directory, or
    /// nothing when there are enough already.
    pub fn keep_probe(&self, effect: EffectId, bytes: &[u8]) -> disk::Result<Option<String>> {
        let task = self.dir.ensure_dir("tasks")?.ensure_dir(&effect.to_string())?;
        let last = task.list()?.iter().filter_map(|name| probe_number(name)).max().unwrap_or(0);
        if last >= PROBE_FILES_MAX || bytes.len() > STALE_BYTES_MAX {
            return Ok(None);
        }
        let name = format!("probe-{}.json", last + 1);
        disk::write_atomic(&*task, &name, bytes, Atomic::NEW)?;
        Ok(Some(format!("tasks/{effect}/{name}")))
    }

    /// A directory of its own for a question to the outside, below that of the effect; a name that
    /// was used before is made anew. Whoever asks gives it back to [`RunDir::clear_probe_room`].
    pub fn probe_room(&self, effect: EffectId, name: &str) -> disk::Result<Self> {
        let task = self.dir.ensure_dir("tasks")?.ensure_dir(&effect.to_string())?;
        Ok(Self { dir: task.ensure_dir(name)?, ..self.clone() })
    }

    /// Removes such a directory and what was left there.
    pub fn clear_probe_room(&self, effect: EffectId, name: &str) -> disk::Result<()> {
        let task = self.dir.open_dir("tasks")?.open_dir(&effect.to_string())?;
        remove_tree(&*task, name, PROBE_ROOM_DEPTH_MAX)
    }

    /// Files kept about an effect, below the run directory: refused posts, and what the outside
    /// said.
    #[must_use]
    pub fn kept(&self, effect: EffectId) -> (Vec<String>, Vec<String>) {
        let task = format!("tasks/{effect}");
        let list = |dir: &str, is_ours: fn(&str) -> bool| {
            let names = self.list_relative(dir).unwrap_or_default();
            let mut kept: Vec<_> = names.into_iter().filter(|name| is_ours(name)).collect();
            // By their numbers, as they were kept.
            kept.sort_by_key(|name| (name.len(), name.clone()));
            kept.into_iter().map(|name| format!("{dir}/{name}")).collect()
        };
        let stale = list(&format!("{task}/stale"), |name| !disk::is_temporary(name));
        let probe = list(&task, |name| probe_number(name).is_some());
        (stale, probe)
    }

    /// Replaces `state/state.json`.
    pub fn write_state(&self, text: &[u8]) -> disk::Result<()> {
        let state = self.dir.ensure_dir("state")?;
        disk::write_atomic(&*state, "state.json", text, Atomic::DERIVED)
    }

    /// Replaces `state/cache.mpk`.
    pub fn write_cache(&self, head: Head, bytes: &[u8]) -> disk::Result<()> {
        let mut file = CacheFile {
            format: FORMAT_VERSION,
            seq: head.seq.0,
            sum: head.sum.as_bytes().to_vec(),
            state: bytes.to_vec(),
            check: Vec::new(),
        };
        file.check = file.checksum();
        let bytes = rmp_serde::to_vec_named(&file).unwrap_or_default();
        let state = self.dir.ensure_dir("state")?;
        disk::write_atomic(&*state, "cache.mpk", &bytes, Atomic::DERIVED)
    }

    /// Reads `state/cache.mpk`; nothing if it is missing, of another format, or not whole.
    #[must_use]
    pub fn read_cache(&self) -> Option<Cache> {
        let state = self.dir.open_dir("state").ok()?;
        let bytes = state.read_file("cache.mpk", Open::Read, STATE_BYTES_MAX).ok()?;
        let mut rest = bytes.as_slice();
        let file: CacheFile = rmp_serde::from_read(&mut rest).ok()?;
        // The decoder stops where the value ends; bytes after it speak for a torn file.
        if !rest.is_empty() || file.format != FORMAT_VERSION || file.check != file.checksum() {
            return None;
        }
        let sum = Sum::from_bytes(file.sum.try_into().ok()?);
        Some(Cache { head: Head { seq: Seq(file.seq), sum }, bytes: file.state })
    }

    /// Removes `state/`: everything in it can be made again.
    pub fn forget_state(&self) -> disk::Result<()> {
        let Some(state) = disk::optional(self.dir.open_dir("state"))? else { return Ok(()) };
        for name in ["state.json", "cache.mpk"] {
            disk::optional(state.unlink(name))?;
        }
        // It vouches for records; what must be forgotten must not come back after a power cut.
        state.sync()
    }

    /// Appends what a process logged in the turn whose input was `turn`. Lines that an earlier
    /// execution of the same turn wrote are not written again; a turn's lines come in one call.
    pub fn append_logs(&self, turn: Seq, lines: &[Json]) -> disk::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let state = self.dir.ensure_dir("state")?;
        let file = state.open_or_create("logs.jsonl")?;
        let bytes = file.stat()?.bytes;
        let from = bytes.saturating_sub(LOG_TAIL_BYTES);
        let mut tail = vec![0; usize::try_from(bytes - from).unwrap_or(0)];
        file.read_at(from, &mut tail)?;
        let (end, mark) = log_mark(&tail);
        if mark.is_some_and(|mark| mark >= turn) {
            return Ok(());
        }
        let mut out = String::new();
        for line in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{{\"turn\":{turn},\"log\":{}}}", line.as_str());
        }
        file.write_at(from + end as u64, out.as_bytes())
    }

    /// Everything in `state/logs.jsonl`.
    pub fn read_logs(&self) -> disk::Result<Vec<u8>> {
        let Some(state) = disk::optional(self.dir.open_dir("state"))? else { return Ok(vec![]) };
        let read = disk::optional(state.read_file("logs.jsonl", Open::Read, STATE_BYTES_MAX))?;
        Ok(read.unwrap_or_default())
    }

    /// Stores a large value.
    pub fn put_blob(&self, bytes: &[u8]) -> disk::Result<BlobRef> {
        let blobs = self.dir.ensure_durable_dir("blobs")?;
        blob::put(&*blobs, bytes)
    }

    /// Begins to take a large value in parts.
    pub fn begin_blob(&self) -> disk::Result<blob::Incoming> {
        blob::Incoming::begin(self.dir.ensure_durable_dir("blobs")?)
    }

    /// Opens a large value; nothing if there is none of that digest. Whoever reads it checks it.
    pub fn open_blob(&self, digest: &Digest) -> disk::Result<Option<Box<dyn FileHandle>>> {
        let Some(blobs) = disk::optional(self.dir.open_dir("blobs"))? else { return Ok(None) };
        disk::optional(blobs.open(&digest.hex(), Open::Read))
    }

    /// Reads a large value and checks it.
    pub fn get_blob(&self, blob: &BlobRef) -> Result<Vec<u8>, blob::Error> {
        let blobs = disk::optional(self.dir.open_dir("blobs"))?;
        blob::get(&*blobs.ok_or(blob::Error::Missing(blob.digest))?, blob)
    }

    /// Reads a file by its path below the run directory, up to `max` bytes. No part of the path
    /// may be `..` or a symbolic link.
    pub fn read_relative(&self, path: &str, max: u64) -> disk::Result<Vec<u8>> {
        let (dir, name) = self.descend(path, false)?;
        dir.read_file(&name, Open::Read, max)
    }

    /// Opens a file by its path below the run directory; nothing if it is not there.
    pub fn open_relative(&self, path: &str) -> disk::Result<Option<Box<dyn FileHandle>>> {
        let opened = self.descend(path, false).and_then(|(dir, name)| dir.open(&name, Open::Read));
        disk::optional(opened)
    }

    /// The names in a directory below the run directory.
    pub fn list_relative(&self, path: &str) -> disk::Result<Vec<String>> {
        let (dir, name) = self.descend(path, false)?;
        dir.open_dir(&name)?.list()
    }

    /// Writes a file by its path below the run directory, durably, making what is above it.
    pub fn put_relative(&self, path: &str, bytes: &[u8]) -> disk::Result<()> {
        let (dir, name) = self.descend(path, true)?;
        disk::write_atomic(&*dir, &name, bytes, Atomic::DURABLE)
    }

    /// Moves a file below the run directory, durably, making what is above its new place. One that
    /// is not there was moved before.
    pub fn move_relative(&self, path: &str, to: &str) -> disk::Result<()> {
        let Some((from, name)) = disk::optional(self.descend(path, false))? else { return Ok(()) };
        let (into, new_name) = self.descend(to, true)?;
        disk::optional(from.rename(&name, &*into, &new_name, Rename::Replace))?;
        into.sync()?;
        from.sync()
    }

    fn descend(&self, path: &str, make: bool) -> disk::Result<(Arc<dyn Dir>, String)> {
        descend(&self.dir, path, make)
    }
}

/// Opens the directories of a relative path one by one. With `make`, missing ones are made, and
/// every one is durable in the one above.
pub(super) fn descend(
    top: &Arc<dyn Dir>,
    path: &str,
    make: bool,
) -> disk::Result<(Arc<dyn Dir>, String)> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    if !parts.iter().chain([&name]).all(|part| disk::is_component(part)) {
        let why = "it is not a path below the run directory";
        return Err(disk::Error::of_kind("open", top.path().join(path), Kind::BadName, why));
    }
    let mut dir = Arc::clone(top);
    for part in parts {
        dir = match dir.open_dir(part) {
            Err(e) if e.is_not_found() && make => dir.ensure_durable_dir(part)?,
            other => other?,
        };
    }
    Ok((dir, name.to_owned()))
}

/// Whether a file in `quarantine/` has lines that a recovery kept.
fn is_tail(name: &str) -> bool {
    name.strip_prefix("tail-g").and_then(|rest| rest.strip_suffix(".jsonl")).is_some()
}

/// What is wrong with a file; owner and permissions only where it has to be the file of `uid`.
fn unfit(stat: Stat, kind: FileKind, uid: Option<u32>) -> Option<&'static str> {
    if stat.kind == FileKind::Symlink {
        return Some("it is a symbolic link");
    }
    if stat.kind != kind {
        return Some("it is not a plain file");
    }
    if uid.is_some_and(|uid| stat.uid != uid) {
        return Some("it belongs to somebody else");
    }
    if uid.is_some() && stat.mode & 0o022 != 0 {
        return Some("others may write it: chmod -R go-w");
    }
    (kind == FileKind::File && stat.links > 1).then_some("it has several names")
}

/// Which answer of the outside a file in the folder of an effect holds.
fn probe_number(name: &str) -> Option<usize> {
    name.strip_prefix("probe-")?.strip_suffix(".json")?.parse().ok()
}

/// JSON with layout, for files that people open.
#[must_use]
pub fn pretty<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = serde_json::to_vec_pretty(value).unwrap_or_default();
    out.push(b'\n');
    out
}

/// Where the last whole line of a log's tail ends, and the turn it belongs to.
fn log_mark(tail: &[u8]) -> (usize, Option<Seq>) {
    #[derive(Deserialize)]
    struct Line {
        turn: Seq,
    }
    let end = tail.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let last = tail[..end].split_inclusive(|b| *b == b'\n').next_back();
    let turn = last.and_then(|line| serde_json::from_slice::<Line>(line).ok()).map(|l| l.turn);
    (end, turn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::disk::memory::MemoryDisk;

    fn run(disk: &MemoryDisk) -> RunDir {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        disk.create_dirs(Path::new("/r")).unwrap();
        let dir = disk.open_dir(Path::new("/r")).unwrap();
        RunDir::new(disk, dir, "r".parse().unwrap(), None)
    }

    #[test]
    fn logs_of_a_turn_are_written_once_and_a_torn_line_is_overwritten() {
        let disk = MemoryDisk::new(1);
        let run = run(&disk);
        let lines = [Json::of("one"), Json::of("two")];
        run.append_logs(Seq(3), &lines).unwrap();
        run.append_logs(Seq(3), &lines).unwrap();
        disk.tamper(Path::new("/r/state/logs.jsonl"), |bytes| bytes.extend_from_slice(b"{\"tur"));
        run.append_logs(Seq(4), &lines[..1]).unwrap();
        let text = String::from_utf8(run.read_logs().unwrap()).unwrap();
        assert_eq!(
            text,
            concat!(
                "{\"turn\":3,\"log\":\"one\"}\n",
                "{\"turn\":3,\"log\":\"two\"}\n",
                "{\"turn\":4,\"log\":\"one\"}\n"
            )
        );
    }

    #[test]
    fn a_state_cache_that_is_not_whole_is_no_cache() {
        let disk = MemoryDisk::new(1);
        let run = run(&disk);
        assert_eq!(run.read_cache(), None);
        let head = Head { seq: Seq(9), sum: Sum::from_bytes([7; 16]) };
        run.write_cache(head, b"state").unwrap();
        assert_eq!(run.read_cache(), Some(Cache { head, bytes: b"state".to_vec() }));
        let path = Path::new("/r/state/cache.mpk");
        let good = disk.content(path).unwrap();
        for cut in 0..good.len() {
            disk.tamper(path, |bytes| bytes.truncate(cut));
            assert_eq!(run.read_cache(), None, "cut at {cut}");
            disk.tamper(path, |bytes| bytes.clone_from(&good));
        }
        disk.tamper(path, |bytes| bytes.push(0));
        assert_eq!(run.read_cache(), None);
        for byte in 0..good.len() {
            disk.tamper(path, |bytes| bytes.clone_from(&good));
            disk.tamper(path, |bytes| bytes[byte] ^= 1);
            assert_eq!(run.read_cache(), None, "byte {byte}");
        }
        run.forget_state().unwrap();
        assert!(disk.content(path).is_none());
    }

    #[test]
    fn evidence_is_durable_and_bounded() {
        let disk = MemoryDisk::new(1);
        let run = run(&disk);
        let effect: EffectId = "e0001".parse().unwrap();
        for n in 0..STALE_FILES_MAX {
            let kept = run.keep_stale(effect, Some(Epoch(2)), b"{}").unwrap().unwrap();
            assert_eq!(kept, format!("tasks/e0001/stale/2-{}.json", n + 1));
        }
        assert_eq!(run.keep_stale(effect, None, b"{}").unwrap(), None);
        disk.power_cut();
        assert!(disk.content(Path::new("/r/tasks/e0001/stale/2-16.json")).is_some());
    }

    #[test]
    fn paths_lead_down_only() {
        let disk = MemoryDisk::new(1);
        let run = run(&disk);
        run.put_relative("process/src/main.js", b"x").unwrap();
        disk.power_cut();
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let dir = disk.open_dir(Path::new("/r")).unwrap();
        let run = RunDir::new(disk, dir, "r".parse().unwrap(), None);
        assert_eq!(run.read_relative("process/src/main.js", 1).unwrap(), b"x");
        assert_eq!(run.list_relative("process").unwrap(), ["src"]);
        assert!(run.read_relative("process/src/main.js", 0).is_err());
        assert!(run.put_relative("../x", b"x").is_err());
    }
}
