//! Shells: they act on what the machines decide.
//!
//! [`journal`] stores records, [`commit_log`] makes those of many runs durable at once, [`run_dir`]
//! keeps the files of a run, [`pin`] collects the code of a process, [`host`] runs it in child
//! processes, [`runner`] supervises commands, [`store`] is the index. May not know which command is
//! being served. Invariant: files are touched only through [`crate::ports::disk`], except for the
//! index, which is `SQLite`'s.

pub mod commit_log;
pub mod host;
pub mod journal;
pub mod pin;
pub mod run_dir;
pub mod runner;
pub mod store;
