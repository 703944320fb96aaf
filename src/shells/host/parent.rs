//! The outside of a host process: starts it, talks to it, kills it when it goes too far.
//!
//! May not know what the process computes. Invariant: a [`Host`] that is gone leaves no process
//! behind.

use super::protocol::{FromHost, ToHost, decode_message, encode_frame, frame_length};
use crate::ground::clock::monotonic_micros;
use crate::ground::limits::HOST_KILL_AFTER_MS;
use crate::ports::process::cpu_millis;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};
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
    Spawn(#[source] std::io::Error),
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
}

fn tail(stderr: &str) -> String {
    if stderr.trim().is_empty() { String::new() } else { format!(": {}", stderr.trim()) }
}

/// A child process that holds at most one instance.
#[derive(Debug)]
pub struct Host {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    stderr_tail: Vec<u8>,
    dead: bool,
}

impl Host {
    /// Starts `exe host` with an empty environment, in a process group of its own.
    ///
    /// # Errors
    /// [`HostError::Spawn`].
    pub fn spawn(exe: &Path) -> Result<Self, HostError> {
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
            return Err(HostError::Spawn(std::io::Error::other("a pipe is missing")));
        };
        let host = Self { child, stdin, stdout, stderr, stderr_tail: Vec::new(), dead: false };
        let blocking = ioctl_fionbio(&host.stdin, true)
            .and_then(|()| ioctl_fionbio(&host.stdout, true))
            .and_then(|()| ioctl_fionbio(&host.stderr, true));
        blocking.map_err(|e| HostError::Spawn(e.into()))?;
        Ok(host)
    }

    /// The process id of the child.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one message and waits for the answer. Kills the host when it uses more than
    /// `cpu_max_ms` and [`HOST_KILL_AFTER_MS`] of CPU time for it, or takes `wall_max_ms`.
    ///
    /// # Errors
    /// The host is dead.
    pub fn call(
        &mut self,
        message: &ToHost,
        cpu_max_ms: u64,
        wall_max_ms: u64,
    ) -> Result<FromHost, HostError> {
        if self.dead {
            return Err(self.died());
        }
        let out = encode_frame(message).map_err(|e| HostError::Protocol(e.to_string()))?;
        let budget = Budget::begin(self.pid(), cpu_max_ms, wall_max_ms);
        let answer = self.exchange(&out, &budget);
        if answer.is_err() {
            self.kill();
        }
        answer
    }

    fn exchange(&mut self, out: &[u8], budget: &Budget) -> Result<FromHost, HostError> {
        let mut sent = 0;
        let mut received = Vec::new();
        loop {
            let wait = budget.left(self.pid())?;
            let ready = self.wait(sent < out.len(), wait)?;
            if ready.stderr {
                self.read_stderr();
            }
            if ready.stdin {
                match write(&self.stdin, &out[sent..]) {
                    Ok(n) => sent += n,
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    // It closed its input: what it said before counts more.
                    Err(_) => sent = out.len(),
                }
            }
            if ready.stdout {
                if !self.read_stdout(&mut received)? {
                    return Err(self.died());
                }
                if let Some(answer) = complete(&received)? {
                    return Ok(answer);
                }
            }
        }
    }

    fn wait(&self, to_send: bool, millis: u64) -> Result<Ready, HostError> {
        let mut fds = vec![
            PollFd::new(&self.stdout, PollFlags::IN),
            PollFd::new(&self.stderr, PollFlags::IN),
        ];
        if to_send {
            fds.push(PollFd::new(&self.stdin, PollFlags::OUT));
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
        };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(HostError::Protocol(e.to_string())),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        let stdin = ready.get(2).copied().unwrap_or(false);
        Ok(Ready { stdout: ready[0], stderr: ready[1], stdin })
    }

    /// Takes what is there; false at the end of the stream.
    fn read_stdout(&self, received: &mut Vec<u8>) -> Result<bool, HostError> {
        let mut chunk = [0; 16 * 1024];
        match read(&self.stdout, &mut chunk[..]) {
            Ok(0) => Ok(false),
            Ok(n) => {
                received.extend_from_slice(&chunk[..n]);
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(e) => Err(HostError::Protocol(e.to_string())),
        }
    }

    fn read_stderr(&mut self) {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = read(&self.stderr, &mut chunk[..]) {
            self.stderr_tail.extend_from_slice(&chunk[..n]);
            let excess = self.stderr_tail.len().saturating_sub(STDERR_TAIL_BYTES);
            self.stderr_tail.drain(..excess);
        }
    }

    /// What became of a host whose stream ended.
    fn died(&mut self) -> HostError {
        use std::os::unix::process::ExitStatusExt;
        self.dead = true;
        let status = self.child.wait();
        self.read_stderr();
        let cpu_killed =
            |status: &ExitStatus| status.signal() == Some(rustix::process::Signal::XCPU.as_raw());
        match status {
            Ok(status) if cpu_killed(&status) => {
                let cpu_ms = crate::ground::limits::TURN_CPU_MAX_MS + HOST_KILL_AFTER_MS;
                HostError::Killed { cpu_ms }
            }
            status => HostError::Died {
                status: status.map_or_else(|e| e.to_string(), |s| s.to_string()),
                stderr: String::from_utf8_lossy(&self.stderr_tail).into_owned(),
            },
        }
    }

    fn kill(&mut self) {
        if !self.dead {
            // Either fails only when the process is gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.dead = true;
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Which pipes can be used now.
struct Ready {
    stdout: bool,
    stderr: bool,
    stdin: bool,
}

/// The answer, once all of it has arrived.
fn complete(received: &[u8]) -> Result<Option<FromHost>, HostError> {
    let protocol = |e: std::io::Error| HostError::Protocol(e.to_string());
    let Some((head, body)) = received.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = frame_length(*head).map_err(protocol)?;
    if body.len() > length {
        return Err(HostError::Protocol("more than one answer".to_owned()));
    }
    if body.len() < length {
        return Ok(None);
    }
    decode_message(body).map(Some).map_err(protocol)
}

/// How much a call may use.
struct Budget {
    cpu_before_ms: u64,
    cpu_max_ms: u64,
    began_micros: u64,
    wall_max_ms: u64,
}

impl Budget {
    fn begin(pid: u32, cpu_max_ms: u64, wall_max_ms: u64) -> Self {
        Self {
            cpu_before_ms: cpu_millis(pid).unwrap_or(0),
            cpu_max_ms: cpu_max_ms.saturating_add(HOST_KILL_AFTER_MS),
            began_micros: monotonic_micros(),
            wall_max_ms,
        }
    }

    /// Milliseconds after which to look again. One thread cannot use CPU time faster than time
    /// passes, so what is left of it is safe to sleep.
    fn left(&self, pid: u32) -> Result<u64, HostError> {
        let waited = monotonic_micros().saturating_sub(self.began_micros) / 1000;
        if waited >= self.wall_max_ms {
            return Err(HostError::TimedOut { wall_ms: waited });
        }
        let wall_left = self.wall_max_ms - waited;
        if waited < self.cpu_max_ms {
            return Ok(wall_left.min(self.cpu_max_ms - waited));
        }
        let used = cpu_millis(pid).unwrap_or(0).saturating_sub(self.cpu_before_ms);
        if used >= self.cpu_max_ms {
            return Err(HostError::Killed { cpu_ms: used });
        }
        Ok(wall_left.min(self.cpu_max_ms - used).max(1))
    }
}
