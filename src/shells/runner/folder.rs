//! The files by which a runner and its daemons understand each other, in the folder of an effect.
//!
//! May not start or end processes. Invariant: `begun` is durable before a command is started;
//! `void` is written only under the lock and where `begun` is missing, and nobody begins after it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codecs::hide::Hider;
use crate::ground::id::{EffectId, Epoch};
use crate::ground::limits::VALUE_BYTES_MAX;
use crate::ports::disk::{self, Atomic, Dir, Disk, FileHandle, Kind, Lock, Open, write_atomic};
use crate::ports::process::started_ticks;
use crate::shells::run_dir::dir::{RunDir, pretty};

use super::{Exit, Job};

/// Most bytes of the small files here.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// The folder of an effect, for one start of it.
#[derive(Debug, Clone)]
pub struct Folder {
    dir: Arc<dyn Dir>,
    epoch: Epoch,
}

/// Who holds a lock: written into it, so that the holder can be found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    /// The runner.
    pub(super) pid: u32,
    /// The start of the machine in which these numbers mean something.
    pub(super) boot: String,
    /// The command, once it was started: it leads a process group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) child: Option<Named>,
}

/// A process that can be told from a later one with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) pid: u32,
    /// When it was started, in the kernel's counting.
    pub(super) start: u64,
}

/// What is known about a lock.
pub(super) enum Locked {
    /// It is ours now, until this is dropped.
    Ours(Box<dyn FileHandle>),
    /// Somebody holds it; who, if they had the time to say so.
    Theirs(Option<Holder>),
}

impl Folder {
    /// Of an effect in a run that is here, made if it is missing; its name is durable.
    pub fn make(run: &RunDir, effect: EffectId, epoch: Epoch) -> disk::Result<Self> {
        let tasks = run.dir().ensure_durable_dir("tasks")?;
        Ok(Self { dir: tasks.ensure_durable_dir(&effect.to_string())?, epoch })
    }

    /// Of a job.
    pub(super) fn of(disk: &dyn Disk, job: &Job) -> disk::Result<Self> {
        let tasks = disk.open_dir(&job.run_dir)?.open_dir("tasks")?;
        Ok(Self { dir: tasks.open_dir(&job.effect_id.to_string())?, epoch: job.epoch })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Arc<dyn Dir> {
        &self.dir
    }

    /// The file for the value that a command chooses itself.
    #[must_use]
    pub fn outputs(&self) -> String {
        format!("outputs-{}.json", self.epoch)
    }

    /// Takes what is to be hidden out of the value that a command chose itself. Says how often.
    pub(super) fn hide_outputs(&self, hider: &Hider) -> disk::Result<u64> {
        let name = self.outputs();
        let Some(file) = disk::optional(self.dir.open(&name, Open::Read))? else { return Ok(0) };
        if hider.is_empty() {
            return Ok(0);
        }
        // One that is longer is no value, and nobody reads on.
        let mut bytes = vec![0; VALUE_BYTES_MAX + 1];
        let n = file.read_at(0, &mut bytes)?;
        let hidden = hider.part(&bytes[..n], true);
        if hidden.count > 0 || n > VALUE_BYTES_MAX {
            write_atomic(&*self.dir, &name, &hidden.bytes, Atomic::DURABLE)?;
        }
        Ok(hidden.count)
    }

    /// Tries to take the lock.
    pub(super) fn lock(&self) -> disk::Result<Locked> {
        let name = format!("runner-{}.lock", self.epoch);
        let file = self.dir.open_or_create(&name)?;
        if file.try_lock(Lock::Exclusive)? {
            return Ok(Locked::Ours(file));
        }
        let text = self.dir.read_file(&name, Open::Read, SMALL_BYTES_MAX)?;
        Ok(Locked::Theirs(serde_json::from_slice(&text).ok()))
    }

    /// What a lock says of its last holder.
    pub(super) fn last_holder(&self) -> Option<Holder> {
        let name = format!("runner-{}.lock", self.epoch);
        let text = self.dir.read_file(&name, Open::Read, SMALL_BYTES_MAX).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Whether this start was declared never to have begun.
    pub(super) fn is_void(&self) -> disk::Result<bool> {
        self.has(&format!("void-{}", self.epoch))
    }

    /// Whether a command may have been started.
    pub(super) fn is_begun(&self) -> disk::Result<bool> {
        self.has(&format!("begun-{}", self.epoch))
    }

    fn has(&self, name: &str) -> disk::Result<bool> {
        Ok(disk::optional(self.dir.stat(name))?.is_some())
    }

    /// Says durably that a command is about to be started.
    pub(super) fn begin(&self) -> disk::Result<()> {
        write_atomic(&*self.dir, &format!("begun-{}", self.epoch), b"", Atomic::NEW)
    }

    /// Says durably that nobody begins any more. To be called under the lock.
    pub(super) fn declare_void(&self) -> disk::Result<()> {
        write_atomic(&*self.dir, &format!("void-{}", self.epoch), b"", Atomic::DURABLE)
    }

    /// Writes the outcome down, durably.
    pub(super) fn conclude(&self, exit: &Exit) -> disk::Result<()> {
        let name = format!("exit-{}.json", self.epoch);
        write_atomic(&*self.dir, &name, &pretty(exit), Atomic::DURABLE)
    }

    /// The outcome, if it was written down.
    pub(super) fn outcome(&self) -> disk::Result<Option<Exit>> {
        let name = format!("exit-{}.json", self.epoch);
        let Some(text) = disk::optional(self.dir.read_file(&name, Open::Read, SMALL_BYTES_MAX))?
        else {
            return Ok(None);
        };
        serde_json::from_slice(&text).map(Some).map_err(|e| {
            let path = self.dir.path().join(&name);
            disk::Error::of_kind("read", path, Kind::Broken, &e.to_string())
        })
    }

    /// A new file for what the command prints; that of an earlier start is kept under its epoch.
    pub(super) fn log(&self, stream: &str) -> disk::Result<Box<dyn FileHandle>> {
        let name = format!("{stream}.log");
        let earlier = format!("{stream}.{}.log", self.epoch.0.saturating_sub(1));
        disk::optional(self.dir.rename(&name, &*self.dir, &earlier, disk::Rename::Replace))?;
        self.dir.create_excl(&name)
    }
}

impl Holder {
    /// Writes itself into a lock that it holds.
    pub(super) fn sign(&self, lock: &dyn FileHandle) -> disk::Result<()> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        lock.truncate(0)?;
        lock.write_at(0, &text)
    }
}

impl Named {
    /// A process that lives.
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, start: started_ticks(pid)? })
    }

    /// Whether its number was given to another process.
    pub(super) fn is_another(self) -> bool {
        started_ticks(self.pid).is_some_and(|start| start != self.start)
    }
}
