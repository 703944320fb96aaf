//! A daemon's HTTP door inside a test: a root in a temporary directory, a Unix socket, a TCP port
//! with a token for every right, and a client that sees every byte.

#![allow(clippy::disallowed_methods, reason = "these tests clear what a daemon left")]

use crate::cli::{Cli, PROCESS};
use dormouse::daemon::Daemon;
use dormouse::daemon::config::Config;
use dormouse::doors::http::tokens::{self, NewToken};
use dormouse::doors::http::{self, Keyring, Options, Scope};
use dormouse::ground::clock::{Clock, SystemClock};
use dormouse::ports::disk::socket::listen_for_owner;
use dormouse::ports::disk::std::StdDisk;
use dormouse::services::runs::Runs;
use dormouse::services::runs::create::host_limits;
use dormouse::services::runs::hosts::ChildHosts;
use dormouse::services::telemetry::Telemetry;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// A door that is open until this is dropped.
pub(crate) struct Served {
    pub(crate) cli: Cli,
    clock: Arc<dyn Clock>,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A door that was opened.
struct Opened {
    address: SocketAddr,
    token: String,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

fn open(cli: &Cli, clock: &Arc<dyn Clock>, change: impl FnOnce(&mut Options)) -> Opened {
    let runs = Runs { clock: Arc::clone(clock), ..runs(cli.root()) };
    let daemon = Daemon::start(&runs, &Config::default()).unwrap();
    let place = cli.root().join(".dormouse/socket");
    // The daemon before left its name; the root's lock is ours.
    let _ = std::fs::remove_file(&place);
    let socket = listen_for_owner(&place).unwrap();
    let tcp = http::listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let address = tcp.local_addr().unwrap();
    let name = format!("all-{}", address.port());
    let name = if tokens_file(&runs).exists() { name } else { "all".into() };
    let new = NewToken { name, scopes: Scope::ALL.to_vec(), expires_at: None };
    let token = tokens::create(&*runs.disk, &tokens_file(&runs), new, runs.clock.now()).unwrap();
    let mut options =
        Options::new(daemon.handle(), daemon.schedules(), daemon.exposition(), socket);
    options.tcp = Some(tcp);
    options.tokens = Some(keyring(&runs));
    change(&mut options);
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stopped = async {
            let _ = stopped.await;
        };
        runtime.block_on(http::serve(options, stopped)).unwrap();
        drop(runtime);
        daemon.stop().unwrap();
    });
    Opened { address, token, stop, thread }
}

fn tokens_file(runs: &Runs) -> PathBuf {
    runs.root.join(".dormouse/tokens.json")
}

fn keyring(runs: &Runs) -> Keyring {
    Keyring::open(Arc::clone(&runs.disk), tokens_file(runs)).unwrap()
}

impl Served {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        Self::over(Cli::new(), change)
    }

    /// A door to a root that has runs already.
    pub(crate) fn over(cli: Cli, change: impl FnOnce(&mut Options)) -> Self {
        Self::at(cli, Arc::new(SystemClock), change)
    }

    /// The same with a clock of the test's.
    pub(crate) fn at(cli: Cli, clock: Arc<dyn Clock>, change: impl FnOnce(&mut Options)) -> Self {
        cli.file("process.js", PROCESS);
        let opened = open(&cli, &clock, change);
        let Opened { address, token, stop, thread } = opened;
        Self { cli, clock, address, token, stop: Some(stop), thread: Some(thread) }
    }

    /// Stops the daemon and starts another one over the same root.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let opened = open(&self.cli, &self.clock, |_| {});
        (self.address, self.token) = (opened.address, opened.token);
        (self.stop, self.thread) = (Some(opened.stop), Some(opened.thread));
    }

    /// Makes one more token.
    pub(crate) fn token(options: &mut Options, name: &str, scopes: &[Scope], ends: i64) -> String {
        let runs = options.handle.runs().clone();
        let now = runs.clock.now();
        let expires_at = Some(now.plus_millis(ends));
        let new = NewToken { name: name.into(), scopes: scopes.to_vec(), expires_at };
        let text = tokens::create(&*runs.disk, &tokens_file(&runs), new, now).unwrap();
        options.tokens = Some(keyring(&runs));
        text
    }

    pub(crate) fn entry(&self) -> String {
        self.cli.path("process.js").display().to_string()
    }

    pub(crate) fn socket(&self) -> UnixStream {
        UnixStream::connect(self.cli.root().join(".dormouse/socket")).unwrap()
    }

    pub(crate) fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// A request over TCP with a token, as text that ends the connection.
    pub(crate) fn request(&self, line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
        let (host, token) = (self.address, &self.token);
        let auth = format!("Host: {host}\r\nAuthorization: Bearer {token}\r\n");
        raw(line, &format!("{auth}{headers}"), body)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(&self.request(&format!("GET {path}"), "", b""))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        let kind = "Content-Type: application/json\r\n";
        self.send(&self.request(&format!("POST {path}"), kind, body.to_string().as_bytes()))
    }

    /// Sends bytes over TCP and reads to the end.
    pub(crate) fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.tcp();
        stream.write_all(bytes).unwrap();
        Answer::read(&mut stream)
    }

    /// The same over the socket.
    pub(crate) fn send_socket(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.socket();
        stream.write_all(bytes).unwrap();
        Answer::read(&mut stream)
    }

    /// A run `id` of the process, gone on until it waits.
    pub(crate) fn create(&self, id: &str) {
        let source = json!({ "entry": self.entry() });
        let asked = json!({ "source": source, "inputs": { "goal": "g" }, "runId": id });
        let answer = self.post("/v1/runs", &asked);
        assert_eq!(answer.status, 201, "{answer:?}");
        self.rests(id);
    }

    /// Waits until a run rests: deeds are answered before the run goes on.
    pub(crate) fn rests(&self, id: &str) {
        self.post(&format!("/v1/runs/{id}/iterate"), &json!({})).ok();
    }

    /// A run without a process.
    pub(crate) fn create_bare(&self, id: &str) {
        assert_eq!(self.post("/v1/runs", &json!({ "runId": id })).status, 201);
    }

    /// Stops the door and waits for it.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn runs(root: PathBuf) -> Runs {
    Runs {
        disk: Arc::new(StdDisk),
        clock: Arc::new(SystemClock),
        hosts: Arc::new(ChildHosts { exe: env!("CARGO_BIN_EXE_dormouse").into() }),
        root,
        lock_wait_ms: 5_000,
        allow_fs: None,
        limits: host_limits(),
        turn_wall_max_ms: 60_000,
        kinds: dormouse::services::runs::kinds::KnownKinds::default(),
        by: "operator:test".into(),
        telemetry: Telemetry::default(),
    }
}

/// A whole request that ends its connection.
pub(crate) fn raw(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = match body {
        [] => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!("{line} HTTP/1.1\r\n{headers}{length}Connection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

impl Answer {
    /// Reads an answer to the end of its connection.
    pub(crate) fn read(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        // A refused body may leave a reset behind the answer.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = bytes[end + 4..].to_vec();
        if head.to_lowercase().contains("transfer-encoding: chunked") {
            body = unchunk(&body);
        }
        Self { status, head, body }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Asserts a problem of this status and code.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:dormouse:problem:{code}"));
        problem
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!((200..300).contains(&self.status), "{}\n{}", self.head, self.text());
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.json()
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let chunk = rest.get(end + 2..end + 2 + size).unwrap_or(&rest[end + 2..]);
        body.extend_from_slice(chunk);
        if size == 0 || rest.len() < end + 4 + size {
            break;
        }
        rest = &rest[end + 4 + size..];
    }
    body
}
