//! The `dormouse` binary: hands the command line to its door.

fn main() {}
