//! Messages and jobs under `/api`: as clients of another runtime ask for them, against the door in
//! this process where one request is enough, and against the program where it is killed.

#![allow(clippy::disallowed_methods, reason = "these tests start the program and a small agent")]

use crate::cli::Cli;
use crate::daemon_cli::Daemon;
use crate::served::{Answer, Served, raw, runs};
use dormouse::daemon::config::Config;
use dormouse::doors::http::{self, Options, Scope};
use dormouse::ports::disk::socket::listen_for_owner;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Waits for whatever its input names.
const WAITS: &str = r#"
import { defineTask } from "dormouse";
const work = defineTask("work", (args) => ({ kind: "build", title: "Build <b>it</b>", ...args }));
export async function process({ goal, waits }, ctx) {
  const came = [];
  for (const wait of waits) {
    if (wait === "breakpoint") came.push(await ctx.breakpoint({ title: "Ship it?" }));
    else if (wait === "signal") came.push(await ctx.signal("paid", { correlationKey: "order-7" }));
    else if (wait === "two") {
      came.push(...await ctx.parallel.all([() => ctx.signal("x"), () => ctx.signal("y")]));
    } else if (wait === "task") came.push(await ctx.task(work, {}));
    else if (wait === "retry") {
      came.push(await ctx.task(work, {}, { retry: { maxAttempts: 3, initial: "1h" } }));
    } else if (wait === "throw") throw new RangeError("too far");
    else await ctx.sleep(wait);
  }
  return { answer: goal, came };
}
"#;

/// An agent such as one writes in an afternoon: it reads `goal` and answers.
const AGENT: &str = r#"
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_POST(self):
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"answer": "done: " + data["goal"]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Agent)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// A client that knows an address and nothing else, as `curl` does.
struct Curl(SocketAddr);

impl Curl {
    fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.0).unwrap();
        stream.write_all(bytes).unwrap();
        Answer::read(&mut stream)
    }

    fn ask(&self, line: &str, headers: &str, body: &str) -> Answer {
        let host = format!("Host: {}\r\n{headers}", self.0);
        self.send(&raw(line, &host, body.as_bytes()))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "Accept: */*\r\n", "")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = "Content-Type: application/json\r\nAccept: */*\r\n";
        self.ask(&format!("POST {path}"), headers, &body.to_string())
    }

    /// Follows a job to its end, and shows it.
    fn ended(&self, job: &str) -> Value {
        let stream = "Accept: text/event-stream\r\n";
        let told = self.ask(&format!("GET /api/jobs/{job}/events"), stream, "").text();
        assert!(told.contains("event: end\n"), "{told}");
        self.get(&format!("/api/jobs/{job}")).ok()
    }
}

/// The program, and the address that it says.
fn program(cli: &Cli, args: &[&str]) -> (Daemon, Curl) {
    let daemon = Daemon::start(cli, &[args, &["--log", "error"]].concat());
    let said = daemon.said();
    let address = said.split("agents  http://").nth(1).unwrap_or_else(|| panic!("{said}"));
    let address = address.split("/api").next().unwrap().parse().unwrap();
    (daemon, Curl(address))
}

/// A door in this process whose agents' listener wants no token.
fn open_door(change: impl FnOnce(&mut Options)) -> (Served, Curl) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let served = Served::with(|options| {
        options.compat.place = Some((tcp, true));
        change(options);
    });
    served.cli.file("waits.js", WAITS);
    (served, Curl(address))
}

/// A run of [`WAITS`].
fn create(served: &Served, id: &str, waits: &Value) {
    let entry = served.cli.path("waits.js").display().to_string();
    let inputs = json!({ "goal": "<b>go</b>", "waits": waits });
    let asked = json!({ "source": { "entry": entry }, "inputs": inputs, "runId": id });
    assert_eq!(served.post("/v1/runs", &asked).status, 201);
    served.rests(id);
}

/// Asserts an error as these clients read it.
#[track_caller]
fn is_error(answer: &Answer, status: u16, code: &str) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, &body["code"]), (status, &json!(code)), "{body}");
    assert!(body["error"].is_string(), "{body}");
    body
}

fn status(served: &Served, id: &str) -> Value {
    served.get(&format!("/api/jobs/{id}")).ok()["status"].clone()
}

