//! A door between clients and the daemon that drops answers and repeats requests.
//!
//! Knows nothing of what it carries. Invariant: what a client is answered was said by the daemon.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::dice::Dice;
use super::locked;

/// One request in so many meets with something.
const TROUBLE: u64 = 12;

/// Listens at `place`, and carries requests to the daemon at `to`.
pub(super) fn start(place: &Path, to: PathBuf, seed: u64) -> io::Result<()> {
    let listener = UnixListener::bind(place)?;
    let dice = Arc::new(Mutex::new(Dice::of(seed, "proxy")));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let to = to.clone();
            let trouble = locked(&dice).below(TROUBLE);
            // A daemon that is not there is a connection that breaks.
            std::thread::spawn(move || drop(carry(stream, &to, trouble)));
        }
    });
    Ok(())
}

fn carry(mut client: UnixStream, to: &Path, trouble: u64) -> io::Result<()> {
    let request = read_request(&mut client)?;
    let mut answer = ask(to, &request)?;
    match trouble {
        // The answer is lost.
        0 => return client.shutdown(Shutdown::Both),
        // It was sent twice, and the second answer is the one that comes.
        1 => answer = ask(to, &request)?,
        _ => {}
    }
    client.write_all(&answer)
}

/// A whole request: clients send their length.
fn read_request(client: &mut UnixStream) -> io::Result<Vec<u8>> {
    let (mut all, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let head = all.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&all[..head]).to_lowercase();
            let length = text.split("content-length: ").nth(1).and_then(|rest| {
                rest.split("\r\n").next().and_then(|digits| digits.parse::<usize>().ok())
            });
            if all.len() >= head + length.unwrap_or(0) {
                return Ok(all);
            }
        }
        match client.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => all.extend_from_slice(&part[..n]),
        }
    }
}

/// What the daemon says, to the end of the connection.
fn ask(to: &Path, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut daemon = UnixStream::connect(to)?;
    daemon.write_all(request)?;
    let mut answer = Vec::new();
    daemon.read_to_end(&mut answer)?;
    Ok(answer)
}
