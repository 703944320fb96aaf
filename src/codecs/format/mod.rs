//! The outer form of everything that is stored: JSON text, journal lines, sealed files.
//!
//! May not know what an event means. Invariant: foreign bytes become values only through
//! [`json::gate`], and bytes of ours only through [`compact::check`].

pub mod compact;
pub mod json;
pub mod line;
pub mod sealed;
