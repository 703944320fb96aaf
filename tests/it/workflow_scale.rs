//! Workflow documents of any size and any make: what a resolution costs does not grow with the
//! document, and every document that has no findings comes to an end, whatever its work brings.

use dormouse::codecs::event::ErrorInfo;
use dormouse::codecs::json::Json;
use dormouse::codecs::outline::Notation;
use dormouse::codecs::turn::{Feed, Output, Request, TurnDone, TurnInput};
use dormouse::machines::effect::plain_error;
use dormouse::machines::workflow::model::Workflow;
use dormouse::machines::workflow::plan::{Begin, Planner};
use dormouse::machines::workflow::read::read;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn flow(document: &Value) -> Arc<Workflow> {
    let text = document.to_string();
    let reading = read(&text, Notation::Json);
    let errors: Vec<_> = reading.findings.iter().filter(|f| f.is_error()).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
    Arc::new(reading.workflow)
}

fn document(templates: &[Value], entry: &str) -> Value {
    json!({
        "apiVersion": "aether/v1", "kind": "Workflow", "metadata": { "name": "made" },
        "spec": {
            "entrypoint": entry, "timeout": "0s", "maxNestedDepth": 10, "templates": templates,
            "arguments": { "parameters": [{ "name": "list", "default": [1, 2] }] },
        },
    })
}

/// A run that is played by hand: what it was told, and what it said.
struct Played {
    planner: Planner,
    open: BTreeMap<u32, Request>,
    said: Vec<(TurnInput, TurnDone)>,
    has_ended: bool,
}

fn planner(flow: &Arc<Workflow>, keeps: bool) -> Planner {
    Planner::new(Begin { keeps, ..Begin::rehearsal(Arc::clone(flow), None) }).unwrap()
}

impl Played {
    fn begin(flow: &Arc<Workflow>, keeps: bool) -> Self {
        let (open, said) = (BTreeMap::new(), Vec::new());
        let mut played = Self { planner: planner(flow, keeps), open, said, has_ended: false };
        played.tell(Feed::RunStarted);
        played
    }

    fn tell(&mut self, feed: Feed) {
        let seq = self.said.len() as u64 + 1;
        let clock_micros = i64::try_from(seq).unwrap() * 1_000_000;
        let input = TurnInput::live(seq, clock_micros, feed);
        let done = self.planner.turn(&input);
        for (ordinal, _) in &done.cancels {
            assert!(self.open.remove(ordinal).is_some(), "{ordinal} was not open");
        }
        for output in &done.outputs {
            assert!(!self.has_ended, "{output:?} after the end");
            match output {
                Output::Request(request) => {
                    let twice = self.open.insert(request.ordinal, (**request).clone());
                    assert!(twice.is_none(), "{request:?}");
                }
                Output::Completed { .. } | Output::Failed { .. } => self.has_ended = true,
                other => panic!("{other:?}"),
            }
        }
        self.said.push((input, done));
    }

    fn resolve(&mut self, ordinal: u32, value: Option<Value>, error: Option<ErrorInfo>) {
        self.open.remove(&ordinal);
        let value = value.map(|value| Json::of(&value));
        self.tell(Feed::Resolved { ordinal, value, error, attempts: 1 });
    }

    /// Gives the effect that `which` falls on an outcome that `how` falls on.
    fn happen(&mut self, which: u8, how: u8) {
        let open: Vec<u32> = self.open.keys().copied().collect();
        let Some(ordinal) = open.get(usize::from(which) % open.len().max(1)).copied() else {
            return;
        };
        let error = |code: u8| {
            let data = Some(Json::of(&json!({ "code": code })));
            Some(ErrorInfo { data, ..plain_error("E", "e".into()) })
        };
        match how % 12 {
            code @ 2..=4 => self.resolve(ordinal, None, error(code)),
            5 => self.resolve(ordinal, Some(json!({ "code": 1, "parameters": [] })), None),
            6 if which == 7 => {
                self.tell(Feed::CancelRequested { reason: None });
                let gone = self.open.extract_if(.., |_, request| !request.cleanup);
                let gone: Vec<u32> = gone.map(|(ordinal, _)| ordinal).collect();
                for ordinal in gone {
                    self.tell(Feed::Cancelled { ordinal, reason: "cancelled".into() });
                }
            }
            7 => {
                self.open.remove(&ordinal);
                self.tell(Feed::Cancelled { ordinal, reason: "by hand".into() });
            }
            _ => self.resolve(ordinal, Some(json!({ "n": how })), None),
        }
    }

