//! The directory of one run and the root that holds many.
//!
//! [`lock`] says who may write, [`root`] keeps the runs root, [`dir`] the files of one run,
//! [`blob`] its large values. May not know what a record means. Invariant: names below a run
//! directory are single path components, opened one by one, never through a symbolic link.

pub mod blob;
pub mod code;
pub mod dir;
pub mod lock;
pub mod root;
