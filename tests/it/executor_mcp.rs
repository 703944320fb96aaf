//! Tools of MCP servers, against a server that fails as it is told to: one test for each row of
//! what an end means.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use dormouse::codecs::event::FailureClass;
use dormouse::ground::clock::SystemClock;
use dormouse::ground::id::{EffectId, Epoch};
use dormouse::ports::disk::Disk;
use dormouse::ports::disk::std::StdDisk;
use dormouse::ports::telemetry::Metrics;
use dormouse::services::executor::guard::Guard;
use dormouse::services::executor::http::Client;
use dormouse::services::executor::http::wire::{SystemNames, Wire};
use dormouse::services::executor::mcp::{Mcp, Means, Section, Way};
use dormouse::services::executor::secrets::{Origin, Secrets, Source};
use dormouse::services::executor::{Attempt, Bar, Executor as _, Outcome, Stop, StopWhy, Stopper};
use dormouse::shells::run_dir::dir::RunDir;
use serde_json::{Value, json};
use tempfile::TempDir;

/// An executor with servers `plain`, `mute`, `refuse`, `deaf`, `once`, `none`, and what they wrote
/// down.
struct Tools {
    dir: TempDir,
    mcp: Mcp,
    metrics: Arc<Metrics>,
}

/// What became of a call, in words that can be compared.
#[derive(Debug, PartialEq)]
enum Said {
    Ok(Value),
    Failed(FailureClass, String, String, bool),
    Unknown(&'static str, String),
}

fn said(outcome: Outcome) -> Said {
    match outcome {
        Outcome::Ok { value, .. } => Said::Ok(value.to_value()),
        Outcome::HandedOver => panic!("nobody takes a call over"),
        Outcome::Failed { class, error, is_final, .. } => {
            Said::Failed(class, error.name, error.message, is_final)
        }
        Outcome::Unknown { cause, evidence } => {
            Said::Unknown(cause, evidence.unwrap().read::<String>().unwrap())
        }
    }
}

fn section(mode: &str, log: &Path) -> Section {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mcp/server.py");
    let mut args = vec![script.display().to_string()];
    args.extend([mode.to_owned(), log.display().to_string()]);
    let env = [("KEY".to_owned(), "secret:KEY".to_owned())].into();
    let way = Way::Program { program: "python3".into(), args, env };
    Section { way, start_timeout_ms: 60_000, allow_tools: None }
}

impl Tools {
    fn new() -> Self {
        Self::with(None)
    }

    /// The same with one more server.
    fn with(more: Option<(String, Section)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::default());
        let log = dir.path().join("log");
        let mut sections: BTreeMap<String, Section> = ["plain", "mute", "refuse", "deaf", "once"]
            .map(|mode| (mode.to_owned(), section(mode, &log)))
            .into();
        sections.get_mut("mute").unwrap().start_timeout_ms = 50;
        let mut none = section("plain", &log);
        let Way::Program { program, .. } = &mut none.way else { panic!() };
        *program = PathBuf::from("/no/such/program");
        sections.insert("none".to_owned(), none);
        let mut few = section("plain", &log);
        few.allow_tools = Some(vec!["echo".to_owned()]);
        sections.insert("few".to_owned(), few);
        sections.extend(more);
        let argv = ["printf", "s3cret-value"].map(str::to_owned).to_vec();
        let programs = vec!["python3".to_owned(), "/no/such/program".to_owned()];
        let key =
            Source { from: Origin::Command(argv), hosts: vec!["127.0.0.1".to_owned()], programs };
        let sources = [("KEY".to_owned(), key)].into();
        let secrets = Secrets::new(sources, Arc::new(StdDisk), Arc::clone(&metrics));
        let client = Client {
            wire: Wire::new(Arc::new(SystemNames), None).unwrap(),
            guard: Guard::default(),
            secrets,
            clock: Arc::new(SystemClock),
            metrics: Arc::clone(&metrics),
        };
        let path = std::env::var("PATH").unwrap();
        let passed = [("PATH".to_owned(), path), ("HOME".to_owned(), "/".to_owned())].into();
        let means = Means { client, passed };
        Self { mcp: Mcp::new(sections, &means), dir, metrics }
    }

