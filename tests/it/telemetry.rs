//! Numbers, log lines and traces: each is documented and really written, none holds a value.

#![allow(clippy::disallowed_methods, reason = "tests read sources and what the program wrote")]

use crate::cli::Cli;
use crate::daemon_cli::Daemon as Killed;
use crate::inbox::{appears, terminate};
use crate::yard::Yard;
use dormouse::codecs::event::{Event, Record};
use dormouse::codecs::trace::RunTrace;
use dormouse::daemon::Daemon;
use dormouse::daemon::config::Config;
use dormouse::daemon::metrics::Exposition;
use dormouse::daemon::tracing_export::Exporter;
use dormouse::ground::clock::Timestamp;
use dormouse::ground::digest::hex;
use dormouse::ground::id::{EffectId, RunId};
use dormouse::ground::limits::{SPAN_BATCH_MAX, SPAN_QUEUE_MAX};
use dormouse::machines::limits::{Bucket, Limit, Scope};
use dormouse::ports::telemetry::{Metrics, Shape};
use dormouse::services::manager::Wanted;
use dormouse::services::telemetry::Tracer as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

/// What only requests to the outside write, and starts that have to wait: the tests of executors
/// and of limits look at it.
const OUTSIDE: &[&str] = &[
    "http_executor",
    "limit_wait",
    "mcp_calls",
    "ssrf_refusals",
    "secret_resolutions",
    "redactions",
    "shell_processes",
];

/// How often something is looked at that is on its way.
const LOOKS_MAX: usize = 400;

/// What nothing writes while all is well: replay that fails, hosts that must be killed, an index
/// that is wrong, journals that are damaged.
const ALL_IS_WELL: &[&str] =
    &["divergences", "hosts_killed", "wake_audit_findings", "runs_set_aside", "leases_lapsed"];

/// Metrics as they are shown: counters with their ending.
fn shown_names() -> BTreeSet<String> {
    let shown = Metrics::default().show().into_iter().map(|metric| match metric.shape {
        Shape::Count => format!("{}_total", metric.name),
        Shape::Level | Shape::Spread => metric.name.to_owned(),
    });
    shown.chain(["dormouse_build_info".to_owned()]).collect()
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let page = fs::read_to_string(top().join("docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: BTreeSet<String> =
        rows.map(|(name, _)| name.split('{').next().unwrap().to_owned()).collect();
    assert_eq!(documented, shown_names());
    for metric in Metrics::default().show() {
        let labels = metric.labels.join(",");
        let named = match (metric.shape, labels.as_str()) {
            (Shape::Count, "") => format!("`{}_total`", metric.name),
            (Shape::Count, labels) => format!("`{}_total{{{labels}}}`", metric.name),
            (_, "") => format!("`{}`", metric.name),
            (_, labels) => format!("`{}{{{labels}}}`", metric.name),
        };
        assert!(page.contains(&format!("| {named} |")), "docs/metrics.md lacks {named}");
    }
}

fn code_below(dir: &Path, out: &mut String) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("ports/telemetry") {
                code_below(&path, out);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            out.push_str(text.split("#[cfg(test)]").next().unwrap());
        }
    }
}

#[test]
fn every_field_is_written_somewhere() {
    let mut code = String::new();
    code_below(&top().join("src"), &mut code);
    let code: String = code.split_whitespace().collect();
    for metric in Metrics::default().show() {
        let place = format!("metrics.{}.", metric.field);
        let verbs = ["with(", "one(", "add(", "set(", "shift(", "observe("];
        let written = verbs.iter().any(|verb| code.contains(&format!("{place}{verb}")));
        assert!(written, "nobody writes {}", metric.field);
    }
}

/// Names of the families that show a sample.
fn sampled(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let names = samples.map(|line| line.split([' ', '{']).next().unwrap());
    let whole = |name: &str| {
        let cut = ["_sum", "_count", "_bucket"].iter().find_map(|end| name.strip_suffix(end));
        cut.unwrap_or(name).to_owned()
    };
    names.map(whole).collect()
}

fn sending_to(collector: &str) -> Config {
    let mut config = Config::default();
    config.telemetry.otlp_endpoint = Some(collector.to_owned());
    let limit = Limit { concurrency: Some(9), ..Limit::default() };
    config.limits.insert(Bucket { scope: Scope::Kind, name: "agent".into() }, limit);
    config
}

/// A process that asks for one task, after a short sleep.
const BODY: &str = "await ctx.sleep('1ms'); return await ctx.task(t, { secret: inputs.secret });";

