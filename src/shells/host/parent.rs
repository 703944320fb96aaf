//! The outside of a host that is spoken to directly: one instance, one caller, who waits.
//!
//! May not know what the process computes. Invariant: a [`Host`] that is gone leaves no process
//! behind, and one that failed says nothing more.

use super::frames::{Inbox, Outbox};
use super::process::{HostError, Process, nonsense};
use super::protocol::{Answer, FromHost, Message, ToHost, encode_frame};
use crate::ground::clock::monotonic_micros;
use crate::ground::limits::HOST_KILL_AFTER_MS;
use crate::ports::process::cpu_millis;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ChildStdin;

/// The number of the only instance.
const ONLY: u64 = 0;

/// A child process that holds at most one instance.
#[derive(Debug)]
pub struct Host {
    process: Process,
    stdin: ChildStdin,
    outbox: Outbox,
    inbox: Inbox,
    cpu_micros: u64,
    failed: bool,
}

impl Host {
    /// Starts `exe host`.
    ///
    /// # Errors
    /// [`HostError::Spawn`].
    pub fn spawn(exe: &Path) -> Result<Self, HostError> {
        let (process, stdin) = Process::spawn(exe)?;
        let (outbox, inbox) = (Outbox::default(), Inbox::default());
        Ok(Self { process, stdin, outbox, inbox, cpu_micros: 0, failed: false })
    }

    /// The process id of the child.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
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
        let answer = self.ask(message, cpu_max_ms, wall_max_ms)?;
        let said = answer.said.filter(|_| answer.instance == ONLY && self.inbox.is_empty());
        said.ok_or_else(|| {
            self.give_up();
            HostError::Protocol("an answer that nobody asked for".to_owned())
        })
    }

    /// Takes the instance down, so that another one can be started. False if the host is of no more
    /// use.
    pub fn forget(&mut self, wall_max_ms: u64) -> bool {
        let answer = self.ask(&ToHost::Drop, wall_max_ms, wall_max_ms);
        answer.is_ok_and(|answer| answer.said.is_none() && answer.left_bytes == 0)
    }

    fn ask(
        &mut self,
        message: &ToHost,
        cpu_max_ms: u64,
        wall_max_ms: u64,
    ) -> Result<Answer, HostError> {
        if self.failed {
            return Err(self.process.died());
        }
        let frame = encode_frame(&Message { instance: ONLY, say: message }).map_err(nonsense)?;
        self.outbox.push(&frame);
        let budget = Budget {
            cpu_before_ms: self.cpu_micros / 1000,
            cpu_max_ms: cpu_max_ms.saturating_add(HOST_KILL_AFTER_MS),
            began_micros: monotonic_micros(),
            wall_max_ms,
        };
        let answer = self.exchange(&budget);
        match &answer {
            Ok(answer) => self.cpu_micros = answer.cpu_micros,
            Err(_) => self.give_up(),
        }
        answer
    }

    fn give_up(&mut self) {
        self.failed = true;
        // How it ended is known already.
        let _ = self.process.end();
    }

    fn exchange(&mut self, budget: &Budget) -> Result<Answer, HostError> {
        loop {
            self.outbox.flush(&self.stdin);
            let wait = budget.left(self.process.pid())?;
            let to = (!self.outbox.is_empty()).then_some(self.stdin.as_fd());
            let ready = self.process.wait(to, None, Some(wait))?;
            if ready.stdout {
                if !self.inbox.fill(&self.process.stdout).map_err(nonsense)? {
                    return Err(self.process.died());
                }
                if let Some(answer) = self.inbox.next().map_err(nonsense)? {
                    return Ok(answer);
                }
            }
        }
    }
}

/// How much a call may use.
struct Budget {
    cpu_before_ms: u64,
    cpu_max_ms: u64,
    began_micros: u64,
    wall_max_ms: u64,
}

impl Budget {
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
