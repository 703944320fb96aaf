//! Shells: they act on what the machines decide.
//!
//! [`journal`] stores records, [`commit_log`] those of all runs of a daemon, [`run_dir`] keeps the
//! files of a run, [`pin`] collects the code of a process, [`host`] runs it in a child process. May
//! not know which command is being served.
//! Invariant: files are touched only through [`crate::ports::disk`].

pub mod commit_log;
pub mod host;
pub mod journal;
pub mod pin;
pub mod run_dir;
