//! A host as a process of the operating system: started bare, watched, ended for sure.
//!
//! May not know what is said through its pipes. Invariant: a [`Process`] that is gone leaves no
//! process behind.

use crate::ground::limits::{HOST_KILL_AFTER_MS, TURN_CPU_MAX_MS};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

/// How much of what a host wrote to its standard error is kept.
const STDERR_TAIL_BYTES: usize = 4096;

/// How a host failed. It is dead in every case.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It could not be started.
    #[error("the process host could not be started: {0}")]
    Spawn(#[source] io::Error),
    /// It ended by itself.
    #[error("the process host ended: {status}{}", tail(.stderr))]
    Died {
        /// How.
        status: String,
        /// The end of what it wrote to its standard error.
        stderr: String,
    },
    /// It used more CPU time than allowed and could not be interrupted.
    #[error("the process host was killed after {cpu_ms} ms of CPU time")]
    Killed {
        /// How much.
        cpu_ms: u64,
    },
    /// It did not answer for too long, though it used no CPU time.
    #[error("the process host did not answer within {wall_ms} ms and was killed")]
    TimedOut {
        /// How long.
        wall_ms: u64,
    },
    /// It spoke another language.
    #[error("the process host sent something that is not a message: {0}")]
    Protocol(String),
    /// It was ended though nothing was wrong with what it said.
    #[error("the process host was ended: {0}")]
    Ended(&'static str),
}

impl HostError {
    /// Why it had to be killed, in a word; nothing if it ended by itself or never was.
    pub(super) const fn killed_for(&self) -> Option<&'static str> {
        match self {
            Self::Spawn(_) | Self::Died { .. } => None,
            Self::Killed { .. } => Some("cpu"),
            Self::TimedOut { .. } => Some("silent"),
            Self::Protocol(_) => Some("nonsense"),
            Self::Ended(_) => Some("unneeded"),
        }
    }
}

fn tail(stderr: &str) -> String {
    if stderr.trim().is_empty() { String::new() } else { format!(": {}", stderr.trim()) }
}

/// What came through a pipe cannot be read.
#[allow(clippy::needless_pass_by_value)] // Stands where errors are mapped.
pub(super) fn nonsense(error: io::Error) -> HostError {
    HostError::Protocol(error.to_string())
}

/// Why a host did not answer, as those see it who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// It could not be started: the machine's trouble, not the run's.
    Absent(String),
    /// It was killed: far beyond its CPU limit, in something that cannot be interrupted.
    Cpu(String),
    /// It died, hung or spoke nonsense.
    Died(String),
}

impl From<&HostError> for Silence {
    fn from(error: &HostError) -> Self {
        match error {
            HostError::Spawn(_) => Self::Absent(error.to_string()),
            HostError::Killed { .. } => Self::Cpu(error.to_string()),
            _ => Self::Died(error.to_string()),
        }
    }
}

/// A running host. Its pipes do not block.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pub(super) stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    stderr_tail: Vec<u8>,
    over: bool,
}

impl Process {
    /// Starts `exe host` with an empty environment, in a process group of its own. It ends at the
    /// latest with the calling thread.
    pub(super) fn spawn(exe: &Path) -> Result<(Self, ChildStdin), HostError> {
        #[allow(clippy::disallowed_methods)] // This is the place that starts processes.
        let mut child = Command::new(exe)
            .arg("host")
            .env_clear()
            .env("TZ", "UTC")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(HostError::Spawn)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(HostError::Spawn(io::Error::other("a pipe is missing")));
        };
        let unblocked = ioctl_fionbio(&stdin, true)
            .and_then(|()| ioctl_fionbio(&stdout, true))
            .and_then(|()| ioctl_fionbio(&stderr, true));
        let (stderr, stderr_tail) = (Some(stderr), Vec::new());
        let process = Self { child, stdout, stderr, stderr_tail, over: false };
        unblocked.map_err(|e| HostError::Spawn(e.into()))?;
        Ok((process, stdin))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the host says something, or `to` takes more, or `wake` is told something, or
    /// the time is over. What came to its standard error is kept on the way.
    pub(super) fn wait(
        &mut self,
        to: Option<BorrowedFd<'_>>,
        wake: Option<BorrowedFd<'_>>,
        millis: Option<u64>,
    ) -> Result<Ready, HostError> {
        let mut fds = vec![PollFd::new(&self.stdout, PollFlags::IN)];
        fds.extend(to.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)));
        fds.extend(wake.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.extend(self.stderr.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let timeout = millis.map(|millis| Timespec {
            tv_sec: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(nonsense(e.into())),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = |asked: bool| asked && ready.next().unwrap_or(false);
        let (stdout, _, woken) = (next(true), next(to.is_some()), next(wake.is_some()));
        if next(self.stderr.is_some()) {
            self.read_stderr();
        }
        Ok(Ready { stdout, woken })
    }

    fn read_stderr(&mut self) {
        let mut chunk = [0; STDERR_TAIL_BYTES];
        while let Some(stderr) = &self.stderr {
            match read(stderr, &mut chunk[..]) {
                Ok(n @ 1..) => self.stderr_tail.extend_from_slice(&chunk[..n]),
                Err(Errno::AGAIN | Errno::INTR) => break,
                // Closed: it would be ready for ever.
                Ok(0) | Err(_) => self.stderr = None,
            }
            let excess = self.stderr_tail.len().saturating_sub(STDERR_TAIL_BYTES);
            self.stderr_tail.drain(..excess);
        }
    }

    /// What became of a host whose stream ended.
    pub(super) fn died(&mut self) -> HostError {
        use std::os::unix::process::ExitStatusExt;
        // One that only closed its stream would never end by itself.
        let status = self.end();
        self.read_stderr();
        match status {
            Ok(status) if status.signal() == Some(rustix::process::Signal::XCPU.as_raw()) => {
                HostError::Killed { cpu_ms: TURN_CPU_MAX_MS + HOST_KILL_AFTER_MS }
            }
            status => HostError::Died {
                status: status.map_or_else(|e| e.to_string(), |s| s.to_string()),
                stderr: String::from_utf8_lossy(&self.stderr_tail).into_owned(),
            },
        }
    }

    /// Kills it, if it is not over, and waits until it is gone.
    pub(super) fn end(&mut self) -> io::Result<ExitStatus> {
        if !self.over {
            // Fails only when it is gone already.
            let _ = self.child.kill();
            self.over = true;
        }
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Whoever cared how it ended has asked.
        let _ = self.end();
    }
}

/// What there is to do.
pub(super) struct Ready {
    /// The host said something, or ended.
    pub(super) stdout: bool,
    /// Somebody wants to be heard.
    pub(super) woken: bool,
}
