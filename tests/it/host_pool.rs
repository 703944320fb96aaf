//! The pool of hosts: many instances in one child, and what one of them may do to the others.

use crate::host::{module, output, requests, resolved, start, turn};
use dormouse::codecs::event::Profile::{Babysitter, Dormouse};
use dormouse::ground::clock::monotonic_micros;
use dormouse::shells::host::pool::{HostEvent, InstanceId, Pool, PoolOptions, StartError};
use dormouse::shells::host::process::Silence;
use dormouse::shells::host::protocol::{Answer, Feed, FromHost, Start, TurnDone, encode_frame};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Asks one thing after the other, forever.
const ASKS: &str = "import { defineTask } from 'dormouse';
const ask = defineTask('ask', (args) => ({ kind: 'agent', title: `step ${args.n}` }));
export async function process(inputs, ctx) {
    for (let n = 0; ; n++) await ctx.task(ask, { n, draw: ctx.random(), run: ctx.runId });
}";

/// A pool and what it said.
struct Rig {
    pool: Pool,
    events: Receiver<HostEvent>,
}

fn options(exe: &Path) -> PoolOptions {
    let exe = exe.to_owned();
    PoolOptions { exe, children: 1, memory_bytes_max: 1 << 34, wall_max_ms: 60_000 }
}

fn rig() -> Rig {
    rig_of(options(Path::new(env!("CARGO_BIN_EXE_dormouse"))))
}

fn rig_of(options: PoolOptions) -> Rig {
    let (tell, events) = channel();
    // A pool that is gone says nothing, so somebody always listens.
    Rig { pool: Pool::new(options, Box::new(move |event| tell.send(event).unwrap())), events }
}

fn named(run_id: &str, source: &str) -> Start {
    Start { run_id: run_id.into(), seed_run_id: run_id.into(), ..start(Dormouse, source) }
}

/// A process in the dormouse profile of which only the body matters.
fn body(text: &str) -> Start {
    start(Dormouse, &format!("export async function process(inputs, ctx) {{ {text} }}"))
}

impl Rig {
    /// What is said next, by a pool that is looked after.
    fn event(&mut self) -> HostEvent {
        for _ in 0..3_000 {
            match self.events.recv_timeout(Duration::from_millis(20)) {
                Ok(event) => return event,
                Err(RecvTimeoutError::Timeout) => self.pool.tick(monotonic_micros()),
                Err(e) => panic!("{e}"),
            }
        }
        panic!("the pool says nothing: {:?}", self.pool.figures());
    }

    fn answer(&mut self, from: InstanceId) -> FromHost {
        match self.event() {
            HostEvent::Answer { instance, answer, .. } if instance == from => answer,
            other => panic!("{from:?}: {other:?}"),
        }
    }

    fn lost(&mut self) -> (Vec<InstanceId>, Option<InstanceId>, Silence) {
        match self.event() {
            HostEvent::Lost { instances, guilty, why } => (instances, guilty, why),
            answer @ HostEvent::Answer { .. } => panic!("{answer:?}"),
        }
    }

    fn start(&mut self, start: Start) -> InstanceId {
        let id = self.pool.start(start).unwrap();
        let answer = self.answer(id);
        assert!(matches!(answer, FromHost::Started { .. }), "{answer:?}");
        id
    }

    fn feed(&mut self, id: InstanceId, feed: Feed) -> FromHost {
        self.pool.turn(id, turn(feed));
        self.answer(id)
    }

    fn turn(&mut self, id: InstanceId, feed: Feed) -> TurnDone {
        match self.feed(id, feed) {
            FromHost::Turn(mut done) => {
                done.cpu_micros = 0;
                done
            }
            other => panic!("{other:?}"),
        }
    }

    fn begin(&mut self, id: InstanceId) -> TurnDone {
        self.turn(id, Feed::RunStarted)
    }

    /// The name of the limit that the first turn hits.
    fn limit(&mut self, start: Start) -> String {
        let id = self.start(start);
        match self.feed(id, Feed::RunStarted) {
            FromHost::Limit { name, .. } => name,
            other => panic!("{other:?}"),
        }
    }

    fn pid(&self) -> rustix::process::Pid {
        let pid = i32::try_from(self.pool.pids()[0]).unwrap();
        rustix::process::Pid::from_raw(pid).unwrap()
    }
}