/// A run is created, sleeps, and asks for its task.
fn begin(yard: &Yard, daemon: &Daemon) -> RunId {
    let handle = daemon.handle();
    let run = yard.run(&handle, "busy", BODY, &json!({ "secret": "x" }));
    yard.clock.by_millis(5);
    yard.rests(&handle, &run);
    run
}

/// Its outcome is posted, twice, and it ends.
fn end(yard: &Yard, daemon: &Daemon, run: &RunId) {
    let handle = daemon.handle();
    let wanted = Wanted {
        worker: "w".into(),
        kinds: vec!["nothing".into()],
        agents: Vec::new(),
        offers: Vec::new(),
        runs: Vec::new(),
        max: 1,
        ttl_ms: 60_000,
        claim_id: None,
        by: "client:test".into(),
    };
    let (given, _) = yard.wait(handle.claim(wanted, Duration::ZERO)).unwrap();
    assert!(given.is_empty());
    yard.post(&handle, run, 2, &json!(1));
    yard.post(&handle, run, 2, &json!(1));
    yard.rests(&handle, run);
}

#[test]
fn a_daemon_that_works_writes_every_number_it_can() {
    let yard = Yard::new();
    let collector = Collector::start();
    let daemon = Daemon::start(&yard.runs, &sending_to(&collector.address())).unwrap();
    let run = begin(&yard, &daemon);
    daemon.stop().unwrap();
    // The next one has to replay.
    let daemon = Daemon::start(&yard.runs, &sending_to(&collector.address())).unwrap();
    end(&yard, &daemon, &run);
    yard.drop_in("a.json", "no letter");
    appears(&yard.inbox().join("refused/a.json"));
    let exposition: Arc<Exposition> = daemon.exposition();
    let mut seen = sampled(&exposition.render());
    daemon.stop().unwrap();
    let text = exposition.render();
    seen.extend(sampled(&text));
    let (_, http) = http_of_a_served_root();
    seen.extend(sampled(&http));
    for metric in Metrics::default().show() {
        let name = match metric.shape {
            Shape::Count => format!("{}_total", metric.name),
            Shape::Level | Shape::Spread => metric.name.to_owned(),
        };
        let skip = ALL_IS_WELL.contains(&metric.field) || OUTSIDE.contains(&metric.field);
        assert!(skip || seen.contains(&name), "{name} was not written:\n{text}\n{http}");
    }
    for line in [
        "dormouse_runs_created_total{via=\"client\"} 1\n",
        "dormouse_runs_ended_total{outcome=\"completed\"} 1\n",
        "dormouse_effect_outcomes_total{kind=\"agent\",outcome=\"ok\"} 1\n",
        "dormouse_effect_outcomes_total{kind=\"sleep\",outcome=\"ok\"} 1\n",
        "dormouse_posts_total{result=\"accepted\"} 1\n",
        "dormouse_posts_total{result=\"repeat\"} 1\n",
        "dormouse_timer_fires_total 1\n",
        "dormouse_inbox_files_total{result=\"refused\"} 1\n",
        "dormouse_trace_spans_total{result=\"exported\"} 3\n",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(run.as_str()), "a run id became a label:\n{text}");
}

/// One answer to a request over the socket of a daemon: its head and body.
fn get(socket: &Path, path: &str) -> (String, String) {
    ask(socket, path, "")
}

