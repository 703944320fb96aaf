//! The daemon's side of a runner: starting one, finding one again, reading what it left.
//!
//! May not wait. Invariant: what it says of a start is so: nothing began, it runs, it ended so, or
//! nobody can know.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::ports::disk;

use super::folder::{Folder, Holder, Locked};
use super::{Exit, Job};

/// The verb of this program that is a runner.
pub const VERB: &str = "runner";

/// A runner at work. Its descriptor becomes readable when it ends.
#[derive(Debug)]
pub struct Runner {
    fd: OwnedFd,
    /// Set when it was started by this process.
    child: Option<Child>,
}

/// What is known about a start.
#[derive(Debug)]
pub enum Found {
    /// A runner is at it.
    Running(Runner),
    /// A runner is at it and has not said which: ask again in a moment.
    Unnamed,
    /// The command ended.
    Ended(Exit),
    /// No command was begun, and none will be.
    NotBegun,
    /// A command was begun, its runner is gone, and nobody knows more.
    Lost {
        /// What might help an operator.
        evidence: Value,
    },
}

/// Starts a runner for a job: `exe runner`, in a group of its own.
pub fn start(exe: &Path, job: &Job) -> io::Result<Runner> {
    #[allow(clippy::disallowed_methods)] // This is the place that starts runners.
    let mut child = Command::new(exe)
        .arg(VERB)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let fd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let text = Zeroizing::new(serde_json::to_vec(job)?);
    if let Some(mut stdin) = child.stdin.take() {
        // One that is gone has begun nothing, which its folder will show.
        let _ = stdin.write_all(&text);
    }
    match fd {
        Ok(fd) => Ok(Runner { fd, child: Some(child) }),
        Err(e) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(e.into())
        }
    }
}

impl Runner {
    /// Tells it to stop its command.
    pub fn stop(&self) {
        // Fails only when it is gone.
        let _ = pidfd_send_signal(&self.fd, Signal::TERM);
    }

    /// Takes its exit status, once it has ended.
    pub fn bury(mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

impl AsFd for Runner {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Finds out what became of a start. Nobody begins it after an answer other than
/// [`Found::Running`] and [`Found::Unnamed`].
pub fn find(folder: &Folder, boot: &str) -> disk::Result<Found> {
    let lock = match folder.lock()? {
        Locked::Ours(lock) => lock,
        Locked::Theirs(holder) => return watched(folder, holder.filter(|h| h.boot == boot)),
    };
    if let Some(exit) = folder.outcome()? {
        return Ok(Found::Ended(exit));
    }
    if !folder.is_begun()? {
        folder.declare_void()?;
        return Ok(Found::NotBegun);
    }
    let holder = folder.last_holder();
    let killed = holder.as_ref().filter(|h| h.boot == boot).is_some_and(kill_leftovers);
    drop(lock);
    Ok(Found::Lost { evidence: json!({ "runner": holder, "groupKilled": killed }) })
}

fn watched(folder: &Folder, holder: Option<Holder>) -> disk::Result<Found> {
    let Some(holder) = holder else { return Ok(Found::Unnamed) };
    let pid = i32::try_from(holder.pid).ok().and_then(Pid::from_raw);
    let opened = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let Some(Ok(fd)) = opened else { return Ok(Found::Unnamed) };
    // If the lock is still held, the descriptor is its holder's: that number was not free.
    match folder.lock()? {
        Locked::Theirs(Some(still)) if still.pid == holder.pid => {
            Ok(Found::Running(Runner { fd, child: None }))
        }
        _ => Ok(Found::Unnamed),
    }
}

/// A runner that was killed may have left its command behind. The number of a process is not given
/// to another one as long as a group has it: so it is the command's, or the group is gone.
fn kill_leftovers(holder: &Holder) -> bool {
    let Some(child) = holder.child.filter(|child| !child.is_another()) else { return false };
    let group = i32::try_from(child.pid).ok().and_then(Pid::from_raw);
    group.is_some_and(|group| kill_process_group(group, Signal::KILL).is_ok())
}
