//! Forms in which existing process modules are written, each with what it becomes.
//!
//! Drives the fixtures `compat_*.js` in a real process host, as they are pinned. Invariant: every
//! form of a fixture has a row here, in the fixture's order.

use crate::host::*;
use crate::pin_graph::OnDisk;
use dormouse::codecs::event::Profile::Babysitter;
use dormouse::shells::host::protocol::{LogLine, Output, Request, Start, TurnDone};
use dormouse::shells::pin::{EntrySpec, PinRequest, PinnedGraph, pin};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

fn processes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/processes")
}

fn pinned(entry: &str) -> PinnedGraph {
    let spec = EntrySpec { path: processes().join(entry), export_name: None };
    let wanted = PinRequest { root: Some(processes()), ..PinRequest::of(spec) };
    let graph = pin(&OnDisk, &wanted).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(graph.api, Babysitter);
    graph
}

fn started(entry: &str) -> Driver {
    let graph = pinned(entry);
    let (entry, modules) = (graph.entry.clone(), graph.modules());
    Driver::new(Start { entry, modules, ..start(Babysitter, "") })
}

/// What a process asked for, said and gave, when every effect is answered in order of request.
struct Played {
    asked: Vec<Request>,
    logs: Vec<LogLine>,
    output: Value,
}

fn play(entry: &str, answer: impl Fn(&Request) -> Value) -> Played {
    let mut run = started(entry);
    let mut played = Played { asked: Vec::new(), logs: Vec::new(), output: Value::Null };
    let mut open = VecDeque::new();
    let mut done = run.begin();
    loop {
        note(&done, &mut played, &mut open);
        if let Some(Output::Completed { output }) = done.outputs.last() {
            played.output = serde_json::from_str(output.as_str()).unwrap();
            return played;
        }
        let next: Request = open.pop_front().unwrap_or_else(|| panic!("nothing asked: {done:#?}"));
        done = run.resolve(next.ordinal, &answer(&next).to_string());
    }
}

fn note(done: &TurnDone, played: &mut Played, open: &mut VecDeque<Request>) {
    for request in requests(done) {
        played.asked.push(request.clone());
        open.push_back(request.clone());
    }
    played.logs.extend(done.logs.iter().cloned());
}

/// A definition with the number of its effect taken out.
fn definition(request: &Request) -> Value {
    let id = format!("e{:04}", request.ordinal);
    serde_json::from_str(&request.def.as_str().replace(&id, "ID")).unwrap()
}

/// Compares rows in order, so that a form without a row fails as well.
fn same_rows(found: &[(String, Value)], wanted: &[(&str, &str)]) {
    for (found, &(form, text)) in found.iter().zip(wanted) {
        let wanted: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{form}: {e}"));
        assert_eq!((found.0.as_str(), &found.1), (form, &wanted));
    }
    assert_eq!(found.len(), wanted.len(), "a form without a row, or a row without a form");
}

