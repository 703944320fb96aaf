//! Requests and agents over HTTP, against servers that do as a script says.
//!
//! Every row H1 to H9 is met on a real connection. Invariant: what an attempt leaves behind holds
//! no secret.

use crate::yard::Yard;
use dormouse::codecs::event::{Event, FailureClass};
use dormouse::daemon::Daemon;
use dormouse::daemon::config::Config;
use dormouse::ground::clock::SystemClock;
use dormouse::ground::id::{EffectId, Epoch};
use dormouse::ports::disk::Disk as _;
use dormouse::ports::disk::std::StdDisk;
use dormouse::ports::telemetry::Metrics;
use dormouse::services::executor::agents::AgentExecutor;
use dormouse::services::executor::agents::book::Book;
use dormouse::services::executor::agents::postbox::Postbox;
use dormouse::services::executor::guard::{Guard, Listeners};
use dormouse::services::executor::http::wire::{Found, Names, Wire};
use dormouse::services::executor::http::{Client, Http};
use dormouse::services::executor::secrets::{Origin, Secrets, Source};
use dormouse::services::executor::shell::{Rules, Shell};
use dormouse::services::executor::{Attempt, Bar, Executor, Outcome, Stop, StopWhy, Stopper};
use dormouse::shells::run_dir::dir::RunDir;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const CANARY: &str = "c4nary/Secret+with \"odd\" characters";

/// What a server does with one connection.
pub(crate) enum Does {
    /// Reads a request, answers, closes.
    Answers(String),
    /// Reads a request, answers with what it read.
    Echoes(u16),
    /// Reads a request, writes this much, and waits for the other side to go.
    Hangs(&'static str),
    /// Closes without reading.
    Closes,
}

pub(crate) struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

pub(crate) fn answer(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

pub(crate) fn json_answer(status: u16, body: &str) -> Does {
    Does::Answers(answer(status, "content-type: application/json\r\n", body))
}

fn read_request(stream: &mut TcpStream) -> String {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.to_lowercase().split_once("content-length: ").map_or(0, |(_, rest)| {
                    rest.split("\r\n").next().unwrap().parse::<usize>().unwrap()
                });
            if body.len() >= length {
                return text;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return text,
            Ok(n) => read.extend_from_slice(&buffer[..n]),
        }
    }
}

impl Server {
    /// One connection after the other, as told.
    pub(crate) fn doing(script: Vec<Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&requests);
        std::thread::spawn(move || {
            for does in script {
                let (mut stream, _) = listener.accept().unwrap();
                if matches!(does, Does::Closes) {
                    continue;
                }
                let request = read_request(&mut stream);
                heard.lock().unwrap().push(request.clone());
                match does {
                    // The other side may have gone: that is its business.
                    Does::Answers(text) => drop(stream.write_all(text.as_bytes())),
                    Does::Echoes(status) => {
                        drop(stream.write_all(answer(status, "", &request).as_bytes()));
                    }
                    Does::Hangs(text) => {
                        drop(stream.write_all(text.as_bytes()));
                        while stream.read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
                    }
                    Does::Closes => {}
                }
            }
        });
        Self { port, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Names that are where a test says.
struct Told {
    addresses: Vec<SocketAddr>,
    asked: Arc<AtomicUsize>,
}

impl Names for Told {
    fn addresses(&self, _host: &str, _port: u16) -> Found {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let addresses = self.addresses.clone();
        Box::pin(async move { Ok(addresses) })
    }
}

struct Bench {
    dir: TempDir,
    metrics: Arc<Metrics>,
    asked: Arc<AtomicUsize>,
    addresses: Vec<SocketAddr>,
    allow: Vec<String>,
    ours: Listeners,
}

impl Bench {
    fn new(allow: &[String]) -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            metrics: Arc::default(),
            asked: Arc::default(),
            addresses: Vec::new(),
            allow: allow.to_vec(),
            ours: Listeners::default(),
        }
    }