    fn end(&mut self) {
        while let Some(ordinal) = self.open.keys().next().copied().filter(|_| !self.has_ended) {
            assert!(self.said.len() < 20_000, "it never ends");
            self.resolve(ordinal, Some(json!({ "n": 1 })), None);
        }
        assert!(self.has_ended, "nothing is open, and it has not ended");
    }
}

/// A dag in which each task needs the one `lanes` before it and reads its output.
fn dag_of(tasks: usize, lanes: usize) -> Value {
    let node = |i: usize| {
        let mut node = json!({ "name": format!("t{i}"), "template": "work" });
        if let Some(before) = i.checked_sub(lanes) {
            node["dependencies"] = json!([format!("t{before}")]);
            let path = format!("tasks.t{before}.outputs.parameters.n");
            let value = json!({ "name": "n", "valueFrom": { "parameter": path } });
            node["arguments"] = json!({ "parameters": [value] });
            node["when"] = format!("tasks.t{before}.phase != 'Failed'").into();
        }
        node
    };
    let nodes: Vec<Value> = (0..tasks).map(node).collect();
    let outputs = json!({ "parameters": [{ "name": "n" }] });
    let work =
        json!({ "task": { "name": "work", "executor": { "type": "work" }, "outputs": outputs } });
    document(&[json!({ "dag": { "name": "main", "tasks": nodes } }), work], "main")
}

/// The most task runs that one resolution looks at, but for the last, which ends everything.
fn dearest(tasks: usize) -> u64 {
    let flow = flow(&dag_of(tasks, 50));
    let mut planner = planner(&flow, false);
    let turn = |planner: &mut Planner, feed| planner.turn(&TurnInput::live(1, 0, feed));
    let ordinals = |done: &TurnDone| -> Vec<u32> {
        let requests = done.outputs.iter().filter_map(|output| match output {
            Output::Request(request) => Some(request.ordinal),
            _ => None,
        });
        requests.collect()
    };
    let mut open = ordinals(&turn(&mut planner, Feed::RunStarted));
    let (mut most, mut done) = (0, 0);
    while let Some(ordinal) = open.pop() {
        let before = planner.looks();
        let value = Some(Json::of(&json!({ "n": 1 })));
        let said = turn(&mut planner, Feed::Resolved { ordinal, value, error: None, attempts: 1 });
        done += 1;
        if done < tasks {
            most = most.max(planner.looks() - before);
        }
        open.extend(ordinals(&said));
    }
    assert_eq!(done, tasks);
    assert!(planner.end().is_some());
    most
}

#[test]
fn a_resolution_costs_the_same_in_a_dag_of_any_size() {
    let (small, large) = (dearest(100), dearest(10_000));
    assert_eq!(small, large);
    assert!((1..20).contains(&large), "{large}");
}

/// Bytes that decide what a document looks like.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn of(&mut self, count: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % count
    }

    fn often(&mut self) -> bool {
        self.of(2) == 1
    }
}

fn outputs(more: &Value) -> Value {
    let mut only = json!({ "name": "n" });
    only.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "parameters": [only] })
}

/// A valid document: templates only run those before them, tasks only need those before them.
fn any_document(choices: &mut Choices<'_>) -> Value {
    let mut templates = vec![json!({ "task": { "name": "x0", "executor": { "type": "work" },
        "outputs": outputs(&json!({})) } })];
    let mut is_task = vec![true];
    for i in 1..2 + choices.of(4) {
        let name = format!("x{i}");
        let made = match choices.of(4) {
            0 => json!({ "task": any_leaf(choices, &name) }),
            1 => json!({ "loop": any_loop(choices, &name, i) }),
            _ => json!({ "dag": any_dag(choices, &name, &is_task) }),
        };
        is_task.push(made.get("task").is_some());
        templates.push(made);
    }
    let entry = format!("x{}", templates.len() - 1);
    document(&templates, &entry)
}

