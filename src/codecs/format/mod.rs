//! The outer form of everything that is stored: JSON text, journal lines, sealed files.
//!
//! May not know what an event means. Invariant: foreign bytes become values only through
//! [`json::gate`].

pub mod json;
