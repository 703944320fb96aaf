//! The directory of one run and the root that holds many.
//!
//! [`lock`] says who may write; [`root`] keeps the runs root for commands, [`owned`] for the one
//! who has it alone, [`root_file`] is its record; [`dir`] has the files of one run, [`blob`] its
//! large values, [`code`] the code that runs share; [`task_key`] makes tokens for single attempts;
//! [`make`] makes a run's directory from records; [`former`] knows what became of runs that are
//! gone. May not know what a journal says. Invariant: names below a run directory are single path
//! components, opened one by one, never through a symbolic link.

pub mod blob;
pub mod code;
pub mod dir;
pub mod former;
pub mod lock;
pub mod make;
pub mod owned;
pub mod root;
pub mod root_file;
pub mod task_key;
