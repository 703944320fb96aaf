//! A disk in memory that crashes, tears and fails on demand: for tests.
//!
//! Files have device bytes and cache bytes in 512-byte sectors, directories have durable names and
//! pending ones; the rules are those of the durability page's assumptions about the medium. May
//! not know what the files mean. Invariant: what was reported durable survives
//! [`MemoryDisk::power_cut`]; of the rest any mixture may.

use super::{
    Dir, Disk, Error, FileHandle, FileKind, FsClass, Kind, Lock, Open, Rename, Result, Stat,
    is_component,
};
use crate::ground::clock::Timestamp;
use crate::ground::sabotage::{self, Guard};
use rustix::io::Errno;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR: usize = 512;
const ROOT: u64 = 1;

/// What goes wrong at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with an input/output error. A failing sync is a failed write-back: the cache keeps
    /// the new bytes, the device the old, and later syncs report success.
    Broken,
    /// It fails because there is no room.
    NoSpace,
    /// It fails because too many files are open.
    TooManyOpen,
    /// A write that stores only so many bytes and fails; other operations fail as a whole.
    Short(usize),
    /// The process dies at this operation; how much of it was done is up to the seed.
    Die,
}

/// A disk in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent ways to misbehave")]
struct State {
    nodes: BTreeMap<u64, Node>,
    /// Changes of names that no directory sync has made durable, oldest first.
    pending: Vec<Vec<NameChange>>,
    next: u64,
    /// Handles of an earlier life belong to a process that is gone.
    life: u64,
    boot: u64,
    dead: bool,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    unreadable: Option<PathBuf>,
    stuck_cache: bool,
    failing_drop: bool,
    no_direct: bool,
    capacity: usize,
    random: u64,
}

#[derive(Debug, Clone)]
struct NameChange {
    dir: u64,
    name: String,
    node: Option<u64>,
}

#[derive(Debug)]
struct Node {
    uid: u32,
    mode: u32,
    body: Body,
}

#[derive(Debug)]
enum Body {
    File(Content),
    Dir { now: BTreeMap<String, u64>, durable: BTreeMap<String, u64> },
    Symlink,
}

#[derive(Debug, Default)]
struct Content {
    cache: Vec<u8>,
    device: Vec<u8>,
    dirty: BTreeSet<usize>,
    trapped: BTreeSet<usize>,
    unseen_error: bool,
    locks: Vec<(u64, Lock)>,
}

/// How far an operation goes.
enum Extent {
    Whole,
    WholeThenDie,
    Bytes(usize, Errno),
    Nothing(Errno),
}

fn sectors(from: usize, to: usize) -> std::ops::Range<usize> {
    from / SECTOR..to.div_ceil(SECTOR)
}

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        let start = offset.min(self.cache.len());
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        self.dirty.extend(sectors(start, end).filter(|s| !self.trapped.contains(s)));
    }

    /// Past the cache: these sectors are on the device, and what the cache held of them is gone.
    fn write_device(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.cache.resize(self.cache.len().max(end), 0);
        self.device.resize(self.device.len().max(end), 0);
        self.cache[offset..end].copy_from_slice(bytes);
        self.device[offset..end].copy_from_slice(bytes);
        for sector in sectors(offset, end) {
            self.dirty.remove(&sector);
            self.trapped.remove(&sector);
        }
    }

    fn truncate(&mut self, bytes: usize) {
        let old = self.cache.len();
        self.cache.resize(bytes, 0);
        let all = sectors(bytes.min(old), bytes.max(old)).filter(|s| s * SECTOR < bytes);
        self.dirty.extend(all);
        self.dirty.retain(|s| s * SECTOR < bytes);
    }

    fn store(&mut self, sector: usize, bytes: &[u8]) {
        let start = (sector * SECTOR).min(self.device.len());
        let end = (sector * SECTOR + bytes.len()).min(self.device.len());
        self.device[start..end].copy_from_slice(&bytes[..end - start]);
    }

    fn sector(&self, sector: usize) -> Vec<u8> {
        let end = ((sector + 1) * SECTOR).min(self.cache.len());
        self.cache.get(sector * SECTOR..end).unwrap_or(&[]).to_vec()
    }

    fn sync(&mut self) {
        self.device.resize(self.cache.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.store(sector, &self.sector(sector));
        }
    }

    /// The kernel gave up on the dirty pages: clean now, but never on the device.
    fn fail_write_back(&mut self) {
        self.device.resize(self.cache.len(), 0);
        self.trapped.extend(std::mem::take(&mut self.dirty));
    }

    fn drop_clean(&mut self) {
        for sector in sectors(0, self.cache.len()).filter(|s| !self.dirty.contains(s)) {
            let from = sector * SECTOR;
            for i in from..(from + SECTOR).min(self.cache.len()) {
                self.cache[i] = self.device.get(i).copied().unwrap_or(0);
            }
        }
        self.trapped.clear();
    }
}