/// Task id, which names the form, and the definition that is stored.
const DEFINED: &[(&str, &str)] = &[
    (
        "two parameters",
        r#"{"kind": "agent", "title": "T", "io": {"inputJsonPath": "tasks/ID/input.json"}}"#,
    ),
    ("one parameter", r#"{"kind": "agent", "title": "n=1"}"#),
    ("no parameter", r#"{"kind": "agent", "title": "fixed"}"#),
    ("parameters taken apart", r#"{"kind": "agent", "title": "1 default parameters taken apart"}"#),
    ("a promise", r#"{"kind": "agent", "title": "later"}"#),
    (
        "defaults for what is left out",
        r#"{"title": "own", "kind": "node", "labels": ["a", "z"],
            "io": {"outputs": {"x": "string"}}}"#,
    ),
    (
        "defaults for a promise",
        r#"{"scan": {"n": 1, "iso": "2030-01-01T00:00:00.000Z",
            "targetEpochMs": 1893456000000}, "kind": "agent"}"#,
    ),
    (
        "object with run",
        r#"{"kind": "agent", "inputSchema": {"type": "object"},
            "outputSchema": {"type": "object"}}"#,
    ),
    ("object with a method", r#"{"title": "ran 1", "kind": "agent"}"#),
    (
        "object with a kind",
        r#"{"kind": "agent", "role": "planner", "outputSchema": {"fine": "boolean"}}"#,
    ),
    ("static object", r#"{"kind": "agent", "agent": {"name": "x", "prompt": "p"}}"#),
    ("static object with defaults", r#"{"title": "own", "kind": "custom"}"#),
    ("labels in order", r#"{"kind": "agent", "labels": ["a", "b"]}"#),
    ("one label", r#"{"kind": "agent", "labels": ["only"]}"#),
    ("bare shell", r#"{"kind": "shell", "shell": {"command": "ls", "expectedExitCode": 1}}"#),
    ("shell text", r#"{"kind": "shell", "shell": {"command": "ls -l"}}"#),
    ("shell without anything", r#"{"kind": "shell", "title": "by hand"}"#),
    ("bare beside shell", r#"{"kind": "shell", "shell": {"command": "a", "timeout": 5}}"#),
    (
        "values that JSON leaves out",
        r#"{"kind": "agent", "at": "1970-01-01T00:00:00.000Z", "nan": null, "list": [null],
            "set": {}}"#,
    ),
    (
        "words of the author's own",
        r#"{"kind": "agent", "review": {"deep": 1}, "skills": ["s"],
            "execution": {"model": "m"}, "policy": "strict", "priority": "high"}"#,
    ),
    (
        "builder agent",
        r#"{"kind": "agent", "title": "A", "labels": ["x"],
            "io": {"outputJsonPath": "out.json"}, "agent": {"name": "n", "prompt": "p",
            "outputSchema": {"type": "object"}}}"#,
    ),
    (
        "builder agent with defaults",
        r#"{"kind": "agent", "agent": {"prompt": "p"}, "title": "default", "labels": ["l"]}"#,
    ),
    ("builder task", r#"{"kind": "node", "title": "N", "prompt": "p"}"#),
    (
        "builder breakpoint",
        r#"{"kind": "breakpoint", "title": "Q", "breakpoint": {"title": "Q",
            "question": "why"}}"#,
    ),
    ("builder shell", r#"{"kind": "shell", "title": "S", "shell": {"command": "ls"}}"#),
    (
        "context",
        r#"{"kind": "agent", "sees": ["context", "r1", 1, [], null, "tasks/ID/a/b.txt",
            "2026-11-20T12:00:00.000Z", true, "context#0", true, true]}"#,
    ),
    ("kind agent", r#"{"kind": "agent", "title": "agent 1"}"#),
    ("kind shell", r#"{"kind": "shell", "title": "shell 1"}"#),
    ("kind skill", r#"{"kind": "skill", "title": "skill 1"}"#),
    ("kind node", r#"{"kind": "node", "title": "node 1"}"#),
    ("kind orchestrator_task", r#"{"kind": "orchestrator_task", "title": "orchestrator_task 1"}"#),
    ("kind breakpoint", r#"{"kind": "breakpoint", "title": "breakpoint 1"}"#),
    (
        "kind of its own",
        r#"{"kind": "human-review", "title": "human-review 1", "review": {"by": "owner"}}"#,
    ),
    (
        "agentTask",
        r#"{"kind": "agent", "title": "for 1", "labels": ["agent"], "agent": {"name": "n"}}"#,
    ),
    (
        "autoTask",
        r#"{"kind": "agent", "title": "agent", "labels": ["agent"], "agent": {"name": "n",
            "responderType": "auto"}}"#,
    ),
    (
        "externalAgentTask",
        r#"{"kind": "agent", "title": "far", "labels": ["far"], "agent": {"name": "n",
            "adapter": "x", "external": true}}"#,
    ),
    (
        "nodeTask",
        r#"{"kind": "node", "title": "node", "labels": ["node"],
            "io": {"inputJsonPath": "tasks/ID/inputs.json",
            "outputJsonPath": "tasks/ID/result.json", "stdoutPath": "tasks/ID/stdout.log",
            "stderrPath": "tasks/ID/stderr.log"},
            "metadata": {"redactedEnvKeys": ["MY_SECRET"]}, "node": {"timeoutMs": 900000,
            "entry": "x.js", "env": {"HOME": "/h"}}}"#,
    ),
    (
        "shellTask",
        r#"{"kind": "shell", "title": "shell", "labels": ["shell"],
            "shell": {"command": "echo 1"}}"#,
    ),
    (
        "skillTask",
        r#"{"kind": "skill", "title": "skill", "labels": ["skill"], "skill": {"name": "s"}}"#,
    ),
    (
        "breakpointTask",
        r#"{"kind": "breakpoint", "title": "Q", "labels": ["breakpoint"],
            "breakpoint": {"payload": {"n": 1, "iso": "2030-01-01T00:00:00.000Z",
            "targetEpochMs": 1893456000000}}}"#,
    ),
    (
        "humanTask",
        r#"{"kind": "breakpoint", "title": "breakpoint", "labels": ["breakpoint"],
            "breakpoint": {"responderType": "human", "payload": {"ask": 1}}}"#,
    ),
    (
        "orchestratorTask",
        r#"{"kind": "orchestrator_task", "title": "orchestrator-task",
            "labels": ["orchestrator-task"], "metadata": {"payload": {"do": 1},
            "orchestratorTask": true}, "orchestratorTask": {"payload": {"do": 1}}}"#,
    ),
    (
        "sleepTask",
        r#"{"kind": "sleep", "title": "sleep", "labels": ["sleep"],
            "sleep": {"targetEpochMs": 1893456000000, "iso": "2030-01-01T00:00:00.000Z"}}"#,
    ),
];

