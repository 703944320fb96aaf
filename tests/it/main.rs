//! Tests of the whole, one module per subject.

mod host;
mod host_turns;
