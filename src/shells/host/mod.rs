//! Process hosts: they run an author's code in a child process and report what it asks for.
//!
//! Hosts translate; they never touch journals. Invariant: an instance depends on nothing but what
//! [`protocol::Start`] and the turns carry.

pub mod protocol;

pub mod process;

mod frames;

pub mod parent;

pub mod pool;

mod lane;

pub mod child;

mod document;

mod instance;

mod modules;

mod prelude;

mod freeze;

mod native;

mod meter;
