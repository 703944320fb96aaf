//! Agents of `agents.yaml` through a real daemon: commands, answers that come later, and the rules
//! that a file gives their effects.

#![allow(clippy::disallowed_methods, reason = "these tests write the files of a root")]

use crate::daemon_cli::Daemon;
use crate::executor_http::{Does, Server, answer, json_answer};
use crate::executor_shell::{Place, all, only};
use crate::served::{Answer, raw};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// Asks one agent; its inputs are the agent's name, what it is told, and options.
const ASKS: &str = r#"
import { defineTask } from "dormouse";
const ask = defineTask("ask", (told) => ({ kind: "agent", title: "Ask", agent: told }));
export async function process(inputs, ctx) {
  return await ctx.task(ask, { name: inputs.name, prompt: inputs.prompt }, inputs.options);
}
"#;

struct Yard(Place);

impl Yard {
    fn new(agents: &str) -> Self {
        let place = Place::new(ASKS);
        std::fs::create_dir_all(place.cli.root().join(".dormouse")).unwrap();
        std::fs::write(place.cli.root().join(".dormouse/agents.yaml"), agents).unwrap();
        Self(place)
    }

    fn serve(&self, config: &str) -> Daemon {
        self.0.serve(config)
    }

    fn ask(&self, id: &str, name: &str, prompt: &Value, options: &Value) {
        self.0.create(id, &json!({ "name": name, "prompt": prompt, "options": options }));
    }

    fn answered(&self, id: &str, name: &str, prompt: &Value) -> Vec<Value> {
        self.ask(id, name, prompt, &json!({}));
        self.0.ended(id)
    }
}

/// The field of a request's head.
fn field<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let lines = request.split("\r\n\r\n").next().unwrap().lines();
    lines.filter_map(|line| line.split_once(": ")).find(|(n, _)| *n == name).map(|(_, v)| v)
}

/// Waits until a server heard something.
fn heard(server: &Server) -> String {
    loop {
        if let Some(heard) = server.heard().pop() {
            return heard;
        }
        std::thread::yield_now();
    }
}

const COMMANDS: &str = "[executors.shell]\nenabled = true\nallow = \"any\"\n\
                        env_allow = [\"MOOD\"]\n";

#[test]
fn an_agent_may_be_a_command_that_reads_what_others_are_sent() {
    let script = "IFS= read -r told; case $told in *'\"goal\":\"go\"'*) ;; *) exit 1;; esac; \
                  printf '{\"answer\":\"%s\",\"metadata\":{\"n\":1}}' \"$MOOD\"";
    let quoted = serde_json::to_string(script).unwrap();
    let yard = Yard::new(&format!(
        "agents:\n  tool: {{type: command, argv: [sh, -c, {quoted}], env: {{MOOD: glad}}}}\n  \
         plain: {{type: command, argv: [echo, hello]}}\n  \
         late: {{type: command, argv: [echo, '{{\"answer\":1,\"final\":false}}']}}\n  \
         bad: {{type: command, argv: [echo, '{{\"error\":\"no\"}}']}}\n"
    ));
    let _daemon = yard.serve(COMMANDS);
    for (name, value) in [
        ("tool", json!({ "answer": "glad", "metadata": { "n": 1 } })),
        ("plain", json!({ "answer": "hello\n" })),
    ] {
        let events = yard.answered(name, name, &json!("go"));
        assert_eq!(only(&events, "RUN_COMPLETED")["output"], value, "{events:#?}");
        assert_eq!(only(&events, "EFFECT_RESOLVED")["stdout"], "tasks/e0001/stdout.log");
    }
    for (name, error) in [("late", "AgentNotFinal"), ("bad", "AgentError")] {
        let events = yard.answered(name, name, &json!("go"));
        assert_eq!(only(&events, "EFFECT_RESOLVED")["error"]["name"], error, "{events:#?}");
    }
}

#[test]
fn commands_of_agents_wait_until_commands_are_allowed() {
    let yard = Yard::new("agents: {tool: {type: command, argv: [echo, hi]}}");
    let mut daemon = yard.serve("");
    yard.ask("r", "tool", &json!("go"), &json!({}));
    assert!(daemon.hears("held_policy").contains("executors.shell.enabled = true"));
    drop(daemon);
    let _daemon = yard.serve(COMMANDS);
    let events = yard.0.ended("r");
    assert_eq!(only(&events, "RUN_COMPLETED")["output"], json!({ "answer": "hi\n" }));
    assert_eq!(only(&events, "EFFECT_STARTED")["epoch"], 1);
}

