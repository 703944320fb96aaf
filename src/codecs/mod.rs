//! Codecs: bytes to values and back, pure.
//!
//! [`format`] is the outer form (JSON text, journal lines, sealed files), [`event`] the meaning,
//! [`source`] the text of process modules. May not know files, clocks or what a value is for.
//! Invariant: what a codec accepts it prints back byte for byte.

pub mod event;
pub mod format;
pub mod source;
pub mod turn;
