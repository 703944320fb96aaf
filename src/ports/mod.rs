//! Ports: the doors between the runtime and the machine it runs on.
//!
//! [`disk`] is for files, [`process`] for what the system says about a process, [`telemetry`] for
//! numbers about our own work. May not know what is stored. Invariant: only [`disk`] and
//! [`process`] name `std::fs`.

pub mod disk;
pub mod process;
pub mod telemetry;