/// Key and definition of every question of the fixture, in the order of its list.
const ASKED: &[(&str, &str)] = &[
    (
        "@bp:breakpoint#0",
        r#"{"kind": "breakpoint", "title": "T", "breakpoint": {"breakpointId": "breakpoint",
            "label": "breakpoint", "payload": {"title": "T", "question": "Q",
            "context": {"runId": "r1", "files": []}}}}"#,
    ),
    (
        "@bp:breakpoint#1",
        r#"{"kind": "breakpoint", "title": "only a text",
            "breakpoint": {"breakpointId": "breakpoint", "label": "breakpoint",
            "payload": {"title": "only a text"}}}"#,
    ),
    (
        "@bp:breakpoint#2",
        r#"{"kind": "breakpoint", "title": "gate", "breakpoint": {"expert": "owner",
            "tags": ["x"], "breakpointId": "breakpoint", "label": "breakpoint",
            "payload": {"title": "gate", "message": "M", "data": {"a": 1}, "expert": "owner",
            "tags": ["x"]}}, "labels": ["x"]}"#,
    ),
    (
        "@bp:breakpoint#3",
        r#"{"kind": "breakpoint", "title": "Own title",
            "breakpoint": {"breakpointId": "breakpoint", "label": "breakpoint",
            "payload": {"title": "Own title", "questions": ["a", "b"]}}}"#,
    ),
    (
        "@bp:a.b#0",
        r#"{"kind": "breakpoint", "title": "breakpoint",
            "breakpoint": {"breakpointId": "a.b", "expert": "owner", "tags": ["p"],
            "label": "breakpoint", "payload": {"question": "Q", "expert": "owner",
            "tags": ["p"], "breakpointId": "a.b", "options": ["go", "stop"]}},
            "labels": ["p"]}"#,
    ),
    (
        "@bp:ship#0",
        r#"{"kind": "breakpoint", "title": "breakpoint",
            "breakpoint": {"breakpointId": "ship", "expert": ["a", "b"], "tags": ["one"],
            "strategy": "first-response-wins", "label": "breakpoint",
            "payload": {"question": "Q", "expert": "payload"}}, "labels": ["one"]}"#,
    ),
    (
        "@bp:ship-it-v1.2#0",
        r#"{"kind": "breakpoint", "title": "Ship It, v1.2!",
            "breakpoint": {"breakpointId": "ship-it-v1.2", "label": "Ship It, v1.2!",
            "payload": {"label": "Ship It, v1.2!"}}}"#,
    ),
    (
        "@bp:breakpoint#4",
        r#"{"kind": "breakpoint", "title": "breakpoint",
            "breakpoint": {"breakpointId": "breakpoint", "label": "breakpoint"}}"#,
    ),
    (
        "@bp:breakpoint#5",
        r#"{"kind": "breakpoint", "title": "Seen", "breakpoint": {"tags": ["checkpoint"],
            "checkpoint": true, "breakpointId": "breakpoint", "label": "breakpoint",
            "payload": {"title": "Seen", "message": "M"}}, "labels": ["checkpoint"]}"#,
    ),
    (
        "@bp:breakpoint#6",
        r#"{"kind": "breakpoint", "title": "seen as text", "breakpoint": {"tags": ["t",
            "checkpoint"], "checkpoint": true, "breakpointId": "breakpoint",
            "label": "breakpoint", "payload": {"title": "seen as text", "tags": ["t"]}},
            "labels": ["checkpoint", "t"]}"#,
    ),
    (
        "@bp:review#0",
        r#"{"kind": "breakpoint", "title": "breakpoint",
            "breakpoint": {"breakpointId": "review", "label": "breakpoint",
            "payload": {"question": "Fine?"}}}"#,
    ),
    ("revise#0", r#"{"kind": "agent", "title": "Revise", "feedback": {"feedback": "r11"}}"#),
    (
        "@bp:review#1",
        r#"{"kind": "breakpoint", "title": "breakpoint",
            "breakpoint": {"breakpointId": "review", "label": "breakpoint",
            "payload": {"question": "Fine?", "previousFeedback": "r11", "attempt": 2}}}"#,
    ),
];

