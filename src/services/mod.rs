//! Services: everything that can be done to a run, for any door.
//!
//! [`commit`] makes records of many runs durable at once; [`runs`] is for sound runs, [`repair`]
//! for damaged ones. May not print, parse command lines or know status codes. Invariant: a service
//! changes a run only by appending events that the fold accepts; only repair touches what is there
//! already.

pub mod commit;
pub mod repair;
pub mod runs;