#[test]
fn e14_the_first_five_minutes() {
    let cli = Cli::new();
    let (daemon, curl) = program(&cli, &["--dev", "--listen", "127.0.0.1:0"]);
    assert_eq!(curl.get("/api/health").ok()["status"], "ok");
    let sent = curl.post("/api/agents/default/message", &json!({ "message": "hello" }));
    assert_eq!(sent.status, 202, "{sent:?}");
    let body = sent.ok();
    let id = body["job_id"].as_str().unwrap();
    assert_eq!((&body["status"], &body["agent_id"]), (&json!("accepted"), &json!("default")));
    assert_eq!(body["runtime_submission"]["legacy_facade"], false);
    assert_eq!(sent.header("location"), Some(format!("/api/jobs/{id}").as_str()));
    let job = curl.ended(id);
    assert_eq!(job["status"], "completed");
    let answer = job["answer"].as_str().unwrap();
    assert!(answer.contains("echo agent") && answer.contains("hello"), "{answer}");
    assert_eq!(job["output"]["answer"], job["answer"]);
    let trace = curl.get(&format!("/api/jobs/{id}/trace")).ok();
    let step = &trace["steps"][0];
    assert_eq!((&step["name"], &step["status"]), (&json!("Ask default"), &json!("completed")));
    assert!(step["duration_ms"].is_u64() && trace["next_cursor"].is_null());
    let page = format!("/api/jobs/{id}/trace/page");
    assert_eq!(curl.get(&page).ok()["steps"][0]["node_id"], "e0001");
    let html = curl.ask(&format!("GET {page}"), "Accept: text/html,*/*\r\n", "");
    assert!(html.header("content-type").unwrap().starts_with("text/html"), "{html:?}");
    assert!(html.text().contains("echo agent"));
    let proof = curl.get(&format!("/api/jobs/{id}/verify")).ok();
    assert_eq!(proof["replay_proof_result"], json!({ "ok": true, "error": null }));
    assert_eq!(proof["tool_invocation_ledger_proof"]["ok"], true);
    let replayed = curl.get(&format!("/api/jobs/{id}/replay")).ok();
    assert_eq!(replayed["current_state"]["completed_node_ids"], json!(["e0001"]));
    assert_eq!(curl.get("/metrics").status, 200);
    assert_eq!(curl.get("/v1/runs").status, 401, "the rest wants a token");
    assert_eq!(daemon.stop().0, 0);
}

/// An agent that thinks longer than its daemon lives: it says that it was asked, and answers when
/// it is asked again.
const SLOW: &str = r#"
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

asked = []

class Agent(BaseHTTPRequestHandler):
    def do_POST(self):
        asked.append(self.headers["Idempotency-Key"])
        print(len(asked), flush=True)
        if len(asked) == 1:
            self.rfile.read()
            return
        body = b'{"answer": "%d"}' % len(set(asked))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Agent)
server.daemon_threads = True
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// The small agent, until it is dropped.
struct Small {
    child: Child,
    said: BufReader<ChildStdout>,
    port: u16,
}

impl Small {
    fn start(cli: &Cli, program: &str) -> Self {
        cli.file("agent.py", program);
        let mut command = Command::new("python3");
        command.arg(cli.path("agent.py")).arg("0").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut small = Self { child, said, port: 0 };
        small.port = small.hears();
        small
    }

