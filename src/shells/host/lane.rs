//! One host of the pool: what was said to it and not answered, and the thread that listens.
//!
//! May not know other hosts. Invariant: each message gets one answer or the host's end, and the
//! end names every instance that is still wanted exactly once.

use super::frames::{Inbox, Outbox};
use super::pool::{HostEvent, InstanceId};
use super::process::{HostError, Process, Silence, nonsense};
use super::protocol::{Answer, FromHost};
use crate::ground::clock::monotonic_micros;
use crate::ground::limits::{
    HOST_BACKLOG_BYTES_MAX, HOST_INSTANCE_BYTES_GUESS, HOST_INSTANCES_MAX, HOST_KILL_AFTER_MS,
    HOST_LEFT_BYTES_MAX,
};
use crate::ports::process::cpu_millis;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ChildStdin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the manager's thread and the thread of the host share.
pub(super) struct Lane {
    number: u64,
    state: Mutex<State>,
    wake: OwnedFd,
}

#[derive(Default)]
struct State {
    outbox: Outbox,
    pipe: Option<Arc<ChildStdin>>,
    pid: Option<u32>,
    /// Without an answer yet; the first is being served.
    queue: VecDeque<Asked>,
    /// Since when the first is.
    front_since_micros: u64,
    /// CPU time that the host had used by then.
    cpu_before_micros: u64,
    instances: HashMap<u64, Held>,
    held_bytes: u64,
    left_bytes: u64,
    /// Why it is to be killed.
    verdict: Option<HostError>,
    /// Set once it is gone.
    over: Option<Over>,
}

/// A message that has no answer.
struct Asked {
    instance: u64,
    what: What,
    cpu_max_ms: u64,
}

/// Kinds of messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Start,
    Turn,
    Drop,
}

impl What {
    fn fits(self, said: Option<&FromHost>) -> bool {
        match (self, said) {
            (Self::Start, Some(FromHost::Started { .. }))
            | (Self::Turn, Some(FromHost::Turn(_)))
            | (Self::Turn | Self::Drop, None) => true,
            (Self::Start | Self::Turn, Some(said)) => {
                matches!(said, FromHost::LoadFailed(_) | FromHost::Limit { .. })
            }
            _ => false,
        }
    }
}

struct Held {
    bytes: u64,
    turn_cpu_max_ms: u64,
    /// The manager wants to hear nothing more of it.
    dropped: bool,
}

/// A host is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Over {
    /// Why it had to be killed, if it had to.
    pub(super) killed_for: Option<&'static str>,
}

/// How full a host is, for comparing: what waits, then what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Load {
    pub(super) queued: usize,
    pub(super) instances: usize,
}

