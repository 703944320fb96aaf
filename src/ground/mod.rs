//! The ground floor: names, instants, digests and limits that every other floor speaks in.
//!
//! Knows nothing of files, records or processes. Invariant: everything here is a plain value; the
//! exceptions are [`clock`], the only module of the project that reads time, and [`sabotage`],
//! which asks the environment what a test wants to be missing.

pub mod clock;
pub mod digest;
pub mod id;
pub mod limits;
pub mod sabotage;
