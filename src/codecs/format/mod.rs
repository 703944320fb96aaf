//! The outer form of everything that is stored: journal lines, their files, sealed files.
//!
//! May not know how files are reached. Invariant: bytes of ours become values only through
//! [`compact::check`], and print back as they were.

pub mod compact;
pub mod line;
pub mod sealed;