    fn client(&self) -> Client {
        let names = Told { addresses: self.addresses.clone(), asked: Arc::clone(&self.asked) };
        let path = self.dir.path().join("canary");
        fs::write(&path, format!("{CANARY}\n")).unwrap();
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, own).unwrap();
        let source = Source {
            from: Origin::File(path),
            hosts: vec!["127.0.0.1".to_owned()],
            programs: Vec::new(),
        };
        let sources = [("CANARY".to_owned(), source)].into();
        Client {
            wire: Wire::new(Arc::new(names), None).unwrap(),
            guard: Guard::new(&self.allow, self.ours.clone()).unwrap(),
            secrets: Secrets::new(sources, Arc::new(StdDisk), Arc::clone(&self.metrics)),
            clock: Arc::new(SystemClock),
            metrics: Arc::clone(&self.metrics),
        }
    }

    fn attempt(&self, kind: &str, definition: Value) -> Attempt {
        let disk = Arc::new(StdDisk);
        let dir = disk.open_dir(self.dir.path()).unwrap();
        Attempt {
            run_id: "R1".parse().unwrap(),
            effect_id: EffectId::new(2),
            kind: kind.to_owned(),
            epoch: Epoch(3),
            attempt: 3,
            is_last: true,
            definition,
            args: Some(json!({ "n": 7 })),
            idempotency_key: "R1/e0002".to_owned(),
            deadline: None,
            timeout_ms: None,
            dir: RunDir::new(disk, dir, "R1".parse().unwrap(), None),
            cwd: None,
            traceparent: Some("00-a-b-01".to_owned()),
        }
    }

    fn run(&self, executor: &dyn Executor, definition: Value, stop: Stop) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(executor.run(self.attempt(executor.kind(), definition), stop))
    }

    #[allow(clippy::needless_pass_by_value, reason = "it is made by `json!`")]
    fn http(&self, http: Value) -> Outcome {
        let (_stopper, stop) = Stopper::new();
        self.run(&Http::new(self.client()), json!({ "kind": "http", "http": http }), stop)
    }

    fn agents(&self, yaml: &str) -> AgentExecutor {
        let path = self.dir.path().join("agents.yaml");
        fs::write(&path, yaml).unwrap();
        let root = self.dir.path().to_owned();
        let postbox = Postbox::new(Arc::new(StdDisk), root, self.ours.clone(), None);
        AgentExecutor {
            client: self.client(),
            book: Arc::new(Book::new(Arc::new(StdDisk), Some(path))),
            shell: Arc::new(Shell::new(
                Rules::default(),
                Arc::new(StdDisk),
                Path::new("/none"),
                (self.client().secrets, Arc::clone(&self.metrics)),
                |_| None,
            )),
            commands: false,
            postbox: Arc::new(postbox),
        }
    }

    fn agent(&self, yaml: &str, prompt: &Value) -> Outcome {
        let (_stopper, stop) = Stopper::new();
        self.run(&self.agents(yaml), told("helper", prompt), stop)
    }
}

fn told(name: &str, prompt: &Value) -> Value {
    json!({ "kind": "agent", "agent": { "name": name, "prompt": prompt } })
}

/// What an outcome is, in a word, with its error's name and whether it is final.
fn class(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok { .. } => "ok".to_owned(),
        Outcome::HandedOver => "handed over".to_owned(),
        Outcome::Failed { class, error, is_final, .. } => {
            let class = match class {
                FailureClass::NotBegun => "not_begun",
                FailureClass::Reported => "reported",
                FailureClass::Unknown => "unknown",
            };
            format!("{class}{} {}", if *is_final { " final" } else { "" }, error.name)
        }
        Outcome::Unknown { cause, .. } => format!("unknown {cause}"),
    }
}

fn value(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Ok { value, .. } => value.to_value(),
        other => panic!("{other:?}"),
    }
}

fn evidence(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Unknown { evidence, .. } => evidence.as_ref().unwrap().to_value(),
        other => panic!("{other:?}"),
    }
}

/// The outcome of a POST to a server that does this.
fn post_to(does: Does, more: &Value) -> Outcome {
    let server = Server::doing(vec![does]);
    let mut http = json!({ "url": server.url(), "method": "POST", "json": {} });
    for (name, value) in more.as_object().unwrap() {
        http[name] = value.clone();
    }
    Bench::new(&[server.url()]).http(http)
}