    #[allow(clippy::needless_pass_by_value, reason = "it is made by `json!`")]
    fn attempt(&self, server: &str, tool: &str, arguments: Value) -> Attempt {
        Attempt {
            run_id: "r1".parse().unwrap(),
            effect_id: EffectId::new(1),
            kind: "mcp".to_owned(),
            epoch: Epoch(2),
            attempt: 2,
            is_last: false,
            definition: json!({ "server": server, "tool": tool, "arguments": arguments }),
            args: None,
            idempotency_key: "r1/e0001".to_owned(),
            deadline: None,
            timeout_ms: None,
            dir: self.run_dir(),
            cwd: None,
            traceparent: Some("00-aa-bb-01".to_owned()),
        }
    }

    fn run_dir(&self) -> RunDir {
        let disk: Arc<dyn Disk> = Arc::new(StdDisk);
        let dir = disk.open_dir(self.dir.path()).unwrap();
        RunDir::new(disk, dir, "r1".parse().unwrap(), None)
    }

    async fn call_until(&self, server: &str, tool: &str, arguments: Value, stop: Stop) -> Said {
        said(self.mcp.run(self.attempt(server, tool, arguments), stop).await)
    }

    async fn call(&self, server: &str, tool: &str) -> Said {
        let (_stopper, stop) = Stopper::new();
        self.call_until(server, tool, Value::Null, stop).await
    }

    /// What servers wrote down.
    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn calls(&self) -> usize {
        self.log().iter().filter(|line| line.get("call").is_some()).count()
    }

    /// Waits until servers wrote something down.
    async fn until(&self, done: impl Fn(&[Value]) -> bool) {
        while !done(&self.log()) {
            tokio::task::yield_now().await;
        }
    }
}

fn failed(class: FailureClass, name: &str, message: &str, is_final: bool) -> Said {
    Said::Failed(class, name.to_owned(), message.to_owned(), is_final)
}

#[tokio::test]
async fn an_answer_is_a_value_and_the_server_gets_key_and_trace() {
    let tools = Tools::new();
    let (_stopper, stop) = Stopper::new();
    let said = tools.call_until("plain", "echo", json!({ "a": 1 }), stop).await;
    let content = json!([{ "type": "text", "text": "said" }]);
    let value = json!({ "content": content, "structured": { "heard": { "a": 1 } } });
    assert_eq!(said, Said::Ok(value));
    let log = tools.log();
    assert_eq!(log[1]["meta"]["idempotencyKey"], "r1/e0001");
    assert_eq!(log[1]["meta"]["traceparent"], "00-aa-bb-01");
    assert_eq!(tools.metrics.mcp_calls.with(["plain", "ok"]).value(), 1);
    let target = tools.mcp.target(&json!({ "server": "plain", "tool": "echo" }));
    assert_eq!(target.as_deref(), Some("plain/echo"));
}

#[tokio::test]
async fn an_error_of_the_tool_is_a_report() {
    let said = Tools::new().call("plain", "fail").await;
    assert_eq!(said, failed(FailureClass::Reported, "McpToolError", "no such table", false));
}

#[tokio::test]
async fn a_request_that_the_server_calls_invalid_did_not_begin_and_never_will() {
    let said = Tools::new().call("plain", "invalid").await;
    assert_eq!(said, failed(FailureClass::NotBegun, "McpInvalidRequest", "n is missing", true));
}

#[tokio::test]
async fn any_other_error_of_the_server_is_a_report() {
    let said = Tools::new().call("plain", "internal").await;
    assert_eq!(said, failed(FailureClass::Reported, "McpError", "it broke", false));
}

