//! Ports: the doors between the runtime and the machine it runs on.
//!
//! May not know what is stored. Invariant: only `disk` names `std::fs`.

pub mod process;