impl State {
    /// A step of xorshift64*: enough to choose between outcomes, and the same everywhere.
    fn roll(&mut self, sides: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % sides
    }

    fn alive(&self, life: u64, op: &'static str, path: &Path) -> Result<()> {
        if self.dead || life != self.life {
            return Err(failed(op, path, Errno::STALE));
        }
        Ok(())
    }

    /// Counts an operation that changes something and says how far it goes.
    fn begin(&mut self, life: u64, op: &'static str, path: &Path) -> Result<Extent> {
        self.alive(life, op, path)?;
        self.operations += 1;
        Ok(match self.faults.remove(&self.operations) {
            None => Extent::Whole,
            Some(Fault::Broken) => Extent::Nothing(Errno::IO),
            Some(Fault::NoSpace) => Extent::Nothing(Errno::NOSPC),
            Some(Fault::TooManyOpen) => Extent::Nothing(Errno::MFILE),
            Some(Fault::Short(bytes)) => Extent::Bytes(bytes, Errno::NOSPC),
            Some(Fault::Die) => {
                self.dead = true;
                match self.roll(3) {
                    0 => Extent::Nothing(Errno::STALE),
                    1 => Extent::Bytes(usize::try_from(self.roll(700)).unwrap_or(0), Errno::STALE),
                    _ => Extent::WholeThenDie,
                }
            }
        })
    }

    /// A direct write that did not end well: of each sector the new bytes, the old, or garbage.
    fn write_device_torn(&mut self, node: u64, offset: usize, bytes: &[u8]) {
        for (n, sector) in bytes.chunks(SECTOR).enumerate() {
            let torn: Vec<u8> = match self.roll(20) {
                0..10 => sector.to_vec(),
                10..19 => continue,
                _ => sector.iter().map(|_| u8::try_from(self.roll(256)).unwrap_or(0)).collect(),
            };
            if let Some(content) = self.content(node) {
                content.write_device(offset + n * SECTOR, &torn);
            }
        }
    }

    /// An operation that is done whole or not at all.
    fn whole(&mut self, life: u64, op: &'static str, path: &Path) -> Result<bool> {
        match self.begin(life, op, path)? {
            Extent::Whole => Ok(false),
            Extent::WholeThenDie => Ok(true),
            Extent::Bytes(_, errno) | Extent::Nothing(errno) => Err(failed(op, path, errno)),
        }
    }

    fn names(&mut self, dir: u64) -> Option<&mut BTreeMap<String, u64>> {
        match &mut self.nodes.get_mut(&dir)?.body {
            Body::Dir { now, .. } => Some(now),
            _ => None,
        }
    }

    fn find(&mut self, dir: u64, name: &str) -> Option<u64> {
        self.names(dir)?.get(name).copied()
    }

    fn content(&mut self, node: u64) -> Option<&mut Content> {
        match &mut self.nodes.get_mut(&node)?.body {
            Body::File(content) => Some(content),
            _ => None,
        }
    }

    fn change(&mut self, changes: Vec<NameChange>) {
        for change in &changes {
            if let Some(names) = self.names(change.dir) {
                match change.node {
                    Some(node) => names.insert(change.name.clone(), node),
                    None => names.remove(&change.name),
                };
            }
        }
        self.pending.push(changes);
    }

    fn make_durable(&mut self, changes: Vec<NameChange>) {
        for change in changes {
            if let Some(Node { body: Body::Dir { durable, .. }, .. }) =
                self.nodes.get_mut(&change.dir)
            {
                match change.node {
                    Some(node) => durable.insert(change.name, node),
                    None => durable.remove(&change.name),
                };
            }
        }
    }

