//! Replay: the fold of events, the engine that drives a process through its journal, the check
//! that both agree.
//!
//! May not read a clock, open a file or talk to a host: it says what should be done and is told
//! what came of it. Invariant: a run changes only by [`state::RunState::apply`].

pub mod automatic;
pub mod check;
pub mod drafts;
pub mod engine;
pub mod facts;
mod script;
pub mod state;