/// The lines of the fixture, in its order.
const LOGGED: &[&str] = &[
    r#"{"level": "info", "message": "message"}"#,
    r#"{"level": "info", "label": "info", "message": "labelled"}"#,
    r#"{"level": "warn", "label": "warn", "message": "level"}"#,
    r#"{"level": "error", "label": "error", "message": "level"}"#,
    r#"{"level": "debug", "label": "debug", "message": "level"}"#,
    r#"{"level": "info", "label": "phase:one", "message": "own label"}"#,
    r#"{"level": "info", "label": "label", "message": "text", "data": {"data": 1}}"#,
    r#"{"level": "info", "label": "label", "message": "", "data": {"only": "data"}}"#,
    r#"{"level": "info", "message": "", "data": {"an": "object"}}"#,
    r#"{"level": "info", "message": "5"}"#,
    r#"{"level": "info", "label": "n", "message": "5"}"#,
    r#"{"level": "info", "label": "off", "message": "false"}"#,
    r#"{"level": "info", "label": "none", "message": "undefined"}"#,
    r#"{"level": "info", "label": "nothing", "message": "null"}"#,
    r#"{"level": "info", "message": "undefined"}"#,
    r#"{"level": "info", "label": "list", "message": "", "data": [1, 2]}"#,
    r#"{"level": "info", "label": "bad", "message": "TypeError: thrown"}"#,
    r#"{"level": "info", "label": "info", "message": "optional"}"#,
    r#"{"level": "info", "label": "cycle", "message": "", "data": null}"#,
    r#"{"level": "info", "message": "a {\"b\":1} [2] null undefined"}"#,
    r#"{"level": "info", "message": "info"}"#,
    r#"{"level": "debug", "message": "debug"}"#,
    r#"{"level": "warn", "message": "warn"}"#,
    r#"{"level": "error", "message": "Error: error"}"#,
];

