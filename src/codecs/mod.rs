//! Codecs: bytes to values and back, pure.
//!
//! [`json`] is the gate for foreign JSON, [`event`] the meaning of a record, [`format`] its outer
//! form, [`hide`] what must not be kept, [`source`] the text of process modules, [`trace`] places
//! in a trace, [`turn`] what runtime and host say to each other, [`yaml`] a tree with lines,
//! [`outline`] one with places of JSON or YAML. May not know files, clocks or what a value is for.
//! Invariant: what a codec accepts it prints back byte for byte.

pub mod event;
pub mod format;
pub mod hide;
pub mod json;
pub mod outline;
pub mod source;
pub mod trace;
pub mod turn;
pub mod yaml;
