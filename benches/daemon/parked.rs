//! Many runs that wait: what they cost, how a daemon starts over them, how one is woken.
//!
//! May not park what could go on. Invariant: the runs were made by the daemon itself.

use std::path::PathBuf;
use std::time::Instant;

use tokio::task::JoinSet;

use crate::client::Client;
use crate::figures::{Bench, Samples};
use crate::server::Server;
use crate::steps::{DONE, result_path, runtime};

/// Every second one waits for time, the others for somebody outside.
const WAIT: &str = "import { defineTask } from 'dormouse';
const ask = defineTask('ask', (args) => ({ kind: 'agent', title: `step ${args.n}` }));
export async function process({ sleeps }, ctx) {
  if (sleeps) await ctx.sleep('30d');
  for (let n = 0; ; n++) await ctx.task(ask, { n });
}";

const CLIENTS: usize = 32;

fn name(n: usize) -> String {
    format!("parked-{n:07}")
}

async fn create(socket: PathBuf, entry: PathBuf, from: usize, count: usize) {
    let (mut client, entry) = (Client::open(&socket).await, entry.display());
    for n in (from..count).step_by(CLIENTS) {
        let (run, sleeps) = (name(n), n % 2 == 1);
        let source = format!(r#""source":{{"entry":"{entry}"}},"inputs":{{"sleeps":{sleeps}}}"#);
        client.post("/v1/runs", &format!(r#"{{"runId":"{run}",{source}}}"#)).await;
    }
}

/// How many runs: `--parked N`.
fn wanted(bench: &Bench) -> usize {
    let mut args = std::env::args().skip_while(|arg| arg != "--parked").skip(1);
    args.next().map_or_else(|| bench.pick(500, 100_000), |count| count.parse().unwrap())
}

pub(crate) fn many(bench: &mut Bench) {
    let (root, count) = (bench.dir().join("parked"), wanted(bench));
    let entry = bench.file("wait.js", WAIT);
    let server = Server::start(&root);
    let fresh = server.resident_bytes();
    let began = Instant::now();
    let socket = server.socket();
    runtime().block_on(async {
        let mut tasks = JoinSet::new();
        for n in 0..CLIENTS {
            tasks.spawn(create(socket.clone(), entry.clone(), n, count));
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let mut client = Client::open(&socket).await;
        client.post(&format!("/v1/runs/{}/iterate", name(count - 1)), "{}").await;
    });
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let runs = count as f64;
    bench.rate(
        &format!("create {count} runs that park"),
        runs / began.elapsed().as_secs_f64(),
        None,
    );
    let stopped = server.stop();
    bench.time("daemon: stopped after that", &Samples::of(vec![stopped]), None);
    let server = Server::start(&root);
    let ready = Samples::of(vec![server.ready_micros]);
    bench.time(&format!("daemon: ready over {count} parked runs"), &ready, None);
    let held = server.resident_bytes();
    bench.kilobytes("daemon: memory over parked runs", held);
    bench.ratio("bytes of memory for a parked run", (held - fresh) / runs);
    wake(bench, &server, count);
    server.stop();
}

/// Wakes runs one by one.
fn wake(bench: &mut Bench, server: &Server, count: usize) {
    let socket = server.socket();
    let wakes = bench.pick(50, 400).min(count / 2);
    let (mut posts, mut turns) = (Vec::new(), Vec::new());
    runtime().block_on(async {
        let mut client = Client::open(&socket).await;
        for n in 0..wakes {
            let run = name(n * (count / 2 / wakes) * 2);
            let began = Instant::now();
            client.post(&result_path(&run, 1), DONE).await;
            posts.push(began.elapsed().as_secs_f64() * 1e6);
            client.post(&result_path(&run, 2), DONE).await;
            turns.push(began.elapsed().as_secs_f64() * 1e6);
        }
    });
    bench.time("wake a parked run: its outcome is durable", &Samples::of(posts), None);
    bench.time("wake a parked run: its next step is", &Samples::of(turns), None);
}
