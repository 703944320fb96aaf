//! The daemon as a process of its own.
//!
//! May not configure it but for who executes effects: users get the same. Invariant: it is stopped
//! cleanly, or the benchmark stops.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::figures::EXE;

pub(crate) struct Server {
    child: Child,
    root: PathBuf,
    /// From starting the process until it said that it serves.
    pub(crate) ready_micros: f64,
}

impl Server {
    pub(crate) fn start(root: &Path) -> Self {
        Self::configured(root, None)
    }

    /// The same with a configuration.
    pub(crate) fn configured(root: &Path, config: Option<&Path>) -> Self {
        let began = Instant::now();
        let mut command = Command::new(EXE);
        command.args(["serve", "--json", "--runs-root"]).arg(root);
        command.env("DORMOUSE_TELEMETRY_LOG_FILTER", "error");
        command.envs(config.map(|file| ("DORMOUSE_CONFIG", file)));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("\"ready\":true"), "{line}");
        let ready_micros = began.elapsed().as_secs_f64() * 1e6;
        Self { child, root: root.to_owned(), ready_micros }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.root.join(".dormouse/socket")
    }

    /// Memory that the process holds, without its hosts.
    pub(crate) fn resident_bytes(&self) -> f64 {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let rollup = std::fs::read_to_string(path).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    }

    /// Stops it cleanly and says how long that took.
    pub(crate) fn stop(mut self) -> f64 {
        let began = Instant::now();
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        began.elapsed().as_secs_f64() * 1e6
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