#[tokio::test]
async fn a_tool_that_there_is_not_did_not_begin_and_never_will() {
    let tools = Tools::new();
    let said = tools.call("plain", "nothing").await;
    let why = "plain: there is no tool \"nothing\"";
    assert_eq!(said, failed(FailureClass::NotBegun, "McpUnknownTool", why, true));
    assert_eq!(tools.calls(), 0);
}

#[tokio::test]
async fn a_server_that_cannot_have_the_request_did_not_begin() {
    let tools = Tools::new();
    for (server, why) in [
        ("none", "none: /no/such/program: cannot be started: No such file"),
        ("mute", "mute: it said nothing within 50 ms"),
        ("refuse", "no licence found for «secret:KEY»"),
    ] {
        match tools.call(server, "echo").await {
            Said::Failed(FailureClass::NotBegun, name, message, false) => {
                assert_eq!(name, "McpUnreachable");
                assert!(message.contains(why), "{message}");
            }
            other => panic!("{server}: {other:?}"),
        }
    }
    assert_eq!(tools.calls(), 0);
    assert_eq!(tools.metrics.mcp_calls.with(["none", "not_begun"]).value(), 1);
}

#[tokio::test]
async fn a_server_that_stopped_reading_before_the_request_did_not_begin() {
    let tools = Tools::new();
    let end = tools.dir.path().join("log.end");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &end,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    match tools.call("deaf", "echo").await {
        Said::Failed(FailureClass::NotBegun, name, _, false) => assert_eq!(name, "McpUnreachable"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_that_goes_after_the_request_leaves_it_unknown() {
    let tools = Tools::new();
    match tools.call("plain", "die").await {
        Said::Unknown("transport", why) => assert!(why.starts_with("plain: "), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(tools.calls(), 1, "it had the request, and nobody sent it again");
    // The next call begins it anew.
    assert!(matches!(tools.call("plain", "echo").await, Said::Ok(_)));
    assert_eq!(tools.log().iter().filter(|line| line.get("begun").is_some()).count(), 2);
}

#[tokio::test]
async fn an_answer_of_another_kind_leaves_it_unknown() {
    let why = "plain: it answered with something else".to_owned();
    assert_eq!(Tools::new().call("plain", "odd").await, Said::Unknown("transport", why));
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cancelled_and_unknown() {
    for (why, cause) in [
        (StopWhy::TimedOut, "attempt_timeout"),
        (StopWhy::Draining, "daemon_stopped"),
        (StopWhy::Cancelled, "cancelled"),
    ] {
        let tools = Tools::new();
        let (stopper, stop) = Stopper::new();
        let working = tools.call_until("plain", "hang", Value::Null, stop);
        let stopping = async {
            tools.until(|log| log.iter().any(|line| line["call"] == "hang")).await;
            stopper.stop(why);
        };
        let (said, ()) = tokio::join!(working, stopping);
        assert_eq!(said, Said::Unknown(cause, "plain: no answer".to_owned()));
        let reason = json!({ "cancelled": format!("{why:?}") });
        tools.until(|log| log.contains(&reason)).await;
    }
}

#[tokio::test]
async fn what_is_stopped_before_it_was_sent_did_not_begin() {
    let tools = Tools::new();
    let (stopper, stop) = Stopper::new();
    stopper.stop(StopWhy::Cancelled);
    match tools.call_until("mute", "echo", Value::Null, stop).await {
        Said::Failed(FailureClass::NotBegun, _, why, false) => {
            assert!(why.contains("stop"), "{why}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tools_that_come_later_are_seen() {
    let tools = Tools::new();
    assert!(matches!(tools.call("plain", "late").await, Said::Failed(..)));
    assert!(matches!(tools.call("plain", "grow").await, Said::Ok(_)));
    assert!(matches!(tools.call("plain", "late").await, Said::Ok(_)));
}

#[tokio::test]
async fn what_a_server_asks_of_us_is_refused_in_words() {
    let said = Tools::new().call("plain", "ask").await;
    let Said::Ok(value) = said else { panic!("{said:?}") };
    let why = "dormouse calls tools unattended; it does not";
    assert_eq!(value["content"][0]["text"], format!("{why} sample; {why} ask people"));
}

#[tokio::test]
async fn calls_share_a_server() {
    let tools = Tools::new();
    let both = tokio::join!(tools.call("plain", "echo"), tools.call("plain", "echo"));
    assert!(matches!(both, (Said::Ok(_), Said::Ok(_))));
    assert_eq!(tools.log().iter().filter(|line| line.get("begun").is_some()).count(), 1);
}

#[tokio::test]
async fn a_secret_goes_to_the_server_and_does_not_come_back() {
    let tools = Tools::new();
    let said = tools.call("plain", "leak").await;
    let Said::Ok(value) = said else { panic!("{said:?}") };
    assert_eq!(value["content"][0]["text"], "the key is «secret:KEY»");
    let (_stopper, stop) = Stopper::new();
    let said = tools.call_until("plain", "leak", json!({}), stop).await;
    let why = "the key is «secret:KEY»";
    assert_eq!(said, failed(FailureClass::Reported, "McpToolError", why, false));
}

#[test]
fn what_configuration_does_not_allow_is_held_and_what_is_wrong_never_runs() {
    let tools = Tools::new();
    let may = |server: &str, tool: &str| {
        tools.mcp.may_run(&json!({ "server": server, "tool": tool }), None)
    };
    assert_eq!(may("few", "echo"), Ok(()));
    for (server, tool, line) in [
        ("few", "fail", "mcp.servers.few.allow_tools = [\"fail\"]"),
        ("other", "echo", "[mcp.servers.other]"),
    ] {
        let Err(Bar::Held { allow, .. }) = may(server, tool) else { panic!("{server}") };
        assert_eq!(allow, line);
    }
    let Err(Bar::Never(error)) = tools.mcp.may_run(&json!({}), None) else { panic!() };
    assert_eq!(error.name, "InvalidMcpDefinition");
}

/// A server over HTTP that fails as it is told to.
struct Web {
    address: SocketAddr,
    /// Heads and bodies of requests, in order.
    heard: mpsc::Receiver<(String, Value)>,
}

/// Reads one request: its head, and its body if it has one.
fn request(stream: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let mut head = String::new();
    while stream.read_line(&mut head).ok()? > 2 {}
    let length = head.lines().find_map(|line| {
        line.to_lowercase().strip_prefix("content-length: ").map(|n| n.parse::<usize>().unwrap())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some((head.to_lowercase(), serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

/// What the server says; nothing: it hangs up.
fn reply(asked: &Value) -> Option<(&'static str, &'static str, String)> {
    const JSON: &str = "application/json";
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result });
    let tool = asked["params"]["name"].as_str().unwrap_or_default();
    let content = json!([{ "type": "text", "text": "said" }]);
    Some(match (asked["method"].as_str().unwrap_or_default(), tool) {
        ("initialize", _) => {
            let about = json!({
                "protocolVersion": asked["params"]["protocolVersion"],
                "capabilities": { "tools": {} },
                "serverInfo": { "name": "scripted", "version": "1" },
            });
            ("200 OK\r\nMcp-Session-Id: s1", JSON, result(about).to_string())
        }
        ("tools/list", _) => {
            let names = ["echo", "stream", "die", "busy", "broken", "invalid"];
            let tools = names.map(|name| json!({ "name": name, "inputSchema": {} }));
            ("200 OK", JSON, result(json!({ "tools": tools })).to_string())
        }
        ("tools/call", "echo") => {
            ("200 OK", JSON, result(json!({ "content": content })).to_string())
        }
        ("tools/call", "stream") => {
            let told = format!(": hi\n\ndata: {}\n\n", result(json!({ "content": content })));
            ("200 OK", "text/event-stream", told)
        }
        ("tools/call", "die") => return None,
        ("tools/call", "busy") => ("429 Too Many Requests", "text/plain", "later".to_owned()),
        ("tools/call", "broken") => ("502 Bad Gateway", "text/html", "<p>".to_owned()),
        ("tools/call", "invalid") => {
            let error = json!({ "code": -32602, "message": "n is missing" });
            let told = json!({ "jsonrpc": "2.0", "id": asked["id"], "error": error });
            ("400 Bad Request", JSON, told.to_string())
        }
        ("", _) => ("405 Method Not Allowed", "text/plain", String::new()),
        _ => ("202 Accepted", "text/plain", String::new()),
    })
}

impl Web {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (say, heard) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let Some((lines, asked)) = request(&mut stream) else { continue };
                // The test may have ended.
                let _ = say.send((lines, asked.clone()));
                let Some((status, kind, body)) = reply(&asked) else { continue };
                let length = body.len();
                let begin = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
                     Connection: close\r\n\r\n"
                );
                let _ = stream.get_mut().write_all(format!("{begin}{body}").as_bytes());
            }
        });
        Self { address, heard }
    }

    fn section(&self) -> (String, Section) {
        let url = format!("http://{}/mcp", self.address);
        let secret = "Bearer ${secret:KEY}".to_owned();
        let way = Way::Url { url, headers: [("authorization".to_owned(), secret)].into() };
        let section = Section { way, start_timeout_ms: 60_000, allow_tools: None };
        ("web".to_owned(), section)
    }
}

#[tokio::test]
async fn over_http_an_answer_comes_at_once_or_as_a_stream() {
    let web = Web::new();
    let tools = Tools::with(Some(web.section()));
    let value = json!({ "content": [{ "type": "text", "text": "said" }] });
    assert_eq!(tools.call("web", "echo").await, Said::Ok(value.clone()));
    assert_eq!(tools.call("web", "stream").await, Said::Ok(value));
    let heard: Vec<(String, Value)> = web.heard.try_iter().collect();
    assert!(heard.iter().all(|(lines, _)| lines.contains("authorization: bearer s3cret-value")));
    let (lines, asked) = heard.iter().find(|(_, asked)| asked["method"] == "tools/call").unwrap();
    assert!(lines.contains("mcp-session-id: s1"), "{lines}");
    assert_eq!(asked["params"]["_meta"]["idempotencyKey"], "r1/e0001");
}

#[tokio::test]
async fn over_http_what_cannot_have_begun_is_told_from_what_may_have() {
    let web = Web::new();
    let tools = Tools::with(Some(web.section()));
    for tool in ["die", "broken"] {
        match tools.call("web", tool).await {
            Said::Unknown("transport", _) => {}
            other => panic!("{tool}: {other:?}"),
        }
    }
    match tools.call("web", "busy").await {
        Said::Failed(FailureClass::NotBegun, _, _, false) => {}
        other => panic!("{other:?}"),
    }
    let said = tools.call("web", "invalid").await;
    assert_eq!(said, failed(FailureClass::NotBegun, "McpInvalidRequest", "n is missing", true));
    let calls = web.heard.try_iter().filter(|(_, asked)| asked["method"] == "tools/call");
    assert_eq!(calls.count(), 4, "nothing was sent twice");
}

#[tokio::test]
async fn over_http_nobody_there_did_not_begin() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let way = Way::Url { url: format!("http://{gone}/mcp"), headers: BTreeMap::new() };
    let section = Section { way, start_timeout_ms: 60_000, allow_tools: None };
    match Tools::with(Some(("gone".to_owned(), section))).call("gone", "echo").await {
        Said::Failed(FailureClass::NotBegun, name, _, false) => assert_eq!(name, "McpUnreachable"),
        other => panic!("{other:?}"),
    }
}
