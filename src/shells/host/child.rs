//! The inside of a host process: reads messages, runs turns, answers; nothing else.
//!
//! May not open files, sockets or other processes, and gives up the right to. Invariant: messages
//! are served one at a time in their order, each gets one answer, and no instance sees another.

use super::instance::Instance;
use super::prelude::Prelude;
use super::protocol::{Answer, FromHost, Message, Start, ToHost, encode_frame, read_frame};
use crate::ground::clock::process_cpu_micros;
use crate::ground::limits::HOST_KILL_AFTER_MS;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::rc::Rc;

/// Serves instances over standard input and output: the hidden command `dormouse host`.
///
/// # Errors
/// As [`run_host`].
pub fn run_host_on_stdio() -> io::Result<()> {
    end_with_parent();
    confine();
    run_host(&mut io::stdin().lock(), &mut Unbuffered(io::stdout()))
}

/// Lets this process end with the one that started it. A parent that is killed closes the pipe, but
/// a process in the middle of a turn looks at no pipe, and some native calls never end.
fn end_with_parent() {
    // Where the kernel cannot do this, the CPU limit ends a turn and the closed pipe the process.
    // The kernel means the thread that started us: whoever does so from a thread must keep it.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

/// Gives up what a host never needs: an author who finds a hole in the engine finds nothing behind
/// it, and a host that dies leaves no image of an author's values.
fn confine() {
    // Without any of these everything still works.
    let _ = rustix::thread::set_no_new_privs(true);
    // The three standard streams are open; with no number left, no file or socket can follow.
    for (resource, most) in [(Resource::Core, 0), (Resource::Nproc, 0), (Resource::Nofile, 3)] {
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
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

/// Serves instances over two streams until the input ends.
///
/// # Errors
/// A stream that fails, or a message out of turn.
pub fn run_host(stdin: &mut impl Read, stdout: &mut impl Write) -> io::Result<()> {
    // Whoever started us may be reading files meanwhile.
    let prelude = Prelude::compile().map_err(io::Error::other)?;
    let mut inside = Inside { prelude, instances: HashMap::new(), left_bytes: 0 };
    while let Some(message) = read_frame(stdin)? {
        let frame = inside.serve(message)?;
        stdout.write_all(&frame)?;
        stdout.flush()?;
    }
    // The process ends here: taking the engines down first would only cost time.
    std::mem::forget(inside.instances);
    Ok(())
}

/// What a host process holds.
struct Inside {
    prelude: Rc<Prelude>,
    instances: HashMap<u64, Instance>,
    left_bytes: u64,
}

impl Inside {
    /// Serves one message; the frame of its answer.
    fn serve(&mut self, message: Message) -> io::Result<Vec<u8>> {
        let instance = message.instance;
        let said = match message.say {
            ToHost::Start(start) => {
                if self.instances.contains_key(&instance) {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a second start"));
                }
                Some(self.start(instance, *start)?)
            }
            ToHost::Turn(input) => self.instances.get(&instance).map(|held| {
                expect_cpu(held.limits().turn_cpu_max_ms);
                held.turn(&input)
            }),
            ToHost::Drop => None,
        };
        self.answer(instance, said)
    }

    fn start(&mut self, instance: u64, mut start: Start) -> io::Result<FromHost> {
        expect_cpu(start.limits.load_cpu_max_ms);
        let made = Instance::new(&self.prelude, &mut start).map_err(io::Error::other)?;
        Ok(self.instances.entry(instance).or_insert(made).load(&start))
    }

    /// The frame of an answer; takes the instance down unless the answer lets it go on.
    fn answer(&mut self, instance: u64, said: Option<FromHost>) -> io::Result<Vec<u8>> {
        if !matches!(said, Some(FromHost::Started { .. } | FromHost::Turn(_))) {
            self.end(instance);
        }
        let answer = self.addressed(instance, said);
        encode_frame(&answer).or_else(|e| {
            self.end(instance);
            let (name, detail) = ("memory".to_owned(), format!("the outputs of one turn: {e}"));
            let limit = FromHost::Limit { name, detail };
            encode_frame(&self.addressed(instance, Some(limit)))
        })
    }

    fn addressed(&self, instance: u64, said: Option<FromHost>) -> Answer {
        Answer {
            instance,
            said,
            heap_bytes: self.instances.get(&instance).map_or(0, Instance::heap_bytes),
            left_bytes: self.left_bytes,
            cpu_micros: process_cpu_micros(),
        }
    }

    fn end(&mut self, instance: u64) {
        self.left_bytes += self.instances.remove(&instance).map_or(0, Instance::end);
    }
}

/// Has the kernel end this process when it goes far beyond `millis` more of CPU time: whoever
/// started it does the same, but may be gone.
fn expect_cpu(millis: u64) {
    let used = process_cpu_micros() / 1_000_000;
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
        let prelude = Prelude::compile().unwrap();
        let mut inside = Inside { prelude, instances: HashMap::new(), left_bytes: 0 };
        let done = TurnDone { blobs, ..TurnDone::default() };
        let frame = inside.answer(7, Some(FromHost::Turn(done))).unwrap();
        let answer: Answer = read_frame(&mut frame.as_slice()).unwrap().unwrap();
        assert_eq!(answer.instance, 7);
        assert!(matches!(answer.said, Some(FromHost::Limit { name, .. }) if name == "memory"));
    }
}
