//! The inside of a host process: reads messages, runs turns, answers; nothing else.
//!
//! May not open files, sockets or other processes, and gives up the right to. Invariant: messages
//! are served one at a time in their order, each gets one answer, and no instance sees another.

use super::document::Document;
use super::frames::Inbox;
use super::instance::{Instance, Warm};
use super::prelude::Prelude;
use super::protocol::{
    Answer, FromHost, HostLimits, Message, Standing, Start, ToHost, TurnInput, encode_frame,
};
use crate::codecs::event::Profile;
use crate::ground::clock::process_cpu_micros;
use crate::ground::limits::HOST_KILL_AFTER_MS;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

/// How long nothing must come before a spare engine is made: no message waits for that.
const IDLE_AFTER_NANOS: i64 = 5_000_000;

/// Serves instances over standard input and output: the hidden command `dormouse host`.
///
/// # Errors
/// A pipe that fails, or a message out of turn.
pub fn run_host_on_stdio() -> io::Result<()> {
    end_with_parent();
    confine();
    serve(io::stdin().as_fd(), io::stdout().as_fd())
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

/// Serves instances over two pipes until the first ends.
fn serve(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    // Whoever started us may be reading files meanwhile.
    let prelude = Prelude::compile().map_err(io::Error::other)?;
    let mut inside = Inside::new(prelude);
    let mut inbox = Inbox::default();
    loop {
        while let Some(message) = inbox.next()? {
            let frame = inside.serve(message)?;
            write_all(to, &frame)?;
        }
        if inside.spare.is_none() && !has_more(from)? {
            inside.make_spare()?;
        }
        if !inbox.fill(from)? {
            // The process ends here: taking the engines down first would only cost time.
            std::mem::forget(inside);
            return Ok(());
        }
    }
}

/// Whether something comes before the host counts as idle.
fn has_more(from: BorrowedFd<'_>) -> io::Result<bool> {
    let wait = Timespec { tv_sec: 0, tv_nsec: IDLE_AFTER_NANOS };
    match poll(&mut [PollFd::from_borrowed_fd(from, PollFlags::IN)], Some(&wait)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// One instance.
enum Held {
    /// Code.
    Script(Box<Instance>),
    /// A workflow document.
    Document(Box<Document>),
}

impl Held {
    fn turn(&mut self, input: &TurnInput) -> FromHost {
        match self {
            Self::Script(script) => script.turn(input),
            Self::Document(document) => document.turn(input),
        }
    }

    /// Where a document stands; nothing for code.
    fn show(&self, known: &[Standing]) -> Option<FromHost> {
        match self {
            Self::Script(_) => None,
            Self::Document(document) => Some(document.show(known)),
        }
    }

    fn limits(&self) -> &HostLimits {
        match self {
            Self::Script(script) => script.limits(),
            Self::Document(document) => document.limits(),
        }
    }

    fn heap_bytes(&self) -> u64 {
        match self {
            Self::Script(script) => script.heap_bytes(),
            Self::Document(document) => document.heap_bytes(),
        }
    }

    /// Takes it down, and says how many bytes stay behind.
    fn end(self) -> u64 {
        match self {
            Self::Script(script) => script.end(),
            Self::Document(_) => 0,
        }
    }
}

/// What a host process holds.
struct Inside {
    prelude: Rc<Prelude>,
    /// An engine for the next start, made while there was nothing to do.
    spare: Option<Warm>,
    /// The rules of the last start: the next will be for the same.
    profile: Profile,
    instances: HashMap<u64, Held>,
    left_bytes: u64,
}

impl Inside {
    fn new(prelude: Rc<Prelude>) -> Self {
        let (profile, instances) = (Profile::Dormouse, HashMap::new());
        Self { prelude, spare: None, profile, instances, left_bytes: 0 }
    }

    fn make_spare(&mut self) -> io::Result<()> {
        self.spare = Some(Warm::up(&self.prelude, self.profile).map_err(io::Error::other)?);
        Ok(())
    }

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
            ToHost::Turn(input) => self.instances.get_mut(&instance).map(|held| {
                expect_cpu(held.limits().turn_cpu_max_ms);
                held.turn(&input)
            }),
            ToHost::Show(known) => self.instances.get(&instance).and_then(|held| {
                expect_cpu(held.limits().turn_cpu_max_ms);
                held.show(&known)
            }),
            ToHost::Drop => None,
        };
        self.answer(instance, said)
    }

    fn start(&mut self, instance: u64, mut start: Start) -> io::Result<FromHost> {
        expect_cpu(start.limits.load_cpu_max_ms);
        if start.profile == Profile::Workflow {
            return Ok(match Document::load(&start) {
                Ok(document) => {
                    self.instances.insert(instance, Held::Document(Box::new(document)));
                    FromHost::Started { warnings: Vec::new(), logs: Vec::new() }
                }
                Err(failure) => FromHost::LoadFailed(failure),
            });
        }
        self.profile = start.profile;
        let spare = self.spare.take().filter(|spare| spare.profile() == start.profile);
        let warm = spare.map_or_else(|| Warm::up(&self.prelude, start.profile), Ok);
        let made = Instance::new(warm.map_err(io::Error::other)?, &self.prelude, &mut start);
        let said = made.load(&start);
        self.instances.insert(instance, Held::Script(Box::new(made)));
        Ok(said)
    }

    /// The frame of an answer; takes the instance down unless the answer lets it go on.
    fn answer(&mut self, instance: u64, said: Option<FromHost>) -> io::Result<Vec<u8>> {
        let goes_on =
            matches!(said, Some(FromHost::Started { .. } | FromHost::Turn(_) | FromHost::Shown(_)));
        if !goes_on {
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
            heap_bytes: self.instances.get(&instance).map_or(0, Held::heap_bytes),
            left_bytes: self.left_bytes,
            cpu_micros: process_cpu_micros(),
        }
    }

    fn end(&mut self, instance: u64) {
        self.left_bytes += self.instances.remove(&instance).map_or(0, Held::end);
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
    use crate::shells::host::protocol::{FRAME_BYTES_MAX, TaskBlob, TurnDone, decode_message};

    #[test]
    fn an_answer_longer_than_a_frame_is_a_limit() {
        let content = vec![0; FRAME_BYTES_MAX];
        let blobs = vec![TaskBlob { path: "tasks/e0001/blobs/x".to_owned(), content }];
        let prelude = Prelude::compile().unwrap();
        let mut inside = Inside::new(prelude);
        let done = TurnDone { blobs, ..TurnDone::default() };
        let frame = inside.answer(7, Some(FromHost::Turn(done))).unwrap();
        let answer: Answer = decode_message(&frame[4..]).unwrap();
        assert_eq!(answer.instance, 7);
        assert!(matches!(answer.said, Some(FromHost::Limit { name, .. }) if name == "memory"));
    }
}