#[test]
fn what_a_file_says_of_an_agent_is_frozen_with_each_request() {
    let failing = || Does::Answers(answer(502, "", "<html>"));
    let done = json_answer(200, r#"{"answer":"done"}"#);
    let server = Server::doing(vec![failing(), failing(), done, failing()]);
    let yard = Yard::new(&format!(
        "agents:\n  helper:\n    url: {}\n    idempotent: true\n    \
         retry: {{maxAttempts: 3, initial: 20ms}}\n    timeout: 45s\n    limitKeys: [gpu]\n",
        server.url()
    ));
    let _daemon = yard.serve("");
    let events = yard.answered("r", "helper", &json!("go"));
    let policy = &only(&events, "EFFECT_REQUESTED")["policy"];
    assert_eq!((&policy["idempotent"], &policy["onUncertain"]), (&json!(true), &json!("retry")));
    assert_eq!(policy["attemptTimeoutMs"], 45_000, "{policy}");
    assert_eq!(
        (&policy["retry"]["maxAttempts"], &policy["limitKeys"]),
        (&json!(3), &json!(["gpu"]))
    );
    // Two attempts of which nobody knows, and one that answers.
    assert_eq!(all(&events, "EFFECT_ATTEMPT_FAILED").len(), 2, "{events:#?}");
    assert_eq!(only(&events, "RUN_COMPLETED")["output"], json!({ "answer": "done" }));
    // What its author says counts more.
    yard.ask("own", "helper", &json!("go"), &json!({ "idempotent": false, "retry": false }));
    yard.0.cli.run("run iterate own").ok();
    let events = yard.0.events("own");
    let policy = &only(&events, "EFFECT_REQUESTED")["policy"];
    assert_ne!(policy["idempotent"], json!(true), "{policy}");
    assert_eq!((&policy["retry"], &policy["attemptTimeoutMs"]), (&json!(null), &json!(45_000)));
}

/// Sends to where an agent was told to post, in the name of one attempt.
fn post(url: &str, token: &str, verb: &str, body: &Value) -> Answer {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let path = path.replace("/result", &format!("/{verb}"));
    let head = format!(
        "Host: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    );
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(&raw(&format!("POST /{path}"), &head, body.to_string().as_bytes())).unwrap();
    Answer::read(&mut stream)
}

/// A port that is free.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn an_agent_that_accepts_posts_its_answer_later_whichever_daemon_is_there() {
    let server = Server::doing(vec![json_answer(202, r#"{"accepted":true}"#)]);
    let agents =
        format!("agents: {{later: {{url: '{}', async: true, timeout: 90s}}}}", server.url());
    let yard = Yard::new(&agents);
    let config = format!("[http]\nlisten = \"127.0.0.1:{}\"\n", port());
    let daemon = yard.serve(&config);
    yard.ask("r", "later", &json!("go"), &json!({}));
    let asked = heard(&server);
    let url = field(&asked, "x-dormouse-result-url").unwrap();
    let token = field(&asked, "x-dormouse-task-token").unwrap();
    // Signs of life are given as by any worker.
    assert_eq!(post(url, token, "heartbeat", &json!({})).ok()["directive"], "continue");
    drop(daemon);
    let _daemon = yard.serve(&config);
    assert_eq!(post(url, token, "heartbeat", &json!({})).ok()["state"], "started");
    let done = json!({ "status": "ok", "value": { "answer": "late" } });
    assert_eq!(post(url, token, "result", &done).ok()["state"], "ok");
    let events = yard.0.ended("r");
    assert_eq!(only(&events, "RUN_COMPLETED")["output"], json!({ "answer": "late" }));
    let started = only(&events, "EFFECT_STARTED");
    assert_eq!((&started["worker"], &started["ttlMs"]), (&json!("agent:later"), &json!(90_000)));
    assert!(!format!("{events:?}").contains(token), "{events:#?}");
}

#[test]
fn an_agent_that_may_post_later_need_not() {
    let server = Server::doing(vec![
        json_answer(200, r#"{"answer":"now"}"#),
        json_answer(422, r#"{"error":"no"}"#),
    ]);
    let yard = Yard::new(&format!("agents: {{later: {{url: '{}', async: true}}}}", server.url()));
    let mut daemon = yard.serve("");
    yard.ask("r", "later", &json!("go"), &json!({}));
    assert!(daemon.hears("held_policy").contains("http.listen = "));
    drop(daemon);
    let _daemon = yard.serve("[http]\nlisten = \"127.0.0.1:0\"\n");
    let events = yard.0.ended("r");
    assert_eq!(only(&events, "RUN_COMPLETED")["output"], json!({ "answer": "now" }));
    assert_eq!(only(&events, "EFFECT_STARTED")["ttlMs"], 3_600_000);
    let events = yard.answered("no", "later", &json!("go"));
    assert_eq!(only(&events, "EFFECT_RESOLVED")["error"]["name"], "AgentError");
}

/// What a Flask application with one route does, on what Python has of its own.
const FLASK: &str = r#"
import json, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        data = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"answer": "Result for: " + data["goal"]}).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"#;

struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_handler_that_reads_its_goal_and_answers_works_unchanged() {
    let mut python = Command::new("python3");
    let mut child = python.args(["-c", FLASK]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let _python = Ends(child);
    let yard = Yard::new(&format!(
        "agents:\n  - id: researcher\n    type: external_http\n    \
         endpoint: http://127.0.0.1:{}/run\n    timeout: 30s\n",
        line.trim()
    ));
    let _daemon = yard.serve("");
    let events = yard.answered("r", "researcher", &json!("find it"));
    let output = &only(&events, "RUN_COMPLETED")["output"];
    assert_eq!(output, &json!({ "answer": "Result for: find it" }));
}

#[test]
fn a_file_is_read_again_when_it_changes_or_somebody_says_so_and_a_bad_one_is_not_used() {
    let yard = Yard::new("agents: {a: {type: echo}}");
    let daemon = yard.serve("");
    let place = yard.0.cli.root().join(".dormouse/agents.yaml");
    let events = yard.answered("one", "a", &json!("x"));
    assert_eq!(all(&events, "RUN_COMPLETED").len(), 1, "{events:#?}");
    std::fs::write(&place, "agents:\n  a: {type: nonsense}\n").unwrap();
    let events = yard.answered("two", "a", &json!("x"));
    assert_eq!(all(&events, "RUN_COMPLETED").len(), 1, "the old one is used: {events:#?}");
    std::fs::write(&place, "agents: {b: {type: echo}}").unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    let events = yard.answered("three", "b", &json!("x"));
    assert_eq!(all(&events, "RUN_COMPLETED").len(), 1, "it lives, and knows b: {events:#?}");
}

fn claimed(yard: &Yard, wait: &str) -> Vec<String> {
    let words = "task claim --kind agent --worker w --max 9 --json --wait";
    let given = yard.0.cli.run(&format!("{words} {wait}")).json();
    let tasks = given["tasks"].as_array().unwrap();
    tasks.iter().map(|task| task["runId"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn only_tasks_of_agents_that_are_not_asked_here_are_given_away() {
    let yard = Yard::new("agents: {here: {type: echo}, away: {type: external}}");
    let _daemon = yard.serve("[limits.key.none]\nconcurrency = 0");
    for name in ["here", "away", "unlisted"] {
        yard.ask(name, name, &json!("go"), &json!({}));
    }
    yard.ask("late", "here", &json!("go"), &json!({ "limitKeys": ["none"] }));
    yard.0.cli.run("run iterate late").ok();
    yard.0.cli.run("task claim late e0001 --worker w").exits(4).says("not_claimable");
    let mut given = claimed(&yard, "20s");
    if given.len() < 2 {
        given.extend(claimed(&yard, "20s"));
    }
    given.sort();
    assert_eq!(given, ["away", "unlisted"]);
    assert_eq!(all(&yard.0.ended("here"), "RUN_COMPLETED").len(), 1);
}

#[test]
fn the_limits_of_an_agent_count_and_change_with_its_file() {
    let agents = |more: &str| format!("agents: {{away: {{type: external{more}}}}}");
    let yard = Yard::new(&agents(", concurrency: 1"));
    let daemon = yard.serve("");
    let own = json!({ "limitKeys": ["gpu"] });
    for id in ["a", "b", "c"] {
        yard.ask(id, "away", &json!("go"), &own);
        yard.0.cli.run(&format!("run iterate {id}")).ok();
    }
    let asked = yard.0.events("a");
    let keys = &only(&asked, "EFFECT_REQUESTED")["policy"]["limitKeys"];
    assert_eq!(keys, &json!(["gpu", "agent:away"]));
    assert_eq!(claimed(&yard, "0s"), ["a"]);
    assert_eq!(claimed(&yard, "0s"), [""; 0]);
    let limit = yard.0.cli.run("limits show key agent:away --json").ok().json();
    assert_eq!(limit["concurrency"], 1, "{limit}");
    let file = yard.0.cli.root().join(".dormouse/agents.yaml");
    std::fs::write(&file, agents(", concurrency: 2")).unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    assert_eq!(claimed(&yard, "20s"), ["b"]);
    std::fs::write(&file, agents("")).unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    assert_eq!(claimed(&yard, "20s"), ["c"]);
}

#[test]
fn agents_are_listed_with_where_they_are_and_what_is_wrong() {
    let yard = Yard::new(
        "agents:\n  far: {url: 'http://far.example/x?key=1', description: helps}\n  \
         old: {type: react}\n  tool: {type: command, argv: [lint]}\n  who: {type: external}\n",
    );
    let _daemon = yard.serve("");
    let listed = yard.0.cli.run("agent list --json").ok().json();
    let agents = listed["agents"].as_array().unwrap();
    let told = |n: usize| ["id", "type", "origin"].map(|name| agents[n][name].clone());
    assert_eq!(told(0), ["far", "external_http", "http://far.example"].map(|t| json!(t)));
    assert!(agents[0]["problems"][0].as_str().unwrap().contains("without TLS"), "{listed}");
    assert_eq!(told(1), [json!("old"), json!("unsupported"), json!(null)]);
    assert!(agents[1]["problems"][0].as_str().unwrap().contains("external_http"), "{listed}");
    assert_eq!(told(2), ["tool", "command", "lint"].map(|t| json!(t)));
    assert_eq!((&agents[3]["id"], &agents[3]["problems"]), (&json!("who"), &json!([])));
    assert!(yard.0.cli.run("agent list").ok().out.contains("http://far.example"));
}
