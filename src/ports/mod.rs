//! Ports: the doors between the runtime and the machine it runs on.
//!
//! [`disk`] is for files, [`process`] for what the system says about a child process. May not know
//! what is stored. Invariant: only [`disk`] names `std::fs`.

pub mod disk;
pub mod process;
