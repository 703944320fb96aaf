//! The pool of hosts: child processes that hold many instances each, spoken to without waiting.
//!
//! May not know runs or journals. Invariant: what an instance does costs no other more than a
//! replay: a host that must die takes its instances along, and says which of them was at fault.

use super::lane::{Lane, What};
use super::process::{HostError, Silence};
use super::protocol::{FromHost, Message, Start, ToHost, TurnInput, encode_frame};
use crate::ground::limits::HOST_INSTANCE_BYTES_GUESS;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Names an instance for as long as its pool lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId {
    pub(super) lane: u64,
    pub(super) number: u64,
}

/// How a pool is set up.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// This program.
    pub exe: PathBuf,
    /// How many hosts get new instances.
    pub children: usize,
    /// Heap of all instances together, beyond which none is added.
    pub memory_bytes_max: u64,
    /// How long one message may take, whatever the host does meanwhile.
    pub wall_max_ms: u64,
}

/// What hosts tell the manager.
#[derive(Debug, Clone, PartialEq)]
pub enum HostEvent {
    /// The answer to a start or a turn. After anything but `Started` and `Turn` the instance is
    /// gone.
    Answer {
        /// Who answers.
        instance: InstanceId,
        /// What.
        answer: FromHost,
        /// Its heap now; 0 when it is gone.
        heap_bytes: u64,
    },
    /// A host is gone, and these with it. Replay brings them back in another.
    Lost {
        /// All that were in it and not dropped.
        instances: Vec<InstanceId>,
        /// The one whose message was being served, unless the host could not be started or was
        /// ended for its own sake.
        guilty: Option<InstanceId>,
        /// What became of the host.
        why: Silence,
    },
}

/// Why an instance cannot be started now.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Drop instances first, or wait for some to end.
    #[error("hosts.memory_bytes_max: {bytes} bytes of instances, at most {max}")]
    Full {
        /// How much is in use.
        bytes: u64,
        /// How much may be.
        max: u64,
    },
    /// The machine has no room for another host.
    #[error("the process host could not be started: {0}")]
    Absent(#[source] std::io::Error),
    /// It would be refused again: code, inputs and what is known are too long together.
    #[error("the start of an instance is too long: {0}")]
    TooLong(#[source] std::io::Error),
}

/// Figures for metrics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PoolFigures {
    /// Hosts alive.
    pub children: usize,
    /// Hosts ever started.
    pub spawned: u64,
    /// Hosts that had to be killed, by why.
    pub killed: BTreeMap<&'static str, u64>,
    /// Instances in all hosts.
    pub instances: usize,
    /// Messages without an answer.
    pub queued: usize,
}

type Events = Arc<dyn Fn(HostEvent) + Send + Sync>;

/// Hosts, owned by the one thread that talks to them.
pub struct Pool {
    options: PoolOptions,
    events: Events,
    lanes: BTreeMap<u64, (Arc<Lane>, JoinHandle<()>)>,
    next_instance: u64,
    spawned: u64,
    killed: BTreeMap<&'static str, u64>,
}

impl Pool {
    /// A pool without hosts. `events` is called on threads of the pool, also while the owner is
    /// inside one of its functions: it may pass on what it is told, and may not wait.
    #[must_use]
    pub fn new(options: PoolOptions, events: Box<dyn Fn(HostEvent) + Send + Sync>) -> Self {
        let (events, lanes) = (Arc::from(events), BTreeMap::new());
        Self { options, events, lanes, next_instance: 1, spawned: 0, killed: BTreeMap::new() }
    }

    /// Starts an instance in the host with the least to do. Its first answer follows as an event,
    /// as the host's failure to come up does.
    ///
    /// # Errors
    /// There is no room, and nothing was started.
    pub fn start(&mut self, start: Start) -> Result<InstanceId, StartError> {
        self.clean_up();
        if !self.has_room() {
            let (bytes, max) = (self.bytes(), self.options.memory_bytes_max);
            return Err(StartError::Full { bytes, max });
        }
        let number = self.next_instance;
        let limits = &start.limits;
        let (load_ms, turn_ms) = (limits.load_cpu_max_ms, limits.turn_cpu_max_ms);
        let say = ToHost::Start(Box::new(start));
        let frame =
            encode_frame(&Message { instance: number, say }).map_err(StartError::TooLong)?;
        let (lane_number, lane) = self.free_lane().map_err(StartError::Absent)?;
        lane.start(number, &frame, load_ms, turn_ms);
        self.next_instance += 1;
        Ok(InstanceId { lane: lane_number, number })
    }

