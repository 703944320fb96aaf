//! The ground floor: names, instants, digests and limits that every other floor speaks in.
//!
//! Knows nothing of files, records or processes. Invariant: everything here is a plain value; the
//! one exception is [`clock`], the only module of the project that reads time.

pub mod clock;
pub mod digest;
pub mod id;
pub mod limits;
