//! Starting the command itself: in a session of its own, with three streams and no more.
//!
//! May not wait for it. Invariant: between fork and exec only system calls are made.

#![allow(unsafe_code)] // What happens between fork and exec is the caller's responsibility.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{
    Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit, setsid,
};

use crate::ports::process::descriptors;

use super::Job;

/// Names of limits that can be set.
pub(super) const RLIMIT_NAMES: &[&str] =
    &["as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "stack"];

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::As,
        "core" => Resource::Core,
        "cpu" => Resource::Cpu,
        "data" => Resource::Data,
        "fsize" => Resource::Fsize,
        "memlock" => Resource::Memlock,
        "nofile" => Resource::Nofile,
        "nproc" => Resource::Nproc,
        "stack" => Resource::Stack,
        _ => return None,
    })
}

/// Starts the command of a job with three pipes. It dies with the calling thread.
pub(super) fn spawn(job: &Job) -> io::Result<Child> {
    let limits: Vec<(Resource, Rlimit)> = job
        .rlimits
        .iter()
        .filter_map(|(name, most)| resource(name).map(|resource| (resource, *most)))
        .map(|(resource, most)| {
            // Nobody may raise what the daemon itself was given.
            let most = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
            (resource, Rlimit { current: Some(most), maximum: Some(most) })
        })
        .collect();
    let inherited: Vec<RawFd> = descriptors().into_iter().filter(|fd| *fd > 2).collect();
    #[allow(clippy::disallowed_methods)] // This is the place that starts commands.
    let mut command = Command::new(&job.program);
    command
        .arg0(&job.arg0)
        .args(&job.args)
        .env_clear()
        .envs(job.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&job.cwd)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let before = move || {
        setsid()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        for fd in &inherited {
            // SAFETY: whoever holds this descriptor keeps it open in this process, where nothing
            // else runs. One that is gone is refused by the call.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
        for (resource, limit) in &limits {
            setrlimit(*resource, *limit)?;
        }
        Ok(())
    };
    // SAFETY: `before` allocates nothing and takes no lock: it makes system calls and reads memory
    // that was filled before the fork.
    unsafe { command.pre_exec(before) };
    command.spawn()
}
