//! Tests of whole floors together.

mod journal_damage;
mod support;