#[test]
fn h1_what_may_not_be_sent_is_refused_before_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let mut bench = Bench::new(&[format!("http://{address}")]);
    bench.ours.add(address);
    bench.addresses = vec!["10.0.0.1:80".parse().unwrap()];
    for (http, is) in [
        (json!({ "url": format!("http://{address}") }), "not_begun final HttpRefused"),
        (json!({ "url": "http://127.0.0.1:1/" }), "not_begun final HttpRefused"),
        (json!({ "url": "http://inside.example/" }), "not_begun final HttpRefused"),
        (json!({ "url": "no url" }), "not_begun final HttpRefused"),
        (json!({ "url": "http://x/${secret:NONE}" }), "not_begun final SecretMissing"),
        (json!({ "url": "http://x/${secret:CANARY}" }), "not_begun final SecretMissing"),
        (json!({ "url": "http://${secret:CANARY}/" }), "not_begun final HttpRefused"),
        (json!({ "url": "http://x/${args.none}" }), "not_begun final HttpDefinition"),
        (
            json!({ "url": "http://x/", "headers": { "Host": "y" } }),
            "not_begun final HttpDefinition",
        ),
        (
            json!({ "url": "http://x/", "headers": { "a": "b\nc" } }),
            "not_begun final HttpDefinition",
        ),
        (json!({ "url": "http://x/", "colour": "red" }), "not_begun final HttpDefinition"),
    ] {
        let outcome = bench.http(http.clone());
        assert_eq!(class(&outcome), is, "{http}: {outcome:?}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert!(bench.metrics.ssrf_refusals.value() >= 4);
    assert!(bench.metrics.http_executor.with(["none", "not_begun"]).value() >= 10);
}

#[test]
fn h2_nothing_was_written_when_no_connection_came_about() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = Bench::new(&[format!("http://{free}")]);
    let outcome = gone.http(json!({ "url": format!("http://{free}"), "method": "POST" }));
    assert_eq!(class(&outcome), "not_begun HttpUnreachable");

    let server = Server::doing(vec![Does::Closes]);
    let tls = format!("https://127.0.0.1:{}", server.port);
    let outcome =
        Bench::new(std::slice::from_ref(&tls)).http(json!({ "url": tls, "method": "POST" }));
    assert_eq!(class(&outcome), "not_begun HttpUnreachable", "TLS failed");

    let mut nameless = Bench::new(&[]);
    nameless.addresses = Vec::new();
    assert_eq!(class(&nameless.http(json!({ "url": "http://x/" }))), "not_begun HttpUnreachable");
}

#[test]
fn h3_a_server_that_did_not_act_says_when_to_come_back() {
    for (status, headers, wait) in [
        (429, "retry-after: 7\r\n", Some(7_000)),
        (503, "retry-after: 0\r\n", Some(0)),
        (421, "", None),
    ] {
        let outcome = post_to(Does::Answers(answer(status, headers, "")), &json!({}));
        assert_eq!(class(&outcome), "not_begun HttpStatus", "{status}");
        let Outcome::Failed { retry_after_ms, .. } = outcome else { unreachable!() };
        assert_eq!(retry_after_ms, wait, "{status}");
    }
    let more = json!({ "notBegunStatus": [423] });
    assert_eq!(class(&post_to(json_answer(423, "{}"), &more)), "not_begun HttpStatus");
}

