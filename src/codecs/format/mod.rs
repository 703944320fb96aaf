//! The outer form of everything that is stored: journal lines, sealed files, the commit log.
//!
//! May not know how files are reached. Invariant: bytes of ours become values only through
//! [`compact::check`], and print back as they were.

pub mod compact;
pub mod export;
pub mod frame;
pub mod line;
pub mod log_entry;
pub mod log_header;
pub mod sealed;
pub mod signature;
