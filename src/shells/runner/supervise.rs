//! The runner's own work: begin, watch, end, write down.
//!
//! May not know who started it. Invariant: its last deed is the outcome, written after nothing of
//! the command runs any more.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group,
    set_child_subreaper, setsid, umask, wait,
};
use rustix::thread::set_no_new_privs;

use crate::codecs::hide::Hider;
use crate::ground::clock::{Clock, monotonic_micros};
use crate::ports::disk::{self, Disk};
use crate::ports::process::children;

use super::child::spawn;
use super::folder::{Folder, Holder, Locked, Named};
use super::output::{Kept, Log};
use super::{Error, Exit, Job, Left, Stopped};

/// What the door writes when a child process has ended.
pub const CHILD_ENDED: u8 = b'c';
/// What the door writes when this process was told to stop.
pub const TOLD_TO_STOP: u8 = b's';

/// How long killed processes may take to be gone before they are given up.
const SWEEP_MS: u64 = 5_000;
/// How often those are killed again, who may have multiplied.
const SWEEP_AGAIN_MS: u64 = 20;
/// How long the last bytes that a command printed may take, once all its processes are gone.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// Does a job: `news` brings a byte for every signal that the door caught.
pub fn supervise(
    disk: &dyn Disk,
    clock: &dyn Clock,
    job: &Job,
    news: &UnixStream,
) -> Result<Left, Error> {
    prepare()?;
    let folder = Folder::of(disk, job)?;
    let Locked::Ours(lock) = folder.lock()? else { return Ok(Left::NotOurs) };
    if folder.is_void()? || folder.is_begun()? {
        return Ok(Left::NotOurs);
    }
    let mut holder = Holder { pid: std::process::id(), boot: disk.boot_id(), child: None };
    holder.sign(&*lock)?;
    let (stdout, stderr) = (folder.log("stdout")?, folder.log("stderr")?);
    folder.begin()?;
    let (began, started_at) = (monotonic_micros(), clock.now());
    let mut exit = match spawn(job) {
        Err(e) => Exit { spawn_failed: Some(e.to_string()), ..Exit::default() },
        Ok(mut child) => {
            holder.child = Named::of(child.id());
            // Whoever cannot read this finds nothing to kill.
            let _ = holder.sign(&*lock);
            let hider = job.hide.iter().map(|(mark, text)| (mark.clone(), text.as_str()));
            let hider = Arc::new(Hider::of(hider));
            let copies = Copies::begin(&mut child, job, (stdout, stderr), &hider);
            let exit = Watch { job, news, pid: pid_of(&child), began }.watch();
            let (truncated, hidden) = copies.end();
            let hidden = hidden + folder.hide_outputs(&hider)?;
            Exit { truncated, hidden, ..exit }
        }
    };
    exit.started_at = started_at;
    exit.duration_ms = monotonic_micros().saturating_sub(began) / 1000;
    folder.conclude(&exit)?;
    Ok(Left::Done)
}

/// Makes this process what every command needs above it.
fn prepare() -> Result<(), Error> {
    let refused = |what| move |source| Error::System { what, source };
    // Whoever starts this from a terminal leads a group already, and needs no session.
    let _ = setsid();
    umask(0o077.into());
    set_child_subreaper(Some(getpid())).map_err(refused("to adopt processes"))?;
    set_no_new_privs(true).map_err(refused("to give up privileges"))
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Threads that copy what the command reads and prints.
struct Copies(mpsc::Receiver<disk::Result<Kept>>);

impl Copies {
    fn begin(
        child: &mut Child,
        job: &Job,
        (stdout, stderr): (Box<dyn disk::FileHandle>, Box<dyn disk::FileHandle>),
        hider: &Arc<Hider>,
    ) -> Self {
        let (done, ended) = mpsc::channel();
        let most = job.log_bytes_max;
        let copy = |from: Option<Box<dyn Read + Send>>, file| {
            let (Some(from), done, hider) = (from, done.clone(), Arc::clone(hider)) else { return };
            thread::spawn(move || {
                let _ = done.send(Log::new(file, most, hider).copy(from));
            });
        };
        copy(child.stdout.take().map(|s| Box::new(s) as Box<_>), stdout);
        copy(child.stderr.take().map(|s| Box::new(s) as Box<_>), stderr);
        if let Some(mut stdin) = child.stdin.take() {
            let text = job.stdin.clone();
            // A command need not read what it is given.
            thread::spawn(move || stdin.write_all(text.as_bytes()));
        }
        Self(ended)
    }

    /// Waits for the last bytes. Says whether not everything was kept, and how often something was
    /// hidden.
    fn end(self) -> (bool, u64) {
        let lost = Kept { cut: true, hidden: 0 };
        let one = || self.0.recv_timeout(LAST_BYTES).ok().and_then(Result::ok).unwrap_or(lost);
        let (first, second) = (one(), one());
        (first.cut || second.cut, first.hidden + second.hidden)
    }
}

/// A command at work.
struct Watch<'a> {
    job: &'a Job,
    news: &'a UnixStream,
    pid: Pid,
    began: u64,
}

