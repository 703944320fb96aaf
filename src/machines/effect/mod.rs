//! Effects as values: how a call is named, and what about it replay compares.
//!
//! May not know who executes an effect. Invariant: names and digests are functions of the call
//! alone, equal on every machine.

pub mod key;
