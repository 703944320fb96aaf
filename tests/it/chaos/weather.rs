//! What befalls a town: daemons, hosts and workers are killed, workers are stopped and go on.
//!
//! Knows processes, and nothing of what they do. Invariant: what was killed is started again, and
//! nobody is left behind.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use dormouse::ground::clock::{Clock as _, SystemClock};
use rustix::process::{Pid, Signal, kill_process};

use super::dice::Dice;
use super::people::TTL_MS;
use crate::cli::Cli;
use crate::storm::Daemon;
use crate::storm::trouble::children_of;

/// A stopped worker goes on after its leases have lapsed: time to live, half of it as a grace, and
/// some more.
const STOPPED_FOR: Duration = Duration::from_millis(TTL_MS * 3 / 2 + 1_000);

/// How many of each were killed.
#[derive(Debug, Default)]
pub(super) struct Toll {
    pub(super) daemons: usize,
    /// Of those, before they were ready.
    pub(super) recovering: usize,
    pub(super) hosts: usize,
    pub(super) workers: usize,
    /// Stopped, and let go on.
    pub(super) stopped: usize,
}

impl Toll {
    pub(super) fn kills(&self) -> usize {
        self.daemons + self.hosts + self.workers
    }
}

struct Worker {
    child: Child,
    name: String,
    stopped: Option<Instant>,
}

/// The processes of a town.
pub(super) struct Weather<'a> {
    cli: &'a Cli,
    before: Vec<&'a str>,
    script: &'a str,
    dice: Dice,
    daemon: Option<Daemon>,
    workers: Vec<Worker>,
    names: usize,
    pub(super) toll: Toll,
    /// When the daemon that runs was started, as journals write it.
    pub(super) since: String,
}

impl<'a> Weather<'a> {
    pub(super) fn new(cli: &'a Cli, before: Vec<&'a str>, script: &'a str, seed: u64) -> Self {
        let daemon = Some(Daemon::start(cli, &before));
        let dice = Dice::of(seed, "weather");
        let (toll, workers, names) = (Toll::default(), Vec::new(), 0);
        let since = String::new();
        let mut all = Self { cli, before, script, dice, daemon, workers, names, toll, since };
        for _ in 0..3 {
            all.hire();
        }
        all
    }

    /// One more worker, under a new name.
    fn hire(&mut self) {
        self.names += 1;
        let name = format!("worker-{}", self.names);
        let child = self.work(&name);
        self.workers.push(Worker { child, name, stopped: None });
    }

    fn work(&self, name: &str) -> Child {
        let words = ["worker", "run", "--kind", "chore", "--concurrency", "3", "--name", name];
        let ttl = format!("{TTL_MS}ms");
        let args = [&words[..], &["--ttl", &ttl, "--", "bash", self.script]].concat();
        let mut command = self.cli.command(&args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Something bad. In a lull the daemon itself is left alone, so that leases can lapse.
    pub(super) fn strike(&mut self, lull: bool) {
        match self.dice.below(10) {
            0..=3 if !lull => self.kill_daemon(),
            4 if !lull => {
                self.kill_worker();
                self.kill_daemon();
            }
            5 | 6 => self.kill_host(),
            7 => self.stop_worker(),
            _ => self.kill_worker(),
        }
    }

    fn kill_daemon(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
            self.toll.daemons += 1;
        }
        while self.dice.one_in(3) {
            // Somewhere between its beginning and being ready.
            let mut child = Daemon::launch(self.cli, &self.before);
            self.dice.pause(60);
            child.kill().unwrap();
            child.wait().unwrap();
            self.toll.daemons += 1;
            self.toll.recovering += 1;
        }
        self.since = SystemClock.now().to_string();
        self.daemon = Some(Daemon::start(self.cli, &self.before));
    }

    fn kill_worker(&mut self) {
        let n = self.pick();
        let worker = &mut self.workers[n];
        worker.child.kill().unwrap();
        worker.child.wait().unwrap();
        self.toll.workers += 1;
        if self.dice.one_in(2) {
            // Nobody of this name comes back.
            self.workers.remove(n);
            self.hire();
        } else {
            self.revive(n);
        }
    }

    fn pick(&mut self) -> usize {
        usize::try_from(self.dice.below(self.workers.len() as u64)).unwrap()
    }

    fn revive(&mut self, n: usize) {
        let child = self.work(&self.workers[n].name);
        self.workers[n].child = child;
        self.workers[n].stopped = None;
    }

    /// One of the daemon's hosts. Its runners are its children as well, and live.
    fn kill_host(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let is_host = |pid: &Pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            line.is_ok_and(|line| line.ends_with(b"\0host\0"))
        };
        let hosts: Vec<Pid> = children_of(daemon.pid()).into_iter().filter(is_host).collect();
        if hosts.is_empty() {
            return;
        }
        let host = hosts[usize::try_from(self.dice.below(hosts.len() as u64)).unwrap()];
        // It may have ended by itself.
        if kill_process(host, Signal::KILL).is_ok() {
            self.toll.hosts += 1;
        }
    }

    fn stop_worker(&mut self) {
        let n = self.pick();
        let worker = &mut self.workers[n];
        if worker.stopped.is_none() {
            signal(&worker.child, Signal::STOP);
            worker.stopped = Some(Instant::now());
            self.toll.stopped += 1;
        }
    }

    /// Lets stopped workers go on whose time is over, and starts those again that gave up.
    pub(super) fn tend(&mut self) {
        for n in 0..self.workers.len() {
            let worker = &mut self.workers[n];
            if worker.stopped.is_some_and(|since| since.elapsed() > STOPPED_FOR) {
                signal(&worker.child, Signal::CONT);
                worker.stopped = None;
            }
            if worker.child.try_wait().unwrap().is_some() {
                self.revive(n);
            }
        }
    }

    /// The last daemon of the storm: everybody is there, and nothing more happens.
    pub(super) fn calm(&mut self) {
        self.kill_daemon();
        self.tend();
    }

    pub(super) fn daemon(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::pid)
    }

    /// Everybody ends. Gives the exit code of the daemon.
    pub(super) fn end(mut self) -> Option<i32> {
        for worker in &mut self.workers {
            end(&mut worker.child);
        }
        self.workers.clear();
        self.daemon.take().and_then(Daemon::stop)
    }
}

impl Drop for Weather<'_> {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            end(&mut worker.child);
        }
    }
}

/// A stopped process dies of this as well.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn signal(child: &Child, signal: Signal) {
    // It may have ended by itself.
    let _ = kill_process(Pid::from_child(child), signal);
}
