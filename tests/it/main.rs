//! Tests of the whole, one module per subject.

mod host;
mod host_sandbox;
mod host_turns;