impl Lane {
    /// A host that is not started yet.
    pub(super) fn new(number: u64) -> std::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { number, state: Mutex::default(), wake })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only when it was told 2^64 times already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Its process, while there is one.
    pub(super) fn pid(&self) -> Option<u32> {
        let state = self.state();
        state.pid.filter(|_| state.over.is_none())
    }

    /// Whether it is gone, and then how.
    pub(super) fn over(&self) -> Option<Over> {
        self.state().over
    }

    pub(super) fn load(&self) -> Load {
        let state = self.state();
        Load { queued: state.queue.len(), instances: state.instances.len() }
    }

    /// Bytes of all its instances, those that could not be taken down among them.
    pub(super) fn bytes(&self) -> u64 {
        let state = self.state();
        state.held_bytes + state.left_bytes
    }

    /// Whether it should get no new instances for good.
    pub(super) fn is_worn(&self) -> bool {
        self.state().left_bytes > HOST_LEFT_BYTES_MAX
    }

    /// Whether it may get a new instance now.
    pub(super) fn takes_more(&self) -> bool {
        let state = self.state();
        state.verdict.is_none()
            && state.over.is_none()
            && state.left_bytes <= HOST_LEFT_BYTES_MAX
            && state.instances.len() < HOST_INSTANCES_MAX
    }

    /// Says something about a new instance.
    pub(super) fn start(&self, instance: u64, frame: &[u8], load_ms: u64, turn_ms: u64) {
        let mut state = self.state();
        let bytes = HOST_INSTANCE_BYTES_GUESS;
        let held = Held { bytes, turn_cpu_max_ms: turn_ms, dropped: false };
        state.instances.insert(instance, held);
        state.held_bytes += bytes;
        state.ask(Asked { instance, what: What::Start, cpu_max_ms: load_ms });
        self.send(state, frame);
    }

    /// Says something to an instance, if it is there; else its end is on its way to the manager.
    pub(super) fn say(&self, instance: u64, what: What, frame: &[u8]) {
        let mut state = self.state();
        let Some(held) = state.instances.get_mut(&instance).filter(|held| !held.dropped) else {
            return;
        };
        held.dropped = what == What::Drop;
        let cpu_max_ms = held.turn_cpu_max_ms;
        state.ask(Asked { instance, what, cpu_max_ms });
        self.send(state, frame);
    }

    fn send(&self, mut state: MutexGuard<'_, State>, frame: &[u8]) {
        state.outbox.push(frame);
        state.flush();
        if state.outbox.waiting_bytes() > HOST_BACKLOG_BYTES_MAX {
            state.verdict.get_or_insert(HostError::Ended("it takes no more messages"));
        }
        // What the pipe did not take is sent by the thread.
        let more = !state.outbox.is_empty() || state.verdict.is_some();
        drop(state);
        if more {
            self.wake();
        }
    }

    /// Ends it; its instances are lost.
    pub(super) fn condemn(&self, why: HostError) {
        self.state().verdict.get_or_insert(why);
        self.wake();
    }

    /// Ends it without a word to anybody.
    pub(super) fn dismiss(&self) {
        self.state().instances.clear();
        self.condemn(HostError::Ended("nobody needs it"));
    }

    /// Looks at the message that is being served; condemns a host that takes too long for it.
    pub(super) fn watch(&self, now_micros: u64, wall_max_ms: u64) {
        let late = self.state().late(now_micros, wall_max_ms);
        if let Some(late) = late {
            self.condemn(late);
        }
    }

    /// The thread of the host: starts it, and passes on what it says until it ends. The host ends
    /// at the latest with the thread that started it, so it is this one and stays.
    pub(super) fn serve(&self, exe: &Path, events: &(dyn Fn(HostEvent) + Send + Sync)) {
        let why = match Process::spawn(exe) {
            Ok((mut process, stdin)) => {
                self.state().attach(process.pid(), stdin);
                let why = self.listen(&mut process, events);
                // How it ended is known.
                let _ = process.end();
                why
            }
            Err(e) => e,
        };
        let lost = self.state().end(self.number, &why);
        if let Some(lost) = lost {
            events(lost);
        }
    }

    fn listen(
        &self,
        process: &mut Process,
        events: &(dyn Fn(HostEvent) + Send + Sync),
    ) -> HostError {
        let mut inbox = Inbox::default();
        loop {
            let pipe = {
                let mut state = self.state();
                if let Some(why) = state.verdict.take() {
                    return why;
                }
                state.flush();
                state.pipe.clone().filter(|_| !state.outbox.is_empty())
            };
            let to = pipe.as_ref().map(|pipe| pipe.as_fd());
            let heard = process.wait(to, Some(self.wake.as_fd()), None).and_then(|ready| {
                if ready.woken {
                    // Empty only if somebody else had read it, and nobody else does.
                    let _ = rustix::io::read(&self.wake, &mut [0; 8]);
                }
                if ready.stdout { self.hear(process, &mut inbox, events) } else { Ok(()) }
            });
            if let Err(why) = heard {
                return why;
            }
        }
    }

    fn hear(
        &self,
        process: &mut Process,
        inbox: &mut Inbox,
        events: &(dyn Fn(HostEvent) + Send + Sync),
    ) -> Result<(), HostError> {
        if !inbox.fill(&process.stdout).map_err(nonsense)? {
            return Err(process.died());
        }
        while let Some(answer) = inbox.next().map_err(nonsense)? {
            let event = self.state().answered(self.number, answer)?;
            if let Some(event) = event {
                events(event);
            }
        }
        Ok(())
    }
}