/// Has the first two turns of [`ASKS`].
fn two_turns(rig: &mut Rig, n: usize) -> (InstanceId, [TurnDone; 2]) {
    let id = rig.start(named(&format!("run-{n}"), ASKS));
    let first = rig.begin(id);
    (id, [first, rig.turn(id, resolved(1, "1"))])
}

#[test]
fn a_host_that_must_be_killed_names_the_guilty_and_the_others_replay() {
    let mut rig = rig();
    let mut before: Vec<_> = (0..50).map(|n| two_turns(&mut rig, n)).collect();
    let mut stuck = body(
        "const text = 'a'.repeat(1 << 24);
        return text.indexOf('a'.repeat(1 << 23) + 'b');",
    );
    stuck.limits.turn_cpu_max_ms = 100;
    let stuck = rig.start(stuck);
    rig.pool.turn(stuck, turn(Feed::RunStarted));
    let (waiting, forgotten) = (before[7].0, before[8].0);
    rig.pool.turn(waiting, turn(resolved(2, "2")));
    rig.pool.drop_instance(forgotten);
    let (instances, guilty, why) = rig.lost();
    assert_eq!(guilty, Some(stuck));
    assert!(matches!(why, Silence::Cpu(_)), "{why:?}");
    before.remove(8);
    let mut all: Vec<_> = before.iter().map(|(id, _)| *id).chain([stuck]).collect();
    all.sort();
    assert_eq!(instances, all);
    for (n, (_, outputs)) in (0..50).filter(|n| *n != 8).zip(&before) {
        let (id, again) = two_turns(&mut rig, n);
        assert_eq!(&again, outputs);
        assert_eq!(requests(&rig.turn(id, resolved(2, "2"))).len(), 1);
    }
    let figures = rig.pool.figures();
    assert_eq!((figures.spawned, figures.children), (2, 1));
    assert_eq!(figures.killed, [("cpu", 1)].into());
    assert_eq!((figures.instances, figures.queued), (49, 0));
}

#[test]
fn code_that_never_ends_is_taken_down_and_leaves_the_others_alive() {
    let mut rig = rig();
    let (other, _) = two_turns(&mut rig, 0);
    for code in [
        "while (true) {}",
        "try { while (true) {} } finally { while (true) {} }",
        "for (;;) await null;",
        "const again = () => setTimeout(again, 0); again(); await new Promise(() => 1);",
        "/(a+)+$/.test('a'.repeat(60) + 'b')",
        "[3, 1, 2].sort(() => { while (true); })",
        "JSON.stringify({toJSON() { while (true); }})",
        "const g = (function* () { while (true) yield 1 })(); for (const x of g);",
        "new Map([[1, 2]]).forEach(() => { while (true); })",
        "class A { static { while (true); } }",
        "Reflect.construct(Proxy, [{}, {get() { while (true); }}]).x",
    ] {
        let mut start = body(code);
        start.limits.turn_cpu_max_ms = 60;
        assert_eq!(rig.limit(start), "cpu", "{code}");
    }
    assert_eq!(requests(&rig.turn(other, resolved(2, "2"))).len(), 1);
    let figures = rig.pool.figures();
    assert_eq!((figures.spawned, figures.instances), (1, 1));
}

#[test]
fn a_host_that_cannot_free_what_an_instance_took_is_worn_out_in_the_end() {
    let mut rig = rig();
    let (other, _) = two_turns(&mut rig, 0);
    let hungry = |megabytes: u64| {
        let mut start = body(
            "globalThis.kept = [];
            for (;;) { try { kept.push([1, 2, 3]) } catch {} }",
        );
        start.limits.heap_bytes_max = megabytes << 20;
        start.limits.turn_cpu_max_ms = 20_000;
        start
    };
    assert_eq!(rig.limit(hungry(20)), "memory");
    assert!(rig.pool.bytes() > 15 << 20, "{}", rig.pool.bytes());
    assert_eq!(rig.limit(hungry(60)), "memory");
    assert_eq!(rig.pool.figures().spawned, 1);
    // New instances go elsewhere; what is there goes on until it is dropped.
    two_turns(&mut rig, 1);
    assert_eq!((rig.pool.figures().spawned, rig.pool.figures().children), (2, 2));
    assert_eq!(requests(&rig.turn(other, resolved(2, "2"))).len(), 1);
    rig.pool.drop_instance(other);
    while rig.pool.figures().children > 1 {
        rig.pool.tick(monotonic_micros());
        std::thread::yield_now();
    }
    assert!(rig.pool.bytes() < 4 << 20, "{}", rig.pool.bytes());
    assert!(rig.events.try_recv().is_err());
}

