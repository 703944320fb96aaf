//! Effects and who does them: workers that claim and post, and an executor in the daemon.
//!
//! May not do any work: what is measured is everything else. Invariant: an effect counts when its
//! outcome is known to be durable.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::figures::{Bench, Samples};
use crate::server::Server;
use crate::steps::{Floors, create, gather, runtime};

/// Asks for one after the other.
const ROW: &str = "import { defineTask } from 'dormouse';
const work = defineTask('work', (args) => ({ kind: 'echo', title: `step ${args.n}` }));
export async function process(inputs, ctx) {
  for (let n = 0; n < (inputs?.count ?? Infinity); n++) await ctx.task(work, { n });
}";

/// An executor in the daemon that answers at once.
const ECHO: &str = "[executors.echo]\nkinds = [\"echo\"]\n";

const AT_ONCE: &[usize] = &[1, 64];

/// How many frames the daemon has made durable.
async fn frames(client: &mut Client) -> f64 {
    let metrics = client.get("/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    let name = "dormouse_commit_log_frames_total ";
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0.0, |count| count.trim().parse().unwrap())
}

/// Claims and posts until the time is up: microseconds of each effect.
async fn work(socket: PathBuf, worker: String, until: Instant) -> Vec<f64> {
    let (mut client, mut samples) = (Client::open(&socket).await, Vec::new());
    let wants = json!({ "worker": worker, "kinds": ["echo"], "waitMs": 1_000 }).to_string();
    while Instant::now() < until {
        let began = Instant::now();
        let given = client.post("/v1/tasks/claim", &wants).await;
        let given: Value = serde_json::from_slice(&given).unwrap();
        let Some(task) = given["tasks"].get(0) else { continue };
        let text = |name: &str| task[name].as_str().unwrap();
        let path = format!("/v1/runs/{}/tasks/{}/result", text("runId"), text("effectId"));
        let done = json!({ "epoch": task["epoch"], "status": "ok", "value": true });
        client.post(&path, &done.to_string()).await;
        samples.push(began.elapsed().as_secs_f64() * 1e6);
    }
    samples
}

pub(crate) fn outside(bench: &mut Bench, floors: &Floors) {
    let server = Server::start(&bench.dir().join("outside"));
    let entry = bench.file("row.js", ROW);
    let seconds = bench.pick(1, 5) as u64;
    let runtime = runtime();
    for count in AT_ONCE {
        let socket = server.socket();
        let (samples, rate, each) = runtime.block_on(async {
            let mut client = Client::open(&socket).await;
            for n in 0..*count {
                create(&mut client, &entry, &format!("outside-{count}-{n}")).await;
            }
            let (began, before) = (Instant::now(), frames(&mut client).await);
            let until = began + Duration::from_secs(seconds);
            let mut tasks = JoinSet::new();
            for n in 0..*count {
                tasks.spawn(work(socket.clone(), format!("worker-{n}"), until));
            }
            let (samples, rate) = gather(tasks, began).await;
            // A connection that was idle for so long is closed.
            let mut client = Client::open(&socket).await;
            let effects = rate * began.elapsed().as_secs_f64();
            let each = (frames(&mut client).await - before) / effects;
            // What is left is not for the next ones.
            for n in 0..*count {
                let run = format!("/v1/runs/outside-{count}-{n}/cancel");
                client.post(&run, "{}").await;
            }
            (samples, rate, each)
        });
        let what = format!("claim and post, {count} at once");
        bench.time(&what, &samples, Some(("a bare frame", floors.frame_micros)));
        let floor = Some(("commits of 64 producers", floors.commits));
        bench.rate(&format!("{what}, effects"), rate, floor);
        bench.ratio(&format!("{what}: syncs of one effect"), each);
    }
    server.stop();
}

/// Creates a run and waits for its end: microseconds of all its effects.
async fn to_the_end(socket: PathBuf, entry: PathBuf, run: String, effects: usize) -> Vec<f64> {
    let mut client = Client::open(&socket).await;
    let source = json!({ "entry": entry });
    let asked =
        json!({ "runId": run, "source": source, "inputs": { "count": effects } }).to_string();
    let began = Instant::now();
    client.post("/v1/runs", &asked).await;
    Client::open(&socket).await.follow(&run, 0).await.until(b"RUN_COMPLETED").await;
    vec![began.elapsed().as_secs_f64() * 1e6]
}

pub(crate) fn inside(bench: &mut Bench, floors: &Floors) {
    let config = bench.file("echo.toml", ECHO);
    let server = Server::configured(&bench.dir().join("inside-echo"), Some(&config));
    let entry = bench.file("row.js", ROW);
    let runtime = runtime();
    for count in AT_ONCE {
        let effects = bench.pick(200, 2_000) / if *count > 1 { 4 } else { 1 };
        let (took, frames) = runtime.block_on(row(&server.socket(), &entry, *count, effects));
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (each, all) = (effects as f64, (count * effects) as f64);
        let what = format!("executed in the daemon, {count} runs");
        let micros = Samples::of(vec![took / each]);
        bench.time(
            &format!("{what}: an effect"),
            &micros,
            Some(("a bare frame", floors.frame_micros)),
        );
        let floor = Some(("commits of 64 producers", floors.commits));
        bench.rate(&format!("{what}, effects"), all / (took / 1e6), floor);
        bench.ratio(&format!("{what}: syncs of one effect"), frames / all);
    }
    server.stop();
}

/// Some runs to their ends: microseconds, and frames.
async fn row(socket: &Path, entry: &Path, count: usize, effects: usize) -> (f64, f64) {
    let mut client = Client::open(socket).await;
    let (began, before) = (Instant::now(), frames(&mut client).await);
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let run = format!("inside-{count}-{n}");
        tasks.spawn(to_the_end(socket.to_owned(), entry.to_owned(), run, effects));
    }
    gather(tasks, began).await;
    let micros = began.elapsed().as_secs_f64() * 1e6;
    // A connection that was idle for so long is closed.
    let mut client = Client::open(socket).await;
    (micros, frames(&mut client).await - before)
}
