//! Services: everything that can be done to a run, for any door.
//!
//! [`runs`] for sound runs, [`repair`] for damaged ones, [`fsck`] to tell them apart; [`manager`]
//! owns all runs of a root and [`commit`] makes what they do durable; [`executor`] holds the
//! workers that live in the daemon; [`indexer`] keeps the index, [`audit`] compares it with the
//! journals; [`inbox`] takes outcomes from files, [`schedules`] lets runs begin in time,
//! [`telemetry`] tells about it all; [`why`] says what a run waits for, [`usage`] what it takes on
//! disk; [`export`] takes whole runs out and in, [`retention`] makes room; [`torture`] tries the
//! guarantees of the whole program, from outside.
//! May not print, parse command lines or know status codes. Invariant: a service changes a run only
//! by appending events that the fold accepts; only repair touches what is there already.

pub mod audit;
pub mod commit;
pub mod executor;
pub mod export;
pub mod fsck;
pub mod inbox;
pub mod indexer;
pub mod limits;
pub mod manager;
pub mod repair;
pub mod retention;
pub mod runs;
pub mod schedules;
pub mod telemetry;
pub mod torture;
pub mod usage;
pub mod why;