#[test]
fn a_thousand_instances_in_one_child_do_not_mix_up() {
    let mut rig = rig();
    let ids: Vec<_> =
        (0..1_000).map(|n| rig.pool.start(named(&format!("run-{n}"), ASKS)).unwrap()).collect();
    for id in &ids {
        assert!(matches!(rig.answer(*id), FromHost::Started { .. }));
    }
    for id in &ids {
        rig.pool.turn(*id, turn(Feed::RunStarted));
    }
    for (n, id) in ids.iter().enumerate() {
        let FromHost::Turn(done) = rig.answer(*id) else { panic!("{id:?}") };
        let args = requests(&done)[0].args.clone().unwrap();
        assert!(args.as_str().contains(&format!("\"run-{n}\"")), "{args:?}");
    }
    let figures = rig.pool.figures();
    assert_eq!((figures.spawned, figures.instances, figures.queued), (1, 1_000, 0));
    for id in &ids {
        rig.pool.drop_instance(*id);
    }
    // An answer after all drops were served.
    rig.start(body("return 1"));
    assert_eq!(rig.pool.figures().instances, 1);
}

#[test]
fn what_is_dropped_is_free_again() {
    let mut rig = rig();
    let resident = |rig: &Rig| {
        let path = format!("/proc/{}/statm", rig.pool.pids()[0]);
        let statm = std::fs::read_to_string(path).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let large = body(
        "globalThis.kept = []; for (let i = 0; i < 2e5; i++) kept.push({ i }); await ctx.sleep(1);",
    );
    for _ in 0..40 {
        let id = rig.start(large.clone());
        assert_eq!(requests(&rig.begin(id)).len(), 1);
        assert!(rig.pool.bytes() > 8 << 20, "{}", rig.pool.bytes());
        rig.pool.drop_instance(id);
    }
    rig.start(body("return 1"));
    assert!(rig.pool.bytes() < 2 << 20, "{}", rig.pool.bytes());
    assert!(resident(&rig) < 100 << 20, "{}", resident(&rig));
}

#[test]
fn a_drop_is_the_last_word_even_in_the_middle_of_a_turn() {
    let mut rig = rig();
    let (id, _) = two_turns(&mut rig, 0);
    rig.pool.turn(id, turn(resolved(2, "2")));
    rig.pool.drop_instance(id);
    rig.pool.turn(id, turn(resolved(3, "3")));
    rig.pool.drop_instance(id);
    let other = rig.pool.start(named("other", ASKS)).unwrap();
    // The answer to the turn may have been on its way.
    let mut event = rig.event();
    if matches!(&event, HostEvent::Answer { instance, .. } if *instance == id) {
        event = rig.event();
    }
    assert!(matches!(event, HostEvent::Answer { instance, .. } if instance == other), "{event:?}");
    assert_eq!(rig.pool.figures().instances, 1);
}

#[test]
fn a_child_that_is_killed_takes_its_instances_along_and_the_next_one_serves() {
    let mut rig = rig();
    let ids = [two_turns(&mut rig, 0).0, two_turns(&mut rig, 1).0];
    rustix::process::kill_process(rig.pid(), rustix::process::Signal::KILL).unwrap();
    let (instances, guilty, why) = rig.lost();
    assert_eq!((instances, guilty), (ids.to_vec(), None));
    assert!(matches!(&why, Silence::Died(text) if text.contains('9')), "{why:?}");
    rig.pool.turn(ids[0], turn(resolved(2, "2")));
    rig.pool.drop_instance(ids[1]);
    two_turns(&mut rig, 0);
    assert_eq!(rig.pool.figures().instances, 1);
    assert!(rig.events.try_recv().is_err());
}

#[test]
fn a_child_that_hangs_is_killed_when_its_time_on_the_wall_is_over() {
    let mut rig = rig();
    let (id, _) = two_turns(&mut rig, 0);
    rustix::process::kill_process(rig.pid(), rustix::process::Signal::STOP).unwrap();
    rig.pool.turn(id, turn(resolved(2, "2")));
    rig.pool.tick(monotonic_micros() + 59_000_000);
    assert!(rig.events.try_recv().is_err());
    rig.pool.tick(monotonic_micros() + 60_000_000);
    let (instances, guilty, why) = rig.lost();
    assert_eq!((instances, guilty), (vec![id], Some(id)));
    assert!(matches!(&why, Silence::Died(text) if text.contains("60")), "{why:?}");
}

/// A program that is called like a host, and does what the script says.
fn fake(dir: &tempfile::TempDir, script: &str) -> PathBuf {
    let exe = dir.path().join("fake");
    std::fs::write(&exe, format!("#!/bin/sh\ncd {}\n{script}\n", dir.path().display())).unwrap();
    std::fs::set_permissions(&exe, std::fs::Permissions::from_mode(0o755)).unwrap();
    exe
}

#[test]
fn a_child_that_speaks_nonsense_is_ended() {
    let started = || Some(FromHost::Started { warnings: Vec::new(), logs: Vec::new() });
    let answer = |instance, said| {
        let (heap_bytes, left_bytes, cpu_micros) = (1, 0, 0);
        encode_frame(&Answer { instance, said, heap_bytes, left_bytes, cpu_micros }).unwrap()
    };
    let twice = [answer(1, started()), answer(1, started())].concat();
    let half = answer(1, started())[..20].to_vec();
    for (bytes, ends) in [
        (b"what is this, I wonder".to_vec(), false),
        (b"\xff\xff\xff\xff".to_vec(), false),
        (b"\x04\x00\x00\x00\xc1\xc1\xc1\xc1".to_vec(), false),
        (answer(2, started()), false),
        (answer(1, Some(FromHost::Turn(TurnDone::default()))), false),
        (answer(1, None), false),
        (twice, false),
        (half, true),
        (Vec::new(), true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bytes"), &bytes).unwrap();
        let then = if ends { "" } else { "exec cat > /dev/null" };
        let mut rig =
            rig_of(options(&fake(&dir, &format!("head -c 1 > /dev/null\ncat bytes\n{then}"))));
        let id = rig.pool.start(body("return 1")).unwrap();
        let mut event = rig.event();
        if matches!(event, HostEvent::Answer { .. }) {
            event = rig.event();
        }
        let HostEvent::Lost { instances, why, .. } = event else { panic!("{event:?}") };
        assert_eq!(instances, [id], "{bytes:?}");
        assert!(matches!(why, Silence::Died(_)), "{why:?}");
        assert_eq!(rig.pool.figures().children, 0);
        let killed = rig.pool.figures().killed;
        assert_eq!(killed.get("nonsense").copied(), (!ends).then_some(1));
    }
}

#[test]
fn a_child_that_reads_nothing_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = rig_of(options(&fake(&dir, "exec sleep 1000")));
    let mut long = body("return 1");
    long.modules.push(module("long.js", &"/* long */".repeat(100_000), &[]));
    let ids: Vec<_> = (0..20).map(|_| rig.pool.start(long.clone()).unwrap()).collect();
    assert_eq!(rig.pool.figures().queued, 20);
    while rig.pool.pids().is_empty() {
        std::thread::yield_now();
    }
    rig.pool.tick(monotonic_micros() + 60_000_000);
    let (instances, guilty, why) = rig.lost();
    assert_eq!((instances, guilty), (ids.clone(), Some(ids[0])));
    assert!(matches!(why, Silence::Died(_)), "{why:?}");
}

#[test]
fn a_backlog_has_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = rig_of(options(&fake(&dir, "exec sleep 1000")));
    let mut long = body("return 1");
    long.modules.push(module("long.js", &"x".repeat(50 << 20), &[]));
    let ids: Vec<_> = (0..6).map(|_| rig.pool.start(long.clone()).unwrap()).collect();
    let (instances, guilty, why) = rig.lost();
    assert_eq!((instances, guilty), (ids, None));
    assert!(matches!(&why, Silence::Died(text) if text.contains("no more messages")), "{why:?}");
    long.modules.push(module("longer.js", &"x".repeat(20 << 20), &[]));
    assert!(matches!(rig.pool.start(long), Err(StartError::TooLong(_))));
}

