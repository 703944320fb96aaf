//! Shells: they act on what the machines decide.
//!
//! [`journal`] stores records, [`run_dir`] keeps the files of a run, [`pin`] collects the code of a
//! process, [`host`] runs it in a child process, [`store`] is the index. May not know which command
//! is being served.
//! Invariant: files are touched only through [`crate::ports::disk`].

pub mod host;
pub mod journal;
pub mod pin;
pub mod run_dir;
pub mod store;
