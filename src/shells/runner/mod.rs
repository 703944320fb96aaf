//! The runner: a small process of this program that supervises one command for a daemon, and
//! outlives it.
//!
//! A daemon starts it ([`keeper`]), gives it a [`Job`] on its standard input and may then die: what
//! the command did stands in files of the effect's folder ([`folder`]), which the next daemon
//! reads. May not know journals, kinds or policies. Invariant: a command is begun at most once for
//! an epoch, and nothing of it is left running when its runner ends by itself.

mod child;
pub mod folder;
pub mod keeper;
mod output;
mod supervise;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::ground::clock::Timestamp;
use crate::ground::id::{EffectId, Epoch};
use crate::ports::disk;

pub use supervise::{CHILD_ENDED, TOLD_TO_STOP, supervise};

/// What a runner is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The run's directory.
    pub run_dir: PathBuf,
    /// The effect.
    pub effect_id: EffectId,
    /// The start that it executes.
    pub epoch: Epoch,
    /// What is executed: a path without links.
    pub program: PathBuf,
    /// Under which name.
    pub arg0: String,
    /// With which arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Where.
    pub cwd: PathBuf,
    /// What it reads.
    pub stdin: String,
    /// How long it may take.
    pub timeout_ms: Option<u64>,
    /// How long it may take to end once it was told to.
    pub kill_grace_ms: u64,
    /// How much of what it prints is kept, of each stream.
    pub log_bytes_max: u64,
    /// Limits of the system by name.
    pub rlimits: BTreeMap<String, u64>,
    /// Texts that nothing which is kept may show, each after its mark.
    pub hide: Vec<(String, String)>,
}

impl Drop for Job {
    fn drop(&mut self) {
        let texts = self.env.iter_mut().chain(&mut self.hide);
        texts.for_each(|(_, text)| text.zeroize());
    }
}

/// How a command ended: `exit-<epoch>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// Its exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it was told to end, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// Why it could not be started; then nothing happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spawn_failed: Option<String>,
    /// When it was started.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// Not everything that it printed was kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// How often something was hidden in what is kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hidden: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Why a command was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stopped {
    /// It took too long.
    Timeout,
    /// It was given up.
    Cancel,
}

/// Limits of the system that can be set, as configuration names them.
pub const RLIMITS: &[&str] = child::RLIMIT_NAMES;

/// Why a runner cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The effect's folder cannot be used; nothing was begun unless it says so.
    #[error(transparent)]
    Disk(#[from] disk::Error),
    /// The system refused something that every command needs.
    #[error("the system refused {what}: {source}")]
    System {
        /// What.
        what: &'static str,
        /// What it said.
        source: rustix::io::Errno,
    },
}

/// What became of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Its outcome is written down.
    Done,
    /// Somebody else is at it, or was, or it was declared void: nothing was begun here.
    NotOurs,
}
