//! The `dormouse` binary: hands the command line to its door.

use dormouse::shells::host::child::run_host;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A process host is this same program: see `shells::host`.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "host") {
        let (mut stdin, mut stdout) = (std::io::stdin().lock(), std::io::stdout().lock());
        return run_host(&mut stdin, &mut stdout).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    ExitCode::SUCCESS
}