    /// The number that it says next.
    fn hears(&mut self) -> u16 {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_agent_over_http_works_unchanged() {
    let cli = Cli::new();
    let small = Small::start(&cli, AGENT);
    let endpoint = format!("http://127.0.0.1:{}/invoke", small.port);
    cli.file(
        "agents.yaml",
        format!(
            "agents:\n  - id: support\n    type: external_http\n    endpoint: {endpoint}\n    \
         timeout: 30s\n  - id: old\n    type: react\n",
        ),
    );
    let file = cli.path("agents.yaml").display().to_string();
    let (daemon, curl) = program(&cli, &["--dev", "--listen", "127.0.0.1:0", "--agents", &file]);
    let sent = curl.post("/api/agents/support/message", &json!({ "content": "refund 7" })).ok();
    let job = curl.ended(sent["job_id"].as_str().unwrap());
    assert_eq!((&job["status"], &job["answer"]), (&json!("completed"), &json!("done: refund 7")));
    assert_eq!((&job["agent_id"], &job["goal"]), (&json!("support"), &json!("refund 7")));
    // The path without /api, and words that mean nothing here.
    let more = json!({ "goal": "again", "model": "any", "priority": 7 });
    let sent = curl.post("/agents/support/message", &more).ok();
    assert_eq!(curl.ended(sent["id"].as_str().unwrap())["answer"], "done: again");
    let listed = curl.get("/api/agents").ok();
    let ids = listed["agents"].as_array().unwrap().iter().map(|agent| agent["id"].clone());
    assert_eq!(Value::Array(ids.collect()), json!(["default", "old", "support"]));
    let unknown = curl.post("/api/agents/nobody/message", &json!({ "message": "x" }));
    let error = is_error(&unknown, 404, "agent_unknown");
    assert!(error["error"].as_str().unwrap().contains("default, old, support"), "{error}");
    let old = curl.post("/api/agents/old/message", &json!({ "message": "x" }));
    is_error(&old, 422, "agent_unsupported");
    let jobs = curl.get("/api/agents/support/jobs?limit=1").ok();
    assert_eq!((&jobs["jobs"][0]["goal"], &jobs["total"]), (&json!("again"), &json!(1)));
    let cursor = jobs["next_cursor"].as_str().unwrap();
    let next = format!("/api/agents/support/jobs?limit=1&cursor={cursor}&status=completed");
    assert_eq!(curl.get(&next).ok()["jobs"][0]["goal"], "refund 7");
    assert_eq!(curl.get("/api/agents/support/jobs?status=failed").ok()["jobs"], json!([]));
    is_error(&curl.get("/api/agents/support/jobs?status=lost"), 400, "bad_request");
    assert_eq!(curl.get("/api/agents/support/state").ok()["status"], "idle");
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn a_message_outlives_the_daemon_that_took_it() {
    let cli = Cli::new();
    let at = ["--listen", "127.0.0.1:0"];
    // Not for trying out: nobody makes up an answer.
    let variables = [
        ("DORMOUSE_COMPAT_AETHERIS_LISTEN", "127.0.0.1:0"),
        ("DORMOUSE_COMPAT_AETHERIS_TOKEN", "none"),
    ];
    let start = || {
        let daemon = Daemon::with(&cli, &[&at[..], &["--log", "error"]].concat(), &variables);
        let address = daemon.said().split("agents  http://").nth(1).unwrap().to_owned();
        (daemon, Curl(address.split("/api").next().unwrap().parse().unwrap()))
    };
    let (daemon, curl) = start();
    let message = json!({ "message": "who are you?", "metadata": { "n": 1 } });
    let key = "Content-Type: application/json\r\nIdempotency-Key: \"k\"\r\n";
    let send = |curl: &Curl, body: &Value| {
        curl.ask("POST /api/agents/default/message", key, &body.to_string())
    };
    let taken = send(&curl, &message).ok();
    let id = taken["job_id"].as_str().unwrap().to_owned();
    let hint = taken["hint"][1].as_str().unwrap();
    assert!(hint.starts_with(&format!("dormouse task post {id} e0001")), "{hint}");
    cli.run(&format!("run iterate {id}")).ok();
    assert_eq!(curl.get(&format!("/api/jobs/{id}")).ok()["status"], "pending");
    let stuck = curl.get("/api/observability/summary").ok();
    assert_eq!((&stuck["stuck_job_ids"], &stuck["queue_backlog"]), (&json!([id]), &json!(1)));
    // Killed with -9.
    drop(daemon);
    let (daemon, curl) = start();
    assert_eq!(send(&curl, &message).ok()["job_id"], id.as_str());
    is_error(&send(&curl, &json!({ "message": "else" })), 409, "run_exists");
    let job = curl.get(&format!("/api/jobs/{id}")).ok();
    assert_eq!((&job["status"], &job["answer"]), (&json!("pending"), &Value::Null));
    assert_eq!(curl.get("/api/agents/default/state").ok()["current_task"], id.as_str());
    cli.run(&format!(r#"task post {id} e0001 --status ok --value-inline "a-dormouse""#)).ok();
    let job = curl.ended(&id);
    assert_eq!(job["output"], json!({ "answer": "a-dormouse", "metadata": {} }));
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn a_daemon_that_dies_while_an_agent_thinks_asks_again_only_if_it_may() {
    for (idempotent, status) in [(true, "completed"), (false, "parked")] {
        let cli = Cli::new();
        let mut slow = Small::start(&cli, SLOW);
        cli.file(
            "agents.yaml",
            format!(
                "agents:\n  slow: {{url: 'http://127.0.0.1:{}', idempotent: {idempotent}}}\n",
                slow.port
            ),
        );
        let file = cli.path("agents.yaml").display().to_string();
        let args = ["--dev", "--listen", "127.0.0.1:0", "--agents", &file];
        let (daemon, curl) = program(&cli, &args);
        let sent = curl.post("/api/agents/slow/message", &json!({ "message": "think" })).ok();
        let id = sent["id"].as_str().unwrap();
        assert_eq!(slow.hears(), 1);
        drop(daemon);
        let (daemon, curl) = program(&cli, &args);
        if idempotent {
            let job = curl.ended(id);
            assert_eq!(job["answer"], "1", "both times under one key: {job}");
        }
        let job = (0..100_000).map(|_| curl.get(&format!("/api/jobs/{id}")).ok());
        let mut job = job.filter(|job| job["status"] == status);
        let job = job.next().unwrap();
        if !idempotent {
            assert_eq!(job["wait_reason"], "uncertain");
        }
        assert_eq!(daemon.stop().0, 0);
    }
}

#[test]
fn an_agent_may_be_a_process() {
    let cli = Cli::new();
    cli.file(
        "flow.js",
        "export async function process({ goal, message, metadata }, ctx) {\n  \
         const ok = await ctx.breakpoint({ title: goal });\n  \
         return { answer: ok.approved ? message : `no: ${metadata.n}` };\n}\n",
    );
    cli.file("agents.yaml", "agents:\n  flow: {type: process, entry: flow.js}\n");
    let file = cli.path("agents.yaml").display().to_string();
    let (daemon, curl) = program(&cli, &["--dev", "--listen", "127.0.0.1:0", "--agents", &file]);
    let message = json!({ "message": "Ship it?", "metadata": { "n": 4 } });
    let sent = curl.post("/api/agents/flow/message", &message).ok();
    let id = sent["id"].as_str().unwrap();
    cli.run(&format!("run iterate {id}")).ok();
    let job = curl.get(&format!("/api/jobs/{id}")).ok();
    assert_eq!((&job["status"], &job["goal"]), (&json!("parked"), &json!("Ship it?")));
    let no = json!({ "payload": { "approved": false } });
    curl.post(&format!("/api/jobs/{id}/signal"), &no).ok();
    assert_eq!(curl.ended(id)["answer"], "no: 4");
    assert_eq!(daemon.stop().0, 0);
}

#[test]
fn messages_are_refused_that_say_nothing() {
    let (_served, curl) = open_door(|_| {});
    let path = "/api/agents/default/message";
    for body in [json!({}), json!({ "message": " \n" }), json!({ "input": null })] {
        is_error(&curl.post(path, &body), 400, "message_required");
    }
    for body in [
        json!({ "message": "a", "goal": "b" }),
        json!({ "message": "a", "input": 1 }),
        json!({ "message": 5 }),
        json!({ "message": "a", "priority": 1001 }),
    ] {
        is_error(&curl.post(path, &body), 400, "bad_request");
    }
    assert_eq!(curl.post(path, &json!({ "message": "a", "goal": "a" })).status, 202);
    let sent = curl.post(path, &json!({ "input": { "n": [1.50] }, "new": true })).ok();
    let job = curl.get(&format!("/api/jobs/{}", sent["id"].as_str().unwrap())).text();
    assert!(job.contains(r#""goal":"{\"n\":[1.5"#), "{job}");
    is_error(&curl.get("/api/jobs/nothing"), 404, "run_not_found");
    let hint = is_error(&curl.get("/api/runs/x"), 404, "route_not_found")["hint"].clone();
    assert_eq!(hint, "ask for runs under /v1/runs");
    is_error(
        &curl.ask("DELETE /api/agents", "Content-Type: application/json\r\n", ""),
        405,
        "method_not_allowed",
    );
}

#[test]
fn e15_answers_go_to_the_wait_that_they_name() {
    let (served, curl) = open_door(|_| {});
    create(&served, "s", &json!(["signal", "breakpoint"]));
    let job = curl.get("/api/jobs/s").ok();
    assert_eq!((&job["status"], &job["wait_reason"]), (&json!("parked"), &json!("signal")));
    assert_eq!(
        (&job["wait_correlation_key"], &job["wait_node_id"]),
        (&json!("order-7"), &json!("e0001"),)
    );
    let signal = |body: Value| curl.post("/api/jobs/s/signal", &body);
    let wrong = signal(json!({ "correlation_key": "order-8", "payload": 1 }));
    is_error(&wrong, 400, "not_waiting");
    let paid = json!({ "correlation_key": "order-7", "payload": { "eur": 1.5 } });
    assert_eq!(signal(paid.clone()).ok()["job_id"], "s");
    served.rests("s");
    assert_eq!(signal(paid).status, 200, "a repeat for a wait that it fed");
    let other = signal(json!({ "correlation_key": "order-7", "payload": 2 }));
    is_error(&other, 400, "not_waiting");
    // Nothing but a boolean decides, and false is false.
    is_error(&signal(json!({ "payload": { "approved": "true" } })), 400, "approval_required");
    is_error(&signal(json!({})), 400, "approval_required");
    is_error(
        &curl.post("/api/jobs/s/resume", &json!({ "correlation_key": "e0002" })),
        400,
        "approval_required",
    );
    signal(json!({ "payload": { "approved": false, "response": "no" } })).ok();
    served.rests("s");
    is_error(&signal(json!({ "payload": { "approved": true } })), 400, "not_waiting");
    let job = curl.ended("s");
    let came = &job["output"]["came"];
    assert_eq!((&came[0], &came[1]["approved"]), (&json!({ "eur": 1.5 }), &json!(false)));
    assert_eq!(came[1]["respondedBy"], "local");
    is_error(&signal(json!({ "payload": { "approved": true } })), 400, "not_waiting");
    create(&served, "t", &json!(["two"]));
    let several = curl.post("/api/jobs/t/signal", &json!({ "payload": 1 }));
    let error = is_error(&several, 400, "wait_ambiguous");
    assert!(error["error"].as_str().unwrap().ends_with("x, y"), "{error}");
    let told = json!({ "message_id": "m", "channel": "y", "payload": 2 });
    curl.post("/api/jobs/t/message", &told).ok();
    assert_eq!(curl.post("/api/jobs/t/message", &told).ok()["message"], "it was received already");
    served.rests("t");
    curl.post("/api/jobs/t/resume", &json!({ "correlation_key": "x" })).ok();
    served.rests("t");
    assert_eq!(curl.ended("t")["output"]["came"], json!([{}, 2]));
    // Under an idempotency key the same answer is one, though the next wait has the same name.
    create(&served, "u", &json!(["signal", "signal"]));
    let once = |payload: u32| {
        let headers = "Content-Type: application/json\r\nIdempotency-Key: once\r\n";
        let body = json!({ "correlation_key": "order-7", "payload": payload }).to_string();
        let answer = curl.ask("POST /api/jobs/u/signal", headers, &body);
        served.rests("u");
        answer
    };
    assert_eq!((once(1).status, once(1).status), (200, 200));
    is_error(&once(2), 409, "signal_id_taken");
    assert_eq!(curl.get("/api/jobs/u").ok()["wait_node_id"], "e0002");
}

#[test]
fn a_breakpoint_is_decided_only_by_who_may() {
    let mut token = String::new();
    let served = Served::with(|options| {
        token = Served::token(options, "agent", &[Scope::Read, Scope::Write], 1_000_000);
    });
    served.cli.file("waits.js", WAITS);
    create(&served, "b", &json!(["breakpoint"]));
    let yes = json!({ "payload": { "approved": true } }).to_string();
    let headers = format!(
        "Host: {}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n",
        served.address
    );
    let ask = |headers: &str| served.send(&raw("POST /api/jobs/b/signal", headers, yes.as_bytes()));
    is_error(&ask(&headers), 403, "forbidden");
    let nobody = headers.replace(&token, "dmt_x");
    is_error(&ask(&nobody), 401, "unauthenticated");
    assert_eq!(status(&served, "b"), "parked");
    served.post("/api/jobs/b/signal", &json!({ "payload": { "approved": true } })).ok();
    served.rests("b");
    assert_eq!(served.get("/api/jobs/b").ok()["output"]["came"][0]["approved"], true);
}

#[test]
fn jobs_stop_pause_and_go_on() {
    let (served, curl) = open_door(|_| {});
    create(&served, "p", &json!(["signal"]));
    let post = |verb: &str, body: Value| curl.post(&format!("/api/jobs/p/{verb}"), &body);
    is_error(&post("resume", json!({})), 400, "not_waiting");
    let paused = post("pause", json!({ "reason": "lunch" })).ok();
    assert_eq!((&paused["status"], &paused["job_id"]), (&json!("parked"), &json!("p")));
    post("pause", json!({})).ok();
    assert_eq!(curl.get("/api/jobs/p").ok()["wait_reason"], "paused");
    let key = json!({ "correlation_key": paused["correlation_key"] });
    assert_eq!(post("resume", key).ok()["status"], "pending");
    assert_eq!(post("stop", json!({})).ok()["status"], "cancelling");
    post("stop", json!({})).ok();
    let job = curl.ended("p");
    assert_eq!(job["status"], "cancelled");
    assert!(job["cancel_requested_at"].is_string());
    assert_eq!(post("stop", json!({})).status, 200, "again");
    is_error(&post("pause", json!({})), 400, "job_ended");
    create(&served, "e", &json!([]));
    curl.ended("e");
    is_error(&curl.post("/api/jobs/e/stop", &json!({})), 400, "job_ended");
}

#[test]
fn a_status_follows_from_the_journal() {
    let (served, curl) = open_door(|_| {});
    for (id, waits, status, reason) in [
        ("task", json!(["task"]), "pending", Value::Null),
        ("soon", json!(["50s"]), "waiting", json!("timer")),
        ("late", json!(["2h"]), "parked", json!("timer")),
        ("person", json!(["breakpoint"]), "parked", json!("approval")),
        ("done", json!([]), "completed", Value::Null),
        ("bad", json!(["throw"]), "failed", Value::Null),
        ("again", json!(["retry"]), "pending", Value::Null),
    ] {
        create(&served, id, &waits);
        let job = curl.get(&format!("/api/jobs/{id}")).ok();
        assert_eq!((&job["status"], &job["wait_reason"]), (&json!(status), &reason), "{job}");
    }
    assert_eq!(curl.get("/api/jobs/bad").ok()["error"], "RangeError: too far");
    let work = |id: &str, verb: &str, body: Value| {
        served.post(&format!("/v1/runs/{id}/tasks/e0001/{verb}"), &body).ok()
    };
    work("task", "claim", json!({ "worker": "w" }));
    assert_eq!(status(&served, "task"), "running");
    work("task", "result", json!({ "epoch": 1, "status": "unknown" }));
    let job = curl.get("/api/jobs/task").ok();
    assert_eq!((&job["status"], &job["wait_reason"]), (&json!("parked"), &json!("uncertain")));
    work("again", "claim", json!({ "worker": "w" }));
    let error = json!({ "epoch": 1, "status": "error", "error": { "message": "busy" } });
    work("again", "result", error);
    assert_eq!(status(&served, "again"), "retrying");
    let trace = curl.get("/api/jobs/again/trace").ok();
    assert_eq!(trace["timeline_segments"][0]["status"], "retryable");
    assert_eq!(trace["steps"][0]["status"], "pending");
    let events = curl.get("/api/jobs/again/events").ok();
    let kinds: Vec<&str> =
        events["events"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["job_created", "command_emitted", "tool_invocation_started", "step_retried"]
    );
    let stuck = curl.get("/api/observability/stuck").ok();
    assert!(stuck["stuck_job_ids"].as_array().unwrap().contains(&json!("task")), "{stuck}");
}

#[test]
fn a_trace_comes_in_pages_without_gaps() {
    let (served, curl) = open_door(|_| {});
    create(&served, "r", &json!(["1ms", "1ms", "1ms", "1ms", "1ms", "breakpoint"]));
    let deciding = |_| served.get("/api/jobs/r").ok()["wait_reason"] == "approval";
    assert!((0..100_000).any(deciding));
    let whole = curl.get("/api/jobs/r/trace").ok();
    let (mut steps, mut timeline, mut cursor) = (Vec::new(), Vec::new(), json!(0));
    while !cursor.is_null() {
        let page = curl.get(&format!("/api/jobs/r/trace?limit=2&cursor={cursor}")).ok();
        let page_steps = page["steps"].as_array().unwrap();
        assert!(page_steps.len() <= 2);
        steps.extend(page_steps.iter().map(|step| step["node_id"].clone()));
        timeline.extend(page["timeline"].as_array().unwrap().clone());
        cursor = page["next_cursor"].clone();
    }
    let all = whole["steps"].as_array().unwrap().iter().map(|step| step["node_id"].clone());
    assert_eq!(steps, all.collect::<Vec<_>>());
    assert_eq!(steps.len(), 6);
    assert_eq!(&Value::Array(timeline), &whole["timeline"]);
    let kinds = |kind: &str| {
        whole["timeline"].as_array().unwrap().iter().filter(|m| m["type"] == kind).count()
    };
    assert_eq!((kinds("job_waiting"), kinds("wait_completed")), (6, 5));
    let (mut ids, mut place) = (Vec::new(), json!(0));
    while !place.is_null() {
        let page = curl.get(&format!("/api/jobs/r/events?limit=3&cursor={place}")).ok();
        ids.extend(page["events"].as_array().unwrap().iter().map(|e| e["id"].as_u64().unwrap()));
        place = page["next_cursor"].clone();
    }
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    assert_eq!(ids.len(), whole["timeline"].as_array().unwrap().len());
}

/// The value of a hidden field of a form.
fn field(html: &str, name: &str) -> String {
    let start = html.split(&format!("name=\"{name}\" value=\"")).nth(1);
    start.unwrap_or_else(|| panic!("{html}")).split('"').next().unwrap().to_owned()
}

#[test]
fn the_page_of_a_job_is_answered_by_people_and_by_no_other_page() {
    let mut reader = String::new();
    let (served, curl) = open_door(|options| {
        reader = Served::token(options, "reader", &[Scope::Read], 1_000_000);
    });
    create(&served, "b", &json!(["breakpoint", "task"]));
    let page = || curl.ask("GET /api/jobs/b/trace/page", "Accept: text/html\r\n", "");
    let shown = page();
    let (html, policy) = (shown.text(), shown.header("content-security-policy").unwrap());
    assert!(html.contains("&lt;b&gt;go&lt;/b&gt;") && !html.contains("<b>go"), "{html}");
    assert!(policy.starts_with("default-src 'none'; style-src 'nonce-"), "{policy}");
    assert!(policy.contains("form-action 'self'") && policy.contains("frame-ancestors 'none'"));
    assert!(!html.contains("<script") && !html.contains(" style=") && !html.contains("http-equiv"));
    let nonce = policy.split("nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert!(html.contains(&format!("<style nonce=\"{nonce}\">")));
    assert_ne!(page().header("content-security-policy"), Some(policy), "a nonce is used once");
    let form =
        |token: &str, rest: &str| format!("effect={}&token={token}&{rest}", field(&html, "effect"));
    let send = |headers: &str, body: &str| {
        let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
        curl.ask("POST /api/jobs/b/answer", &format!("{kind}{headers}"), body)
    };
    let token = field(&html, "token");
    let yes = form(&token, "action=approve&response=ship%20it");
    let own = format!("Origin: http://{}\r\nSec-Fetch-Site: same-origin\r\n", curl.0);
    is_error(&send("Origin: http://evil.example\r\n", &yes), 403, "origin_refused");
    is_error(&send("Origin: null\r\n", &yes), 403, "origin_refused");
    is_error(&send("Sec-Fetch-Site: cross-site\r\n", &yes), 403, "origin_refused");
    is_error(
        &send(&own, &form(&token.replace(['0', '1', '2'], "3"), "action=approve")),
        403,
        "form_refused",
    );
    is_error(&send(&own, &form(&token, "action=perhaps")), 400, "bad_request");
    assert_eq!(status(&served, "b"), "parked", "nothing was decided");
    let answered = send(&own, &yes);
    assert_eq!(
        (answered.status, answered.header("location")),
        (303, Some("/api/jobs/b/trace/page"))
    );
    is_error(&send(&own, &yes), 400, "not_waiting");
    served.rests("b");
    let html = page().text();
    assert!(html.contains("Build &lt;b&gt;it&lt;/b&gt;"), "{html}");
    let task =
        format!("effect=e0002&token={}&action=send&response=made+%3Cit%3E", field(&html, "token"));
    assert_eq!(send(&own, &task).status, 303);
    served.rests("b");
    let came = curl.ended("b")["output"]["came"].clone();
    assert_eq!((&came[0]["approved"], &came[0]["response"]), (&json!(true), &json!("ship it")));
    assert_eq!(came[1], json!({ "answer": "made <it>" }));
    let html = page().text();
    assert!(!html.contains("<form") && html.contains("made &lt;it&gt;"), "{html}");
    // Whoever may only look is asked nothing.
    create(&served, "c", &json!(["breakpoint"]));
    let seen = raw(
        "GET /api/jobs/c/trace/page",
        &format!(
            "Host: {}\r\nAuthorization: Bearer {reader}\r\nAccept: text/html\r\n",
            served.address
        ),
        b"",
    );
    let html = served.send(&seen).text();
    assert!(html.contains("parked") && !html.contains("<form"), "{html}");
}

#[test]
fn without_a_token_no_other_origin_gets_in() {
    let (_served, curl) = open_door(|_| {});
    let json = "Content-Type: application/json\r\n";
    let path = "POST /api/agents/default/message";
    let body = r#"{"message":"x"}"#;
    let own = format!("Origin: http://{}\r\n", curl.0);
    for (headers, status, code) in [
        ("", 415, "unsupported_media"),
        ("Content-Type: text/plain\r\n", 415, "unsupported_media"),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 415, "unsupported_media"),
        ("Content-Type: application/json\r\nOrigin: http://a.example\r\n", 403, "origin_refused"),
        ("Content-Type: application/json\r\nSec-Fetch-Site: same-site\r\n", 403, "origin_refused"),
        (&format!("{json}{own}"), 403, "origin_refused"),
    ] {
        is_error(&curl.ask(path, headers, body), status, code);
    }
    // Not even without a body.
    is_error(&curl.ask("POST /api/jobs/x/stop", "", ""), 415, "unsupported_media");
    let port = curl.0.port();
    for host in ["evil.example", &format!("evil.example:{port}"), "localhost:1", ""] {
        let asked = raw(path, &format!("Host: {host}\r\n{json}"), body.as_bytes());
        is_error(&curl.send(&asked), 403, "host_refused");
    }
    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")]
    {
        let asked = raw(path, &format!("Host: {host}\r\n{json}"), body.as_bytes());
        assert_eq!(curl.send(&asked).status, 202, "{host}");
    }
    assert_eq!(curl.get("/v1/status").status, 401);
    let from = |dest: &str| format!("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: {dest}\r\n");
    is_error(&curl.ask("GET /api/agents", &from("empty"), ""), 403, "origin_refused");
    assert_eq!(curl.ask("GET /api/agents", &from("document"), "").status, 200, "a link");
    is_error(&curl.ask(path, &format!("{json}{}", from("document")), body), 403, "origin_refused");
    let other = Served::new();
    let asked = raw(path, &format!("Host: {}\r\n{json}", other.address), body.as_bytes());
    is_error(&other.send(&asked), 401, "unauthenticated");
    let health = raw("GET /api/health", &format!("Host: {}\r\n", other.address), b"");
    assert_eq!(other.send(&health).ok()["ready"], true);
    let sent = other.post("/api/agents/default/message", &json!({ "message": "x" }));
    assert_eq!(sent.status, 202, "with a token it is served everywhere");
}

#[test]
fn e29_health_asks_who_writes() {
    let cli = Cli::new();
    let runs = runs(cli.root());
    let daemon = dormouse::daemon::Daemon::start(&runs, &Config::default()).unwrap();
    let socket = listen_for_owner(&cli.root().join(".dormouse/socket")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let curl = Curl(tcp.local_addr().unwrap());
    let mut options =
        Options::new(daemon.handle(), daemon.schedules(), daemon.exposition(), socket);
    options.compat.place = Some((tcp, true));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let door = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stopped = async {
            let _ = stopped.await;
        };
        runtime.block_on(http::serve(options, stopped)).unwrap();
    });
    assert_eq!(curl.get("/api/health").ok()["ready"], true);
    daemon.stop().unwrap();
    let health = curl.get("/api/health");
    assert_eq!((health.status, &health.json()["ready"]), (503, &json!(false)));
    assert_ne!(health.json()["status"], "ok");
    drop(stop);
    door.join().unwrap();
}
