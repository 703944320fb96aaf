//! Following all runs: what becomes durable, in order; what passes; and places that are gone.

use crate::claims::Site;
use crate::http_events::{Message, Reader};
use serde_json::{Value, json};

fn data(message: &Message) -> Value {
    serde_json::from_str(&message.data).unwrap()
}

fn records(reader: &mut Reader, count: usize) -> Vec<Message> {
    (0..count).map(|_| reader.next().unwrap()).collect()
}

#[test]
fn everything_durable_comes_in_order_and_may_be_gone_on_with() {
    let mut site = Site::new();
    let mut reader = Reader::open(&site.served, "/v1/events", "");
    let hello = reader.next().unwrap();
    assert_eq!(hello.event, "hello");
    let began = data(&hello)["cursor"].as_str().unwrap().to_owned();
    site.served.create_bare("a");
    site.served.create_bare("b");
    site.served.post("/v1/runs/a/note", &json!({ "text": "one" })).ok();
    let seen = records(&mut reader, 3);
    let names = |seen: &[Message]| -> Vec<(String, Value, Value)> {
        let name =
            |m: &Message| (m.event.clone(), data(m)["runId"].clone(), data(m)["seq"].clone());
        seen.iter().map(name).collect()
    };
    assert_eq!(
        names(&seen),
        [
            ("RUN_CREATED".to_owned(), json!("a"), json!(1)),
            ("RUN_CREATED".to_owned(), json!("b"), json!(1)),
            ("OPERATOR_NOTE".to_owned(), json!("a"), json!(2)),
        ]
    );
    // The line is the stored one.
    let mut stored = Reader::open(&site.served, "/v1/runs/a/events?after=1", "");
    stored.next().unwrap();
    assert_eq!(data(&seen[2])["line"], stored.next().unwrap().data);
    // From the beginning, from a place, and of one run or type only.
    let first = seen[0].id.clone().unwrap();
    let mut again = Reader::open(&site.served, &format!("/v1/events?after={began}"), "");
    again.next().unwrap();
    assert_eq!(records(&mut again, 3), seen);
    let mut rest = Reader::open(&site.served, "/v1/events", &format!("Last-Event-ID: {first}\r\n"));
    rest.next().unwrap();
    assert_eq!(records(&mut rest, 2), seen[1..]);
    let only = format!("/v1/events?after={began}&runs=b,a&types=OPERATOR_NOTE");
    let mut only = Reader::open(&site.served, &only, "");
    only.next().unwrap();
    assert_eq!(records(&mut only, 1), seen[2..]);
    for (query, status, code) in [
        ("after=nonsense", 400, "bad_request"),
        ("after=0000-0", 410, "cursor_gone"),
        (&format!("after={}9", seen[2].id.as_ref().unwrap()), 410, "cursor_gone"),
        ("volatile=2", 400, "bad_request"),
        ("runs=..", 400, "run_id_invalid"),
    ] {
        site.served.get(&format!("/v1/events?{query}")).is_problem(status, code);
    }
    // Another daemon counts anew.
    site.served.restart();
    site.served.create_bare("c");
    let gone = site.served.get(&format!("/v1/events?after={first}"));
    gone.is_problem(410, "cursor_gone");
}

#[test]
fn what_passes_is_told_to_whoever_asks_for_it() {
    let site = Site::new();
    site.task("r", &json!({}));
    let mut reader = Reader::open(&site.served, "/v1/events?volatile=1", "");
    reader.next().unwrap();
    site.claim("w", &json!({}));
    let beat =
        json!({ "epoch": 1, "worker": "w", "progress": { "percent": 12.5, "label": "half" } });
    site.deed("r/e0001", "heartbeat", &beat).ok();
    let mut notes = Vec::new();
    while notes.len() < 4 {
        let message = reader.next().unwrap();
        if message.event.starts_with("note.") {
            assert_eq!(message.id, None, "a note has no place");
            notes.push((message.event.clone(), data(&message)));
        }
    }
    let about = |more: Value| {
        let mut data = json!({ "runId": "r", "effectId": "e0001", "epoch": 1 });
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let wanted = [
        ("note.worker", json!({ "worker": "w" })),
        ("note.lease", about(json!({ "lease": "granted" }))),
        ("note.progress", about(json!({ "percent": 12.5, "label": "half" }))),
        ("note.lease", about(json!({ "lease": "renewed" }))),
    ];
    assert_eq!(notes, wanted.map(|(event, data)| (event.to_owned(), data)));
    // Others see it where they look.
    let lease = &site.show("r/e0001")["lease"];
    assert_eq!(lease["progress"], json!({ "percent": 12.5, "label": "half" }));
    let why = site.served.get("/v1/runs/r/why").ok();
    let what = why["reasons"][0]["what"].as_str().unwrap();
    assert!(what.contains("w is at") && what.ends_with("(12.5 %, half)"), "{what}");
    for odd in [json!({ "percent": 101 }), json!({ "label": "x".repeat(257) }), json!({ "at": 1 })]
    {
        let beat = json!({ "epoch": 1, "progress": odd });
        assert!([400, 422].contains(&site.deed("r/e0001", "heartbeat", &beat).status), "{beat}");
    }
    // A new start begins anew.
    site.deed("r/e0001", "release", &json!({ "epoch": 1, "began": false })).ok();
    site.claim("w", &json!({}));
    assert_eq!(site.show("r/e0001")["lease"]["progress"], Value::Null);
}
