//! What a task printed, over HTTP and on the command line; results in parts; refused posts.

use crate::claims::Site;
use crate::cli::Cli;
use crate::daemon_cli::Daemon;
use crate::served::Answer;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};

const TASK: &str = "/v1/runs/r/tasks/e0001";

fn part(site: &Site, name: &str, range: &str) -> Answer {
    let head = format!("Range: {range}\r\n");
    site.served.send(&site.served.request(&format!("GET {TASK}/{name}"), &head, b""))
}

/// A form with these parts.
fn form(site: &Site, parts: &[(&str, &str)]) -> Answer {
    let mut body = String::new();
    for (name, text) in parts {
        let head = format!("Content-Disposition: form-data; name=\"{name}\"");
        body.push_str(&format!("--x\r\n{head}\r\n\r\n{text}\r\n"));
    }
    body.push_str("--x--\r\n");
    let kind = "Content-Type: multipart/form-data; boundary=x\r\n";
    site.served.send(&site.served.request(&format!("POST {TASK}/result"), kind, body.as_bytes()))
}

#[test]
fn a_result_in_parts_and_what_was_printed() {
    let site = Site::new();
    site.task("r", &json!({}));
    site.claim("w", &json!({}));
    let nothing = site.served.get(&format!("{TASK}/stdout"));
    assert_eq!((nothing.status, nothing.text().as_str()), (200, ""));
    assert_eq!(site.show("r/e0001")["logs"], json!({ "stdout": null, "stderr": null }));
    // Somebody reads along until the task has ended.
    let mut reader = BufReader::new(site.served.tcp());
    let follow = site.served.request(&format!("GET {TASK}/stdout?follow=1"), "", b"");
    reader.get_mut().write_all(&follow).unwrap();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0);
    }
    let outcome = json!({ "epoch": 1, "status": "ok" }).to_string();
    form(&site, &[("value", "1")]).is_problem(400, "bad_request");
    form(&site, &[("outcome", &outcome), ("more", "1")]).is_problem(422, "unknown_field");
    form(&site, &[("outcome", &outcome), ("value", "{")]).is_problem(400, "bad_request");
    form(&site, &[("outcome", &outcome), ("value", "1"), ("value", "2")])
        .is_problem(400, "bad_request");
    let parts = [("value", "1.50"), ("stdout", "zero\none\n"), ("outcome", &outcome)];
    assert_eq!(form(&site, &parts).ok()["state"], "ok");
    let mut rest = String::new();
    while reader.read_line(&mut rest).unwrap() > 0 {}
    assert!(rest.contains("zero\none\n"), "{rest}");
    let shown = site.served.get(TASK);
    assert!(shown.text().contains("\"value\":1.50"), "{}", shown.text());
    let shown = shown.ok();
    assert_eq!(shown["logs"]["stdout"], format!("{TASK}/stdout"));
    assert_eq!((&shown["logs"]["stderr"], &shown["state"]), (&Value::Null, &json!("ok")));
    let whole = site.served.get(&format!("{TASK}/stdout"));
    assert_eq!((whole.status, whole.text().as_str()), (200, "zero\none\n"));
    assert_eq!(whole.header("content-type"), Some("text/plain; charset=utf-8"));
    let end = part(&site, "stdout", "bytes=-4");
    assert_eq!((end.status, end.text().as_str()), (206, "one\n"));
    assert_eq!(end.header("content-range"), Some("bytes 5-8/9"));
    let beyond = part(&site, "stdout", "bytes=9-");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */9")));
    site.served.get("/v1/runs/r/tasks/e0009/stdout").is_problem(404, "effect_not_found");
    site.served.get(&format!("{TASK}/stdout?follow=2")).is_problem(400, "bad_request");
}

#[test]
fn lists_over_runs_logs_and_refused_posts_on_the_command_line() {
    let cli = Cli::new();
    let task = "(args) => ({ kind: 'agent' })";
    cli.file(
        "p.js",
        format!(
            "import {{ defineTask }} from 'dormouse'; const t = defineTask('t', {task});\n\
             export const process = (inputs, ctx) => ctx.task(t, {{}});\n"
        ),
    );
    for run in ["a", "b"] {
        cli.run(&format!("run create --entry p.js --run-id {run}")).ok();
        cli.run(&format!("run iterate {run}")).ok();
    }
    let runs = |line: &str| -> Vec<String> {
        let listed: Value = serde_json::from_str(&cli.run(line).ok().out).unwrap();
        let tasks = listed["tasks"].as_array().unwrap().clone();
        tasks.iter().map(|task| task["runId"].as_str().unwrap_or("-").to_owned()).collect()
    };
    let lists = || {
        assert_eq!(runs("task list --json"), ["a", "b"]);
        assert_eq!(runs("task list --json --state requested"), ["a", "b"]);
        assert_eq!(runs("task list --json --worker w"), [""; 0]);
        assert_eq!(runs("task list --json --run b --kind agent"), ["-"]);
        cli.run("task list --overdue --fail-empty").exits(1);
        cli.run("task list --state asleep").exits(2);
        cli.run("task list --run c").exits(3);
    };
    lists();
    let daemon = Daemon::start(&cli, &[]);
    lists();
    cli.run("task claim a e0001 --worker w").ok();
    assert_eq!(runs("task list --json --worker w"), ["a"]);
    cli.run("task heartbeat a e0001 --epoch 1 --percent 40 --label copying").ok();
    let shown: Value = serde_json::from_str(&cli.run("task show a e0001 --json").out).unwrap();
    assert_eq!(shown["lease"]["progress"], json!({ "percent": 40.0, "label": "copying" }));
    cli.run("task release a e0001 --epoch 1 --began no").ok();
    cli.run("task claim a e0001 --worker w").ok();
    cli.run("task post a e0001 --epoch 1 --status ok --value-inline 7").exits(4);
    let kept = "tasks/e0001/stale/1-1.json";
    let shown: Value = serde_json::from_str(&cli.run("task show a e0001 --json").out).unwrap();
    assert_eq!(shown["stale"], json!([kept]));
    cli.run("task post a e0001 --from-stale run.json --epoch 2").exits(2);
    cli.file("printed", "hello\n");
    let again = format!("task post a e0001 --from-stale {kept} --epoch 2 --stdout-file printed");
    cli.run(&again).ok();
    let shown: Value =
        serde_json::from_str(&cli.run("task show a e0001 --logs --json").out).unwrap();
    assert_eq!(shown["result"]["value"], 7);
    assert_eq!(shown["printed"], json!({ "stdout": "hello\n", "stderr": "" }));
    assert_eq!(daemon.stop().0, 0);
}
