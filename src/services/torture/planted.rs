//! The judge judged: each wrong that a broken runtime would do is planted into a story that was
//! right, and has to be found.
//!
//! Invariant: the story without a wrong has no finding.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::judge::{Line, Promise, Scene, Story, Variant, judge};

/// A record at a second of the day.
fn record(seq: u64, kind: &str, data: &Value) -> Value {
    json!({ "seq": seq, "at": time(seq), "type": kind, "data": data })
}

fn time(seq: u64) -> String {
    format!("2026-11-20T12:00:{seq:02}.000000Z")
}

fn line(effect: &str, epoch: u64, after: u64, serial: u64) -> Line {
    let at = time(after).replace(".000000", ".500000");
    Line { key: format!("r/{effect}"), epoch, at, serial }
}

fn effect(id: &str, more: &Value) -> Value {
    let mut data = json!({ "effectId": id, "kind": "chore" });
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    data
}

/// One effect whose first start was lost and decided, then done; a late post was refused.
fn decided() -> Scene {
    let own = json!({ "serial": 1 });
    let records = [
        ("RUN_CREATED", json!({})),
        ("EFFECT_REQUESTED", effect("e0001", &json!({}))),
        ("EFFECT_STARTED", effect("e0001", &json!({ "epoch": 1 }))),
        ("EFFECT_UNCERTAIN", effect("e0001", &json!({ "epoch": 1 }))),
        (
            "EFFECT_ATTEMPT_FAILED",
            effect("e0001", &json!({ "epoch": 1, "class": "unknown", "decision": {} })),
        ),
        ("EFFECT_STARTED", effect("e0001", &json!({ "epoch": 2 }))),
        ("EFFECT_RESOLVED", effect("e0001", &json!({ "epoch": 2, "value": own }))),
        ("RUN_COMPLETED", json!({ "output": { "serials": [1] } })),
    ];
    let records: Vec<Value> =
        records.into_iter().zip(1..).map(|((kind, data), seq)| record(seq, kind, &data)).collect();
    let late = json!({ "serial": 1, "by": "late" });
    let story = Story {
        variant: Variant::Chore,
        row: Some(("completed".to_owned(), records.len() as u64)),
        stale: vec![json!({ "epoch": 1, "currentEpoch": 2, "value": late })],
        records,
    };
    let (run, effect) = ("r".to_owned(), "e0001".to_owned());
    Scene {
        runs: BTreeMap::from([(run.clone(), story)]),
        lines: vec![line("e0001", 2, 6, 1)],
        promises: vec![
            Promise::Created { run: run.clone() },
            Promise::Decided { run: run.clone(), effect: effect.clone(), epoch: 1 },
            Promise::Posted { run: run.clone(), effect: effect.clone(), value: own },
            Promise::Refused { run, effect, epoch: 1, current: 2, value: late },
        ],
        ..Scene::default()
    }
}

