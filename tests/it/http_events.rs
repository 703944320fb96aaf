//! Following runs over HTTP: every record once, in order, byte for byte; and peers that dawdle.

#![allow(clippy::disallowed_methods, reason = "these tests read the journal from outside")]

use crate::served::{Answer, Served, raw};
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// One message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: Option<String>,
    pub(crate) event: String,
    pub(crate) data: String,
}

/// A client that follows a run.
pub(crate) struct Reader(BufReader<TcpStream>);

impl Reader {
    pub(crate) fn open(served: &Served, path: &str, headers: &str) -> Self {
        let headers = format!("Accept: text/event-stream\r\n{headers}");
        let mut stream = served.tcp();
        stream.write_all(&served.request(&format!("GET {path}"), &headers, b"")).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.contains("text/event-stream"), "{head}");
        Self(reader)
    }

    /// The next line of the stream, chunks taken apart; nothing at its end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            let mut part = String::new();
            if self.0.read_line(&mut part).unwrap_or(0) == 0 {
                return None;
            }
            // Sizes of chunks and the ends of chunks end in CR LF; lines of messages in LF.
            if !part.ends_with("\r\n") {
                line.push_str(part.trim_end_matches('\n'));
                return Some(line);
            }
        }
    }

    pub(crate) fn next(&mut self) -> Option<Message> {
        let mut message = Message { id: None, event: String::new(), data: String::new() };
        loop {
            let line = self.line()?;
            match line.split_once(": ") {
                _ if line.is_empty() && message.event.is_empty() => {}
                _ if line.is_empty() => return Some(message),
                Some(("id", id)) => message.id = Some(id.into()),
                Some(("event", event)) => message.event = event.into(),
                Some(("data", data)) => message.data = data.into(),
                _ => assert!(line.starts_with(':'), "{line}"),
            }
        }
    }

    pub(crate) fn rest(mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

fn stored(served: &Served, run: &str) -> Vec<String> {
    let journal = served.cli.root().join(run).join("journal/0000000001.jsonl");
    fs::read_to_string(journal).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_follower_sees_every_record_as_it_is_stored() {
    let served = Served::new();
    served.create("r");
    let path = "/v1/runs/r/events";
    let mut reader = Reader::open(&served, path, "");
    let hello = reader.next().unwrap();
    assert_eq!((hello.event.as_str(), &hello.id), ("hello", &None));
    let hello: serde_json::Value = serde_json::from_str(&hello.data).unwrap();
    let head = stored(&served, "r").len();
    assert_eq!(hello, json!({ "runId": "r", "head": head, "state": "waiting" }));
    let first: Vec<Message> = (0..head).map(|_| reader.next().unwrap()).collect();
    // What happens while somebody follows arrives without asking again.
    served.post("/v1/runs/r/note", &json!({ "text": "é \"x\"" })).ok();
    let noted = reader.next().unwrap();
    assert_eq!(noted.event, "OPERATOR_NOTE");
    // Somebody else comes back to where it was cut off, both ways.
    let last = format!("Last-Event-ID: {head}\r\n");
    for (path, headers) in [(path, last.as_str()), ("/v1/runs/r/events?after=2", &last)] {
        let mut again = Reader::open(&served, path, headers);
        assert_eq!(again.next().unwrap().event, "hello");
        assert_eq!(again.next().unwrap(), noted);
    }
    served.post("/v1/runs/r/halt", &json!({})).ok();
    let rest = reader.rest();
    let (end, rest) = rest.split_last().unwrap();
    assert_eq!((end.event.as_str(), &end.id), ("end", &None));
    let seen: Vec<Message> = first.into_iter().chain([noted]).chain(rest.to_vec()).collect();
    let lines = stored(&served, "r");
    assert_eq!(seen.iter().map(|m| m.data.clone()).collect::<Vec<_>>(), lines);
    for (n, message) in seen.iter().enumerate() {
        assert_eq!(message.id, Some((n + 1).to_string()));
        assert!(message.data.contains(&format!("\"type\":\"{}\"", message.event)), "{message:?}");
    }
    // A run that has ended is told to its end, and no further.
    let whole = Reader::open(&served, path, "").rest();
    assert_eq!(whole.len(), lines.len() + 2);
    let nothing = Reader::open(&served, "/v1/runs/r/events?after=99999", "").rest();
    assert_eq!(nothing.iter().map(|m| m.event.as_str()).collect::<Vec<_>>(), ["hello", "end"]);
    served.get("/v1/runs/none/events").is_problem(404, "run_not_found");
    let odd = served.request("GET /v1/runs/r/events", "Last-Event-ID: x\r\n", b"");
    served.send(&odd).is_problem(400, "bad_request");
}

#[test]
fn a_daemon_that_stops_lets_its_followers_go() {
    let mut served = Served::new();
    served.create("r");
    let mut reader = Reader::open(&served, "/v1/runs/r/events", "");
    assert_eq!(reader.next().unwrap().event, "hello");
    served.stop();
    assert!(reader.rest().iter().all(|m| m.event != "end"));
}

#[test]
fn n5_a_follower_that_never_reads_is_dropped() {
    let served = Served::with(|options| {
        options.bounds.followers_max = 1;
        options.bounds.write_wait_ms = 20;
    });
    served.create_bare("r");
    // More than the kernel and the door hold for a reader of the socket.
    let text = "x".repeat(60_000);
    for _ in 0..25 {
        served.post("/v1/runs/r/note", &json!({ "text": text })).ok();
    }
    let follow = raw("GET /v1/runs/r/events", "Accept: text/event-stream\r\n", b"");
    let mut deaf = served.socket();
    deaf.write_all(&follow).unwrap();
    let mut status = [0; 12];
    deaf.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    // Its place is taken until it is dropped; then there is room for the next one.
    loop {
        let mut next = served.socket();
        next.write_all(&follow).unwrap();
        next.read_exact(&mut status).unwrap();
        if &status == b"HTTP/1.1 200" {
            break;
        }
        assert_eq!(&status, b"HTTP/1.1 503");
        std::thread::yield_now();
    }
    let mut rest = Vec::new();
    let _ = deaf.read_to_end(&mut rest);
    assert!(rest.len() < 25 * text.len(), "everything was sent to somebody who does not read");
}

#[test]
fn n4_connections_that_dawdle_are_closed() {
    let served = Served::with(|options| {
        options.bounds.headers_wait_ms = 50;
        options.bounds.body_wait_ms = 50;
        options.bounds.connections_max = 2;
    });
    // Two that say nothing take all the room; a third one is answered when they are gone.
    let (mut silent, mut slow) = (served.tcp(), served.tcp());
    slow.write_all(b"GET /v1/health/live HTTP/1.1\r\nHo").unwrap();
    assert_eq!(served.get("/v1/health/live").status, 200);
    let mut said = String::new();
    let _ = silent.read_to_string(&mut said);
    assert_eq!(said, "");
    let _ = slow.read_to_string(&mut said);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    served.create_bare("r");
    let headers = format!(
        "Host: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 20\r\n",
        served.address, served.token
    );
    let mut half = served.tcp();
    half.write_all(&raw("POST /v1/runs/r/note", &headers, b"")).unwrap();
    half.write_all(b"{\"text\":").unwrap();
    Answer::read(&mut half).is_problem(408, "body_timeout");
}