    /// Makes the changes in `dir` durable, and every earlier one that they build on: a rename
    /// cannot be durable while the making of its old name is not.
    fn settle_names(&mut self, dir: u64) {
        let mut needed: BTreeSet<(u64, String)> = BTreeSet::new();
        let (mut mine, mut rest) = (Vec::new(), Vec::new());
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            let touches =
                |c: &NameChange| c.dir == dir || needed.contains(&(c.dir, c.name.clone()));
            if change.iter().any(touches) {
                needed.extend(change.iter().map(|c| (c.dir, c.name.clone())));
                mine.push(change);
            } else {
                rest.push(change);
            }
        }
        rest.reverse();
        self.pending = rest;
        for change in mine.into_iter().rev() {
            self.make_durable(change);
        }
    }

    fn add(&mut self, dir: u64, name: &str, mode: u32, body: Body) -> u64 {
        self.next += 1;
        let node = self.next;
        self.nodes.insert(node, Node { uid: 1000, mode, body });
        self.change(vec![NameChange { dir, name: name.to_owned(), node: Some(node) }]);
        node
    }

    fn stat(&self, node: u64) -> Option<Stat> {
        let it = self.nodes.get(&node)?;
        let (kind, bytes) = match &it.body {
            Body::File(content) => (FileKind::File, content.cache.len() as u64),
            Body::Dir { .. } => (FileKind::Dir, 0),
            Body::Symlink => (FileKind::Symlink, 0),
        };
        let links = self.nodes.values().map(|n| match &n.body {
            Body::Dir { now, .. } => now.values().filter(|to| **to == node).count() as u64,
            _ => 0,
        });
        // This disk has no clock: nothing on it grows old.
        let changed = Timestamp::from_micros(i64::MAX);
        let (uid, mode) = (it.uid, it.mode);
        Some(Stat { kind, bytes, links: links.sum(), uid, mode, inode: node, changed })
    }

    fn walk(&mut self, path: &Path) -> Option<u64> {
        path.components().try_fold(ROOT, |dir, part| match part {
            Component::Normal(name) => self.find(dir, name.to_str()?),
            _ => Some(dir),
        })
    }

    fn used(&self) -> usize {
        let size = |node: &Node| match &node.body {
            Body::File(content) => content.cache.len(),
            _ => 0,
        };
        self.nodes.values().map(size).sum()
    }

    /// One file after the power came back: of each dirty sector the new bytes, the old, or garbage.
    fn tear(&mut self, node: u64) {
        let Some(content) = self.content(node) else { return };
        let mut content = std::mem::take(content);
        if !content.dirty.is_empty() && self.roll(2) == 0 {
            content.device.resize(content.cache.len(), 0);
        }
        for sector in std::mem::take(&mut content.dirty) {
            let new = content.sector(sector);
            let torn: Vec<u8> = match self.roll(5) {
                0 | 1 => new,
                2 | 3 => continue,
                _ => {
                    let at = sector * SECTOR;
                    let old = |i: usize| content.device.get(at + i).copied();
                    let mut byte = |i: usize, new: u8| match old(i) {
                        // Bytes outside what was written keep their value.
                        Some(old) if old == new => new,
                        // No line feeds: a tail with many lines is another test's affair.
                        _ => u8::try_from(self.roll(245)).unwrap_or(0) + 11,
                    };
                    new.iter().enumerate().map(|(i, b)| byte(i, *b)).collect()
                }
            };
            content.store(sector, &torn);
        }
        content.cache.clone_from(&content.device);
        content.trapped.clear();
        content.unseen_error = false;
        content.locks.clear();
        if let Some(place) = self.content(node) {
            *place = content;
        }
    }
}

fn failed(op: &'static str, path: &Path, errno: Errno) -> Error {
    Error::new(op, path, errno.into())
}

