//! The inside of a host process: reads messages, runs turns, answers; nothing else.
//!
//! May not open files, sockets or other processes. Invariant: one message in, one message out, and
//! after an answer that ends the instance the process ends.

use super::instance::{Instance, Warm};
use super::protocol::{FromHost, ToHost, encode_frame, read_frame};
use crate::ground::limits::HOST_KILL_AFTER_MS;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

/// Lets this process end with the one that started it. A parent that is killed closes the pipe, but
/// a process in the middle of a turn looks at no pipe, and some native calls never end.
fn end_with_parent() {
    // Where the kernel cannot do this, the CPU limit ends a turn and the closed pipe the process.
    // The kernel means the thread that started us: whoever does so from a thread must keep it.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

/// Serves one instance over standard input and output: the hidden command `dormouse host`.
///
/// # Errors
/// As [`run_host`].
pub fn run_host_on_stdio() -> io::Result<()> {
    end_with_parent();
    run_host(&mut io::stdin().lock(), &mut Unbuffered(io::stdout()))
}

/// Standard output without the line buffer, which would cut a message in two at its last line
/// feed and wake the reader twice.
struct Unbuffered(io::Stdout);

impl Write for Unbuffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(self.0.as_fd(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Serves one instance over two streams until the input ends or the instance does.
///
/// # Errors
/// A stream that fails, or a message out of turn.
pub fn run_host(stdin: &mut impl Read, stdout: &mut impl Write) -> io::Result<()> {
    keep_no_core();
    // Whoever started us may be reading files meanwhile.
    let warm = Warm::up().map_err(io::Error::other)?;
    let Some(ToHost::Start(start)) = read_frame(stdin)? else {
        return Ok(());
    };
    let limits = start.limits.clone();
    expect_cpu(limits.load_cpu_max_ms);
    let (instance, message) = Instance::start(warm, *start);
    send(stdout, &message)?;
    let Some(instance) = instance else {
        return Ok(());
    };
    while let Some(message) = read_frame(stdin)? {
        let ToHost::Turn(input) = message else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a second start"));
        };
        expect_cpu(limits.turn_cpu_max_ms);
        let answer = instance.turn(&input);
        if !send(stdout, &answer)? {
            break;
        }
    }
    // The process ends here: taking the engine down first would only cost time.
    std::mem::forget(instance);
    Ok(())
}

/// Sends an answer; false when it ends the instance.
fn send(stdout: &mut impl Write, answer: &FromHost) -> io::Result<bool> {
    let goes_on = matches!(answer, FromHost::Turn(_));
    let (frame, goes_on) = match encode_frame(answer) {
        Ok(frame) => (frame, goes_on),
        Err(e) => {
            let detail = format!("the outputs of one turn: {e}");
            let limit = FromHost::Limit { name: "memory".to_owned(), detail };
            (encode_frame(&limit)?, false)
        }
    };
    stdout.write_all(&frame)?;
    stdout.flush()?;
    Ok(goes_on)
}

/// A host that dies leaves no image of an author's values behind.
fn keep_no_core() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Without this limit everything still works.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shells::host::protocol::{FRAME_BYTES_MAX, TaskBlob, TurnDone};

    #[test]
    fn an_answer_longer_than_a_frame_is_a_limit() {
        let content = vec![0; FRAME_BYTES_MAX];
        let blobs = vec![TaskBlob { path: "tasks/e0001/blobs/x".to_owned(), content }];
        let mut out = Vec::new();
        let answer = FromHost::Turn(TurnDone { blobs, ..TurnDone::default() });
        assert!(!send(&mut out, &answer).unwrap());
        let said: Option<FromHost> = read_frame(&mut out.as_slice()).unwrap();
        assert!(matches!(said, Some(FromHost::Limit { name, .. }) if name == "memory"));
    }
}