fn any_retry(choices: &mut Choices<'_>) -> Value {
    let mut retry = json!({ "limit": choices.of(3) });
    if choices.often() {
        retry["expression"] = "phase != 'Timeout' && retry.attempt < 3".into();
    }
    if choices.often() {
        retry["x-dormouse"] = json!({ "backoff": { "initial": "1s", "jitter": 0.5 } });
    }
    retry
}

fn any_leaf(choices: &mut Choices<'_>, name: &str) -> Value {
    let kind = ["work", "echo", "approval"][choices.of(3)];
    let mut leaf = json!({
        "name": name, "executor": { "type": kind }, "outputs": outputs(&json!({ "default": 0 })),
        "retry": any_retry(choices),
    });
    if choices.often() {
        leaf["timeout"] = "30s".into();
    }
    if choices.often() {
        leaf["phaseConditions"] = json!({ "failed": "outputs.parameters.n == 8" });
    }
    leaf
}

fn any_loop(choices: &mut Choices<'_>, name: &str, i: usize) -> Value {
    let strategy = ["last", "first", "list"][choices.of(3)];
    let mut made = json!({
        "name": name, "body": format!("x{}", choices.of(i)), "aggregate": { "strategy": strategy },
        "outputs": outputs(&json!({})), "x-dormouse": { "failFast": choices.often() },
    });
    match choices.of(3) {
        0 => made["items"] = json!([1, { "a": 2 }, "z"]),
        1 => made["itemsFrom"] = "workflow.parameters.list".into(),
        _ => {
            made["repeatCondition"] = "loop_iter.index < 2".into();
            made["maxIterations"] = json!(1 + choices.of(4));
            return made;
        }
    }
    made["concurrency"] = choices.of(4).into();
    made
}

fn any_dag(choices: &mut Choices<'_>, name: &str, is_task: &[bool]) -> Value {
    let mut nodes: Vec<Value> = Vec::new();
    for k in 0..=choices.of(4) {
        let template = choices.of(is_task.len());
        let mut node = json!({ "name": format!("k{k}"), "template": format!("x{template}") });
        let needs: Vec<usize> = (0..k).filter(|_| choices.of(3) == 0).collect();
        node["dependencies"] = needs.iter().map(|n| format!("k{n}")).collect();
        if let Some(first) = needs.first() {
            let output = format!("tasks.k{first}.outputs.parameters.n");
            let conditions = [
                "true".to_owned(),
                format!("tasks.k{first}.phase == 'Succeeded'"),
                format!("has({output}) && {output} != 9"),
            ];
            node["when"] = conditions[choices.of(3)].as_str().into();
            let mut given = json!({ "name": "n", "valueFrom": { "parameter": output } });
            if choices.often() {
                given["default"] = 0.into();
            }
            node["arguments"] = json!({ "parameters": [given] });
        }
        if choices.often() {
            node["timeout"] = "90s".into();
        }
        if choices.often() {
            node["continueOn"] = json!({ "failed": true, "error": choices.often() });
        }
        if choices.of(4) == 0 {
            let hook = json!({ "template": "x0" });
            node["hooks"] = json!({ "onStart": hook, "onSuspend": hook, "onExit": hook });
        }
        if is_task[template] && choices.often() {
            node["retry"] = any_retry(choices);
        }
        nodes.push(node);
    }
    let source = json!({ "valueFrom": { "parameter": "tasks.k0.outputs.parameters.n" } });
    json!({ "name": name, "tasks": nodes, "outputs": outputs(&source),
        "continueOn": { "timeout": choices.often() } })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_document_ends_and_a_replay_says_the_same(
        bytes in prop::collection::vec(any::<u8>(), 0..120),
        outcomes in prop::collection::vec(any::<(u8, u8)>(), 0..80),
    ) {
        let made = any_document(&mut Choices(bytes.iter()));
        let flow = flow(&made);
        let mut played = Played::begin(&flow, true);
        for (which, how) in outcomes {
            played.happen(which, how);
        }
        played.end();
        // One that forgets what is over says the same as one that keeps it.
        let mut again = planner(&flow, false);
        for (input, said) in &played.said {
            prop_assert_eq!(&again.turn(input), said);
        }
        let (over, all) = again.progress();
        prop_assert_eq!(over, all);
    }
}
