//! A run's whole life through the HTTP door, and what comes back when it is asked again.

#![allow(clippy::disallowed_methods, reason = "a test damages a journal from outside")]

use crate::cli::Cli;
use crate::served::{Served, raw};
use serde_json::{Value, json};
use std::io::Write as _;

/// What a command says in JSON about the same root. Commands look; the door owns the root.
fn cli(served: &Served, line: &str) -> Value {
    let ran = served.cli.run(&format!("{line} --json"));
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

#[test]
fn a_run_goes_to_its_end() {
    let served = Served::new();
    served.create("r");
    let report = served.post("/v1/runs/r/iterate", &json!({})).ok();
    assert_eq!(
        (&report["status"], &report["reason"]),
        (&json!("waiting"), &json!("agent-pending"))
    );
    let pending = served.get("/v1/tasks").ok();
    assert_eq!(pending["tasks"][0]["runId"], "r");
    assert_eq!(served.get("/v1/effects").ok(), pending);
    let wrong = json!({ "status": "ok", "value": { "n": "one" } });
    let wrong = served.post("/v1/runs/r/tasks/e0001/result", &wrong);
    let problem = wrong.is_problem(422, "value_invalid");
    assert_eq!((&problem["runId"], &problem["effectId"]), (&json!("r"), &json!("e0001")));
    let good = json!({ "status": "ok", "value": { "n": 1 }, "stdout": "done\n" });
    let posted = served.post("/v1/runs/r/tasks/e0001/result", &good).ok();
    assert_eq!(
        (&posted["repeat"], &posted["stdoutRef"]),
        (&json!(false), &json!("tasks/e0001/stdout.log"))
    );
    let again = served.post("/v1/runs/r/tasks/e0001/result", &good).ok();
    assert_eq!((&again["repeat"], &again["seq"]), (&json!(true), &posted["seq"]));
    let other = json!({ "status": "ok", "value": { "n": 2 } });
    let other = served.post("/v1/runs/r/tasks/e0001/result", &other);
    other.is_problem(409, "effect_ended");
    let failed = json!({ "status": "error", "error": { "name": "E", "message": "no make" } });
    let posted = served.post("/v1/runs/r/effects/e0002", &failed).ok();
    assert_eq!(posted["normalizedShellFailure"], true);
    served.rests("r");
    let waiting = served.get("/v1/breakpoints").ok();
    assert_eq!(waiting["breakpoints"][0]["question"], "Is it good?");
    let answer = json!({ "response": "ship" });
    served
        .post("/v1/runs/r/breakpoints/e0001/approve", &answer)
        .is_problem(400, "not_a_breakpoint");
    let posted = served.post("/v1/runs/r/breakpoints/e0003/approve", &answer).ok();
    assert_eq!(posted["status"], "ok");
    let shown = served.get("/v1/runs/r").ok();
    assert_eq!(shown["state"], "completed");
    let decided = served.get("/v1/runs/r/tasks/e0003").ok();
    assert_eq!(decided["result"]["value"]["respondedBy"], "all");
    assert_eq!(decided["result"]["by"], "client:all");
    served.post("/v1/runs/r/pause", &json!({})).is_problem(409, "run_ended");
}

#[test]
fn the_door_and_the_command_line_say_the_same() {
    let served = Served::new();
    served.create("r");
    let value = json!({ "status": "ok", "value": { "n": 1 } });
    served.post("/v1/runs/r/tasks/e0001/result", &value).ok();
    let task = cli(&served, "task show r e0001");
    for (path, line) in [
        ("/v1/runs/r", "run show r"),
        ("/v1/runs/r/tasks", "task list r"),
        ("/v1/runs/r/tasks?pending=true", "task list r --pending"),
        ("/v1/runs/r/tasks/e0001", "task show r e0001"),
        ("/v1/runs/r/events", "run events r"),
        (
            "/v1/runs/r/events?types=effect_resolved&reverse=true",
            "run events r --reverse --filter-type EFFECT_RESOLVED",
        ),
        ("/v1/breakpoints", "breakpoint list"),
        ("/v1/runs", "run list"),
    ] {
        let (theirs, ours) = (cli(&served, line), served.get(path).ok());
        assert_eq!(ours, theirs, "{path} and {line}");
        // The order of members as well: whoever prints one prints the other.
        assert_eq!(ours.to_string(), theirs.to_string(), "{path} and {line}");
    }
    assert_eq!(task["effect"]["status"], "resolved_ok");
    for (path, body, line) in [
        ("pause", json!({}), "run pause"),
        ("resume", json!({}), "run resume"),
        ("signals", json!({ "name": "s" }), "run signal"),
        ("cancel", json!({}), "run cancel"),
        ("halt", json!({ "reason": "why" }), "run halt"),
        ("check", json!({}), "run check"),
    ] {
        let made = |id: &str| {
            served.create(id);
            if path == "resume" {
                served.post(&format!("/v1/runs/{id}/pause"), &json!({})).ok();
            }
        };
        let (here, there) = (format!("{path}-here"), format!("{path}-there"));
        made(&here);
        made(&there);
        let ours = served.post(&format!("/v1/runs/{here}/{path}"), &body).ok();
        let more = match path {
            "signals" => "s",
            "halt" => "--reason why",
            _ => "",
        };
        let theirs = cli(&served, &format!("{line} {there} {more}"));
        let keys = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&ours), keys(&theirs), "{path}");
        for name in ["done", "repeat", "finalStatus", "reason", "strict", "calls"] {
            assert_eq!(ours.get(name), theirs.get(name), "{path} {name}");
        }
    }
}

