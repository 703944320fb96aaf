//! Asking a program for a text: what it prints, bounded in size and time.
//!
//! May not know what the text is. Invariant: when the answer is given the program is gone.

use std::io::{self, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use zeroize::Zeroizing;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Name another program.
    #[error("{program} cannot be started: {source}")]
    NotStarted {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// Look at what it says on standard error.
    #[error("{program} {how}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        how: String,
    },
}

/// What a program prints, at most `bytes_max`, within `millis_max`. It reads nothing, and what it
/// says on standard error goes where this program's goes.
pub fn output(
    argv: &[String],
    bytes_max: usize,
    millis_max: u64,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let program = argv.first().cloned().unwrap_or_default();
    let failed = |how: String| Error::Failed { program: program.clone(), how };
    #[allow(clippy::disallowed_methods)] // Here is where programs are asked.
    let mut command = Command::new(&program);
    command
        .args(&argv[1.min(argv.len())..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0);
    let not_started = |source| Error::NotStarted { program: program.clone(), source };
    let mut child = command.spawn().map_err(not_started)?;
    let Some(mut pipe) = child.stdout.take() else {
        return Err(failed("has no output".to_owned()));
    };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        // Its full size from the start: growing would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(bytes_max + 1));
        let read = (&mut pipe).take(bytes_max as u64 + 1).read_to_end(&mut bytes);
        // Nobody listens any more after the time is up.
        let _ = sender.send(read.map(|_| bytes));
    });
    let read = receiver.recv_timeout(Duration::from_millis(millis_max));
    let bytes = match read {
        Ok(Ok(bytes)) if bytes.len() <= bytes_max => bytes,
        other => {
            end(&mut child);
            return Err(failed(match other {
                Ok(Ok(_)) => format!("prints more than {bytes_max} bytes"),
                Ok(Err(e)) => format!("cannot be read from: {e}"),
                Err(_) => format!("printed no end within {millis_max} ms"),
            }));
        }
    };
    // It has closed its output: all it can still do is end.
    match child.wait() {
        Ok(status) if status.success() => Ok(bytes),
        Ok(status) => Err(failed(format!("ended with {status}"))),
        Err(e) => Err(failed(format!("cannot be waited for: {e}"))),
    }
}

/// Ends it and what it started: they are a process group of their own.
fn end(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by itself meanwhile; until it is waited for, the number is its own.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(script: &str, bytes_max: usize, millis_max: u64) -> Result<Vec<u8>, String> {
        let argv = ["sh", "-c", script].map(str::to_owned);
        let answer = output(&argv, bytes_max, millis_max);
        answer.map(|bytes| bytes.to_vec()).map_err(|e| e.to_string())
    }

    #[test]
    fn an_answer_is_bounded() {
        assert_eq!(ask("printf abc", 3, 60_000).unwrap(), b"abc");
        for (script, bytes, millis, why) in [
            ("printf abcd", 3, 60_000, "prints more than 3 bytes"),
            ("yes", 100, 60_000, "prints more"),
            ("exit 3", 3, 60_000, "exit status: 3"),
            ("kill -9 $$", 3, 60_000, "signal: 9"),
            ("sleep 600; echo late", 3, 20, "no end within"),
        ] {
            let said = ask(script, bytes, millis).unwrap_err();
            assert!(said.contains(why), "{script}: {said}");
        }
        assert!(output(&[], 3, 10).is_err());
    }
}