    /// Runs one turn. Without effect on an instance that is gone: that was told, or is on its way.
    pub fn turn(&mut self, instance: InstanceId, input: TurnInput) {
        let Some((lane, _)) = self.lanes.get(&instance.lane) else { return };
        match encode_frame(&Message { instance: instance.number, say: ToHost::Turn(input) }) {
            Ok(frame) => lane.say(instance.number, What::Turn, &frame),
            Err(e) => {
                self.drop_instance(instance);
                let detail = format!("the input of one turn: {e}");
                let answer = FromHost::Limit { name: "memory".to_owned(), detail };
                (self.events)(HostEvent::Answer { instance, answer, heap_bytes: 0 });
            }
        }
    }

    /// Forgets an instance. No event follows about it, unless it is on its way already.
    pub fn drop_instance(&mut self, instance: InstanceId) {
        let frame = encode_frame(&Message { instance: instance.number, say: ToHost::Drop });
        // A message of a few bytes fits a frame.
        if let (Some((lane, _)), Ok(frame)) = (self.lanes.get(&instance.lane), frame) {
            lane.say(instance.number, What::Drop, &frame);
        }
    }

    /// Kills hosts that take too long for what they are doing. To be called now and then with the
    /// time of the monotonic clock.
    pub fn tick(&mut self, now_micros: u64) {
        for (lane, _) in self.lanes.values() {
            lane.watch(now_micros, self.options.wall_max_ms);
        }
        self.clean_up();
    }

    /// Whether the memory for instances takes one more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let after = self.bytes().saturating_add(HOST_INSTANCE_BYTES_GUESS);
        after <= self.options.memory_bytes_max
    }

    /// Heap of all instances.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.lanes.values().map(|(lane, _)| lane.bytes()).sum()
    }

    /// The processes of the hosts, for whoever measures them.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.lanes.values().filter_map(|(lane, _)| lane.pid()).collect()
    }

    /// Figures for metrics.
    #[must_use]
    pub fn figures(&self) -> PoolFigures {
        let (spawned, killed) = (self.spawned, self.killed.clone());
        let mut figures = PoolFigures { spawned, killed, ..PoolFigures::default() };
        for (lane, _) in self.lanes.values() {
            let load = lane.load();
            figures.children += usize::from(lane.over().is_none());
            if let Some(why) = lane.over().and_then(|over| over.killed_for) {
                *figures.killed.entry(why).or_default() += 1;
            }
            figures.instances += load.instances;
            figures.queued += load.queued;
        }
        figures
    }

    /// The host for a new instance: an empty one, a new one, or the one with the least to do.
    fn free_lane(&mut self) -> std::io::Result<(u64, Arc<Lane>)> {
        let open = self.lanes.iter().filter(|(_, (lane, _))| lane.takes_more());
        let count = open.clone().count();
        let least = open.min_by_key(|(_, (lane, _))| lane.load());
        let found = least.map(|(number, (lane, _))| (*number, Arc::clone(lane)));
        match found {
            Some(found) if count >= self.options.children || found.1.load().instances == 0 => {
                Ok(found)
            }
            _ => self.new_lane(),
        }
    }

    fn new_lane(&mut self) -> std::io::Result<(u64, Arc<Lane>)> {
        let number = self.spawned;
        let lane = Arc::new(Lane::new(number)?);
        let (serving, events) = (Arc::clone(&lane), Arc::clone(&self.events));
        let exe = self.options.exe.clone();
        let thread = std::thread::Builder::new()
            .name(format!("host-{number}"))
            .spawn(move || serving.serve(&exe, &*events))?;
        self.spawned += 1;
        self.lanes.insert(number, (Arc::clone(&lane), thread));
        Ok((number, lane))
    }

    /// Forgets hosts that are gone, and ends worn ones: those without instances, and the emptiest
    /// of those beyond as many as there are others.
    fn clean_up(&mut self) {
        let killed = &mut self.killed;
        self.lanes.retain(|_, (lane, _)| {
            let over = lane.over();
            if let Some(why) = over.and_then(|over| over.killed_for) {
                *killed.entry(why).or_default() += 1;
            }
            over.is_none()
        });
        let mut worn: Vec<_> =
            self.lanes.values().map(|(lane, _)| lane).filter(|lane| lane.is_worn()).collect();
        worn.sort_by_key(|lane| lane.load().instances);
        let beyond = worn.len().saturating_sub(self.options.children);
        for (n, lane) in worn.into_iter().enumerate() {
            if n < beyond || lane.load().instances == 0 {
                lane.condemn(HostError::Ended("it is worn out"));
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (lane, _) in self.lanes.values() {
            lane.dismiss();
        }
        for (_, (_, thread)) in std::mem::take(&mut self.lanes) {
            // A thread that panicked has ended its host while unwinding.
            let _ = thread.join();
        }
    }
}
