//! What a worker has begun and not yet said: one file per attempt, so that it survives the worker.
//!
//! May not post. Invariant: an attempt without a file was never begun; one without a result in its
//! file has an outcome that nobody knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codecs::json::Json;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::ground::limits::VALUE_BYTES_MAX;
use crate::ports::disk::{self, Atomic, Dir, FileHandle, Lock, Open};
use crate::services::runs::Error;

/// The longest file: a value and its envelope.
const FILE_BYTES_MAX: u64 = VALUE_BYTES_MAX as u64 + 1024 * 1024;
const LOCK: &str = "lock";

/// A worker's folder. One worker has it.
pub(super) struct Outbox {
    dir: Arc<dyn Dir>,
    _lock: Box<dyn FileHandle>,
}

/// An attempt in the outbox.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    /// The run.
    pub(super) run_id: String,
    /// The effect.
    pub(super) effect_id: String,
    /// The start.
    pub(super) epoch: u64,
    /// What is to be posted; nothing: nobody knows.
    pub(super) said: Option<Said>,
}

/// What is posted of an attempt. The value keeps its text.
#[derive(Serialize, Deserialize)]
pub(super) struct Said {
    /// `ok`, `error`, `unknown`.
    pub(super) status: String,
    /// For `ok`.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Json>,
    /// For the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Value>,
}

impl Entry {
    /// The attempt that a task is.
    pub(super) fn of(task: &Value, said: Option<Said>) -> Self {
        let text = |name: &str| task[name].as_str().unwrap_or("").to_owned();
        let epoch = task["epoch"].as_u64().unwrap_or(0);
        Self { run_id: text("runId"), effect_id: text("effectId"), epoch, said }
    }
}

/// The file of an attempt.
pub(super) fn name(run: &str, effect: &str, epoch: u64) -> String {
    format!("{run}.{effect}.{epoch}.json")
}

impl Outbox {
    /// Opens the folder of a worker, made below `dir` if it is missing.
    pub(super) fn open(context: &Context, dir: &Path, worker: &str) -> Result<Self, Failure> {
        let disk = &context.runs.disk;
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        // Two names that look alike here differ in their digests.
        let digest = crate::ground::digest::Digest::of(worker.as_bytes()).to_string();
        let short: String = digest.trim_start_matches("b3:").chars().take(8).collect();
        let folder: String = worker.chars().take(64).map(plain).collect();
        let path = dir.join(format!("{folder}-{short}"));
        disk.create_dirs(&path).map_err(Error::from)?;
        let dir = disk.open_dir(&path).map_err(Error::from)?;
        let lock = dir.open_or_create(LOCK).map_err(Error::from)?;
        if !lock.try_lock(Lock::Exclusive).map_err(Error::from)? {
            let what = format!("another worker is called {worker} and works here");
            let next = vec!["give --name another name, or --outbox another place".to_owned()];
            return Err(Failure { exit: Exit::Conflict, code: "worker_exists".into(), what, next });
        }
        Ok(Self { dir, _lock: lock })
    }

    /// Where a command writes its value.
    pub(super) fn outputs(&self, name: &str) -> PathBuf {
        self.dir.path().join(outputs(name))
    }

    /// The value that a command wrote, if it did.
    pub(super) fn read_outputs(&self, name: &str) -> Result<Option<Vec<u8>>, disk::Error> {
        let read = self.dir.read_file(&outputs(name), Open::Read, VALUE_BYTES_MAX as u64);
        Ok(disk::optional(read)?.filter(|bytes| !bytes.trim_ascii().is_empty()))
    }

    /// Notes, durably, that an attempt begins, or how it ended.
    pub(super) fn put(&self, entry: &Entry) -> Result<(), disk::Error> {
        let bytes = serde_json::to_vec(entry).unwrap_or_default();
        let name = name(&entry.run_id, &entry.effect_id, entry.epoch);
        disk::write_atomic(&*self.dir, &name, &bytes, Atomic::DURABLE)
    }

    /// Everything was said about an attempt.
    pub(super) fn forget(&self, name: &str) {
        // What is left here is posted again, and told that it stands.
        let _ = self.dir.unlink(name);
        let _ = self.dir.unlink(&outputs(name));
    }

    /// What a worker before left.
    pub(super) fn all(&self) -> Result<Vec<Entry>, Failure> {
        let names = self.dir.list().map_err(Error::from)?;
        let mut all = Vec::new();
        for name in names.into_iter().filter(|name| is_entry(name)) {
            let bytes =
                self.dir.read_file(&name, Open::Read, FILE_BYTES_MAX).map_err(Error::from)?;
            // What is no entry is somebody else's.
            all.extend(serde_json::from_slice::<Entry>(&bytes).ok());
        }
        Ok(all)
    }
}

/// A value that is there: `null` is one.
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(d).map(Some)
}

fn outputs(name: &str) -> String {
    format!("{name}.outputs")
}

fn is_entry(name: &str) -> bool {
    name.strip_suffix(".json").is_some() && !disk::is_temporary(name)
}
