//! Speaks HTTP over a daemon's socket, one connection a request.
//!
//! Knows nothing of the program but its door. Invariant: an answer is whole or none.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// Longest time without a byte.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Whoever asks.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where the daemon listens.
    pub socket: PathBuf,
}

impl Client {
    /// Status and body of the answer, which is JSON.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
        let (status, body) = self.exchange(method, path, body)?;
        let half = |_| io::Error::new(io::ErrorKind::UnexpectedEof, "half a body");
        Ok((status, serde_json::from_str(&body).map_err(half)?))
    }

    /// Status and body of the answer.
    pub fn exchange(&self, method: &str, path: &str, body: &Value) -> io::Result<(u16, String)> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let cut = |what: &str| io::Error::new(io::ErrorKind::UnexpectedEof, what.to_owned());
        let text = String::from_utf8(answer).map_err(|_| cut("not text"))?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| cut("no head"))?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.ok_or_else(|| cut("no status"))?;
        Ok((status, body.to_owned()))
    }
}

/// Lets a daemon that is not there come back. Nothing depends on how long this takes.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}