/// What became of child processes since the last look.
struct Reaped {
    /// How the command itself ended.
    status: Option<WaitStatus>,
    /// Nobody is left.
    all: bool,
}

impl Watch<'_> {
    /// Waits until nothing of the command runs any more.
    fn watch(&self) -> Exit {
        let mut exit = Exit::default();
        let (mut ended, mut told) = (false, None);
        loop {
            let reaped = self.reap();
            if let Some(status) = reaped.status {
                (exit.code, exit.signal) = (status.exit_status(), status.terminating_signal());
                ended = true;
            }
            let now = monotonic_micros() / 1000;
            let due = match told {
                // What a command leaves behind is not its outcome: it goes at once.
                None if ended => 0,
                None => {
                    let limit = self.job.timeout_ms.unwrap_or(u64::MAX);
                    (self.began / 1000).saturating_add(limit)
                }
                Some(at) => self.job.kill_grace_ms.saturating_add(at),
            };
            if reaped.all || (now >= due && (ended || told.is_some())) {
                break;
            }
            if now >= due {
                self.tell(&mut exit, &mut told, Stopped::Timeout);
            } else if self.hear(due - now) {
                self.tell(&mut exit, &mut told, Stopped::Cancel);
            }
        }
        if let Some(status) = self.sweep() {
            (exit.code, exit.signal) = (status.exit_status(), status.terminating_signal());
        }
        exit
    }

    /// Tells the command to end, once.
    fn tell(&self, exit: &mut Exit, told: &mut Option<u64>, why: Stopped) {
        if told.is_none() {
            *told = Some(monotonic_micros() / 1000);
            exit.stopped = Some(why);
            // Fails only when nobody is left.
            let _ = kill_process_group(self.pid, Signal::TERM);
        }
    }

    /// Waits for a signal of any kind. True if this process was told to stop.
    fn hear(&self, millis: u64) -> bool {
        let wait = Timespec {
            tv_sec: i64::try_from(millis / 1000).unwrap_or(i64::MAX).min(3600),
            tv_nsec: i64::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
        };
        let mut fds = [PollFd::new(self.news, PollFlags::IN)];
        if !matches!(poll(&mut fds, Some(&wait)), Ok(1..)) {
            return false;
        }
        let mut bytes = [0; 64];
        let n = (&mut &*self.news).read(&mut bytes).unwrap_or(0);
        bytes[..n].contains(&TOLD_TO_STOP)
    }

    fn reap(&self) -> Reaped {
        let mut reaped = Reaped { status: None, all: false };
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => reaped.status = Some(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return reaped,
                Err(_) => {
                    reaped.all = true;
                    return reaped;
                }
            }
        }
    }

    /// Kills whatever is left. Gives how the command ended, if that is only known now.
    fn sweep(&self) -> Option<WaitStatus> {
        let until = monotonic_micros() / 1000 + SWEEP_MS;
        let mut status = None;
        loop {
            let reaped = self.reap();
            status = reaped.status.or(status);
            if reaped.all || monotonic_micros() / 1000 > until {
                return status;
            }
            let _ = kill_process_group(self.pid, Signal::KILL);
            // Those that left the group were adopted when their parents died.
            for pid in children(std::process::id()) {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            self.hear(SWEEP_AGAIN_MS);
        }
    }
}
