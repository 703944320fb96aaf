//! Ports: the doors between the runtime and the machine it runs on.
//!
//! [`disk`] is the only one yet. May not know what is stored. Invariant: only `disk` names
//! `std::fs`.

pub mod disk;
