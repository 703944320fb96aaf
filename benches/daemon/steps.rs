//! Steps of many runs at once: an outcome in, a turn, the next request out, all durable.
//!
//! May not know effects before they are requested, only their names. Invariant: a step is counted
//! when its next request is known to be durable.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dormouse::daemon::Daemon;
use dormouse::daemon::config::Config;
use dormouse::ground::id::RunId;
use dormouse::services::manager::{Flow, Handle};
use dormouse::services::runs::post::Posting;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::figures::{Bench, Samples, child_hosts, json};
use crate::server::Server;

/// Waits for somebody outside, again and again.
const ASK: &str = "import { defineTask } from 'dormouse';
const ask = defineTask('ask', (args) => ({ kind: 'agent', title: `step ${args.n}` }));
export async function process(inputs, ctx) {
  for (let n = 0; ; n++) await ctx.task(ask, { n });
}";

/// How many runs go on at the same time.
const AT_ONCE: &[usize] = &[1, 16, 64, 256];

/// What this machine can do at best.
pub(crate) struct Floors {
    pub(crate) frame_micros: f64,
    pub(crate) commits: f64,
}

/// How a client learns of the next request.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// It knows the name and posts: the answer comes after both records are durable.
    Posts,
    /// It follows the run.
    Follows,
    /// It asks the run to iterate, which writes the files of the task as well.
    Iterates,
}

const WAYS: &[(Way, &str)] =
    &[(Way::Posts, "post"), (Way::Follows, "post, follow"), (Way::Iterates, "post, iterate")];

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Creates a run by the socket and waits until it rests.
pub(crate) async fn create(client: &mut Client, entry: &Path, run: &str) {
    let entry = entry.display();
    let body = format!(r#"{{"runId":"{run}","source":{{"entry":"{entry}"}}}}"#);
    client.post("/v1/runs", &body).await;
    client.post(&format!("/v1/runs/{run}/iterate"), "{}").await;
}

pub(crate) fn result_path(run: &str, n: usize) -> String {
    format!("/v1/runs/{run}/tasks/e{n:04}/result")
}

pub(crate) const DONE: &str = r#"{"status":"ok","value":{"done":true}}"#;

/// One run, driven until the time is up: microseconds of each step.
async fn drive(socket: PathBuf, run: String, way: Way, until: Instant) -> Vec<f64> {
    let mut client = Client::open(&socket).await;
    let mut follower = match way {
        Way::Follows => Some(Client::open(&socket).await.follow(&run, 2).await),
        _ => None,
    };
    let (mut samples, mut n) = (Vec::new(), 1);
    while Instant::now() < until {
        let began = Instant::now();
        client.post(&result_path(&run, n), DONE).await;
        n += 1;
        match (&mut follower, way) {
            (Some(follower), _) => {
                follower.until(format!("\"effectId\":\"e{n:04}\",\"key\"").as_bytes()).await;
            }
            (None, Way::Iterates) => {
                client.post(&format!("/v1/runs/{run}/iterate"), "{}").await;
            }
            _ => {}
        }
        samples.push(began.elapsed().as_secs_f64() * 1e6);
    }
    samples
}

/// Lets tasks work until the time is up; gives their samples and how many a second.
pub(crate) async fn gather(mut tasks: JoinSet<Vec<f64>>, began: Instant) -> (Samples, f64) {
    let mut all = Vec::new();
    while let Some(samples) = tasks.join_next().await {
        all.extend(samples.unwrap());
    }
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = all.len() as f64 / began.elapsed().as_secs_f64();
    (Samples::of(all), rate)
}

fn show(bench: &mut Bench, what: &str, samples: &Samples, rate: f64, floors: &Floors) {
    bench.time(what, samples, Some(("a bare frame", floors.frame_micros)));
    bench.rate(&format!("{what}, steps"), rate, Some(("commits of 64 producers", floors.commits)));
}

pub(crate) fn over_the_socket(bench: &mut Bench, floors: &Floors) {
    let server = Server::start(&bench.dir().join("steps"));
    let entry = bench.file("steps.js", ASK);
    let seconds = bench.pick(1, 5) as u64;
    let runtime = runtime();
    for (way, name) in WAYS {
        for count in AT_ONCE {
            let socket = server.socket();
            let (samples, rate) = runtime.block_on(async {
                let mut client = Client::open(&socket).await;
                let run = |n| format!("{}-{count}-{n}", name.replace(", ", "-"));
                for n in 0..*count {
                    create(&mut client, &entry, &run(n)).await;
                }
                let began = Instant::now();
                let until = began + Duration::from_secs(seconds);
                let mut tasks = JoinSet::new();
                for n in 0..*count {
                    tasks.spawn(drive(socket.clone(), run(n), *way, until));
                }
                gather(tasks, began).await
            });
            show(bench, &format!("{name}, {count} at once"), &samples, rate, floors);
        }
    }
    let resident = server.resident_bytes();
    bench.kilobytes("daemon: memory after that", resident);
    let stopped = server.stop();
    bench.time("daemon: stopped after that", &Samples::of(vec![stopped]), None);
}

async fn drive_here(handle: Handle, run: RunId, until: Instant) -> Vec<f64> {
    let (mut samples, mut n) = (Vec::new(), 1);
    while Instant::now() < until {
        let began = Instant::now();
        let effect = format!("e{n:04}").parse().unwrap();
        let posting = Posting::ok(effect, json(r#"{"done":true}"#));
        let post = move |open: &mut dormouse::services::runs::open::OpenRun| open.post(posting);
        handle.deed(&run, "operator:bench", Flow::Outcome, post).await.unwrap();
        samples.push(began.elapsed().as_secs_f64() * 1e6);
        n += 1;
    }
    samples
}

/// The same without the door.
pub(crate) fn in_process(bench: &mut Bench, floors: &Floors) {
    let runs = bench.runs("inside", std::sync::Arc::new(child_hosts()));
    let daemon = Daemon::start(&runs, &Config::default()).unwrap();
    let handle = daemon.handle();
    let seconds = bench.pick(1, 5) as u64;
    let runtime = runtime();
    for count in AT_ONCE {
        let new = bench.new_run(&format!("inside-{count}"), ASK, "null", false);
        let handle = handle.clone();
        let (samples, rate) = runtime.block_on(async {
            let mut ids = Vec::new();
            for n in 0..*count {
                let id: RunId = format!("inside-{count}-{n}").parse().unwrap();
                let mut new = new.clone();
                new.run_id = Some(id.clone());
                handle.create(new, "operator:bench").await.unwrap();
                handle.iterate(&id).await.unwrap();
                ids.push(id);
            }
            let began = Instant::now();
            let until = began + Duration::from_secs(seconds);
            let mut tasks = JoinSet::new();
            for id in ids {
                tasks.spawn(drive_here(handle.clone(), id, until));
            }
            gather(tasks, began).await
        });
        show(bench, &format!("in process, {count} at once"), &samples, rate, floors);
    }
    daemon.stop().unwrap();
}
