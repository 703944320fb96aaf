//! What the storms share: a root with a daemon and clients that drive runs until all have ended.
//!
//! Knows nothing of the program but its doors.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::client::{Ack, Client, Drives as _};
use super::{Daemon, PROCESS};
use crate::cli::Cli;

/// Longer than anything here takes: whoever is still at it hangs.
const PATIENCE: Duration = Duration::from_mins(4);

/// Runs that are driven by clients.
pub(super) struct Crowd {
    pub(super) entry: PathBuf,
    pub(super) runs: Vec<String>,
    pub(super) steps: u64,
    pub(super) clients: usize,
    pub(super) acks: Mutex<Vec<Ack>>,
    /// Outcomes that were acknowledged so far.
    pub(super) posted: AtomicUsize,
    /// Clients that are done.
    done: AtomicUsize,
    /// The test is over: nobody is to go on.
    over: AtomicBool,
}

impl Crowd {
    pub(super) fn new(cli: &Cli, runs: usize, steps: u64, clients: usize) -> Self {
        fs::create_dir_all(cli.root()).unwrap();
        Self {
            entry: cli.file("process.js", PROCESS),
            runs: (0..runs).map(|n| format!("run-{n:03}")).collect(),
            steps,
            clients,
            acks: Mutex::default(),
            posted: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        }
    }

    /// Drives all runs to their ends while `meanwhile` is called again and again.
    pub(super) fn drive(&self, cli: &Cli, mut meanwhile: impl FnMut()) {
        let client = Client { socket: cli.root().join(".dormouse/socket") };
        let began = Instant::now();
        std::thread::scope(|scope| {
            let _over = Over(&self.over);
            for n in 0..self.clients {
                let client = client.clone();
                scope.spawn(move || self.one(&client, n));
            }
            while self.done.load(Ordering::Relaxed) < self.clients {
                assert!(began.elapsed() < PATIENCE, "the runs do not come to their ends");
                meanwhile();
                std::thread::yield_now();
            }
        });
    }

    fn one(&self, client: &Client, n: usize) {
        // Also when this thread panics: nobody waits for it then.
        let _done = Done(&self.done);
        let (mut log, mut dice) = (Vec::new(), n as u64 + 1);
        let entry = self.entry.to_str().unwrap();
        let mine: Vec<&String> = self.runs.iter().skip(n).step_by(self.clients).collect();
        let over = || self.over.load(Ordering::Relaxed);
        for run in &mine {
            while !over() && !client.try_to_create(entry, run, self.steps, &mut log) {}
        }
        let mut left: BTreeSet<&String> = mine.into_iter().collect();
        while !left.is_empty() && !over() {
            for run in left.clone() {
                let before = log.len();
                if client.go_on(run, &mut dice, &mut log) {
                    left.remove(run);
                }
                self.posted.fetch_add(log.len() - before, Ordering::Relaxed);
            }
        }
        self.acks.lock().unwrap().extend(log);
    }

    /// Stops the daemon and has everything judged.
    pub(super) fn judge(self, cli: &Cli, daemon: Daemon) {
        assert_eq!(daemon.stop(), Some(0));
        let acks = self.acks.into_inner().unwrap();
        super::checker::check(&cli.root(), &self.runs, self.steps, &acks);
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
