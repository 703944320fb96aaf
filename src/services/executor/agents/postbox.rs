//! Where agents post answers that come later: an address of this daemon, and what lets them in.
//!
//! May not know what is posted. Invariant: what is given out for one attempt is of use for no other.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::ports::disk::Disk;
use crate::services::executor::Attempt;
use crate::services::executor::guard::Listeners;
use crate::services::executor::secrets::Secret;
use crate::shells::run_dir::task_key::TaskKey;

/// Gives out slips.
pub struct Postbox {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    /// Where this daemon listens.
    listeners: Listeners,
    /// How it is reached from elsewhere, if that was said.
    public_url: Option<String>,
    key: OnceLock<TaskKey>,
}

/// What an agent needs to post an answer.
pub(super) struct Slip {
    /// Where.
    pub(super) url: String,
    /// What lets it in.
    pub(super) token: Secret,
}

impl Postbox {
    /// Of the daemon that owns the root `root`.
    #[must_use]
    pub fn new(
        disk: Arc<dyn Disk>,
        root: PathBuf,
        listeners: Listeners,
        public_url: Option<String>,
    ) -> Self {
        Self { disk, root, listeners, public_url, key: OnceLock::new() }
    }

    /// How this daemon is reached over TCP, if it is.
    pub(super) fn base(&self) -> Option<String> {
        let here = || self.listeners.first().map(|address| format!("http://{address}"));
        let told = self.public_url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
        told.or_else(here)
    }

    /// The slip of an attempt.
    pub(super) async fn slip(&self, attempt: &Attempt) -> Result<Slip, String> {
        let base = self.base().ok_or("this daemon listens on no TCP address")?;
        let key = match self.key.get() {
            Some(key) => key.clone(),
            None => {
                let (disk, root) = (Arc::clone(&self.disk), self.root.clone());
                let read = tokio::task::spawn_blocking(move || TaskKey::open(&*disk, &root)).await;
                let key = read.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
                self.key.get_or_init(|| key).clone()
            }
        };
        let Attempt { run_id, effect_id, epoch, .. } = attempt;
        let token = key.token(run_id, *effect_id, *epoch);
        Ok(Slip {
            url: format!("{base}/v1/runs/{run_id}/tasks/{effect_id}/result"),
            token: Secret::of("task-token", &token),
        })
    }
}
