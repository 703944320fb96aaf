//! Dormouse: durable execution over plain run directories.
//!
//! The folders are floors; a module imports only from floors below its own (`tests/it/tidy.rs`
//! enforces it). From the bottom up: [`ground`] (ids, time, digests, limits), [`codecs`] (bytes and
//! values), [`machines`] (pure decisions), [`ports`] (the disk), [`shells`] (journal, run
//! directory, process host), [`services`] (what can be done to a run), [`daemon`] (services wired
//! together), [`doors`] (command line, HTTP).
//!
//! Invariant: the journal of a run is its only truth; everything else on disk or in memory is
//! derived from it and may be deleted.

pub mod ground;

pub mod codecs;

pub mod machines;

pub mod ports;

pub mod shells;

pub mod services;

pub mod daemon;

pub mod doors;
