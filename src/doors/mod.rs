//! Doors: how people and programs come in.
//!
//! May not decide anything about a run. Invariant: only doors turn errors into text and exit codes.

mod answers;
pub mod cli;
pub mod http;
mod ledger;
mod limits;
mod retention;
mod schedules;
mod shapes;
mod work;
