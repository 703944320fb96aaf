//! Workflow documents that run: each is played through with outcomes from its story, and what it
//! asked for, in which order, and how it ended is frozen on purpose. `UPDATE_GOLDEN=1` writes the
//! plans anew.

#![allow(clippy::disallowed_methods, reason = "these tests read their own data")]

use crate::workflow_documents::{documents, golden};
use dormouse::codecs::json::Json;
use dormouse::codecs::outline::Notation;
use dormouse::codecs::turn::Standing;
use dormouse::codecs::turn::{Feed, Output, TurnInput};
use dormouse::machines::effect::plain_error;
use dormouse::machines::workflow::cron;
use dormouse::machines::workflow::model::Workflow;
use dormouse::machines::workflow::plan::{Begin, Planner};
use dormouse::machines::workflow::read::{read, read_for};
use dormouse::machines::workflow::rehearse::{Outcomes, Rehearsal};
use dormouse::machines::workflow::signatures::Signatures;
use dormouse::machines::workflow::snapshot::snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn flow(path: &Path) -> Arc<Workflow> {
    let text = fs::read_to_string(path).unwrap();
    let notation = Notation::of(&path.display().to_string()).unwrap();
    let is_lenient = path.with_extension("story.json").exists() && story(path)["lenient"] == true;
    let reading = read_for(&text, notation, &Signatures::new(), is_lenient);
    let errors: Vec<_> = reading.findings.iter().filter(|f| f.is_error()).collect();
    assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    Arc::new(reading.workflow)
}

fn story(path: &Path) -> Value {
    let path = path.with_extension("story.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn played(path: &Path) -> Rehearsal {
    let story = story(path);
    let outcomes = Outcomes::read(&story["outcomes"]).unwrap();
    let mut rehearsal = Rehearsal::begin(flow(path), story.get("inputs").cloned()).unwrap();
    rehearsal.play(&outcomes);
    if story["cancel"] == true {
        rehearsal.cancel();
        rehearsal.play(&outcomes);
    }
    rehearsal
}

fn print(rehearsal: &Rehearsal) -> String {
    let mut out = String::new();
    for act in &rehearsal.acts {
        let _ = writeln!(out, "{}", act.input);
        for asked in &act.requests {
            let _ = writeln!(out, "  asks {} ({}) {}", asked.key, asked.kind, asked.args);
        }
        for key in &act.cancels {
            let _ = writeln!(out, "  gives up {key}");
        }
        if let Some(end) = &act.end {
            let _ = writeln!(out, "  ends {end}");
        }
    }
    let shown = snapshot(&rehearsal.planner, &|_| Standing::default());
    let _ = writeln!(out, "{} {} {}", shown["status"], shown["progress"], shown["message"]);
    for task in shown["tasks"].as_array().unwrap() {
        let path = task["x-dormouse"]["path"].as_str().unwrap();
        let (status, message) = (task["status"].as_str().unwrap(), &task["message"]);
        let (retries, notes) = (&task["retryCount"], &task["x-dormouse"]["notes"]);
        let _ = writeln!(out, "  {path}: {status} {message} retries {retries} notes {notes}");
    }
    let _ = writeln!(out, "{}", shown["x-dormouse"]);
    out
}

#[test]
fn documents_run_as_their_stories_say() {
    let all = documents("runs");
    assert!(all.len() >= 40, "{}", all.len());
    for path in all {
        let rehearsal = played(&path);
        let waits = story(&path)["waits"] == true;
        assert_eq!(rehearsal.has_ended(), !waits, "{}\n{}", path.display(), print(&rehearsal));
        golden(&path.with_extension("plan.txt"), &print(&rehearsal));
    }
}

#[test]
fn keys_are_never_used_twice_and_numbers_follow_each_other() {
    for path in documents("runs") {
        let rehearsal = played(&path);
        let asked = rehearsal.acts.iter().flat_map(|act| &act.requests);
        let keys: Vec<&str> = asked.map(|asked| asked.key.as_str()).collect();
        let unique: BTreeSet<&str> = keys.iter().copied().collect();
        assert_eq!(unique.len(), keys.len(), "{}", path.display());
    }
}

/// Plays a document with outcomes in any order, and says what was asked for.
fn stormy(flow: &Arc<Workflow>, choices: &[(u8, u8)]) -> (String, bool) {
    let Ok(mut rehearsal) = Rehearsal::begin(Arc::clone(flow), None) else {
        return (String::new(), true);
    };
    for (which, how) in choices {
        let open: Vec<u32> = rehearsal.open().map(|request| request.ordinal).collect();
        if open.is_empty() {
            break;
        }
        let ordinal = open[usize::from(*which) % open.len()];
        let error = |code: u8| {
            let data = Some(Json::of(&json!({ "code": code })));
            Some(dormouse::codecs::event::ErrorInfo { data, ..plain_error("E", "e".into()) })
        };
        let value = |value: Value| Some(Json::of(&value));
        match how % 8 {
            0 => rehearsal.resolve(ordinal, None, error(2)),
            1 => rehearsal.resolve(ordinal, None, error(3)),
            2 => rehearsal.resolve(ordinal, None, error(4)),
            3 => rehearsal.resolve(ordinal, value(json!([1, "x", null])), None),
            4 => rehearsal.resolve(ordinal, value(json!({"files": ["a"], "n": 3, "x": {}})), None),
            5 => rehearsal.resolve(ordinal, value(json!({"code": 1, "parameters": []})), None),
            6 if *which == 77 => rehearsal.cancel(),
            _ => rehearsal.resolve(ordinal, value(json!({})), None),
        }
    }
    let (over, all) = rehearsal.planner.progress();
    assert!(over <= all);
    let shown = snapshot(&rehearsal.planner, &|_| Standing::default());
    let open = rehearsal.open().filter(|request| !request.key.ends_with("~deadline")).count();
    // Whatever came: either something is waited for, or the run has ended.
    assert!(rehearsal.has_ended() || open > 0, "{}", print(&rehearsal));
    assert!(!rehearsal.has_ended() || over == all, "{}", print(&rehearsal));
    (print(&rehearsal) + &shown.to_string(), rehearsal.has_ended())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_outcomes_in_any_order_lead_to_an_end_and_twice_to_the_same(
        which in any::<prop::sample::Index>(),
        choices in prop::collection::vec(any::<(u8, u8)>(), 0..60),
    ) {
        let all = documents("runs");
        let flow = flow(&all[which.index(all.len())]);
        prop_assert_eq!(stormy(&flow, &choices), stormy(&flow, &choices));
    }

    /// A valid document with something changed in it.
    #[test]
    fn any_document_is_read_and_what_is_valid_runs(
        which in any::<prop::sample::Index>(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..9u8), 1..4),
        choices in prop::collection::vec(any::<(u8, u8)>(), 0..20),
    ) {
        let mut all = documents("runs");
        all.extend(documents("refused"));
        let path = &all[which.index(all.len())];
        let text = fs::read_to_string(path).unwrap();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (at, how) in cuts {
            let at = at.index(lines.len());
            let words = ["true", "[1, 2]", "tasks.a.phase", "{{workflow.name}}", "", "main", "-1"];
            match how {
                0 => drop(lines.remove(at)),
                1 => { let line = lines[at].clone(); lines.insert(at, line); }
                n => {
                    if let Some((name, _)) = lines[at].split_once(": ") {
                        lines[at] = format!("{name}: {}", words[usize::from(n - 2)]);
                    }
                }
            }
            if lines.is_empty() { lines.push(String::new()); }
        }
        let reading = read(&lines.join("\n"), Notation::of(&path.display().to_string()).unwrap());
        if reading.is_valid() {
            stormy(&Arc::new(reading.workflow), &choices);
        }
    }

    #[test]
    fn no_text_is_too_strange(text in "\\PC{0,200}") {
        let _ = read(&text, Notation::Json);
        let _ = read(&text, Notation::Yaml);
    }
}

