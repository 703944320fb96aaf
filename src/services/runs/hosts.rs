//! Where process hosts come from, as the services see it.
//!
//! May not know pipes or engines. Invariant: a host that failed is not spoken to again.

use std::path::{Path, PathBuf};

use super::Error;
use super::trouble::Trouble;
use crate::codecs::turn::{FromHost, ToHost};
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
}
