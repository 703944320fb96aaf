//! The `dormouse` binary: hands the command line to its door.

use std::process::ExitCode;

fn main() -> ExitCode {
    dormouse::doors::cli::main()
}