/// The same with a line more in the head of the request.
fn ask(socket: &Path, path: &str, line: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let head = "Host: localhost\r\nConnection: close\r\n";
    write!(stream, "GET {path} HTTP/1.1\r\n{head}{line}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Follows a run for one message.
fn follow_and_leave(socket: &Path, path: &str) {
    let mut stream = UnixStream::connect(socket).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n").unwrap();
    write!(stream, "Accept: text/event-stream\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "event: hello"));
}

/// What `/metrics` says after a few requests.
fn http_of_a_served_root() -> (String, String) {
    let cli = Cli::waiting();
    let served = cli.start("serve");
    let socket = cli.root().join(".dormouse/socket");
    appears(&socket);
    let (head, _) = ask(&socket, "/v1/version", "Origin: http://example.com\r\n");
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    get(&socket, "/v1/health/live");
    get(&socket, "/no/such/route/r-123");
    follow_and_leave(&socket, "/v1/runs/r/events");
    let answer = get(&socket, "/metrics");
    terminate(&served);
    assert!(served.wait_with_output().unwrap().status.success());
    answer
}

#[test]
fn requests_count_under_their_route() {
    let (head, body) = http_of_a_served_root();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/openmetrics-text"));
    let live = "dormouse_http_requests_total{route=\"/v1/health/live\",status=\"200\"} 1\n";
    let none = "dormouse_http_requests_total{route=\"unmatched\",status=\"404\"} 1\n";
    assert!(body.contains(live) && body.contains(none), "{body}");
    assert!(!body.contains("r-123") && body.ends_with("# EOF\n"), "{body}");
}

/// A collector: takes traces over HTTP and keeps what it was sent.
pub(crate) struct Collector {
    listener: TcpListener,
    bodies: Receiver<Vec<u8>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (sender, bodies) = mpsc::channel();
        let own = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            for stream in own.incoming() {
                let Ok(body) = stream.and_then(answer) else { continue };
                if sender.send(body).is_err() {
                    return;
                }
            }
        });
        Self { listener, bodies }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.listener.local_addr().unwrap())
    }

    /// The bytes that came, once their sender has ended.
    pub(crate) fn bytes(&self) -> Vec<Vec<u8>> {
        self.bodies.try_iter().collect()
    }

    /// Waits until so many spans have come in all.
    fn gather(&self, spans: &mut Vec<Span>, count: usize) {
        while spans.len() < count {
            spans.extend(Self::decoded(&[self.bodies.recv().unwrap()]));
        }
    }

    fn spans(&self) -> Vec<Span> {
        Self::decoded(&self.bytes())
    }

    fn decoded(requests: &[Vec<u8>]) -> Vec<Span> {
        let decoded = requests.iter().map(|body| ExportTraceServiceRequest::decode(&**body));
        let resources = decoded.flat_map(|request| request.unwrap().resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

/// Reads one request, says that it is well, and gives the body.
fn answer(stream: TcpStream) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    reader.read_line(&mut line)?;
    assert!(line.starts_with("POST /v1/traces "), "{line}");
    while line.trim() != "" {
        line.clear();
        reader.read_line(&mut line)?;
        let lower = line.to_lowercase();
        if let Some(text) = lower.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        assert!(!lower.starts_with("content-type:") || lower.contains("x-protobuf"), "{line}");
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    reader.into_inner().write_all(ok)?;
    Ok(body)
}

fn attribute(span: &Span, key: &str) -> Value {
    let found = span.attributes.iter().find(|a| a.key == key);
    match found.and_then(|a| a.value.clone()).and_then(|v| v.value) {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::IntValue(number)) => json!(number),
        other => panic!("{key}: {other:?} in {span:?}"),
    }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.micros()).unwrap() * 1_000
}

fn time_of(records: &[Arc<Record>], is: impl Fn(&Event) -> bool) -> u64 {
    nanos(records.iter().find(|r| is(&r.event)).unwrap().at)
}

#[test]
fn traces_have_a_span_for_each_effect_and_one_trace_over_restarts() {
    let yard = Yard::new();
    let collector = Collector::start();
    let daemon = Daemon::start(&yard.runs, &sending_to(&collector.address())).unwrap();
    let handle = daemon.handle();
    let body = "await ctx.task(t, {}); return await ctx.task(t, {});";
    let run = yard.run(&handle, "r", body, &json!({}));
    yard.clock.by_millis(1_500);
    yard.post(&handle, &run, 1, &json!("first"));
    daemon.stop().unwrap();
    let daemon = Daemon::start(&yard.runs, &sending_to(&collector.address())).unwrap();
    yard.clock.by_millis(2_500);
    yard.post(&daemon.handle(), &run, 2, &json!("second"));
    daemon.stop().unwrap();

    let spans = collector.spans();
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let (first, second, whole) = (&spans[0], &spans[1], &spans[2]);
    let records = yard.records(&run);
    for (span, n) in [(first, 1), (second, 2)] {
        let id = EffectId::new(n);
        let trace = RunTrace::new(&run, None);
        assert_eq!(
            (&span.trace_id[..], &span.span_id[..]),
            (&trace.id()[..], &trace.effect_span(id)[..])
        );
        assert_eq!(span.parent_span_id, whole.span_id);
        assert_eq!(span.trace_id, whole.trace_id);
        let asked = |e: &Event| matches!(e, Event::EffectRequested(e) if e.effect_id == id);
        let done = |e: &Event| matches!(e, Event::EffectResolved(e) if e.effect_id == id);
        assert_eq!(span.start_time_unix_nano, time_of(&records, asked));
        assert_eq!(span.end_time_unix_nano, time_of(&records, done));
        for (key, value) in [
            ("dormouse.run_id", json!("r")),
            ("dormouse.effect_id", json!(id.to_string())),
            ("dormouse.kind", json!("agent")),
            ("dormouse.status", json!("ok")),
            ("dormouse.epoch", json!(0)),
        ] {
            assert_eq!(attribute(span, key), value, "{key}");
        }
        assert!(attribute(span, "dormouse.key").as_str().unwrap().contains('t'));
    }
    assert_ne!(first.span_id, second.span_id);
    assert!(whole.parent_span_id.is_empty());
    assert_eq!(attribute(whole, "dormouse.status"), "completed");
    assert_eq!(whole.start_time_unix_nano, nanos(records[0].at));
    assert_eq!(whole.end_time_unix_nano, nanos(records.last().unwrap().at));
}