#[test]
fn the_examples_have_no_findings() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs-example/workflows");
    let mut count = 0;
    for entry in fs::read_dir(top).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let name = path.display().to_string();
        let notation = Notation::of(&name).unwrap();
        let findings = cron::findings(&text, notation, &Signatures::new(), false);
        assert!(findings.is_empty(), "{name}: {findings:#?}");
        count += 1;
    }
    assert_eq!(count, 6);
}

#[test]
fn what_is_over_is_forgotten() {
    let flow = "{apiVersion: aether/v1, kind: Workflow, metadata: {name: w}, spec: {entrypoint: \
        main, timeout: 0s, templates: [{loop: {name: main, body: a, repeatCondition: 'true', \
        maxIterations: 2000}}, {task: {name: a, executor: {type: work}}}]}}";
    let reading = read(flow, Notation::Yaml);
    assert!(reading.is_valid(), "{:#?}", reading.findings);
    let mut planner = planner(Arc::new(reading.workflow));
    let mut most = 0;
    let mut feed = Feed::RunStarted;
    let mut rounds = 0;
    loop {
        let done = planner.turn(&turn(feed));
        most = most.max(planner.held_bytes());
        let Some(Output::Request(request)) = done.outputs.into_iter().next() else { break };
        rounds += 1;
        let value = Some(Json::of(&json!({ "text": "x".repeat(1000) })));
        let ordinal = request.ordinal;
        feed = Feed::Resolved { ordinal, value, error: None, attempts: 1 };
    }
    assert_eq!(rounds, 2000);
    // A few rounds, not all of them.
    assert!(most < 100_000, "{most}");
}

fn planner(flow: Arc<Workflow>) -> Planner {
    Planner::new(Begin { keeps: false, ..Begin::rehearsal(flow, None) }).unwrap()
}

fn turn(feed: Feed) -> TurnInput {
    TurnInput::live(1, 0, feed)
}