#[test]
fn h4_what_was_expected_is_a_value() {
    let server = Server::doing(vec![json_answer(201, r#"{"n": 1.10}"#)]);
    let bench = Bench::new(&[server.url()]);
    let outcome = bench.http(json!({
        "url": format!("{}/a?b=c", server.url()), "method": "POST", "query": { "n": "${args.n}" },
        "headers": { "X-Run": "${runId}" }, "json": { "n": "${args.n}", "t": "n=${args.n}" },
    }));
    let Outcome::Ok { value: text, .. } = &outcome else { panic!("{outcome:?}") };
    assert!(text.as_str().contains(r#""body":{"n":1.10}"#), "{text:?}");
    let value = value(&outcome);
    assert_eq!(value["status"], 201);
    assert_eq!(value["headers"]["content-type"], "application/json");
    assert_eq!(value["url"], format!("{}/a?b=c&n=7", server.url()));
    assert!(value["durationMs"].is_u64());
    let heard = &server.heard()[0];
    for part in [
        "POST /a?b=c&n=7 HTTP/1.1\r\n",
        &format!("host: 127.0.0.1:{}\r\n", server.port),
        "idempotency-key: R1/e0002\r\n",
        "traceparent: 00-a-b-01\r\n",
        "user-agent: dormouse/",
        "x-run: R1\r\n",
        "content-type: application/json\r\n",
        r#"{"n":7,"t":"n=7"}"#,
    ] {
        assert!(heard.contains(part), "{part} is not in {heard}");
    }
    let blob = post_to(Does::Answers(answer(200, "", "x")), &json!({ "response": "blob" }));
    assert!(class(&blob) == "ok" && self::value(&blob)["bodyBlob"].is_object(), "{blob:?}");
}

#[test]
fn h5_a_refusal_is_final() {
    for does in [
        json_answer(404, r#"{"error":"no"}"#),
        Does::Answers(answer(302, "location: /x\r\n", "")),
        json_answer(101, ""),
    ] {
        let outcome = post_to(does, &json!({}));
        assert_eq!(class(&outcome), "reported final HttpStatus");
        let Outcome::Failed { error, .. } = outcome else { unreachable!() };
        assert!(error.data.unwrap().to_value()["status"].is_u64());
    }
}

#[test]
fn h6_a_failure_is_reported() {
    assert_eq!(class(&post_to(json_answer(500, "{}"), &json!({}))), "reported HttpStatus");
}

#[test]
fn h7_a_proxy_does_not_know() {
    for status in [408, 502, 503, 504] {
        assert_eq!(class(&post_to(json_answer(status, "{}"), &json!({}))), "unknown transport");
        let named = json_answer(status, r#"{"error":"I did not"}"#);
        assert_eq!(class(&post_to(named, &json!({}))), "reported HttpStatus");
    }
}

#[test]
fn h8_what_breaks_off_after_the_first_byte_is_unknown() {
    for does in [
        Does::Answers(String::new()),
        Does::Answers("H".to_owned()),
        Does::Answers("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_owned()),
        Does::Answers("nonsense\r\n\r\n".to_owned()),
        Does::Hangs(""),
        Does::Hangs("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nslow"),
    ] {
        let outcome = post_to(does, &json!({ "timeout": "300ms" }));
        assert_eq!(class(&outcome), "unknown transport");
        assert!(evidence(&outcome)["bytesSent"].as_u64().unwrap() > 50);
    }
}

#[test]
fn h8_whoever_is_stopped_says_whether_anything_was_sent() {
    let server = Server::doing(vec![Does::Hangs("HTTP/1.1 200 OK\r\n")]);
    let bench = Bench::new(&[server.url()]);
    let (stopper, stop) = Stopper::new();
    let heard = Arc::clone(&server.requests);
    std::thread::spawn(move || {
        while heard.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        stopper.stop(StopWhy::Cancelled);
    });
    let definition = json!({ "http": { "url": server.url(), "method": "POST" } });
    let outcome = bench.run(&Http::new(bench.client()), definition.clone(), stop);
    assert_eq!(class(&outcome), "unknown transport");

    // Nobody accepts: the connection stands in the kernel's queue, TLS never begins to answer.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let bench = Bench::new(std::slice::from_ref(&url));
    let (stopper, stop) = Stopper::new();
    stopper.stop(StopWhy::TimedOut);
    let definition = json!({ "http": { "url": url, "method": "POST" } });
    let outcome = bench.run(&Http::new(bench.client()), definition, stop);
    assert_eq!(class(&outcome), "not_begun HttpUnreachable");
}

#[test]
fn h9_what_cannot_be_read_was_done_all_the_same() {
    for (does, more) in [
        (Does::Answers(answer(200, "", "no json")), json!({ "response": "json" })),
        (Does::Answers(answer(200, "", "too long")), json!({ "maxResponseBytes": 3 })),
        (Does::Answers(answer(200, "content-encoding: gzip\r\n", "x")), json!({})),
        (
            Does::Answers("HTTP/1.1 200 OK\r\n\r\nwithout a length".to_owned()),
            json!({ "maxResponseBytes": 3 }),
        ),
    ] {
        let outcome = post_to(does, &more);
        assert_eq!(class(&outcome), "reported final HttpAnswer");
        let Outcome::Failed { error, .. } = outcome else { unreachable!() };
        assert_eq!(error.data.unwrap().to_value()["status"], 200);
    }
}

#[test]
fn a_name_is_resolved_once_and_all_its_addresses_are_checked() {
    let server = Server::doing(vec![json_answer(200, "{}")]);
    let url = format!("http://name.example:{}", server.port);
    let mut bench = Bench::new(std::slice::from_ref(&url));
    bench.addresses = vec![SocketAddr::from(([127, 0, 0, 1], server.port))];
    assert_eq!(class(&bench.http(json!({ "url": url }))), "ok");
    assert_eq!(bench.asked.load(Ordering::SeqCst), 1);
    assert!(server.heard()[0].contains(&format!("host: name.example:{}\r\n", server.port)));

    let mut mixed = Bench::new(&[]);
    mixed.addresses = vec!["8.8.8.8:80".parse().unwrap(), "169.254.169.254:80".parse().unwrap()];
    let outcome = mixed.http(json!({ "url": "http://rebound.example/" }));
    assert_eq!(class(&outcome), "not_begun final HttpRefused");
}

#[test]
fn a_redirect_is_checked_again_and_never_sends_twice() {
    let second = Server::doing(vec![Does::Echoes(200), Does::Echoes(200)]);
    let to = |status, url: &str| Does::Answers(answer(status, &format!("location: {url}\r\n"), ""));
    let first = Server::doing(vec![
        to(302, &second.url()),
        to(307, &second.url()),
        to(302, "http://127.0.0.1:1/"),
        to(303, "http://127.0.0.1:1/"),
    ]);
    let bench = Bench::new(&[first.url(), second.url()]);
    let ask = |method: &str| {
        bench.http(json!({
            "url": first.url(), "method": method, "follow": 5, "body": "once",
            "headers": { "x-key": "secret:CANARY", "x-plain": "p" },
        }))
    };
    let got = value(&ask("POST"));
    assert_eq!(got["url"], format!("{}/", second.url()));
    let heard = &second.heard()[0];
    assert!(heard.starts_with("GET / ") && heard.contains("x-plain: p"), "{heard}");
    assert!(!heard.contains("x-key") && !heard.contains("once"), "{heard}");
    assert_eq!(class(&ask("POST")), "reported final HttpStatus", "no second POST elsewhere");
    assert_eq!(class(&ask("GET")), "not_begun final HttpRefused", "each hop is checked");
    assert_eq!(class(&ask("POST")), "unknown transport", "the first server acted");
    assert_eq!(second.heard().len(), 1);
}

/// Every form in which the canary could be left somewhere.
fn tells_the_canary(text: &str) -> bool {
    let percent = CANARY.bytes().fold(String::new(), |mut out, b| {
        let _ = write!(out, "%{b:02X}");
        out
    });
    let escaped = json!(CANARY).to_string();
    let loose: String = text.chars().filter(|c| *c != '\\').collect();
    let forms =
        [CANARY, "c4nary", "Secret+with", "Secret%2Bwith", "YzRuYXJ5", "odd\" char", &percent];
    text.contains(&escaped[1..escaped.len() - 1]) || forms.iter().any(|form| loose.contains(form))
}

#[test]
fn a_secret_is_on_the_wire_and_nowhere_else() {
    assert!(tells_the_canary(CANARY) && tells_the_canary(&json!(CANARY).to_string()));
    for does in [
        vec![Does::Echoes(200)],
        vec![Does::Echoes(404)],
        vec![Does::Echoes(500)],
        vec![Does::Echoes(502)],
        vec![Does::Answers("H".to_owned())],
        vec![Does::Answers(answer(302, "location: /again\r\n", "")), Does::Echoes(200)],
        vec![Does::Closes],
    ] {
        let reads = !matches!(does[0], Does::Closes);
        let server = Server::doing(does);
        let bench = Bench::new(&[server.url()]);
        let outcome = bench.http(json!({
            "url": server.url(),
            "method": "POST", "follow": 1, "query": { "q": "secret:CANARY" },
            "headers": { "Authorization": "Bearer ${secret:CANARY}" },
            "json": { "key": "secret:CANARY", "text": "a ${secret:CANARY} b" },
        }));
        let shown = format!("{outcome:?}");
        assert!(!tells_the_canary(&shown), "{shown}");
        let heard = server.heard();
        assert_eq!(heard.first().is_some_and(|request| request.contains(CANARY)), reads);
        let blobs = bench.dir.path().join("blobs");
        assert!(!blobs.exists(), "nothing else was kept");
    }
}

fn helper(server: &Server, more: &str) -> String {
    format!("agents:\n  helper:\n    type: external_http\n    url: {}/ask\n{more}", server.url())
}

#[test]
fn an_agent_that_reads_its_goal_answers() {
    let server = Server::doing(vec![json_answer(200, r#"{"answer": "done", "tokens": 5}"#)]);
    let bench = Bench::new(&[]);
    let more = "    token: secret:CANARY\n    framework: flask\n    headers: {X-Team: a}\n";
    let outcome = bench.agent(&helper(&server, more), &json!("write a poem"));
    let raw = json!({ "answer": "done", "tokens": 5 });
    assert_eq!(value(&outcome), json!({ "answer": "done", "raw": raw }));
    let heard = &server.heard()[0];
    let body: Value = serde_json::from_str(heard.split_once("\r\n\r\n").unwrap().1).unwrap();
    for name in ["goal", "message", "content"] {
        assert_eq!(body[name], "write a poem");
    }
    assert_eq!((&body["session_id"], body.get("input")), (&json!("R1"), None));
    assert_eq!(
        body["metadata"],
        json!({
            "agent_id": "helper", "framework": "flask", "job_id": "R1", "run_id": "R1",
            "effect_id": "e0002", "attempt": 3, "idempotency_key": "R1/e0002",
        })
    );
    for part in [
        "POST /ask HTTP/1.1\r\n",
        "idempotency-key: R1/e0002\r\n",
        "x-dormouse-run-id: R1\r\n",
        "x-dormouse-effect-id: e0002\r\n",
        "x-dormouse-epoch: 3\r\n",
        "x-dormouse-attempt: 3\r\n",
        "x-aetheris-job-id: R1\r\n",
        "x-aetheris-agent-id: helper\r\n",
        "x-aetheris-framework: flask\r\n",
        "x-team: a\r\n",
        "traceparent: 00-a-b-01\r\n",
        &format!("authorization: Bearer {CANARY}\r\n"),
    ] {
        assert!(heard.contains(part), "{part} is not in {heard}");
    }
    assert_eq!(bench.metrics.http_executor.with(["helper", "ok"]).value(), 1);
}

#[test]
fn an_agent_says_how_it_went() {
    for (does, is) in [
        (json_answer(200, r#"{"answer":"a","final":false}"#), "reported final AgentNotFinal"),
        (json_answer(200, r#"{"error":"no"}"#), "reported AgentError"),
        (json_answer(502, r#"{"error":"no","final":false}"#), "reported AgentError"),
        (json_answer(422, r#"{"error":"no"}"#), "reported final AgentError"),
        (json_answer(429, r#"{"error":"busy"}"#), "not_begun AgentError"),
        (json_answer(502, "<html>"), "unknown transport"),
        (json_answer(200, r#"{"x":1}"#), "reported final AgentAnswer"),
        (
            Does::Answers("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".into()),
            "unknown transport",
        ),
        (Does::Answers(answer(200, "content-type: text/plain\r\n", "hello")), "ok"),
        (Does::Answers(answer(204, "", "")), "ok"),
    ] {
        let server = Server::doing(vec![does]);
        let outcome = Bench::new(&[]).agent(&helper(&server, ""), &json!({ "task": "x" }));
        assert_eq!(class(&outcome), is, "{outcome:?}");
        assert!(server.heard()[0].contains(r#""input":{"task":"x"}"#));
    }
    let server = Server::doing(vec![]);
    let unset = helper(&server, "    token_env: DORMOUSE_TEST_UNSET\n");
    let outcome = Bench::new(&[]).agent(&unset, &json!("x"));
    assert_eq!(class(&outcome), "not_begun final SecretMissing");
}

#[test]
fn an_agent_streams_until_it_says_done() {
    let stream = |text: &str| {
        Does::Answers(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{text}"))
    };
    let more = "    protocol: sse\n    agent_id: theirs\n";
    let whole = "HTTP/1.1 200 OK\r\n\r\ndata: Hel\ndata: lo\n\ndata: [DONE]\n";
    for (does, answer) in [
        (stream("data: Hel\n\ndata: lo\n\ndata: [DONE]\n\n"), Some("Hello")),
        (Does::Hangs(whole), Some("Hello")),
        (stream("data: Hel\n\ndata: lo\n\n"), None),
    ] {
        let server = Server::doing(vec![does]);
        let outcome = Bench::new(&[]).agent(&helper(&server, more), &json!("x"));
        match answer {
            Some(answer) => assert_eq!(value(&outcome), json!({ "answer": answer })),
            None => assert_eq!(class(&outcome), "unknown transport"),
        }
        let body = json!({ "session_id": "R1", "message": "x", "agent_id": "theirs" }).to_string();
        assert!(server.heard()[0].ends_with(&body), "{:?}", server.heard());
    }
}

#[test]
fn only_listed_agents_are_asked_from_here() {
    let bench = Bench::new(&[]);
    let agents = bench.agents("agents: {a: {type: echo}, b: {type: external}, c: {type: react}}");
    let may = |name: &str| agents.may_run(&told(name, &json!("x")), None);
    assert_eq!(may("a"), Ok(()));
    assert_eq!((may("b"), may("nobody")), (Err(Bar::Elsewhere), Err(Bar::Elsewhere)));
    let Err(Bar::Never(error)) = may("c") else { panic!() };
    assert!(error.message.contains("list it as `type: external_http`"), "{error:?}");
    let (_stopper, stop) = Stopper::new();
    let outcome = bench.run(&agents, told("a", &json!("hello")), stop);
    assert_eq!(value(&outcome), json!({ "answer": "The echo agent was told: hello" }));
}

#[test]
fn a_daemon_asks_the_agents_of_its_root() {
    let yard = Yard::new();
    let server = Server::doing(vec![json_answer(200, r#"{"answer":"from afar"}"#)]);
    fs::create_dir_all(yard.runs.root.join(".dormouse")).unwrap();
    fs::write(yard.runs.root.join(".dormouse/agents.yaml"), helper(&server, "")).unwrap();
    let daemon = Daemon::start(&yard.runs, &Config::default()).unwrap();
    let body = "const agent = { name: 'helper', prompt: 'go' }; \
                const ask = defineTask('ask', () => ({ kind: 'agent', agent })); \
                return await ctx.task(ask, {});";
    let run = yard.run(&daemon.handle(), "asks", body, &json!({}));
    let is_end = |event: &Event| matches!(event, Event::RunCompleted(_) | Event::RunFailed(_));
    let ended = || yard.records(&run).iter().any(|r| is_end(&r.event));
    for _ in 0..6_000 {
        if ended() {
            break;
        }
        // Another thread writes; the loop ends when it has, and fails only if it never does.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let records = yard.records(&run);
    let completed = records.iter().find_map(|r| match &r.event {
        Event::RunCompleted(completed) => completed.output.clone(),
        _ => None,
    });
    assert_eq!(completed.unwrap().to_value(), json!({ "answer": "from afar" }));
    assert!(server.heard()[0].contains(r#""goal":"go""#));
    daemon.stop().unwrap();
}
