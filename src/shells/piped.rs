//! A program that is spoken to through its standard streams, in a process group of its own.
//!
//! May not know what is said. Invariant: when a [`Piped`] goes, its whole group goes: told to end,
//! given a moment, killed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use crate::ground::limits::PIPED_END_MS;

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The program, as a path or as a name on the `PATH` of its environment.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
}

/// A program that runs.
#[derive(Debug)]
pub struct Piped(Option<Child>);

/// The ends of its streams.
#[derive(Debug)]
pub struct Pipes {
    /// Where it reads.
    pub stdin: OwnedFd,
    /// Where it writes.
    pub stdout: OwnedFd,
    /// Where it complains.
    pub stderr: OwnedFd,
}

/// Starts a program, with nothing of this one but its three streams.
pub fn spawn(program: &Program) -> io::Result<(Piped, Pipes)> {
    #[allow(clippy::disallowed_methods)] // Here is where such programs are started.
    let mut command = Command::new(&program.program);
    let mut child = command
        .args(&program.args)
        .env_clear()
        .envs(&program.env)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let running = Piped(Some(child));
    let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
        return Err(io::Error::other("a pipe is missing"));
    };
    Ok((running, Pipes { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() }))
}

impl Drop for Piped {
    fn drop(&mut self) {
        if let Some(child) = self.0.take() {
            // It may take its time, and nobody has to wait for it.
            std::thread::spawn(move || end(child));
        }
    }
}

/// Ends a child and whatever is left of its group.
fn end(mut child: Child) {
    let group = Pid::from_child(&child);
    // Until it is waited for, its number is nobody else's. What fails here is gone already.
    let _ = kill_process_group(group, Signal::TERM);
    if let Ok(handle) = pidfd_open(group, PidfdFlags::empty()) {
        let seconds = i64::try_from(PIPED_END_MS / 1000).unwrap_or(i64::MAX);
        let limit = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let _ = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit));
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};

    fn start(script: &str) -> (Piped, Pipes) {
        let args = vec!["-c".to_owned(), script.to_owned()];
        let env = [("PATH", "/usr/bin:/bin"), ("WORD", "hi")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        spawn(&Program { program: "sh".into(), args, env }).unwrap()
    }

    #[test]
    fn it_has_its_streams_and_its_environment_and_nothing_else() {
        let (_running, pipes) = start("read x; echo $x $WORD; env | wc -l; pwd; echo no >&2");
        File::from(pipes.stdin).write_all(b"word\n").unwrap();
        let mut said = String::new();
        File::from(pipes.stdout).read_to_string(&mut said).unwrap();
        let mut complained = String::new();
        File::from(pipes.stderr).read_to_string(&mut complained).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!((lines[0], lines[2], complained.as_str()), ("word hi", "/", "no\n"));
        // PATH, WORD, and what the shell itself adds.
        assert!(lines[1].trim().parse::<u32>().unwrap() <= 5, "{said}");
    }

    #[test]
    fn its_group_goes_with_it() {
        let (running, pipes) = start("trap '' TERM; sleep 1000 & echo begun; wait");
        let mut out = BufReader::new(File::from(pipes.stdout));
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "begun\n");
        drop(running);
        // Both hold the pipe: it ends when both are gone.
        assert_eq!(out.read_line(&mut line).unwrap(), 0);
    }

    #[test]
    fn what_is_not_there_is_not_started() {
        let program =
            Program { program: "/no/such/program".into(), args: Vec::new(), env: BTreeMap::new() };
        assert_eq!(spawn(&program).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
