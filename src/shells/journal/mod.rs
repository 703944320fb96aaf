//! The journal of one run: reading, judging, appending, repairing.
//!
//! [`scan`] judges bytes, [`reader`] fetches them, [`plan`] says what a repair would do and does
//! it, [`writer`] appends, [`shared`] makes lines that a commit log makes durable. May not know
//! which events are legal when. Invariant: only [`writer`] and [`plan`] write, and only under the
//! run's lock.

pub mod plan;
pub mod reader;
pub mod scan;
pub mod shared;
pub mod writer;
