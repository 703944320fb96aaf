//! Programs under trial: started, awaited, stopped, killed, as somebody outside would.
//!
//! May not know what they do. Invariant: nobody is left behind: a [`Trial`] that goes takes its
//! process along.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Most of what a program says that is kept.
const SAID_BYTES_MAX: usize = 64 * 1024;

/// What is started.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program.
    pub exe: PathBuf,
    /// Its whole environment.
    pub env: Vec<(String, OsString)>,
    /// Where it begins.
    pub dir: PathBuf,
}

/// A program that was started.
#[derive(Debug)]
pub struct Trial {
    child: Child,
    said: Arc<Mutex<String>>,
    /// Comes when it has said the awaited word, and ends when it says nothing any more.
    word: Receiver<()>,
}

/// What a program that ended has printed.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code, as a shell tells it.
    pub code: i32,
    /// On standard output.
    pub out: String,
    /// On standard error.
    pub err: String,
}

impl Program {
    fn command(&self, args: &[&str]) -> Command {
        #[allow(clippy::disallowed_methods)] // Here is where such programs are started.
        let mut command = Command::new(&self.exe);
        command.args(args).current_dir(&self.dir).stdin(Stdio::null());
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> io::Result<Ended> {
        let output = self.command(args).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        Ok(Ended { code: code(output.status), out, err })
    }

    /// Starts it; [`Trial::is_ready`] waits until a line of its standard error is `word`.
    pub fn start(&self, args: &[&str], word: &'static str) -> io::Result<Trial> {
        let mut child = self.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let said = Arc::new(Mutex::new(String::new()));
        let (sender, heard) = mpsc::channel();
        let pipe = child.stderr.take().ok_or_else(|| io::Error::other("a pipe is missing"))?;
        let keep = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if line.trim() == word {
                    let _ = sender.send(());
                }
                let mut said = keep.lock().unwrap_or_else(PoisonError::into_inner);
                if said.len() + line.len() < SAID_BYTES_MAX {
                    said.push_str(&line);
                    said.push('\n');
                }
            }
        });
        Ok(Trial { child, said, word: heard })
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

impl Trial {
    /// Waits until it has said its word; false if it ended without, or took longer.
    #[must_use]
    pub fn is_ready(&self, millis_max: u64) -> bool {
        self.word.recv_timeout(Duration::from_millis(millis_max)).is_ok()
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on standard error.
    #[must_use]
    pub fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its exit code, if it has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().ok().flatten().map(code)
    }

    /// Sends it a signal. It may have ended by itself.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to stop, and gives its exit code.
    #[must_use]
    pub fn stop(mut self) -> i32 {
        self.signal(Signal::TERM);
        self.child.wait().map_or(-1, code)
    }

    /// A stopped process dies of this as well.
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Trial {
        let env = vec![("PATH".to_owned(), "/usr/bin:/bin".into())];
        let program = Program { exe: "/bin/sh".into(), env, dir: "/".into() };
        program.start(&["-c", script], "ready").unwrap()
    }

    #[test]
    fn it_says_its_word_or_ends() {
        let patient = sh("echo early >&2; echo ready >&2; sleep 600");
        assert!(patient.is_ready(60_000) && patient.said().contains("early"));
        assert_eq!(patient.stop(), 128 + 15);
        let mut hasty = sh("exit 7");
        assert!(!hasty.is_ready(60_000));
        assert_eq!(hasty.child.wait().map(code).unwrap(), 7);
        assert_eq!(hasty.ended(), Some(7));
    }
}