#[test]
fn a_run_is_created_once_under_a_key() {
    let served = Served::new();
    let asked = json!({ "source": { "entry": served.entry() }, "inputs": { "a": 1 } });
    let create = |key: &str, asked: &Value| {
        let headers = format!("Content-Type: application/json\r\nIdempotency-Key: {key}\r\n");
        served.send(&served.request("POST /v1/runs", &headers, asked.to_string().as_bytes()))
    };
    let first = create("k-1", &asked);
    assert_eq!((first.status, &first.ok()["existed"]), (201, &json!(false)));
    for key in ["k-1", "\"k-1\""] {
        let again = create(key, &asked);
        assert_eq!((again.status, &again.ok()["existed"]), (200, &json!(true)), "{key}");
        assert_eq!(again.ok()["runId"], first.ok()["runId"]);
    }
    let field = json!({
        "source": { "entry": served.entry() }, "inputs": { "a": 1 }, "idempotencyKey": "k-1",
    });
    assert_eq!(served.post("/v1/runs", &field).ok()["existed"], true);
    create("k-2", &field).is_problem(400, "bad_request");
    let mut changed = asked.clone();
    changed["inputs"] = json!({ "a": 2 });
    create("k-1", &changed).is_problem(409, "run_exists");
    create("", &asked).is_problem(400, "bad_request");
    let signal = |id: &str, payload: u32| {
        let run = first.ok()["runId"].as_str().unwrap().to_owned();
        let body = json!({ "name": "s", "signalId": id, "payload": payload });
        served.post(&format!("/v1/runs/{run}/signals"), &body)
    };
    let sent = signal("one", 1).ok();
    let again = signal("one", 1).ok();
    assert_eq!((&again["repeat"], &again["seq"]), (&json!(true), &sent["seq"]));
    signal("one", 2).is_problem(409, "signal_id_taken");
}

