//! Services: everything that can be done to a run, for any door.
//!
//! May not print, parse command lines or know status codes. Invariant: a service changes a run only
//! by appending events that the fold accepts.

pub mod runs;
