//! Machines: pure decisions, values in and values out.
//!
//! May not read a clock, open a file, wait or draw at random. Invariant: the same inputs give the
//! same outputs on every machine and in every version that reads the same journal format.

pub mod effect;
pub mod lease;
pub mod ledger;
pub mod limits;
pub mod ready;
pub mod replay;
pub mod schedule;
pub mod timer;
pub mod workflow;
