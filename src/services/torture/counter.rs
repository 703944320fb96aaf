//! The outside: a server that counts what was done to it, and forgets nothing.
//!
//! Knows nothing of journals. Invariant: a line stands in its book before its answer leaves.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::dice::Dice;
use super::judge::Line;
use super::locked;
use crate::ground::clock::{Clock as _, SystemClock};

/// A handle of it.
#[derive(Clone)]
pub(super) struct Counter {
    port: u16,
    /// How long it may take over one request: kills are to meet work that is under way.
    slow_millis: u64,
    book: Arc<Mutex<Book>>,
}

struct Book {
    lines: Vec<Line>,
    /// What each key got.
    serials: HashMap<String, u64>,
    /// Nothing more is done for a key under this epoch or an older one.
    closed: HashMap<String, u64>,
    dice: Dice,
}

/// Keys of runs whose repeats do no harm: the same key gets the same serial.
pub(super) fn dedupes(run: &str) -> bool {
    run.starts_with("c-")
}

impl Counter {
    pub(super) fn start(seed: u64, slow_millis: u64) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let book = Book {
            lines: Vec::new(),
            serials: HashMap::new(),
            closed: HashMap::new(),
            dice: Dice::of(seed, "counter"),
        };
        let counter = Self { port, slow_millis, book: Arc::new(Mutex::new(book)) };
        let serves = counter.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serves = serves.clone();
                // Whoever is killed hangs up.
                std::thread::spawn(move || drop(serves.answer(stream)));
            }
        });
        Ok(counter)
    }

    pub(super) fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        locked(&self.book)
    }

    /// Does it once more for a key, unless nothing more is done for that.
    pub(super) fn hit(&self, run: &str, effect: &str, epoch: u64) -> Option<u64> {
        let key = format!("{run}/{effect}");
        let mut book = self.book();
        if book.closed.get(&key).is_some_and(|closed| epoch <= *closed) {
            return None;
        }
        let next = book.lines.len() as u64 + 1;
        let known = book.serials.get(&key).copied().filter(|_| dedupes(run));
        let serial = known.unwrap_or(next);
        book.serials.entry(key.clone()).or_insert(serial);
        book.lines.push(Line { key, epoch, at: SystemClock.now().to_string(), serial });
        Some(serial)
    }

    /// What was done for a key. Who holds this epoch or an older one gets nothing done any more,
    /// so that the answer stays true.
    pub(super) fn close(&self, run: &str, effect: &str, epoch: u64) -> Option<u64> {
        let key = format!("{run}/{effect}");
        let mut book = self.book();
        let closed = book.closed.entry(key.clone()).or_default();
        *closed = epoch.max(*closed);
        book.serials.get(&key).copied()
    }

    /// What was done for a key until now.
    pub(super) fn seen(&self, run: &str, effect: &str) -> Option<u64> {
        self.book().serials.get(&format!("{run}/{effect}")).copied()
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        self.book().lines.clone()
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? <= 2 {
                break;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap_or(0);
            }
        }
        std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
        let before = self.book().dice.below(self.slow_millis.max(1));
        std::thread::sleep(Duration::from_millis(before));
        let words: Vec<&str> = first.split([' ', '/']).collect();
        let body = match words[..] {
            ["POST", "", "hit", run, effect, epoch, ..] => {
                self.hit(run, effect, epoch.parse().unwrap_or(0))
            }
            ["GET", "", "seen", run, effect, ..] => self.seen(run, effect),
            _ => None,
        };
        let after = self.book().dice.below((self.slow_millis / 2).max(1));
        std::thread::sleep(Duration::from_millis(after));
        let body = match (body, words[0]) {
            (Some(serial), "GET") => {
                format!(r#"{{"state":"done","value":{{"serial":{serial}}}}}"#)
            }
            (None, "GET") => r#"{"state":"not_done"}"#.to_owned(),
            (Some(serial), _) => format!(r#"{{"serial":{serial}}}"#),
            (None, _) => r#"{"closed":true"#.to_owned(),
        };
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}\n",
            body.len() + 1
        )
    }
}
