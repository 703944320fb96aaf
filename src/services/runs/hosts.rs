//! Where process hosts come from, as the services see it.
//!
//! May not know pipes or engines. Invariant: a host that failed is not spoken to again.

use crate::codecs::turn::{FromHost, ToHost};

/// Why a host did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// It was killed: far beyond its CPU limit, in something that cannot be interrupted.
    Cpu(String),
    /// It died, hung or spoke nonsense.
    Died(String),
}

/// Starts hosts.
pub trait Hosts {
    /// A new host without an instance.
    fn spawn(&self) -> Result<Box<dyn Host>, Silence>;
}

/// One host.
pub trait Host {
    /// Says something and waits for the answer.
    fn call(
        &mut self,
        message: &ToHost,
        cpu_max_ms: u64,
        wall_max_ms: u64,
    ) -> Result<FromHost, Silence>;
}
