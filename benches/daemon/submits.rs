//! Runs from their request to their end.
//!
//! May not keep a run's process warm for the next. Invariant: a run counts when its end is durable.

use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::task::JoinSet;

use crate::client::Client;
use crate::figures::{Bench, Samples};
use crate::server::Server;
use crate::steps::runtime;

/// Asks once and is answered at once.
const ONCE: &str = "export async function process(inputs, ctx) {
  await ctx.breakpoint({ title: 'go on', question: 'once?' });
}";

const CLIENTS: usize = 64;

/// Creates runs, waits for the end of each if asked to, and gives microseconds of each.
async fn submit(
    socket: PathBuf,
    entry: PathBuf,
    name: String,
    count: usize,
    ends: bool,
) -> Vec<f64> {
    let mut client = Client::open(&socket).await;
    let mut samples = Vec::new();
    for n in 0..count {
        let (run, entry) = (format!("{name}-{n}"), entry.display());
        let began = Instant::now();
        let source = format!(r#""source":{{"entry":"{entry}"}},"nonInteractive":true"#);
        let source = if ends { source } else { r#""tags":[]"#.to_owned() };
        client.post("/v1/runs", &format!(r#"{{"runId":"{run}",{source}}}"#)).await;
        if ends {
            let report = client.post(&format!("/v1/runs/{run}/iterate"), "{}").await;
            let report = String::from_utf8_lossy(&report);
            assert!(report.contains(r#""status":"completed""#), "{report}");
        }
        samples.push(began.elapsed().as_secs_f64() * 1e6);
    }
    samples
}

fn all(socket: &Path, entry: &Path, name: &str, each: usize, ends: bool) -> (Samples, f64) {
    runtime().block_on(async {
        let mut tasks = JoinSet::new();
        let began = Instant::now();
        for n in 0..CLIENTS {
            let (socket, entry) = (socket.to_owned(), entry.to_owned());
            tasks.spawn(submit(socket, entry, format!("{name}-{n}"), each, ends));
        }
        let mut samples = Vec::new();
        while let Some(some) = tasks.join_next().await {
            samples.extend(some.unwrap());
        }
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let rate = samples.len() as f64 / began.elapsed().as_secs_f64();
        (Samples::of(samples), rate)
    })
}

pub(crate) fn to_the_end(bench: &mut Bench) {
    let server = Server::start(&bench.dir().join("submits"));
    let entry = bench.file("once.js", ONCE);
    let each = bench.pick(10, 60);
    let (samples, rate) = all(&server.socket(), &entry, "bare", each, false);
    bench.time("create a bare run, 64 at once", &samples, None);
    bench.rate("create bare runs, 64 at once", rate, None);
    let (samples, rate) = all(&server.socket(), &entry, "once", each, true);
    bench.time("one-step runs from request to end, 64 at once", &samples, None);
    bench.rate("one-step runs, 64 at once", rate, None);
    let stopped = server.stop();
    bench.time("daemon: stopped after that", &Samples::of(vec![stopped]), None);
}
