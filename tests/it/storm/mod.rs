//! A storm: runs driven over HTTP by many clients while their daemon is killed again and again.
//!
//! `DORMOUSE_STORM=full` plays it at full size: 200 runs of 20 steps, 16 clients, 50 kills.

mod checker;
pub(crate) mod client;
pub(crate) mod trouble;
mod yard;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cli::Cli;
use client::{Ack, Client, Drives as _};

const PROCESS: &str = r#"
import { defineTask } from "dormouse";
const work = defineTask("work", () => ({
  kind: "agent", title: "Work", agent: { name: "worker", prompt: "work" },
}));
export async function process(inputs, ctx) {
  let sum = 0;
  for (let i = 0; i < inputs.steps; i++) {
    const { n } = await ctx.task(work, { i });
    sum += n;
  }
  return { sum };
}
"#;

/// How hard it blows.
struct Size {
    runs: usize,
    steps: u64,
    clients: usize,
    kills: usize,
    /// Acknowledged posts between two kills.
    calm: usize,
}

pub(crate) fn full_size() -> bool {
    std::env::var_os("DORMOUSE_STORM").is_some_and(|size| size == "full")
}

fn size() -> Size {
    if full_size() {
        return Size { runs: 200, steps: 20, clients: 16, kills: 50, calm: 70 };
    }
    Size { runs: 24, steps: 8, clients: 8, kills: 10, calm: 16 }
}

/// A daemon of these tests.
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts one that is not ready yet.
    pub(crate) fn launch(cli: &Cli, before: &[&str]) -> Child {
        let mut command = cli.wrapped(before, &["serve"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts one and waits until it says that it is ready.
    pub(crate) fn start(cli: &Cli, before: &[&str]) -> Self {
        let mut child = Self::launch(cli, before);
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(said.read_line(&mut line).unwrap(), 0, "the daemon did not come up:\n{all}");
            all.push_str(&line);
            if line.trim() == "ready" {
                break;
            }
        }
        // What it says later must not block it.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit code, if it has ended by itself.
    #[allow(clippy::option_option, reason = "ended, and perhaps with a code")]
    fn has_ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().unwrap().map(|status| status.code())
    }

    /// Asks it to stop, and gives its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A test that fails leaves nobody behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn g1_nothing_acknowledged_is_lost_while_the_daemon_is_killed_again_and_again() {
    let (size, cli) = (size(), Cli::new());
    let entry = cli.file("process.js", PROCESS);
    fs::create_dir_all(cli.root()).unwrap();
    let runs: Vec<String> = (0..size.runs).map(|n| format!("run-{n:03}")).collect();
    let socket = cli.root().join(".dormouse/socket");
    let (acks, posted) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let first = Daemon::start(&cli, &[]);
    let (daemon, kills) = std::thread::scope(|scope| {
        let mut daemon = first;
        let clients: Vec<_> = (0..size.clients)
            .map(|n| {
                let (client, runs, entry) = (Client { socket: socket.clone() }, &runs, &entry);
                let (acks, posted, size) = (&acks, &posted, &size);
                scope.spawn(move || {
                    let log = drive(&client, n, size, runs, entry, posted);
                    acks.lock().unwrap().extend(log);
                })
            })
            .collect();
        let mut kills = 0;
        while !clients.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let next = (kills + 1) * size.calm;
            if kills < size.kills && posted.load(Ordering::Relaxed) >= next {
                kills += 1;
                daemon.kill();
                daemon = Daemon::start(&cli, &[]);
            }
            std::thread::yield_now();
        }
        (daemon, kills)
    });
    assert_eq!(kills, size.kills, "the storm was over too early");
    assert_eq!(daemon.stop(), Some(0));
    let acks = acks.into_inner().unwrap();
    println!("{} acknowledgements, {kills} kills", acks.len());
    checker::check(&cli.root(), &runs, size.steps, &acks);
    copies_are_valid(&cli, &runs);
}

/// One client: creates its share of the runs, then drives those and its neighbour's.
fn drive(
    client: &Client,
    n: usize,
    size: &Size,
    runs: &[String],
    entry: &Path,
    posted: &AtomicUsize,
) -> Vec<Ack> {
    let (mut log, mut dice) = (Vec::new(), n as u64 + 1);
    let mine = |owner: usize| runs.iter().skip(owner % size.clients).step_by(size.clients);
    for run in mine(n) {
        client.create(entry.to_str().unwrap(), run, size.steps, &mut log);
    }
    let mut left: BTreeSet<&String> = mine(n).collect();
    while !left.is_empty() {
        for run in left.clone() {
            let before = log.len();
            if client.go_on(run, &mut dice, &mut log) {
                left.remove(run);
            }
            posted.fetch_add(log.len() - before, Ordering::Relaxed);
        }
    }
    log
}

/// A run directory copied elsewhere is valid there, alone.
fn copies_are_valid(cli: &Cli, runs: &[String]) {
    let elsewhere: PathBuf = cli.path("elsewhere");
    for run in runs.iter().take(3) {
        let status = std::process::Command::new("cp")
            .arg("-a")
            .args([cli.root().join(run), elsewhere.clone()])
            .status()
            .unwrap();
        assert!(status.success());
        cli.run(&format!("journal verify {}", elsewhere.display())).ok();
        cli.run(&format!("run check {}", elsewhere.display())).ok();
        fs::remove_dir_all(&elsewhere).unwrap();
    }
}