/// A task, then a child run with a task of its own.
const FAMILY: &str = r#"
import { defineTask } from "dormouse";
const t = defineTask("t", () => ({ kind: "agent" }));
export async function process(inputs, ctx) {
  await ctx.task(t, {});
  return ctx.run({ process: "main.js", exportName: "child" });
}
export async function child(inputs, ctx) { return ctx.task(t, {}); }
"#;

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Starts a task in the name of a worker. Gives its epoch and its place in the trace.
fn claim(cli: &Cli, task: &str) -> (u64, String) {
    for _ in 0..LOOKS_MAX {
        let id = task.replace(' ', "-");
        let ran = cli.run(&format!("task claim {task} --worker w --claim-id {id} --json"));
        if ran.code == 0 {
            let task = serde_json::from_str::<Value>(&ran.out).unwrap()["tasks"][0].clone();
            return (task["epoch"].as_u64().unwrap(), task["traceparent"].as_str().unwrap().into());
        }
    }
    panic!("{task} was never there");
}

#[test]
fn e30_one_trace_and_one_tree_through_kills() {
    let (cli, collector, mut spans) = (Cli::new(), Collector::start(), Vec::new());
    let serve = || Killed::start(&cli, &["--otlp-endpoint", &collector.address()]);
    cli.file("main.js", FAMILY);
    let daemon = serve();
    let mut create = cli.command(&["run", "create", "--entry", "main.js", "--run-id", "r"]);
    assert!(create.env("TRACEPARENT", CALLER).output().unwrap().status.success());
    let first = claim(&cli, "r e0001");
    drop(daemon);
    let daemon = serve();
    assert_eq!(claim(&cli, "r e0001"), first, "the same start after a kill");
    cli.run("task release r e0001 --epoch 1 --began no").ok();
    let second = cli.run("task claim r e0001 --worker w --json").ok();
    let second: Value = serde_json::from_str(&second.out).unwrap();
    let second = second["tasks"][0]["traceparent"].as_str().unwrap().to_owned();
    assert_ne!(second, first.1);
    cli.run("task post r e0001 --epoch 2 --status ok --value-inline 1").ok();
    let (_, third) = claim(&cli, "r.e0002 e0001");
    collector.gather(&mut spans, 3);
    drop(daemon);
    let daemon = serve();
    cli.run("task post r.e0002 e0001 --epoch 1 --status ok --value-inline 2").ok();
    collector.gather(&mut spans, 9);
    drop(daemon);
    let id = |span: &Span| hex(&span.span_id);
    let ids: BTreeSet<String> = spans.iter().map(id).collect();
    assert_eq!(ids.len(), 9, "{spans:#?}");
    for handed in [&first.1, &second, &third] {
        assert_eq!(handed[..36], CALLER[..36]);
        assert!(ids.contains(&handed[36..52]), "{handed} is the place of an attempt");
    }
    let roots: Vec<&Span> =
        spans.iter().filter(|s| !ids.contains(&hex(&s.parent_span_id))).collect();
    assert_eq!(roots.len(), 1, "{roots:#?}");
    assert_eq!(hex(&roots[0].parent_span_id), CALLER[36..52]);
    assert!(spans.iter().all(|span| hex(&span.trace_id) == CALLER[3..35]));
    let child = spans.iter().find(|s| s.name == "run" && s.span_id != roots[0].span_id).unwrap();
    let above = spans.iter().find(|s| s.span_id == child.parent_span_id).unwrap();
    assert_eq!(attribute(above, "dormouse.effect_id"), "e0002");
}