impl MemoryDisk {
    /// An empty disk. `seed` decides every choice that is left to chance.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let body = Body::Dir { now: BTreeMap::new(), durable: BTreeMap::new() };
        Self(Arc::new(Mutex::new(State {
            nodes: BTreeMap::from([(ROOT, Node { uid: 1000, mode: 0o700, body })]),
            pending: Vec::new(),
            next: ROOT,
            life: 0,
            boot: 1,
            dead: false,
            operations: 0,
            faults: BTreeMap::new(),
            unreadable: None,
            stuck_cache: false,
            failing_drop: false,
            no_direct: false,
            capacity: usize::MAX,
            random: seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changing operations and syncs so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Plans a fault at the `nth` changing operation from now, counted from 1.
    pub fn fail_at(&self, nth: u64, fault: Fault) {
        let mut state = self.state();
        let at = state.operations + nth;
        state.faults.insert(at, fault);
    }

    /// Whether a planned [`Fault::Die`] has happened.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The process is gone: its handles and locks too; the cache stays. The next process begins.
    pub fn kill(&self) {
        let mut state = self.state();
        state.life += 1;
        state.dead = false;
        state.faults.clear();
        for node in state.nodes.values_mut() {
            if let Body::File(content) = &mut node.body {
                content.locks.clear();
            }
        }
    }

    /// The machine loses power and comes back: unsynced sectors are new, old or garbage, unsynced
    /// names are there up to some moment.
    pub fn power_cut(&self) {
        self.kill();
        let mut state = self.state();
        state.boot += 1;
        let changes = std::mem::take(&mut state.pending);
        let kept = state.roll(changes.len() as u64 + 1);
        for change in changes.into_iter().take(usize::try_from(kept).unwrap_or(0)) {
            state.make_durable(change);
        }
        let nodes: Vec<u64> = state.nodes.keys().copied().collect();
        for node in nodes {
            state.tear(node);
            if let Some(Node { body: Body::Dir { now, durable }, .. }) = state.nodes.get_mut(&node)
            {
                now.clone_from(durable);
            }
        }
    }

    /// The kernel writes some dirty sectors back on its own.
    pub fn write_back_some(&self) {
        let mut state = self.state();
        let nodes: Vec<u64> = state.nodes.keys().copied().collect();
        for node in nodes {
            let Some(content) = state.content(node) else { continue };
            let dirty: Vec<usize> = content.dirty.iter().copied().collect();
            for sector in dirty {
                if state.roll(2) == 0 {
                    continue;
                }
                let Some(content) = state.content(node) else { continue };
                let bytes = content.sector(sector);
                let end = sector * SECTOR + bytes.len();
                if content.device.len() < end {
                    content.device.resize(end, 0);
                }
                content.store(sector, &bytes);
                content.dirty.remove(&sector);
            }
        }
    }

    /// The kernel fails to write back what is dirty; the next sync of the file reports it once.
    pub fn fail_write_back(&self) {
        for node in self.state().nodes.values_mut() {
            if let Body::File(content) = &mut node.body
                && !content.dirty.is_empty()
            {
                content.fail_write_back();
                content.unseen_error = true;
            }
        }
    }

    /// Memory runs short: every clean page leaves the cache.
    pub fn evict(&self) {
        for node in self.state().nodes.values_mut() {
            if let Body::File(content) = &mut node.body {
                content.drop_clean();
            }
        }
    }

    /// From now on reads of this file fail; nothing: all work again.
    pub fn unreadable(&self, path: Option<&Path>) {
        self.state().unreadable = path.map(Path::to_owned);
    }

    /// From now on dropping the cache does nothing.
    pub fn stick_cache(&self) {
        self.state().stuck_cache = true;
    }

    /// The filesystem knows no direct input and output; opening for it succeeds all the same.
    pub fn forbid_direct(&self) {
        self.state().no_direct = true;
    }

    /// From now on dropping the cache starts a write-back of dirty pages that fails: the next read
    /// still shows them, the one after the next drop does not.
    pub fn fail_write_back_on_drop(&self) {
        self.state().failing_drop = true;
    }

    /// How many bytes all files together may have.
    pub fn set_capacity(&self, bytes: usize) {
        self.state().capacity = bytes;
    }

    /// Changes a file behind everybody's back, durably: bit rot, editors, restored copies. A file
    /// that is missing is made, its directory must exist.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let node = state.walk(path).or_else(|| {
            let dir = state.walk(path.parent()?)?;
            let name = path.file_name()?.to_str()?;
            Some(state.add(dir, name, 0o600, Body::File(Content::default())))
        });
        if let Some(content) = node.and_then(|node| state.content(node)) {
            change(&mut content.cache);
            content.device.clone_from(&content.cache);
            content.dirty.clear();
        }
    }

    /// Puts a symbolic link somewhere.
    pub fn put_symlink(&self, path: &Path) {
        let mut state = self.state();
        let dir = path.parent().and_then(|parent| state.walk(parent));
        if let (Some(dir), Some(name)) = (dir, path.file_name().and_then(|n| n.to_str())) {
            state.add(dir, name, 0o777, Body::Symlink);
        }
    }

    /// Changes owner and permission bits.
    pub fn set_owner(&self, path: &Path, uid: u32, mode: u32) {
        let mut state = self.state();
        if let Some(it) = state.walk(path).and_then(|node| state.nodes.get_mut(&node)) {
            it.uid = uid;
            it.mode = mode;
        }
    }

    /// The bytes that a reader of the cache sees; nothing if there is no such file.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let mut state = self.state();
        let node = state.walk(path)?;
        state.content(node).map(|content| content.cache.clone())
    }
}

impl Disk for MemoryDisk {
    fn open_dir(&self, path: &Path) -> Result<Arc<dyn Dir>> {
        let mut state = self.state();
        let life = state.life;
        state.alive(life, "open directory", path)?;
        let node = state.walk(path).ok_or_else(|| failed("open directory", path, Errno::NOENT))?;
        if state.names(node).is_none() {
            return Err(failed("open directory", path, Errno::NOTDIR));
        }
        Ok(Arc::new(MemoryDir { disk: self.clone(), node, life, path: path.to_owned() }))
    }

    fn create_dirs(&self, path: &Path) -> Result<()> {
        let mut dir = self.open_dir(Path::new("/"))?;
        for part in path.components() {
            if let Component::Normal(name) = part {
                let made = dir.ensure_dir(&name.to_string_lossy())?;
                dir.sync()?;
                dir = made;
            }
        }
        Ok(())
    }

    fn canonicalize(&self, path: &Path) -> Result<PathBuf> {
        let found = self.state().walk(path);
        found.map(|_| path.to_owned()).ok_or_else(|| failed("resolve", path, Errno::NOENT))
    }

    fn read_user_file(&self, path: &Path, max: u64) -> Result<Vec<u8>> {
        let bytes = self.content(path).ok_or_else(|| failed("read", path, Errno::NOENT))?;
        if bytes.len() as u64 > max {
            let why = format!("it is longer than {max} bytes");
            return Err(Error::of_kind("read", path, Kind::TooLarge, &why));
        }
        Ok(bytes)
    }

    fn boot_id(&self) -> String {
        format!("00000000-0000-4000-8000-{:012}", self.state().boot)
    }

    fn effective_uid(&self) -> u32 {
        1000
    }

    fn random(&self) -> [u8; 16] {
        let mut state = self.state();
        std::array::from_fn(|_| u8::try_from(state.roll(256)).unwrap_or(0))
    }
}