#[test]
fn instances_of_the_same_code_never_meet() {
    let source = "let calls = 0;
    export async function process(inputs, ctx) {
        const seen = [calls, [].marked, {}.marked, globalThis.marked, JSON.marked, ctx.marked];
        calls += 1;
        Array.prototype.marked = Object.prototype.marked = globalThis.marked = ctx.runId;
        JSON.marked = Map.prototype.marked = ctx.runId;
        try { ctx.marked = 1 } catch {}
        await ctx.sleep(1);
        return [...seen, new Map().marked === ctx.runId, [].marked];
    }";
    let mut rig = rig();
    let of = |run: &str| Start { profile: Babysitter, ..named(run, source) };
    let ids = ["a", "b"].map(|run| rig.start(of(run)));
    for id in ids {
        rig.begin(id);
    }
    for (id, run) in ids.into_iter().zip(["a", "b"]) {
        let done = rig.turn(id, resolved(1, "null"));
        let expected = format!("[0,null,null,null,null,null,true,\"{run}\"]");
        assert_eq!(output(&done), expected);
    }
    assert_eq!(rig.pool.figures().spawned, 1);
}

#[test]
fn a_failure_to_load_ends_the_instance_alone() {
    let mut rig = rig();
    let (other, _) = two_turns(&mut rig, 0);
    for source in
        ["export const process = 1;", "throw new Error('no')", "syntax error", "import 'x'"]
    {
        let id = rig.pool.start(start(Dormouse, source)).unwrap();
        assert!(matches!(rig.answer(id), FromHost::LoadFailed(_)), "{source}");
    }
    assert_eq!(requests(&rig.turn(other, resolved(2, "2"))).len(), 1);
    assert_eq!((rig.pool.figures().spawned, rig.pool.figures().instances), (1, 1));
    let mut tiny = start(Dormouse, ASKS);
    tiny.limits.heap_bytes_max = 200 << 10;
    let id = rig.pool.start(tiny).unwrap();
    assert!(matches!(rig.answer(id), FromHost::Limit { name, .. } if name == "memory"));
}