/// What is found after a change.
fn found(change: impl FnOnce(&mut Scene, &mut Vec<Value>)) -> Vec<&'static str> {
    let mut scene = decided();
    let mut records = std::mem::take(&mut scene.runs.get_mut("r").unwrap().records);
    change(&mut scene, &mut records);
    let story = scene.runs.get_mut("r");
    if let Some(story) = story {
        if let Some((_, head)) = &mut story.row
            && *head == 8
        {
            *head = records.len() as u64;
        }
        story.records = records;
    }
    let mut rules: Vec<&str> = judge(&scene).into_iter().map(|finding| finding.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

fn story(scene: &mut Scene) -> &mut Story {
    scene.runs.get_mut("r").unwrap()
}

#[test]
fn what_is_right_is_found_right() {
    assert_eq!(found(|_, _| {}), [""; 0]);
}

#[test]
fn i01_a_lost_promise_is_found() {
    assert!(found(|scene, _| scene.runs.clear()).contains(&"I01"));
    assert!(found(|_, records| drop(records.pop())).contains(&"I01"), "it did not end");
    let other = json!({ "serial": 2 });
    assert!(found(|_, records| records[6]["data"]["value"] = other).contains(&"I01"));
    let undecided = |_: &mut Scene, records: &mut Vec<Value>| {
        records[4]["data"]["decision"] = Value::Null;
    };
    assert!(found(undecided).contains(&"I01"));
    let run = || "r".to_owned();
    let promises =
        [Promise::Signalled { run: run(), id: "s".to_owned() }, Promise::Cancelled { run: run() }];
    for promise in promises {
        assert_eq!(found(|scene, _| scene.promises.push(promise)), ["I01"]);
    }
    let after_the_end = |_: &mut Scene, records: &mut Vec<Value>| {
        records.push(record(9, "EFFECT_REQUESTED", &effect("e0002", &json!({}))));
    };
    assert!(found(after_the_end).contains(&"I01"));
}

#[test]
fn i02_what_is_unknown_and_done_again_is_found() {
    // Negative control: a runtime that retries what is unknown.
    let retried = |scene: &mut Scene, records: &mut Vec<Value>| {
        records[4]["data"].as_object_mut().unwrap().remove("decision");
        scene.lines.insert(0, line("e0001", 1, 3, 1));
    };
    assert!(found(retried).contains(&"I02"));
    assert_eq!(found(|scene, _| scene.lines.push(line("e0001", 2, 7, 2))), ["I02"]);
    assert!(found(|scene, _| scene.lines.clear()).contains(&"I02"), "it was never done");
    let both = |_: &mut Scene, records: &mut Vec<Value>| drop(records.remove(4));
    assert!(found(both).contains(&"I02"), "two starts at once");
    // Where twice does no harm, once for each start is what is allowed.
    let again = |lines: u64| {
        found(move |scene, _| {
            story(scene).variant = Variant::Again;
            scene.lines = (0..lines).map(|n| line("e0001", 1 + n.min(1), 6, 1)).collect();
        })
    };
    assert_eq!((again(2), again(3)), (vec![], vec!["I02"]));
}

#[test]
fn i03_work_before_its_start_is_found() {
    // Negative control: a runtime that does not await that a start is durable, and dies.
    let lost = |_: &mut Scene, records: &mut Vec<Value>| drop(records.remove(5));
    assert!(found(lost).contains(&"I03"));
    assert_eq!(found(|scene, _| scene.lines[0] = line("e0001", 2, 5, 1)), ["I03"]);
    assert!(found(|scene, _| scene.lines[0].key = "r/e0002".to_owned()).contains(&"I03"));
    assert!(found(|scene, _| scene.lines[0].key = "x/e0001".to_owned()).contains(&"I03"));
}

#[test]
fn i04_an_epoch_that_comes_twice_is_found() {
    // Negative control: epochs that are kept in memory only begin anew with the daemon.
    for epoch in [1, 3] {
        let anew = move |_: &mut Scene, records: &mut Vec<Value>| {
            records[5]["data"]["epoch"] = json!(epoch);
        };
        assert!(found(anew).contains(&"I04"), "{epoch}");
    }
}

#[test]
fn i05_what_an_old_epoch_posted_is_found() {
    // Negative control: a runtime that does not compare epochs.
    let taken = |_: &mut Scene, records: &mut Vec<Value>| {
        records[6]["data"]["epoch"] = json!(1);
    };
    assert_eq!(found(taken), ["I05"]);
    let stands = |_: &mut Scene, records: &mut Vec<Value>| {
        records[6]["data"]["value"] = json!({ "serial": 1, "by": "late" });
    };
    assert!(found(stands).contains(&"I05"));
    assert_eq!(found(|scene, _| story(scene).stale.clear()), ["I05"]);
    let unfounded = |scene: &mut Scene, _: &mut Vec<Value>| {
        let Promise::Refused { current, .. } = &mut scene.promises[3] else { return };
        *current = 1;
    };
    assert_eq!(found(unfounded), ["I05"]);
}

#[test]
fn i06_doubt_without_a_reason_is_found() {
    let never_begun = |_: &mut Scene, records: &mut Vec<Value>| {
        records.swap(2, 3);
    };
    assert!(found(never_begun).contains(&"I06"));
    assert_eq!(found(|scene, _| story(scene).variant = Variant::Shell), ["I06"]);
}

#[test]
fn i07_an_output_that_is_not_what_was_done_is_found() {
    let other = |_: &mut Scene, records: &mut Vec<Value>| {
        records[7]["data"]["output"]["serials"] = json!([2]);
    };
    assert_eq!(found(other), ["I07"]);
}

#[test]
fn i08_a_past_that_changed_is_found() {
    let changed = |scene: &mut Scene, records: &mut Vec<Value>| {
        let mut seen = records[..3].to_vec();
        scene.glimpses.push(("r".to_owned(), seen.clone()));
        seen[2]["data"]["worker"] = json!("another");
        scene.glimpses.push(("r".to_owned(), seen));
    };
    assert_eq!(found(changed), ["I08"]);
    let unreadable = ("r".to_owned(), "a chain breaks".to_owned());
    assert_eq!(found(|scene, _| scene.unreadable.push(unreadable)), ["I08"]);
}

#[test]
fn i09_an_index_that_says_something_else_is_found() {
    for row in [None, Some(("completed".to_owned(), 7)), Some(("cancelled".to_owned(), 8))] {
        assert_eq!(found(|scene, _| story(scene).row = row), ["I09"]);
    }
}

#[test]
fn i10_a_start_after_a_cancel_is_found() {
    let cancelled = |at: usize, end: &'static str| {
        found(move |_, records| {
            records.insert(at, record(9, "RUN_CANCEL_REQUESTED", &json!({})));
            records.last_mut().unwrap()["type"] = json!(end);
        })
    };
    assert!(cancelled(5, "RUN_CANCELLED").contains(&"I10"));
    assert_eq!(cancelled(6, "RUN_CANCELLED"), ["I09"], "only its row says that it completed");
    assert!(cancelled(6, "RUN_COMPLETED").contains(&"I10"));
}

#[test]
fn a_journal_whose_bytes_changed_is_not_read() {
    let line = "{\"seq\":1}";
    let unsealed = format!("{line},\"sum\":\"{}\"}}\n", "0".repeat(32));
    let why = super::book::verified("r", &unsealed).unwrap_err();
    assert!(why.contains("chain"), "{why}");
    assert!(super::book::verified("r", "{\"seq\":1").unwrap_err().contains("middle of a line"));
}
