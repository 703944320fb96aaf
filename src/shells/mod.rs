//! Shells: they act on what the machines decide.
//!
//! [`journal`] stores records, [`commit_log`] makes those of many runs durable at once, [`run_dir`]
//! keeps the files of a run, [`pin`] collects the code of a process, [`host`] runs it in child
//! processes, [`runner`] supervises commands, [`command`] asks one for a text, [`piped`] keeps one
//! to talk to, [`trial`] one that is tried, [`store`] is the index. May not know which command is
//! being served. Invariant: files are touched only through [`crate::ports::disk`], but for the
//! index, which is `SQLite`'s.

pub mod command;
pub mod commit_log;
pub mod host;
pub mod journal;
pub mod pin;
pub mod piped;
pub mod run_dir;
pub mod runner;
pub mod store;
pub mod trial;
