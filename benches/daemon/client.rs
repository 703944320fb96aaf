//! A client of the daemon's socket: one connection, one request after the other.
//!
//! May not parse more of HTTP than the daemon's answers need. Invariant: an answer that is no
//! success, nor "come back later", stops the benchmark.

use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

pub(crate) struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// Posts JSON and gives the answer's body. Comes back when it is told to.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Vec<u8> {
        loop {
            let (head, answer) = self.ask("POST", path, body).await;
            if !head.starts_with("http/1.1 429") {
                let good = head.starts_with("http/1.1 2");
                assert!(good, "{path}: {head}{}", String::from_utf8_lossy(&answer));
                return answer;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// What stands at a path.
    pub(crate) async fn get(&mut self, path: &str) -> Vec<u8> {
        let (head, answer) = self.ask("GET", path, "").await;
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        answer
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> (String, Vec<u8>) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let head = self.until(b"\r\n\r\n").await;
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap().parse().unwrap();
        while self.buffer.len() < length {
            self.more().await;
        }
        let rest = self.buffer.split_off(length);
        (head, std::mem::replace(&mut self.buffer, rest))
    }

    /// Follows a run from its last record on.
    pub(crate) async fn follow(mut self, run: &str, after: u64) -> Self {
        let request = format!(
            "GET /v1/runs/{run}/events?after={after} HTTP/1.1\r\nHost: localhost\r\n\
             Accept: text/event-stream\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.until(b"event: hello").await;
        self
    }

    /// Reads until a text has come.
    pub(crate) async fn until(&mut self, text: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(text.len()).position(|w| w == text) {
                let rest = self.buffer.split_off(at + text.len());
                return std::mem::replace(&mut self.buffer, rest);
            }
            self.more().await;
        }
    }

    async fn more(&mut self) {
        let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
        assert!(read > 0, "the daemon hung up: {}", String::from_utf8_lossy(&self.buffer));
    }
}