#[test]
fn bodies_are_read_strictly() {
    let served = Served::new();
    served.create("r");
    let post = |path: &str, body: &str| {
        let kind = "Content-Type: application/json; charset=utf-8\r\n";
        served.send(&served.request(&format!("POST {path}"), kind, body.as_bytes()))
    };
    let deep = format!(r#"{{"name":"s","payload":{}1{}}}"#, "[".repeat(100), "]".repeat(100));
    let deeper = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, status, code) in [
        (r#"{"name":"s","nmae":1}"#, 422, "unknown_field"),
        (r#"{"name":"s","name":"t"}"#, 400, "bad_request"),
        (r#"{"name":"s","payload":{"a":1,"\u0061":2}}"#, 400, "bad_request"),
        (r#"{"name":"s","payload":1e400}"#, 400, "bad_request"),
        (r#"{"name":"s","payload":NaN}"#, 400, "bad_request"),
        (r#"{"name":"s","payload":"\ud800"}"#, 400, "bad_request"),
        ("\u{feff}{\"name\":\"s\"}", 400, "bad_request"),
        (r#"{"name":"s"} {}"#, 400, "bad_request"),
        (r#"{"name":7}"#, 400, "bad_request"),
        (r#"{"name":""}"#, 400, "bad_request"),
        ("[]", 400, "bad_request"),
        ("", 400, "bad_request"),
        (&deep, 400, "bad_request"),
        (&deeper, 400, "bad_request"),
    ] {
        let problem = post("/v1/runs/r/signals", body).is_problem(status, code);
        let detail = problem["detail"].as_str().unwrap();
        assert!(code != "unknown_field" || detail.contains("`nmae`"), "{detail}");
    }
    served.get("/v1/runs?stat=x").is_problem(422, "unknown_field");
    served.get("/v1/runs?pageSize=0").is_problem(400, "bad_request");
    served.get("/v1/runs?pageSize=1&pageSize=2").is_problem(400, "bad_request");
    for id in ["..%2f..%2fetc", ".hidden", "%00", "%ff", &"x".repeat(65), "r%0a", "%C3%A9"] {
        let answer = served.get(&format!("/v1/runs/{id}"));
        assert_eq!(answer.status, 400, "{id}: {answer:?}");
    }
    for path in ["/v1/ledger/%ff", "/v1/limits/kind/%ff", "/v1/runs/%ff"] {
        served.get(path).is_problem(400, "bad_request");
    }
    served.get("/v1/runs/none").is_problem(404, "run_not_found");
    served.get("/v1/runs/r/tasks/e1").is_problem(400, "effect_id_invalid");
    served.get("/v1/runs/r/tasks/e0009").is_problem(404, "effect_not_found");
    let relative = json!({ "source": { "entry": "process.js" } });
    served.post("/v1/runs", &relative).is_problem(400, "path_not_absolute");
    served.post("/v1/runs", &json!({ "runId": "a/b" })).is_problem(400, "run_id_invalid");
    assert_eq!(served.get("/v1/runs").ok()["runs"].as_array().unwrap().len(), 1);
}

#[test]
fn values_keep_their_bytes() {
    let served = Served::new();
    served.create("r");
    let value = r#"{"n":1.10,"big":123456789012345678901234567890,"text":"\u00e9é"}"#;
    let body = format!(r#"{{ "status": "ok", "value": {value} }}"#);
    let kind = "Content-Type: application/json\r\n";
    let post = served.request("POST /v1/runs/r/tasks/e0001/result", kind, body.as_bytes());
    served.send(&post).ok();
    assert!(served.get("/v1/runs/r/tasks/e0001").text().contains(value));
    assert!(served.get("/v1/runs/r/events").text().contains(value));
}

#[test]
fn d1_a_large_value_passes_and_a_larger_body_is_not_read() {
    let served = Served::new();
    served.create("r");
    let (path, kind) = ("POST /v1/runs/r/tasks/e0001/result", "Content-Type: application/json\r\n");
    let body = |bytes: usize| {
        // The value is `{"n":1,"x":"…"}`.
        let text = "x".repeat(bytes - r#"{"n":1,"x":""}"#.len());
        format!(r#"{{"status":"ok","value":{{"n":1,"x":"{text}"}}}}"#)
    };
    let over = served.send(&served.request(path, kind, body((16 << 20) + 1).as_bytes()));
    over.is_problem(413, "value_too_large");
    served.send(&served.request(path, kind, body(16 << 20).as_bytes())).ok();
    // The length alone is enough to refuse it.
    let head = served.request(path, &format!("{kind}Content-Length: 99999999999\r\n"), b"");
    served.send(&head).is_problem(413, "payload_too_large");
    // Without a length it is refused when it has grown too long.
    let small = Served::with(|options| options.bounds.body_bytes_max = 100);
    small.create_bare("r");
    let path = "POST /v1/runs/r/note";
    let head = small.request(path, &format!("{kind}Transfer-Encoding: chunked\r\n"), b"");
    let mut stream = small.tcp();
    let chunk = [b"65\r\n".as_slice(), &[b' '; 0x65], b"\r\n"].concat();
    stream.write_all(&[head, chunk].concat()).unwrap();
    crate::served::Answer::read(&mut stream).is_problem(413, "payload_too_large");
}

#[test]
fn lists_are_read_in_pages() {
    let served = Served::new();
    for id in ["a", "b", "c"] {
        served.create(id);
    }
    let ids = |page: &Value, list: &str| -> Vec<String> {
        let entries = page[list].as_array().unwrap().iter();
        entries.map(|e| e["runId"].as_str().unwrap().to_owned()).collect()
    };
    for list in ["runs", "tasks"] {
        let first = served.get(&format!("/v1/{list}?pageSize=2")).ok();
        assert_eq!(ids(&first, list), ["a", "b"]);
        let token = first["nextPageToken"].as_str().unwrap();
        let last = served.get(&format!("/v1/{list}?pageSize=2&pageToken={token}")).ok();
        assert_eq!(ids(&last, list), ["c"]);
        assert_eq!(last.get("nextPageToken"), None);
    }
    served.post("/v1/runs/b/halt", &json!({})).ok();
    assert_eq!(ids(&served.get("/v1/runs?state=completed").ok(), "runs"), ["b"]);
    assert_eq!(ids(&served.get("/v1/tasks").ok(), "tasks"), ["a", "c"]);
    let none = served.get("/v1/runs?createdAfter=2999-01-01T00:00:00.000000Z").ok();
    assert_eq!(ids(&none, "runs"), Vec::<String>::new());
    let page = served.get("/v1/runs/a/events?pageSize=1").ok();
    assert_eq!((&page["events"][0]["seq"], &page["nextAfter"]), (&json!(1), &json!(1)));
}

#[test]
fn d5_a_worker_answers_with_its_epoch_and_no_breakpoint() {
    use dormouse::doors::http::Scope;
    let mut worker = String::new();
    let served = Served::with(|options| {
        worker = Served::token(options, "worker", &[Scope::Work], 1_000_000);
    });
    served.create("r");
    let post = |effect: &str, body: &Value| {
        let (host, kind) = (served.address, "Content-Type: application/json");
        let headers = format!("Host: {host}\r\nAuthorization: Bearer {worker}\r\n{kind}\r\n");
        let line = format!("POST /v1/runs/r/tasks/{effect}/result");
        served.send(&raw(&line, &headers, body.to_string().as_bytes()))
    };
    let ok = |value: Value| json!({ "status": "ok", "value": value });
    let mut forged = ok(json!({ "n": 1 }));
    forged["epoch"] = json!(7);
    post("e0001", &forged).is_problem(409, "unknown_epoch");
    post("e0001", &ok(json!({ "n": 1 }))).ok();
    post("e0002", &ok(json!({ "success": true }))).ok();
    post("e0003", &ok(json!({ "approved": true }))).is_problem(403, "forbidden");
    assert_eq!(served.get("/v1/runs/r").ok()["state"], "waiting");
}

#[test]
fn code_is_given_checked_and_taken_over() {
    let served = Served::new();
    served.create_bare("r");
    served.post("/v1/runs/r/iterate", &json!({})).is_problem(422, "run_is_bare");
    let source = json!({ "entry": served.entry() });
    let missing = json!({ "entry": "/nowhere/process.js" });
    served
        .post("/v1/runs/r/assign-process", &json!({ "source": missing }))
        .is_problem(404, "E_MODULE_NOT_FOUND");
    let asked = json!({ "source": source, "inputs": { "goal": "g" } });
    assert_eq!(served.post("/v1/runs/r/assign-process", &asked).ok()["processId"], "process");
    served.post("/v1/runs/r/assign-process", &asked).is_problem(409, "process_assigned");
    let changed = crate::cli::PROCESS.replace("goal: inputs.goal }", "goal: 7 }");
    let entry = served.cli.file("other.js", changed).display().to_string();
    let source = json!({ "entry": entry });
    let checked = served.post("/v1/runs/r/check", &json!({ "source": source })).ok();
    assert_eq!(
        (&checked["strict"], &checked["calls"][0]["change"]),
        (&json!(false), &json!("args-changed"))
    );
    let fail = json!({ "source": source });
    served.post("/v1/runs/r/accept", &fail).is_problem(422, "args_changed");
    let mut keep = json!({ "source": source, "onArgsChange": "keep" });
    assert_eq!(served.post("/v1/runs/r/accept", &keep).ok()["accepted"], false);
    keep["yes"] = json!(true);
    let accepted = served.post("/v1/runs/r/accept", &keep).ok();
    assert_eq!(accepted["accepted"], true);
    assert!(accepted["seq"].is_u64());
}

#[test]
fn a_damaged_run_is_said_to_be_damaged() {
    let cli = Cli::waiting();
    cli.run("run create --run-id sound").ok();
    // What a daemon holds in memory it does not read again: the damage comes before it does.
    let journal = cli.root().join("r/journal/0000000001.jsonl");
    let text = std::fs::read_to_string(&journal).unwrap().replacen("\"seq\":2", "\"seq\":3", 1);
    std::fs::write(&journal, text).unwrap();
    let served = Served::over(cli, |_| {});
    let problem = served.get("/v1/runs/r").is_problem(409, "run_damaged");
    assert!(problem["case"].as_str().unwrap().starts_with('J'), "{problem}");
    served.post("/v1/runs/r/note", &json!({ "text": "x" })).is_problem(409, "run_damaged");
    served.get("/v1/runs/sound").ok();
    let listed = served.get("/v1/runs?state=damaged").ok();
    assert_eq!(listed["runs"][0]["runId"], "r");
}
