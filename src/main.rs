//! The `dormouse` binary: hands the command line to its door.

use dormouse::shells::host::child::run_host_on_stdio;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A process host is this same program: see `shells::host`.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "host") {
        return run_host_on_stdio().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    ExitCode::SUCCESS
}
