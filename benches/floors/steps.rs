//! Steps of a run and creating runs: what is bounded by the disk.
//!
//! May not post without the service. Invariant: every step that is timed is durable.

use dormouse::codecs::turn::{FromHost, ToHost};
use dormouse::services::runs::create::NewRun;
use dormouse::services::runs::hosts::{ChildHosts, Host, Hosts, Silence};
use dormouse::services::runs::post::Posting;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use crate::figures::{Bench, Samples, child_hosts, json};

/// Asks, is answered at once, asks again.
const LOOP: &str = "export async function process({ steps }, ctx) {
  for (let n = 0; n < steps; n++) await ctx.breakpoint({ title: 'go on', question: `step ${n}?` });
}";

/// Waits for somebody outside, again and again.
const ASK: &str = "import { defineTask } from 'dormouse';
const ask = defineTask('ask', (args) => ({ kind: 'agent', title: `step ${args.n}` }));
export async function process(inputs, ctx) {
  for (let n = 0; ; n++) await ctx.task(ask, { n });
}";

/// A 300-byte line, appended and synced.
pub(crate) fn sync_floor(bench: &mut Bench) -> f64 {
    let file = File::create(bench.dir().join("floor")).unwrap();
    let line = [b'x'; 300];
    let samples = Samples::take(bench.pick(500, 3000), |n| {
        file.write_at(&line, n as u64 * 300).unwrap();
        file.sync_data().unwrap();
    });
    bench.time("floor: append 300 B and fdatasync", &samples, None);
    samples.p50()
}

/// Notes when each turn of a process begins.
struct Watched(ChildHosts, Arc<Mutex<Vec<Instant>>>);

struct WatchedHost(Box<dyn Host>, Arc<Mutex<Vec<Instant>>>);

impl Hosts for Watched {
    fn program(&self) -> &std::path::Path {
        self.0.program()
    }

    fn spawn(&self) -> Result<Box<dyn Host>, Silence> {
        Ok(Box::new(WatchedHost(self.0.spawn()?, Arc::clone(&self.1))))
    }
}

impl Host for WatchedHost {
    fn call(&mut self, message: &ToHost, cpu: u64, wall: u64) -> Result<FromHost, Silence> {
        self.1.lock().unwrap().push(Instant::now());
        self.0.call(message, cpu, wall)
    }
}

/// Steps of one warm instance: an outcome and the next request, each with its own sync.
pub(crate) fn warm(bench: &mut Bench, sync: f64) {
    let steps = bench.pick(1_000, 10_050);
    let turns = Arc::new(Mutex::new(Vec::new()));
    let runs = bench.runs("warm", Arc::new(Watched(child_hosts(), Arc::clone(&turns))));
    let inputs = format!(r#"{{"steps":{steps}}}"#);
    runs.create(&bench.new_run("loop", LOOP, &inputs, true)).unwrap();
    turns.lock().unwrap().clear();
    let mut run = runs.open("loop").unwrap();
    run.go_on().unwrap();
    assert!(run.state().end.is_some() && run.records().len() > 2 * steps);
    run.close().unwrap();
    let between: Vec<f64> =
        turns.lock().unwrap().windows(2).map(|w| (w[1] - w[0]).as_secs_f64() * 1e6).collect();
    let all = Samples::of(between[2..].to_vec());
    bench.time("direct, warm: outcome + turn + next request", &all, Some(("2 syncs", 2.0 * sync)));
    // The tenth percentile is of the step; medians are of what else the disk was doing.
    let window = bench.pick(100, 400);
    let early = Samples::of(between[10..10 + window].to_vec());
    let late = Samples::of(between[between.len() - window..].to_vec());
    bench.ratio(&format!("growth: step {steps} against step 10"), late.at(10) / early.at(10));
}

/// Steps by commands of their own, as the CLI does them: open, replay, one thing, close.
pub(crate) fn cold(bench: &mut Bench, sync: f64) {
    let runs = bench.runs("cold", Arc::new(child_hosts()));
    runs.create(&bench.new_run("ask", ASK, "null", false)).unwrap();
    let go_on = || {
        let mut run = runs.open("ask").unwrap();
        run.go_on().unwrap();
        run.close().unwrap();
    };
    go_on();
    let (mut posts, mut turns) = (Vec::new(), Vec::new());
    for n in 1..=bench.pick(30, 100) {
        let posting = Posting::ok(format!("e{n:04}").parse().unwrap(), json(r#"{"done":true}"#));
        let began = Instant::now();
        runs.post("ask", posting).unwrap();
        let posted = Instant::now();
        go_on();
        posts.push((posted - began).as_secs_f64() * 1e6);
        turns.push(posted.elapsed().as_secs_f64() * 1e6);
    }
    let floor = Some(("1 sync", sync));
    bench.time("direct, cold: post (open, append, close)", &Samples::of(posts), floor);
    bench.time("direct, cold: iterate (open, replay, append, close)", &Samples::of(turns), floor);
}

/// Creating runs against making one durable file.
pub(crate) fn create(bench: &mut Bench) {
    let top = File::open(bench.dir()).unwrap();
    let dir = bench.dir().to_owned();
    let bare = Samples::take(bench.pick(100, 500), |n| {
        let (temporary, name) = (dir.join("t"), dir.join(format!("f{n}")));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).open(&temporary).unwrap();
        file.write_all(&[b'x'; 300]).unwrap();
        file.sync_all().unwrap();
        std::fs::rename(&temporary, &name).unwrap();
        top.sync_all().unwrap();
    });
    bench.time("floor: create, fsync, rename, fsync directory", &bare, None);
    let runs = bench.runs("create", Arc::new(child_hosts()));
    let floor = Some(("one durable file", bare.p50()));
    let samples = Samples::take(bench.pick(50, 300), |_| {
        runs.create(&NewRun::default()).unwrap();
    });
    bench.time("create a bare run", &samples, floor);
    let new = bench.new_run("made", ASK, "null", false);
    let samples = Samples::take(bench.pick(30, 150), |n| {
        let id = format!("made-{n}").parse().unwrap();
        runs.create(&NewRun { run_id: Some(id), ..new.clone() }).unwrap();
    });
    bench.time("create a run with its process (pinned, loaded once)", &samples, floor);
}