#[test]
fn a_collector_that_is_not_there_costs_spans_and_nothing_else() {
    let yard = Yard::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = Daemon::start(&yard.runs, &sending_to(&format!("http://{closed}"))).unwrap();
    let run = begin(&yard, &daemon);
    end(&yard, &daemon, &run);
    daemon.stop().unwrap();
    assert!(yard.runs.look(run.as_str()).unwrap().state.end.is_some());
    let failed = yard.runs.telemetry.metrics.trace_spans.with(["failed"]);
    assert_eq!(failed.value(), 3);
}

#[test]
fn a_queue_that_is_full_drops_and_counts() {
    let yard = Yard::new();
    // Connections are taken by the kernel and never answered.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let metrics = Arc::new(Metrics::default());
    let (exporter, sending) = Exporter::start(&endpoint, Arc::clone(&metrics)).unwrap();
    let manager = yard.manager();
    let run = yard.run(&manager.handle(), "r", "return 1;", &json!({}));
    manager.stop().unwrap();
    let seen = yard.runs.look(run.as_str()).unwrap();
    let last = seen.records.last().unwrap();
    let enough = SPAN_QUEUE_MAX + SPAN_BATCH_MAX + 7;
    for _ in 0..enough {
        exporter.committed(&seen.state, last);
    }
    assert!(metrics.trace_spans.with(["dropped"]).value() >= 7);
    drop(silent);
    // Whoever stops it would wait for the limit of one export.
    drop(sending);
}

/// An input value that nothing but journals and task files may hold.
const CANARY: &str = "canary-5f3a9c";

#[test]
fn l1_no_value_reaches_logs_metrics_or_traces() {
    for format in ["text", "json"] {
        let collector = Collector::start();
        let cli = Cli::new();
        cli.file("process.js", crate::cli::PROCESS);
        cli.file("inputs.json", json!({ "goal": CANARY }).to_string());
        cli.run("run create --entry process.js --inputs inputs.json --run-id r").ok();
        cli.run("run iterate r").ok();
        let line = format!(
            "serve --log trace --log-format {format} --otlp-endpoint {}",
            collector.address()
        );
        let served = cli.start(&line);
        let inbox = cli.root().join(".dormouse/inbox");
        let send = |name: &str, folder: &str, body: Value| {
            fs::rename(cli.file("written", body.to_string()), inbox.join(name)).unwrap();
            appears(&inbox.join(folder).join(name));
        };
        appears(&inbox);
        let ok = |effect: &str| json!({ "runId": "r", "effectId": effect, "status": "ok" });
        let post = |effect: &str, value: Value| {
            let mut body = ok(effect);
            body["value"] = value;
            body
        };
        send("0.json", "refused", json!({ "runId": "r", "effectId": CANARY, "status": "ok" }));
        send("1.json", "refused", post("e0001", json!({ "n": CANARY })));
        send("2.json", "done", post("e0001", json!({ "n": 1, "canary": CANARY })));
        let error = json!({ "name": CANARY, "message": CANARY, "stack": CANARY });
        send(
            "3.json",
            "done",
            json!({ "runId": "r", "effectId": "e0002", "status": "error", "error": error }),
        );
        let answer = json!({ "approved": true, "response": CANARY });
        send("4.json", "done", post("e0003", answer));
        let socket = cli.root().join(".dormouse/socket");
        appears(&socket);
        let (_, metrics) = get(&socket, "/metrics");
        terminate(&served);
        let output = served.wait_with_output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{log}");
        let shown = cli.run("run show r --json").ok();
        assert!(shown.out.contains("completed") && shown.out.contains(CANARY), "{}", shown.out);
        let traces = collector.bytes().concat();
        assert!(log.contains("e0001") && log.contains("inbox_file_refused"), "{log}");
        assert!(metrics.contains("dormouse_posts_total{result=\"invalid\"} 1"), "{metrics}");
        assert!(traces.windows(5).any(|w| w == b"e0003"), "the traces arrived");
        for (what, bytes) in [("log", log.as_bytes()), ("metrics", metrics.as_bytes())] {
            let text = String::from_utf8_lossy(bytes);
            assert!(!text.contains(CANARY), "{what}: {text}");
        }
        assert!(!traces.windows(CANARY.len()).any(|w| w == CANARY.as_bytes()), "traces");
    }
}

#[test]
fn an_address_or_a_filter_that_is_none_is_a_usage_error() {
    let cli = Cli::new();
    cli.run("serve --otlp-endpoint nonsense").exits(2).says("nonsense");
    cli.run("serve --otlp-endpoint https://collector").exits(2).says("only http://");
    cli.run("serve --log a=b=c").exits(2).says("not a log filter");
}
