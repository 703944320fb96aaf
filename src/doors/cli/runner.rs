//! `runner`: supervises one command for a daemon; not for people.
//!
//! May not know what the command is for. Invariant: signals are caught before the command is
//! started, so that its end and an order to stop are never missed.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};

use zeroize::Zeroizing;

use crate::ground::clock::SystemClock;
use crate::ports::disk::std::StdDisk;
use crate::shells::runner::{CHILD_ENDED, Job, TOLD_TO_STOP, supervise};

/// Reads a job from standard input and does it.
pub(super) fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // Its daemon reads the files of the effect, and nobody else listens.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> io::Result<()> {
    // It may hold secrets.
    let mut text = Zeroizing::new(Vec::new());
    io::stdin().read_to_end(&mut text)?;
    let job: Job = serde_json::from_slice(&text)?;
    let (news, ours) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    catch_signals(ours)?;
    supervise(&StdDisk, &SystemClock, &job, &news).map_err(io::Error::other)?;
    Ok(())
}

/// Writes a byte for every signal, from a thread that lives as long as the process.
fn catch_signals(to: UnixStream) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let inside = runtime.enter();
    let ended = signal(SignalKind::child())?;
    let stop = signal(SignalKind::terminate())?;
    drop(inside);
    thread::spawn(move || runtime.block_on(relay(ended, stop, to)));
    Ok(())
}

async fn relay(mut ended: Signal, mut stop: Signal, mut to: UnixStream) {
    loop {
        let byte = tokio::select! {
            _ = ended.recv() => CHILD_ENDED,
            _ = stop.recv() => TOLD_TO_STOP,
        };
        // A pipe that is full has news enough.
        let _ = to.write(&[byte]);
    }
}