#[test]
fn a_pool_is_full_or_has_no_program_and_says_so() {
    let exe = Path::new(env!("CARGO_BIN_EXE_dormouse"));
    let mut full = rig_of(PoolOptions { memory_bytes_max: 3 << 20, ..options(exe) });
    let ids = [0; 3].map(|_| full.pool.start(body("return 1")).unwrap());
    let refused = full.pool.start(body("return 1")).unwrap_err();
    assert!(matches!(refused, StartError::Full { bytes, max } if bytes == max), "{refused:?}");
    for id in ids {
        full.answer(id);
    }
    let bytes = full.pool.bytes();
    assert!(bytes > 0 && bytes < 3 << 20, "{bytes}");
    let mut none = rig_of(options(Path::new("/nowhere/dormouse")));
    let id = none.pool.start(body("return 1")).unwrap();
    let (instances, guilty, why) = none.lost();
    assert_eq!((instances, guilty), (vec![id], None));
    assert!(matches!(why, Silence::Absent(_)), "{why:?}");
}

#[test]
fn instances_spread_over_the_children() {
    let exe = Path::new(env!("CARGO_BIN_EXE_dormouse"));
    let mut rig = rig_of(PoolOptions { children: 3, ..options(exe) });
    for n in 0..9 {
        two_turns(&mut rig, n);
    }
    assert_eq!(rig.pool.figures().spawned, 3);
    rustix::process::kill_process(rig.pid(), rustix::process::Signal::KILL).unwrap();
    assert_eq!(rig.lost().0.len(), 3);
}

#[test]
fn a_large_value_goes_in_and_out() {
    let mut rig = rig();
    let id = rig.start(body("return ctx.signal('text')"));
    rig.begin(id);
    let text = format!("\"{}\"", "é".repeat(4 << 20));
    let done = rig.turn(id, resolved(1, &text));
    assert!(output(&done) == text);
}
