//! The pool of hosts: starting instances, turns through a child, memory of instances that wait.
//!
//! May not journal. Invariant: the floor of a turn is the same engine in this process, doing
//! nothing but settling one promise.

use dormouse::codecs::turn::{Feed, FromHost};
use dormouse::shells::host::pool::{HostEvent, InstanceId, Pool, PoolOptions};
use rquickjs::{Context, Function, Runtime};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::figures::{Bench, EXE, Samples, json};
use crate::hosts::{start, turn_input};

const BARE: &str = "let settle;
async function main() { for (let n = 0; ; n++) await new Promise((ok) => { settle = ok; }); }
main(); (value) => settle(JSON.parse(value))";

struct Rig {
    pool: Pool,
    events: Receiver<HostEvent>,
}

impl Rig {
    fn new() -> Self {
        let (tell, events) = channel();
        let options = PoolOptions {
            exe: EXE.into(),
            children: 1,
            memory_bytes_max: u64::MAX,
            wall_max_ms: 60_000,
        };
        let pool = Pool::new(options, Box::new(move |event| tell.send(event).unwrap()));
        Self { pool, events }
    }

    fn answer(&self) -> FromHost {
        match self.events.recv().unwrap() {
            HostEvent::Answer { answer, .. } => answer,
            HostEvent::Lost { why, .. } => panic!("{why:?}"),
        }
    }

    fn started(&mut self) -> InstanceId {
        let id = self.pool.start(start()).unwrap();
        let answer = self.answer();
        assert!(matches!(answer, FromHost::Started { .. }), "{answer:?}");
        id
    }

    /// Runs a turn; the CPU time that it says it used, in microseconds.
    fn turn(&mut self, id: InstanceId, seq: u64, feed: Feed) -> f64 {
        self.pool.turn(id, turn_input(seq, feed));
        match self.answer() {
            FromHost::Turn(done) if done.outputs.len() == 1 => {
                f64::from(u32::try_from(done.cpu_micros).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    fn resident_bytes(&self) -> f64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pool.pids()[0]));
        let pages: f64 = statm.unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096.0
    }
}

/// The same promise settled by the engine alone, then by a process in a child.
pub(crate) fn turns(bench: &mut Bench) {
    let value = r#"{"done":true,"files":["a.js","b.js"]}"#;
    let count = bench.pick(2_000, 20_000);
    let runtime = Runtime::new().unwrap();
    let bare = Context::full(&runtime).unwrap().with(|ctx| {
        let settle: Function<'_> = ctx.eval(BARE).unwrap();
        Samples::take(count, |_| {
            settle.call::<_, ()>((value,)).unwrap();
            while ctx.execute_pending_job() {}
        })
    });
    bench.time("floor: QuickJS settles one promise", &bare, None);
    let mut rig = Rig::new();
    let id = rig.started();
    rig.turn(id, 1, Feed::RunStarted);
    let value = json(value);
    let mut inside = Vec::new();
    let samples = Samples::take(count, |n| {
        let (ordinal, value) = (u32::try_from(n + 1).unwrap(), Some(value.clone()));
        let feed = Feed::Resolved { ordinal, value, error: None, attempts: 1 };
        inside.push(rig.turn(id, n as u64 + 2, feed));
    });
    let floor = Some(("a bare promise", bare.p50()));
    bench.time("pool, warm: outcome in, next request out", &samples, floor);
    bench.time("the same, CPU time inside the instance", &Samples::of(inside), floor);
}

/// Instances in a warm child: started one by one with a pause, and all at once; what they weigh.
pub(crate) fn instances(bench: &mut Bench) {
    let runtime = Samples::take(bench.pick(50, 200), |_| {
        drop(Context::full(&Runtime::new().unwrap()).unwrap());
    });
    bench.time("floor: an empty QuickJS, made and dropped", &runtime, None);
    let floor = Some(("an empty QuickJS", runtime.p50()));
    let mut rig = Rig::new();
    rig.started();
    let paused = (0..bench.pick(30, 200)).map(|_| {
        std::thread::sleep(Duration::from_millis(15));
        Samples::take(1, |_| {
            rig.started();
        })
        .p50()
    });
    let paused = Samples::of(paused.collect());
    bench.time("pool: start an instance, child idle before", &paused, floor);
    let busy = Samples::take(bench.pick(100, 400), |_| {
        rig.started();
    });
    bench.time("pool: start an instance, one after the other", &busy, floor);

    let mut rig = Rig::new();
    rig.started();
    let (before, held) = (rig.resident_bytes(), rig.pool.bytes());
    let ids: Vec<_> = (0..1_000).map(|_| rig.started()).collect();
    for id in ids {
        rig.turn(id, 1, Feed::RunStarted);
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let heap = (rig.pool.bytes() - held) as f64;
    let resident = rig.resident_bytes() - before;
    bench.kilobytes("pool: resident memory of an instance that waits", resident / 1e3);
    bench.kilobytes("pool: heap of an instance that waits", heap / 1e3);
}