#[derive(Debug)]
struct MemoryDir {
    disk: MemoryDisk,
    node: u64,
    life: u64,
    path: PathBuf,
}

impl MemoryDir {
    fn checked(&self, op: &'static str, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        if is_component(name) {
            return Ok(path);
        }
        Err(Error::of_kind(op, path, Kind::BadName, "its name is not a single path component"))
    }

    /// The node behind a name.
    fn look(&self, op: &'static str, name: &str) -> Result<(u64, PathBuf)> {
        let path = self.checked(op, name)?;
        let mut state = self.disk.state();
        state.alive(self.life, op, &path)?;
        match state.find(self.node, name) {
            Some(node) => Ok((node, path)),
            None => Err(failed(op, &path, Errno::NOENT)),
        }
    }

    fn handle(&self, node: u64, path: PathBuf) -> Result<Box<MemoryFile>> {
        let mut state = self.disk.state();
        if state.content(node).is_none() {
            let link = matches!(state.nodes[&node].body, Body::Symlink);
            let errno = if link { Errno::LOOP } else { Errno::ISDIR };
            return Err(failed("open", &path, errno));
        }
        state.next += 1;
        let id = state.next;
        let disk = self.disk.clone();
        Ok(Box::new(MemoryFile { disk, node, life: self.life, id, path, direct: false }))
    }

    fn make(&self, op: &'static str, name: &str, mode: u32, body: Body) -> Result<(u64, PathBuf)> {
        let path = self.checked(op, name)?;
        let mut state = self.disk.state();
        state.alive(self.life, op, &path)?;
        if state.find(self.node, name).is_some() {
            return Err(failed(op, &path, Errno::EXIST));
        }
        let dies = state.whole(self.life, op, &path)?;
        let node = state.add(self.node, name, mode, body);
        if dies { Err(failed(op, &path, Errno::STALE)) } else { Ok((node, path)) }
    }

    /// One change of names, done whole or not at all.
    fn apply(&self, op: &'static str, path: &Path, changes: Vec<NameChange>) -> Result<()> {
        let mut state = self.disk.state();
        let dies = state.whole(self.life, op, path)?;
        state.change(changes);
        if dies { Err(failed(op, path, Errno::STALE)) } else { Ok(()) }
    }

    fn other<'a>(&self, op: &'static str, dir: &'a dyn Dir) -> Result<&'a Self> {
        dir.as_any().downcast_ref().ok_or_else(|| {
            Error::of_kind(op, &self.path, Kind::Broken, "the directories are of two disks")
        })
    }
}

