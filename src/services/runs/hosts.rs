//! Where process hosts come from, as the services see it.
//!
//! May not know pipes or engines. Invariant: a host that failed is not spoken to again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::Error;
use super::trouble::Trouble;
use crate::codecs::turn::{FromHost, ToHost};
use crate::ground::limits;
use crate::shells::host::parent;

pub use crate::shells::host::process::Silence;

/// The error of a command that could not start a host. Nothing was written about the run.
pub(super) fn absent(why: String) -> Error {
    let trouble = Trouble::new("host_unavailable", why)
        .next("see that this program is still where it was and may start processes; run it again");
    Error::Storage { trouble, unknown: false }
}

/// The error of a command whose hosts died while they loaded code. Nothing was written about the
/// run.
pub(super) fn died(why: &str) -> Error {
    let what = format!("hosts died while they loaded the process: {why}");
    let trouble = Trouble::new("host_failed", what)
        .next("do it again; if it repeats, look for what kills processes on this machine");
    Error::Storage { trouble, unknown: false }
}

/// Starts hosts.
pub trait Hosts: Send + Sync {
    /// The program that hosts are.
    fn program(&self) -> &Path;
    /// A new host without an instance.
    fn spawn(&self) -> Result<Box<dyn Host>, Silence>;
}

/// One host.
pub trait Host: Send {
    /// Says something and waits for the answer.
    fn call(
        &mut self,
        message: &ToHost,
        cpu_max_ms: u64,
        wall_max_ms: u64,
    ) -> Result<FromHost, Silence>;
    /// Takes the instance down, so that another one can be started. False if the host is of no more
    /// use.
    fn forget(&mut self) -> bool {
        false
    }
}

/// One host, kept for one run after another: starting it costs more than most replays. For one
/// thread, with whose end hosts end.
#[derive(Clone)]
pub struct KeptHosts {
    from: Arc<dyn Hosts>,
    free: Arc<Mutex<Option<Box<dyn Host>>>>,
}

impl KeptHosts {
    /// Keeps one of these.
    #[must_use]
    pub fn new(from: Arc<dyn Hosts>) -> Self {
        Self { from, free: Arc::default() }
    }
}

impl Hosts for KeptHosts {
    fn program(&self) -> &Path {
        self.from.program()
    }

    fn spawn(&self) -> Result<Box<dyn Host>, Silence> {
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).take();
        let host = kept.map_or_else(|| self.from.spawn(), Ok)?;
        Ok(Box::new(Lent { host: Some(host), free: Arc::clone(&self.free) }))
    }
}

/// A host that goes back when it is not needed any more.
struct Lent {
    host: Option<Box<dyn Host>>,
    free: Arc<Mutex<Option<Box<dyn Host>>>>,
}

impl Host for Lent {
    fn call(
        &mut self,
        message: &ToHost,
        cpu_max_ms: u64,
        wall_max_ms: u64,
    ) -> Result<FromHost, Silence> {
        let host = self.host.as_mut().ok_or_else(|| Silence::Died("the host is gone".into()))?;
        let answer = host.call(message, cpu_max_ms, wall_max_ms);
        if !matches!(answer, Ok(FromHost::Started { .. } | FromHost::Turn(_))) {
            self.host = None;
        }
        answer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(mut host) = self.host.take()
            && host.forget()
        {
            *self.free.lock().unwrap_or_else(PoisonError::into_inner) = Some(host);
        }
    }
}

/// Hosts that are child processes of this program.
#[derive(Debug, Clone)]
pub struct ChildHosts {
    /// The program.
    pub exe: PathBuf,
}

impl Hosts for ChildHosts {
    fn program(&self) -> &Path {
        &self.exe
    }

    fn spawn(&self) -> Result<Box<dyn Host>, Silence> {
        match parent::Host::spawn(&self.exe) {
            Ok(host) => Ok(Box::new(host)),
            Err(e) => Err(Silence::from(&e)),
        }
    }
}

impl Host for parent::Host {
    fn call(
        &mut self,
        message: &ToHost,
        cpu_max_ms: u64,
        wall_max_ms: u64,
    ) -> Result<FromHost, Silence> {
        self.call(message, cpu_max_ms, wall_max_ms).map_err(|e| Silence::from(&e))
    }

    fn forget(&mut self) -> bool {
        self.forget(limits::HOST_KILL_AFTER_MS)
    }
}
