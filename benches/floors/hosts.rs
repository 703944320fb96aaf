//! Process hosts without a disk: spawning, and one step through the pipe.
//!
//! May not journal. Invariant: the floor crosses the same kind of pipes to a process as small.

use dormouse::codecs::event::Profile;
use dormouse::codecs::turn::{Feed, FromHost, Module, Start, ToHost, TurnInput};
use dormouse::services::runs::create::host_limits;
use dormouse::shells::host::parent::Host;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::figures::{Bench, EXE, Samples, json};

const PROCESS: &str = "export async function process(inputs, ctx) {
  for (let n = 0; ; n++) await ctx.task(ask, { n });
}
import { defineTask } from 'dormouse';
const ask = defineTask('ask', (args) => ({ kind: 'agent', title: `step ${args.n}` }));";

/// A start of the process.
pub(crate) fn start() -> Start {
    let module = Module { path: "main.js".into(), source: PROCESS.into(), imports: [].into() };
    Start {
        run_id: "r1".into(),
        seed_run_id: "r1".into(),
        generation: 1,
        run_dir: "/runs/r1".into(),
        cwd: None,
        process_id: "main".into(),
        profile: Profile::Dormouse,
        entry: "main.js".into(),
        export_name: None,
        modules: vec![module],
        inputs: None,
        carried: None,
        scheduled_at: None,
        clock_micros: 0,
        next_ordinal: 1,
        is_shown: false,
        system: None,
        known: Vec::new(),
        known_marks: Vec::new(),
        limits: host_limits(),
    }
}

fn started() -> Host {
    let mut host = Host::spawn(Path::new(EXE)).unwrap();
    let answer = host.call(&ToHost::Start(Box::new(start())), 10_000, 30_000).unwrap();
    assert!(matches!(answer, FromHost::Started { .. }), "{answer:?}");
    host
}

/// A live turn.
pub(crate) fn turn_input(seq: u64, feed: Feed) -> TurnInput {
    TurnInput {
        seq,
        clock_micros: i64::try_from(seq).unwrap(),
        feed,
        journaled_outputs: 0,
        journaled_marks: Vec::new(),
        live_after: true,
        by_key: false,
        quiet: false,
    }
}

fn turn(host: &mut Host, seq: u64, feed: Feed) {
    match host.call(&ToHost::Turn(turn_input(seq, feed)), 2_000, 30_000).unwrap() {
        FromHost::Turn(done) => assert_eq!(done.outputs.len(), 1),
        other => panic!("{other:?}"),
    }
}

/// An outcome in, the next request out, in one host.
pub(crate) fn round_trip(bench: &mut Bench) {
    let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
    let mut bytes = [b'x'; 300];
    let count = bench.pick(2_000, 20_000);
    let floor = Samples::take(count, |_| {
        to.write_all(&bytes).unwrap();
        from.read_exact(&mut bytes).unwrap();
    });
    drop(to);
    cat.wait().unwrap();
    bench.time("floor: 300 B through a pipe and back", &floor, None);
    let mut host = started();
    turn(&mut host, 1, Feed::RunStarted);
    let value = json(r#"{"done":true,"files":["a.js","b.js"]}"#);
    let samples = Samples::take(count, |n| {
        let ordinal = u32::try_from(n + 1).unwrap();
        let value = Some(value.clone());
        let feed = Feed::Resolved { ordinal, value, error: None, attempts: 1 };
        turn(&mut host, n as u64 + 2, feed);
    });
    let floor = Some(("a pipe round trip", floor.p50()));
    bench.time("host, warm: outcome in, next request out", &samples, floor);
}

/// A new host up to its first reply.
pub(crate) fn spawn(bench: &mut Bench) {
    let count = bench.pick(30, 200);
    let floor = Samples::take(count, |_| {
        assert!(Command::new("true").status().unwrap().success());
    });
    bench.time("floor: spawn `true` and wait", &floor, None);
    let samples = Samples::take(count, |_| drop(started()));
    let floor = Some(("spawning `true`", floor.p50()));
    bench.time("host: spawn, load a process, first reply, kill", &samples, floor);
}