impl State {
    fn attach(&mut self, pid: u32, stdin: ChildStdin) {
        self.pid = Some(pid);
        self.pipe = Some(Arc::new(stdin));
        self.front_since_micros = monotonic_micros();
    }

    fn ask(&mut self, asked: Asked) {
        if self.queue.is_empty() {
            self.front_since_micros = monotonic_micros();
        }
        self.queue.push_back(asked);
    }

    fn flush(&mut self) {
        if let Some(pipe) = &self.pipe {
            self.outbox.flush(pipe);
        }
    }

    /// Takes an answer into account; what the manager is told of it.
    fn answered(&mut self, lane: u64, answer: Answer) -> Result<Option<HostEvent>, HostError> {
        let fits = |asked: &Asked| {
            asked.instance == answer.instance && asked.what.fits(answer.said.as_ref())
        };
        if !self.queue.front().is_some_and(fits) {
            return Err(HostError::Protocol("an answer that nobody asked for".to_owned()));
        }
        self.queue.pop_front();
        self.front_since_micros = monotonic_micros();
        self.cpu_before_micros = answer.cpu_micros;
        self.left_bytes = answer.left_bytes;
        let Some(mut held) = self.instances.remove(&answer.instance) else { return Ok(None) };
        self.held_bytes = self.held_bytes.saturating_sub(held.bytes);
        let wanted = !held.dropped;
        if matches!(answer.said, Some(FromHost::Started { .. } | FromHost::Turn(_))) {
            held.bytes = answer.heap_bytes;
            self.held_bytes = self.held_bytes.saturating_add(held.bytes);
            self.instances.insert(answer.instance, held);
        }
        let instance = InstanceId { lane, number: answer.instance };
        let event = |answer_of| HostEvent::Answer {
            instance,
            answer: answer_of,
            heap_bytes: answer.heap_bytes,
        };
        Ok(answer.said.filter(|_| wanted).map(event))
    }

    /// Why the host is to be killed, if it takes too long. Its CPU time is only asked for when so
    /// much time has passed that one thread could have used too much.
    fn late(&self, now_micros: u64, wall_max_ms: u64) -> Option<HostError> {
        let (front, pid) = (self.queue.front()?, self.pid?);
        let waited_ms = now_micros.saturating_sub(self.front_since_micros) / 1000;
        let cpu_max_ms = front.cpu_max_ms.saturating_add(HOST_KILL_AFTER_MS);
        if waited_ms >= cpu_max_ms && self.over.is_none() {
            let cpu_ms = cpu_millis(pid)?.saturating_sub(self.cpu_before_micros / 1000);
            if cpu_ms >= cpu_max_ms {
                return Some(HostError::Killed { cpu_ms });
            }
        }
        (waited_ms >= wall_max_ms).then_some(HostError::TimedOut { wall_ms: waited_ms })
    }

    /// The host is gone; who is lost with it.
    fn end(&mut self, lane: u64, why: &HostError) -> Option<HostEvent> {
        self.over = Some(Over { killed_for: why.killed_for() });
        self.pipe = None;
        self.outbox = Outbox::default();
        (self.held_bytes, self.left_bytes) = (0, 0);
        let served = self.queue.front().map(|asked| asked.instance);
        self.queue.clear();
        let gone = std::mem::take(&mut self.instances);
        let wanted = gone.into_iter().filter(|(_, held)| !held.dropped);
        let mut instances: Vec<_> = wanted.map(|(number, _)| InstanceId { lane, number }).collect();
        instances.sort_unstable();
        // A host that was never there, or was given up for its own sake, is nobody's fault.
        let blameless = matches!(why, HostError::Spawn(_) | HostError::Ended(_));
        let served = served.filter(|_| !blameless).map(|number| InstanceId { lane, number });
        let guilty = served.filter(|id| instances.contains(id));
        let why = Silence::from(why);
        (!instances.is_empty()).then_some(HostEvent::Lost { instances, guilty, why })
    }
}