#[test]
fn every_definition_becomes_what_it_means() {
    let played = play("compat_definitions.js", |_| json!(null));
    let row = |r: &Request| (r.task_id.clone().unwrap_or_default(), definition(r));
    let found: Vec<_> = played.asked.iter().map(row).collect();
    same_rows(&found, DEFINED);
    // The options of a kind are read, those of an upstream's author are not.
    let options = |id: &str| {
        let of = played.asked.iter().find(|r| r.task_id.as_deref() == Some(id)).unwrap();
        of.options.as_ref().map(|o| o.as_str().to_owned())
    };
    assert_eq!(options("bare beside shell").as_deref(), Some(r#"{"timeout":5}"#));
    assert_eq!(options("words of the author's own"), None);
}

#[test]
fn a_failure_is_thrown_for_every_kind_but_shell() {
    let mut run = started("compat_definitions.js");
    let asked: Vec<Request> = requests(&run.begin()).into_iter().cloned().collect();
    let data = r#"{"exitCode":3,"stdout":"o","stderr":"e"}"#;
    let mut done = None;
    for request in &asked {
        done = Some(run.fail(request.ordinal, "Broken", "it broke", Some(data)));
    }
    let found: Vec<Value> = serde_json::from_str(output(&done.unwrap())).unwrap();
    for (request, found) in asked.iter().zip(&found) {
        let thrown = json!("it broke");
        let value = json!({"success": false, "exitCode": 3, "stdout": "o", "stderr": "e",
            "error": "it broke"});
        let wanted = if request.kind == "shell" { value } else { thrown };
        assert_eq!(found, &wanted, "{}", request.key);
    }
}

#[test]
fn every_question_is_presented_and_routed() {
    // Every answer of the review but the second asks for more.
    let answer = |r: &Request| match r.kind.as_str() {
        "breakpoint" => {
            let response = format!("r{}", r.ordinal);
            json!({"approved": r.key == "@bp:review#1", "response": response, "more": [1]})
        }
        _ => json!({}),
    };
    let played = play("compat_breakpoints.js", answer);
    let row = |r: &Request| (r.key.clone(), definition(r));
    same_rows(&played.asked.iter().map(row).collect::<Vec<_>>(), ASKED);
    let payload = |r: &Request| definition(r)["breakpoint"].get("payload").cloned();
    for request in played.asked.iter().filter(|r| r.kind == "breakpoint") {
        assert_eq!(
            request.args.as_ref().map(dormouse::codecs::json::Json::to_value),
            payload(request)
        );
    }
    assert_eq!(played.output["feedback"], "r11");
    let refused = json!({"approved": false, "response": "r1", "more": [1]});
    assert_eq!(played.output["answers"][0], refused);
    assert_eq!(played.output["last"]["approved"], true);
    assert_eq!(played.output.get("none"), None);
}

#[test]
fn branches_give_their_results_where_they_stood() {
    let echo = |r: &Request| json!({"echo": r.args.as_ref().unwrap().to_value()["id"]});
    let played = play("compat_parallel.js", echo);
    let keys: Vec<_> = played.asked.iter().map(|r| r.key.as_str()).collect();
    assert_eq!(
        keys.join(" "),
        "p0[0]/step#0 p0[1]/step#0 p0[1]/step#1 step#0 step#1 p2[0]/step#0 p2[1]/step#0 step#2 \
         p5[0]/step#0 p5[1]/step#0 p6[0]/step#0 p7[on l]/step#0 p8[0]/step#0 p8[1]/step#0 \
         p8[2]/step#0 p9[0]/step#0 p9[1]/step#0 p10[0]/p0[0]/step#0 p10[0]/p0[1]/step#0 step#3 \
         step#4 step#5 p13[1]/step#0"
    );
    let wanted = json!({
        "thunks": ["a", "b c"], "promises": ["d", "e"], "mapped": ["f", "g"],
        "mixed": [1, null, "h", null], "limited": [1, null, 3], "map": [[0, "i"], [1, "j"]],
        "branch": [[0, "0", "k"]], "named": ["l"], "concurrency": ["m", "n", "o"],
        "sequential": ["q", "r"], "nested": [["s1", "s2"]], "none": [], "plain": ["t", "u"],
        "settled": ["fulfilled", "rejected"],
        "notAList": "TypeError: ctx.parallel.map: wants an array or another iterable",
        "notAThunk": "TypeError: ctx.parallel.all: element 1 is neither a function nor a promise",
        "rejected": "RangeError: first", "all": "Error: late",
    });
    assert_eq!(played.output, wanted);
}

#[test]
fn every_line_is_logged_once() {
    let played = play("compat_log.js", |_| json!(null));
    assert_eq!(played.output, true);
    for (n, line) in played.logs.iter().enumerate() {
        let mut found = serde_json::to_value(line).unwrap();
        assert_eq!(found["n"].take(), n);
        found.as_object_mut().unwrap().remove("n");
        let wanted: Option<Value> = LOGGED.get(n).and_then(|text| serde_json::from_str(text).ok());
        assert_eq!(Some(found), wanted);
    }
    assert_eq!(played.logs.len(), LOGGED.len());
}

const ZONED: &str = "Fri Nov 20 2026 12:00:00 GMT+0000 (Coordinated Universal Time)";

#[test]
fn forms_of_the_ledger_do_what_their_authors_meant() {
    let graph = pinned("compat_ledger.js");
    assert_eq!(graph.warnings.len(), 2, "{:?}", graph.warnings);
    assert!(graph.warnings.iter().any(|w| w.contains("this import() will be rejected")));
    let played = play("compat_ledger.js", |r| json!({"n": r.ordinal}));
    let titles: Vec<_> = played.asked.iter().filter_map(|r| r.title.as_deref()).collect();
    let at = format!("At {ZONED}");
    assert_eq!(titles, ["At 1", "At 2", "Part", at.as_str(), "At 4", "At 5"]);
    let dates = definition(&played.asked[3])["args"].clone();
    assert_eq!(
        dates,
        json!({"at": "2026-11-20T12:00:00.000Z", "from": "1970-01-01T00:00:00.000Z"})
    );
    let none = "undefined";
    let n = |n: u32| json!({"n": n});
    let wanted = json!({
        "who": "nobody", "list": [], "rest": {}, "inputs": "absent",
        "guards": [none, none, none, none, none, none, none, none, "function", none],
        "here": "dormouse:///data.json", "main": true,
        "modules": [true, true, 5, "Error", true, 0, true, true],
        "byId": n(1), "run": n(2), "alias": n(3), "dates": n(4), "stable": [n(5), n(5)],
        "caught": n(6), "unknown": "InvalidTaskDefinitionError",
        "numbers": ["1,234,567.891", "0.5", 0],
        "texts": [ZONED, "2026-11-20T12:00:00.000Z", ["a", "A", "b"]],
        "pure": ["q=a+b", {"d": "1970-01-01T00:00:00.000Z"}], "strings": ["r1", true, "/repo"],
    });
    assert_eq!(played.output, wanted);
}

#[test]
fn a_guard_lets_real_failures_through() {
    let mut run = started("compat_ledger.js");
    let mut done = run.begin();
    for ordinal in 1..=5 {
        done = run.resolve(ordinal, "null");
    }
    assert_eq!(keys(&done), ["look#3"]);
    let done = run.fail(6, "ShellError", "exit 3", None);
    let found: Value = serde_json::from_str(output(&done)).unwrap();
    assert_eq!(found["caught"], json!(["ShellError", "exit 3", false]));
}