impl Dir for MemoryDir {
    fn path(&self) -> &Path {
        &self.path
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn open_dir(&self, name: &str) -> Result<Arc<dyn Dir>> {
        let (node, path) = self.look("open directory", name)?;
        if self.disk.state().names(node).is_none() {
            return Err(failed("open directory", &path, Errno::NOTDIR));
        }
        Ok(Arc::new(Self { disk: self.disk.clone(), node, life: self.life, path }))
    }

    fn open(&self, name: &str, mode: Open) -> Result<Box<dyn FileHandle>> {
        let (node, path) = self.look("open", name)?;
        let mut file = self.handle(node, path)?;
        file.direct = mode == Open::Direct;
        if mode == Open::Truth && !sabotage::is_removed(Guard::NoDrop) {
            file.drop_cache()?;
        }
        Ok(file)
    }

    fn create_excl(&self, name: &str) -> Result<Box<dyn FileHandle>> {
        let (node, path) = self.make("create", name, 0o600, Body::File(Content::default()))?;
        Ok(self.handle(node, path)?)
    }

    fn open_or_create(&self, name: &str) -> Result<Box<dyn FileHandle>> {
        match self.open(name, Open::Write) {
            Err(e) if e.is_not_found() => self.create_excl(name),
            other => other,
        }
    }

    fn rename(&self, from: &str, target: &dyn Dir, to: &str, mode: Rename) -> Result<()> {
        let (node, _) = self.look("rename", from)?;
        let other = self.other("rename", target)?;
        let path = other.checked("rename to", to)?;
        let found = self.disk.state().find(other.node, to);
        if found.is_some() && mode == Rename::NoReplace {
            return Err(failed("rename to", &path, Errno::EXIST));
        }
        let gone = NameChange { dir: self.node, name: from.to_owned(), node: None };
        let new = NameChange { dir: other.node, name: to.to_owned(), node: Some(node) };
        self.apply("rename to", &path, vec![gone, new])
    }

    /// Names here are UTF-8, all of them.
    fn rename_shown(&self, shown: &str, _: &dyn Dir, _: &str) -> Result<()> {
        Err(failed("rename", &self.path.join(shown), Errno::NOENT))
    }

    fn link(&self, from: &str, target: &dyn Dir, to: &str) -> Result<()> {
        let (node, _) = self.look("link", from)?;
        let other = self.other("link", target)?;
        let path = other.checked("link to", to)?;
        if self.disk.state().find(other.node, to).is_some() {
            return Err(failed("link to", &path, Errno::EXIST));
        }
        let new = NameChange { dir: other.node, name: to.to_owned(), node: Some(node) };
        self.apply("link to", &path, vec![new])
    }

    fn unlink(&self, name: &str) -> Result<()> {
        let (node, path) = self.look("remove", name)?;
        if self.disk.state().names(node).is_some() {
            return Err(failed("remove", &path, Errno::ISDIR));
        }
        let gone = NameChange { dir: self.node, name: name.to_owned(), node: None };
        self.apply("remove", &path, vec![gone])
    }

    fn rmdir(&self, name: &str) -> Result<()> {
        let (node, path) = self.look("remove", name)?;
        if self.disk.state().names(node).is_none_or(|names| !names.is_empty()) {
            return Err(failed("remove", &path, Errno::NOTEMPTY));
        }
        let gone = NameChange { dir: self.node, name: name.to_owned(), node: None };
        self.apply("remove", &path, vec![gone])
    }

    fn mkdir(&self, name: &str) -> Result<()> {
        let body = Body::Dir { now: BTreeMap::new(), durable: BTreeMap::new() };
        self.make("make directory", name, 0o700, body).map(|_| ())
    }

    fn list(&self) -> Result<Vec<String>> {
        let mut state = self.disk.state();
        state.alive(self.life, "list", &self.path)?;
        Ok(state.names(self.node).map(|n| n.keys().cloned().collect()).unwrap_or_default())
    }

    fn stat(&self, name: &str) -> Result<Stat> {
        let (node, path) = self.look("look at", name)?;
        let found = self.disk.state().stat(node);
        found.ok_or_else(|| failed("look at", &path, Errno::NOENT))
    }

    fn stat_self(&self) -> Result<Stat> {
        let found = self.disk.state().stat(self.node);
        found.ok_or_else(|| failed("look at", &self.path, Errno::NOENT))
    }

    fn sync(&self) -> Result<()> {
        if sabotage::is_removed(Guard::NoDirsync) {
            return Ok(());
        }
        let mut state = self.disk.state();
        let dies = state.whole(self.life, "sync directory", &self.path)?;
        state.settle_names(self.node);
        if dies { Err(failed("sync directory", &self.path, Errno::STALE)) } else { Ok(()) }
    }

    fn sync_filesystem(&self) -> Result<()> {
        let mut state = self.disk.state();
        let dies = state.whole(self.life, "sync", &self.path)?;
        for node in state.nodes.values_mut() {
            if let Body::File(content) = &mut node.body {
                content.sync();
            }
        }
        for change in std::mem::take(&mut state.pending) {
            state.make_durable(change);
        }
        if dies { Err(failed("sync", &self.path, Errno::STALE)) } else { Ok(()) }
    }

    fn fs_class(&self) -> Result<FsClass> {
        Ok(FsClass::Durable("memory"))
    }

    fn free_space(&self) -> Result<u64> {
        let state = self.disk.state();
        Ok(state.capacity.saturating_sub(state.used()) as u64)
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    node: u64,
    life: u64,
    id: u64,
    path: PathBuf,
    direct: bool,
}

impl MemoryFile {
    /// Reads or changes the content without counting as an operation.
    fn with<T>(&self, op: &'static str, f: impl FnOnce(&mut Content) -> T) -> Result<T> {
        let mut state = self.disk.state();
        state.alive(self.life, op, &self.path)?;
        if op == "read" && state.unreadable.as_deref() == Some(self.path.as_path()) {
            return Err(failed(op, &self.path, Errno::IO));
        }
        state.content(self.node).map(f).ok_or_else(|| failed(op, &self.path, Errno::STALE))
    }
}

impl MemoryFile {
    /// A write past the cache, of whole sectors from aligned memory: it reaches the device sector
    /// by sector, and whole if nothing goes wrong.
    fn write_directly(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut state = self.disk.state();
        let end = match state.begin(self.life, "write", &self.path)? {
            Extent::Whole => None,
            Extent::WholeThenDie => Some(Errno::STALE),
            Extent::Nothing(errno) | Extent::Bytes(_, errno) => {
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                if errno != Errno::NOSPC {
                    state.write_device_torn(self.node, offset, bytes);
                }
                return Err(failed("write", &self.path, errno));
            }
        };
        let place = usize::try_from(offset).unwrap_or(usize::MAX);
        let misplaced = !place.is_multiple_of(SECTOR)
            || !bytes.len().is_multiple_of(SECTOR)
            || bytes.as_ptr().align_offset(SECTOR) != 0;
        if misplaced || state.no_direct {
            return Err(failed("write", &self.path, Errno::INVAL));
        }
        if let Some(content) = state.content(self.node) {
            content.write_device(place, bytes);
        }
        end.map_or(Ok(()), |errno| Err(failed("write", &self.path, errno)))
    }
}

impl FileHandle for MemoryFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        self.with("read", |content| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.cache.len());
            let n = into.len().min(content.cache.len() - from);
            into[..n].copy_from_slice(&content.cache[from..from + n]);
            n
        })
    }

    fn read_all(&self, max: u64) -> Result<Vec<u8>> {
        let bytes = self.with("read", |content| content.cache.clone())?;
        if bytes.len() as u64 > max {
            let why = format!("it is longer than {max} bytes");
            return Err(Error::of_kind("read", &self.path, Kind::TooLarge, &why));
        }
        Ok(bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if self.direct {
            return self.write_directly(offset, bytes);
        }
        let mut state = self.disk.state();
        let extent = state.begin(self.life, "write", &self.path)?;
        let room = state.capacity.saturating_sub(state.used());
        let (bytes, end) = match extent {
            Extent::Nothing(errno) => return Err(failed("write", &self.path, errno)),
            Extent::Bytes(n, errno) => (&bytes[..n.min(bytes.len())], Some(errno)),
            Extent::WholeThenDie => (bytes, Some(Errno::STALE)),
            Extent::Whole if bytes.len() > room => (&bytes[..room], Some(Errno::NOSPC)),
            Extent::Whole => (bytes, None),
        };
        if let Some(content) = state.content(self.node) {
            content.write(usize::try_from(offset).unwrap_or(usize::MAX), bytes);
        }
        end.map_or(Ok(()), |errno| Err(failed("write", &self.path, errno)))
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.disk.state();
        let extent = state.begin(self.life, "sync", &self.path)?;
        let Some(content) = state.content(self.node) else { return Ok(()) };
        match extent {
            Extent::Whole if std::mem::take(&mut content.unseen_error) => {
                content.sync();
                Err(failed("sync", &self.path, Errno::IO))
            }
            Extent::Whole => {
                content.sync();
                Ok(())
            }
            Extent::WholeThenDie => {
                content.sync();
                Err(failed("sync", &self.path, Errno::STALE))
            }
            Extent::Bytes(_, errno) | Extent::Nothing(errno) => {
                if errno != Errno::STALE {
                    content.fail_write_back();
                }
                Err(failed("sync", &self.path, errno))
            }
        }
    }

    fn sync_file(&self) -> Result<()> {
        self.sync_data()
    }

    fn truncate(&self, bytes: u64) -> Result<()> {
        let mut state = self.disk.state();
        let dies = state.whole(self.life, "truncate", &self.path)?;
        if let Some(content) = state.content(self.node) {
            content.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        if dies { Err(failed("truncate", &self.path, Errno::STALE)) } else { Ok(()) }
    }

    fn stat(&self) -> Result<Stat> {
        let state = self.disk.state();
        state.alive(self.life, "look at", &self.path)?;
        state.stat(self.node).ok_or_else(|| failed("look at", &self.path, Errno::STALE))
    }

    fn set_mode(&self, mode: u32) -> Result<()> {
        let mut state = self.disk.state();
        let dies = state.whole(self.life, "set permissions of", &self.path)?;
        if let Some(node) = state.nodes.get_mut(&self.node) {
            node.mode = mode;
        }
        if dies { Err(failed("set permissions of", &self.path, Errno::STALE)) } else { Ok(()) }
    }

    fn dio_alignment(&self) -> Result<Option<u32>> {
        Ok((!self.disk.state().no_direct).then_some(512))
    }

    fn drop_cache(&self) -> Result<()> {
        let State { stuck_cache, failing_drop, .. } = *self.disk.state();
        if stuck_cache {
            return Ok(());
        }
        self.with("drop the cache of", |content| {
            content.drop_clean();
            if failing_drop {
                content.fail_write_back();
            }
        })
    }

    fn cached_pages(&self) -> Option<u64> {
        Some(u64::from(self.disk.state().stuck_cache))
    }

    fn try_lock(&self, lock: Lock) -> Result<bool> {
        let id = self.id;
        self.with("lock", |content| {
            let free = content.locks.iter().all(|(holder, held)| {
                *holder == id || (*held == Lock::Shared && lock == Lock::Shared)
            });
            if free {
                content.locks.retain(|(holder, _)| *holder != id);
                content.locks.push((id, lock));
            }
            free
        })
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life
            && let Some(content) = state.content(self.node)
        {
            content.locks.retain(|(holder, _)| *holder != self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::aligned::AlignedBuffer;
    use super::super::{Atomic, write_atomic};
    use super::*;

    fn dir(disk: &MemoryDisk) -> Arc<dyn Dir> {
        disk.open_dir(Path::new("/")).unwrap()
    }

    #[test]
    fn what_was_synced_survives_and_what_was_not_may_be_anything() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..200 {
            let disk = MemoryDisk::new(seed);
            let file = dir(&disk).create_excl("f").unwrap();
            file.write_at(0, b"durable").unwrap();
            file.sync_file().unwrap();
            dir(&disk).sync().unwrap();
            file.write_at(7, b" maybe").unwrap();
            disk.power_cut();
            let bytes = disk.content(Path::new("/f")).unwrap();
            assert!(bytes.starts_with(b"durable"), "seed {seed}: {bytes:?}");
            outcomes.insert(match &bytes[7..] {
                b"" => "old",
                b" maybe" => "new",
                b"\0\0\0\0\0\0" => "zeros",
                _ => "garbage",
            });
            assert!(file.sync_data().is_err(), "a handle outlived its process");
        }
        assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    }

    #[test]
    fn names_become_durable_in_order_and_with_what_they_build_on() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..50 {
            let disk = MemoryDisk::new(seed);
            for name in ["a", "b", "c"] {
                dir(&disk).create_excl(name).unwrap();
            }
            disk.power_cut();
            outcomes.insert(dir(&disk).list().unwrap().concat());
        }
        assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), ["", "a", "ab", "abc"]);

        let disk = MemoryDisk::new(1);
        let (one, two) =
            (dir(&disk).ensure_dir("one").unwrap(), dir(&disk).ensure_dir("two").unwrap());
        dir(&disk).sync().unwrap();
        one.create_excl("x").unwrap();
        one.rename("x", &*two, "y", Rename::NoReplace).unwrap();
        two.sync().unwrap();
        disk.power_cut();
        assert!(disk.content(Path::new("/one/x")).is_none());
        assert!(disk.content(Path::new("/two/y")).is_some());
    }

    #[test]
    fn after_a_failed_write_back_the_cache_lies_and_rewriting_in_place_does_not_help() {
        let disk = MemoryDisk::new(1);
        let file = dir(&disk).create_excl("f").unwrap();
        file.write_at(0, b"first").unwrap();
        disk.fail_at(1, Fault::Broken);
        assert!(file.sync_data().is_err());
        let seen = |disk: &MemoryDisk| disk.content(Path::new("/f")).unwrap();
        assert_eq!(seen(&disk), b"first");
        file.write_at(5, b" second").unwrap();
        file.sync_data().unwrap();
        assert_eq!(seen(&disk), b"first second");
        disk.evict();
        assert_eq!(seen(&disk), [0; 12]);
        // Once the cache was dropped, writing works again.
        file.write_at(0, b"third").unwrap();
        file.sync_data().unwrap();
        disk.evict();
        assert!(seen(&disk).starts_with(b"third"));
        // A failure in the background is reported by the next sync, once.
        file.write_at(0, b"fourth").unwrap();
        disk.fail_write_back();
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
    }

    #[test]
    fn an_atomic_write_is_old_or_new_at_every_crash_point() {
        for seed in 0..20 {
            for nth in 1.. {
                let disk = MemoryDisk::new(seed * 100 + nth);
                write_atomic(&*dir(&disk), "f", b"old", Atomic::DURABLE).unwrap();
                disk.fail_at(nth, Fault::Die);
                let done = write_atomic(&*dir(&disk), "f", &[b'n'; 2000], Atomic::DURABLE).is_ok();
                disk.power_cut();
                let bytes = disk.content(Path::new("/f")).unwrap();
                assert!(bytes == b"old" && !done || bytes == [b'n'; 2000], "seed {seed}, {nth}");
                if done {
                    break;
                }
            }
        }
    }

    #[test]
    fn direct_writes_are_durable_at_once_and_tear_by_the_sector() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..100 {
            let disk = MemoryDisk::new(seed);
            dir(&disk).create_excl("f").unwrap().sync_file().unwrap();
            dir(&disk).sync().unwrap();
            let file = dir(&disk).open("f", Open::Direct).unwrap();
            let mut old = AlignedBuffer::new(4096, 512);
            old.fill(1);
            file.write_at(0, &old).unwrap();
            assert_eq!(file.write_at(100, &old).unwrap_err().kind, Kind::Broken);
            assert_eq!(file.write_at(0, &old[..100]).unwrap_err().kind, Kind::Broken);
            disk.fail_at(1, if seed % 2 == 0 { Fault::Die } else { Fault::Broken });
            let mut new = AlignedBuffer::new(4096, 512);
            new.fill(2);
            file.write_at(0, &new).unwrap_err();
            disk.power_cut();
            let bytes = disk.content(Path::new("/f")).unwrap();
            assert_eq!(bytes.len(), 4096);
            outcomes.extend(bytes.chunks(SECTOR).map(|sector| match sector {
                s if s == [1; SECTOR] => "old",
                s if s == [2; SECTOR] => "new",
                _ => "garbage",
            }));
        }
        assert_eq!(outcomes.len(), 3, "{outcomes:?}");
        let disk = MemoryDisk::new(1);
        disk.forbid_direct();
        let file = dir(&disk).create_excl("f").unwrap();
        assert_eq!(file.dio_alignment().unwrap(), None);
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let disk = MemoryDisk::new(1);
        let file = dir(&disk).create_excl("f").unwrap();
        disk.set_capacity(10);
        let error = file.write_at(0, &[1; 20]).unwrap_err();
        assert_eq!(error.kind, Kind::NoSpace);
        assert_eq!(disk.content(Path::new("/f")).unwrap().len(), 10);
    }
}
