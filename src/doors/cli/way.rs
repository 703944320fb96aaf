//! Which way a deed goes: to the files of a run, or to the daemon that owns its root.
//!
//! May not know deeds. Invariant: a deed is done once, on one way; while somebody else owns the
//! root, nothing is written without them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::remote::Client;
use crate::services::runs::Error;
use crate::shells::run_dir::dir::RunDir;
use crate::shells::run_dir::lock;
use crate::shells::run_dir::root::{META, ROOT_LOCK, SOCKET};

const LOOK_AGAIN_MS: u64 = 20;

/// The run that a deed is about.
pub(super) struct Target {
    /// Its id, or what was given for it if no run of that name is seen here.
    pub(super) id: String,
    /// Its root's own directory; none of a run that stands alone.
    meta: Option<PathBuf>,
}

impl Context {
    /// The run that `reference` means, for a daemon.
    pub(super) fn target(&self, reference: &str) -> Result<Target, Failure> {
        let own = |dir: &RunDir| dir.root().map(|meta| meta.path().to_owned());
        match self.runs.find(reference) {
            Ok(dir) => Ok(Target { id: dir.id().to_string(), meta: own(&dir) }),
            // Whoever owns the root knows best.
            Err(e) if !reference.contains('/') && may_be_unseen(&e) => {
                Ok(Target { id: reference.to_owned(), meta: Some(self.meta()) })
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Does something to a run, on the way that is open.
    pub(super) fn deed(
        &self,
        reference: &str,
        direct: impl FnOnce() -> Result<Value, Failure>,
        asked: impl Fn(&Client, &str) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let target = self.target(reference)?;
        self.on_way(target.meta.as_deref(), direct, |client| asked(client, &target.id))
    }

    /// Looks at a run: a daemon that answers knows more than files, and nobody waits for one.
    pub(super) fn view(
        &self,
        reference: &str,
        direct: impl Fn() -> Result<Value, Failure>,
        asked: impl Fn(&Client, &str) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let target = self.target(reference)?;
        let socket = target.meta.filter(|_| !self.offline).map(|meta| meta.join(SOCKET));
        let client = socket.map(|socket| Client::find(&socket, self.operator())).transpose()?;
        match client.flatten().map(|client| asked(&client, &target.id)) {
            Some(Err(failure)) if failure.code == "shutting_down" => direct(),
            Some(seen) => seen,
            None => direct(),
        }
    }

    /// Does something to the root, on the way that is open.
    pub(super) fn root_deed(
        &self,
        direct: impl FnOnce() -> Result<Value, Failure>,
        asked: impl Fn(&Client) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        self.on_way(Some(&self.meta()), direct, asked)
    }

    fn on_way(
        &self,
        meta: Option<&Path>,
        direct: impl FnOnce() -> Result<Value, Failure>,
        asked: impl Fn(&Client) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let mut left_ms = self.runs.lock_wait_ms;
        loop {
            let Some(client) = self.owner(meta, &mut left_ms)? else { return direct() };
            match asked(&client) {
                // It ended in between, and did nothing: somebody else may.
                Err(failure) if failure.code == "shutting_down" && left_ms > 0 => {
                    self.nap(&mut left_ms);
                }
                done => return done,
            }
        }
    }

    /// The daemon that owns a root; nothing if the files are free. One that starts or stops is
    /// waited for.
    fn owner(&self, meta: Option<&Path>, left_ms: &mut u64) -> Result<Option<Client>, Failure> {
        let Some(meta) = meta else { return Ok(None) };
        let socket = meta.join(SOCKET);
        loop {
            match Client::find(&socket, self.operator())? {
                Some(_) if self.offline => return Err(owned(meta)),
                Some(client) => return Ok(Some(client)),
                // Without time to wait, the lock itself says who has it.
                None if *left_ms == 0 || !self.is_held(meta) => return Ok(None),
                None => self.nap(left_ms),
            }
        }
    }

    /// Whether a daemon owns the root that a run stands in.
    pub(super) fn is_served(&self, reference: &str) -> Result<bool, Failure> {
        let Some(meta) = self.target(reference)?.meta else { return Ok(false) };
        Ok(Client::find(&meta.join(SOCKET), self.operator())?.is_some())
    }

    /// Refuses what only the owner of the root may do, while a daemon is that.
    pub(super) fn needs_no_daemon(&self, reference: &str) -> Result<(), Failure> {
        let Some(meta) = self.target(reference)?.meta else { return Ok(()) };
        if Client::find(&meta.join(SOCKET), self.operator())?.is_none() {
            return Ok(());
        }
        let root = meta.parent().unwrap_or(&meta).display();
        let note = self.runs.disk.open_dir(&meta).ok();
        let note = note.and_then(|meta| lock::read_note(&*meta, ROOT_LOCK));
        let pid = note.map_or("PID".to_owned(), |note| note.pid.to_string());
        let what = format!("a daemon owns {root}; this is done without one");
        let next = vec![format!("stop it with `kill {pid}`, and run the command again")];
        Err(Failure { exit: Exit::Conflict, code: "daemon_owns_root".into(), what, next })
    }

    /// The daemon of the root, which the verb cannot do without.
    pub(super) fn daemon(&self) -> Result<Client, Failure> {
        let mut left_ms = self.runs.lock_wait_ms;
        self.owner(Some(&self.meta()), &mut left_ms)?.ok_or_else(|| {
            let what = format!("no daemon serves {}", self.runs.root.display());
            let next = vec!["dormouse serve".to_owned()];
            Failure { exit: Exit::NotFound, code: "no_daemon".into(), what, next }
        })
    }

    /// The daemon of the root, if one answers now.
    pub(super) fn daemon_now(&self) -> Result<Option<Client>, Failure> {
        if self.offline {
            return Ok(None);
        }
        Client::find(&self.meta().join(SOCKET), self.operator())
    }

    /// Where the root keeps what is its own.
    pub(super) fn meta(&self) -> PathBuf {
        self.runs.root.join(META)
    }

    /// Where the tokens of the root are.
    pub(super) fn tokens_file(&self) -> PathBuf {
        let configured = self.config.http.tokens_file.clone();
        configured.unwrap_or_else(|| self.meta().join("tokens.json"))
    }

    /// Whether somebody has the root for themselves.
    pub(super) fn is_held(&self, meta: &Path) -> bool {
        use crate::ports::disk::{Lock, Open};
        let lock = self.runs.disk.open_dir(meta).and_then(|meta| meta.open(ROOT_LOCK, Open::Read));
        lock.and_then(|lock| lock.try_lock(Lock::Shared)).is_ok_and(|free| !free)
    }

    fn nap(&self, left_ms: &mut u64) {
        let nap = LOOK_AGAIN_MS.min(*left_ms);
        self.runs.clock.sleep_millis(nap);
        *left_ms -= nap;
    }
}

/// Whether a run that was not found may exist all the same: only a daemon, or a recovery, makes
/// the directory of one that stands in the commit log alone.
fn may_be_unseen(error: &Error) -> bool {
    matches!(error, Error::NotFound(_)) || error.trouble().code == "root_needs_recovery"
}

fn owned(meta: &Path) -> Failure {
    let root = meta.parent().unwrap_or(meta).display();
    let what = format!("a daemon owns {root}, and --offline says not to ask it");
    let next = vec!["leave --offline out, or stop the daemon first".to_owned()];
    Failure { exit: Exit::Conflict, code: "daemon_owns_root".into(), what, next }
}
