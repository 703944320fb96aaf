//! The inside of a host process: reads messages, runs turns, answers; nothing else.
//!
//! May not open files, sockets or other processes. Invariant: one message in, one message out, and
//! after an answer that ends the instance the process ends.

use super::instance::Instance;
use super::protocol::{FromHost, ToHost, read_frame, write_frame};
use crate::ground::limits::HOST_KILL_AFTER_MS;
use std::io::{self, Read, Write};

/// Serves one instance over two streams until the input ends or the instance does.
///
/// # Errors
/// A stream that fails, or a message out of turn.
pub fn run_host(stdin: &mut impl Read, stdout: &mut impl Write) -> io::Result<()> {
    let Some(ToHost::Start(start)) = read_frame(stdin)? else {
        return Ok(());
    };
    let limits = start.limits.clone();
    expect_cpu(limits.load_cpu_max_ms);
    let (instance, message) = Instance::start(*start);
    write_frame(stdout, &message)?;
    let Some(instance) = instance else {
        return Ok(());
    };
    while let Some(message) = read_frame(stdin)? {
        let ToHost::Turn(input) = message else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a second start"));
        };
        expect_cpu(limits.turn_cpu_max_ms);
        let answer = instance.turn(&input);
        write_frame(stdout, &answer)?;
        if !matches!(answer, FromHost::Turn(_)) {
            break;
        }
    }
    // The process ends here: taking the engine down first would only cost time.
    std::mem::forget(instance);
    Ok(())
}

/// Has the kernel end this process when it goes far beyond `millis` more of CPU time: whoever
/// started it does the same, but may be gone.
fn expect_cpu(millis: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let used = crate::ground::clock::process_cpu_micros() / 1_000_000;
    let allowed = (millis + 2 * HOST_KILL_AFTER_MS).div_ceil(1000);
    let maximum = getrlimit(Resource::Cpu).maximum;
    // Without this limit everything still works; only an orphan would live longer.
    let _ = setrlimit(Resource::Cpu, Rlimit { current: Some(used + allowed + 1), maximum });
}
