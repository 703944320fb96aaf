//! Tests of whole floors together.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod journal_crash;
mod journal_damage;
mod journal_on_disk;
mod support;
