//! What befalls a town: daemons, hosts and workers are killed, workers are stopped and go on.
//!
//! Knows processes, and nothing of what they do. Invariant: what was killed is started again, and
//! nobody is left behind.

use rustix::process::{Pid, Signal, kill_process};

use super::Broken;
use super::dice::Dice;
use super::people::TTL_MS;
use super::yard::Yard;
use crate::ground::clock::{Clock as _, SystemClock, monotonic_micros};
use crate::ports::process;
use crate::shells::trial::Trial;

/// A stopped worker goes on after its leases have lapsed: time to live, half of it as a grace, and
/// some more.
const STOPPED_MICROS: u64 = (TTL_MS * 3 / 2 + 1_000) * 1_000;

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
    child: Trial,
    name: String,
    /// Since when.
    stopped: Option<u64>,
}

/// The processes of a town.
pub(super) struct Weather<'a> {
    yard: &'a Yard,
    script: &'a str,
    dice: Dice,
    daemon: Option<Trial>,
    workers: Vec<Worker>,
    names: usize,
    pub(super) toll: Toll,
    /// When the daemon that runs was started, as journals write it.
    pub(super) since: String,
}

impl<'a> Weather<'a> {
    pub(super) fn new(yard: &'a Yard, script: &'a str, seed: u64) -> Result<Self, Broken> {
        let dice = Dice::of(seed, "weather");
        let (toll, workers, names) = (Toll::default(), Vec::new(), 0);
        let since = String::new();
        let mut all = Self { yard, script, dice, daemon: None, workers, names, toll, since };
        all.begin()?;
        for _ in 0..3 {
            all.hire()?;
        }
        Ok(all)
    }

    /// A daemon, which has to come up.
    fn begin(&mut self) -> Result<(), Broken> {
        self.since = SystemClock.now().to_string();
        let daemon = self.yard.serve()?;
        self.daemon = Some(daemon.map_err(|said| Broken(format!("no daemon comes up: {said}")))?);
        Ok(())
    }

    /// One more worker, under a new name.
    fn hire(&mut self) -> Result<(), Broken> {
        self.names += 1;
        let name = format!("worker-{}", self.names);
        let child = self.work(&name)?;
        self.workers.push(Worker { child, name, stopped: None });
        Ok(())
    }

    fn work(&self, name: &str) -> Result<Trial, Broken> {
        let words = ["worker", "run", "--kind", "chore", "--concurrency", "3", "--name", name];
        let ttl = format!("{TTL_MS}ms");
        let args = [&words[..], &["--ttl", &ttl, "--", "bash", self.script]].concat();
        Ok(self.yard.program().start(&args, "")?)
    }

    /// Something bad. In a lull the daemon itself is left alone, so that leases can lapse.
    pub(super) fn strike(&mut self, lull: bool) -> Result<(), Broken> {
        match self.dice.below(10) {
            0..=3 if !lull => self.kill_daemon(),
            4 if !lull => {
                self.kill_worker()?;
                self.kill_daemon()
            }
            5 | 6 => {
                self.kill_host();
                Ok(())
            }
            7 => {
                self.stop_worker();
                Ok(())
            }
            _ => self.kill_worker(),
        }
    }

    fn kill_daemon(&mut self) -> Result<(), Broken> {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
            self.toll.daemons += 1;
        }
        while self.dice.one_in(3) {
            // Somewhere between its beginning and being ready.
            let child = self.yard.launch(None)?;
            self.dice.pause(60);
            child.kill();
            self.toll.daemons += 1;
            self.toll.recovering += 1;
        }
        self.begin()
    }

    fn kill_worker(&mut self) -> Result<(), Broken> {
        let n = self.dice.index(self.workers.len());
        let worker = self.workers.remove(n);
        worker.child.kill();
        self.toll.workers += 1;
        if self.dice.one_in(2) {
            // Nobody of this name comes back.
            return self.hire();
        }
        let child = self.work(&worker.name)?;
        self.workers.push(Worker { child, name: worker.name, stopped: None });
        Ok(())
    }

    /// One of the daemon's hosts. Its runners are its children as well, and live.
    fn kill_host(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        let is_host = |pid: &u32| process::command_line(*pid).ends_with(b"\0host\0");
        let hosts = process::children(daemon.pid()).into_iter().filter(is_host);
        let hosts: Vec<Pid> = hosts.filter_map(|pid| Pid::from_raw(pid.cast_signed())).collect();
        // It may have ended by itself.
        let killed =
            self.dice.one_of(&hosts).is_some_and(|h| kill_process(*h, Signal::KILL).is_ok());
        self.toll.hosts += usize::from(killed);
    }

    fn stop_worker(&mut self) {
        let n = self.dice.index(self.workers.len());
        let worker = &mut self.workers[n];
        if worker.stopped.is_none() {
            worker.child.signal(Signal::STOP);
            worker.stopped = Some(monotonic_micros());
            self.toll.stopped += 1;
        }
    }

    /// Lets stopped workers go on whose time is over, and starts those again that gave up.
    pub(super) fn tend(&mut self) -> Result<(), Broken> {
        for n in 0..self.workers.len() {
            let worker = &mut self.workers[n];
            let is_over = |since: u64| monotonic_micros().saturating_sub(since) > STOPPED_MICROS;
            if worker.stopped.is_some_and(is_over) {
                worker.child.signal(Signal::CONT);
                worker.stopped = None;
            }
            if worker.child.ended().is_some() {
                let child = self.work(&self.workers[n].name)?;
                (self.workers[n].child, self.workers[n].stopped) = (child, None);
            }
        }
        Ok(())
    }

    /// The last daemon of the storm: everybody is there, and nothing more happens.
    pub(super) fn calm(&mut self) -> Result<(), Broken> {
        self.kill_daemon()?;
        self.tend()
    }

    /// Everybody ends. Gives the exit code of the daemon.
    pub(super) fn end(self) -> i32 {
        drop(self.workers);
        self.daemon.map_or(-1, Trial::stop)
    }
}
