//! Task tokens: each speaks for one attempt of one effect, and for nothing else.

#![allow(clippy::disallowed_methods, reason = "these tests read the files of a root")]

use crate::claims::Site;
use crate::served::{Answer, raw};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;

/// A request over TCP with this token instead of the test's own.
fn with(site: &Site, token: &str, line: &str, body: &Value) -> Answer {
    let host = site.served.address;
    let head = format!(
        "Host: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    );
    site.served.send(&raw(line, &head, body.to_string().as_bytes()))
}

fn token_of(task: &Value) -> String {
    task["taskToken"].as_str().unwrap().to_owned()
}

#[test]
fn a_task_token_lets_its_holder_beat_and_post_and_nothing_else() {
    let site = Site::new();
    site.run("r", &json!({ "tasks": [{}, {}] }));
    let claimed = site.claim("w", &json!({ "max": 2 }));
    let (one, two) = (&claimed["tasks"][0], &claimed["tasks"][1]);
    let (own, other) = (token_of(one), token_of(two));
    assert_ne!(own, other);
    let task = "/v1/runs/r/tasks/e0001";
    let post = |token: &str, verb: &str, body: &Value| {
        with(&site, token, &format!("POST {task}/{verb}"), body)
    };
    let beat = json!({ "epoch": 1 });
    assert_eq!(post(&own, "heartbeat", &beat).ok()["directive"], "continue");
    assert_eq!(post(&own, "heartbeat", &json!({})).ok()["state"], "started");
    // Another effect's token, a made-up one, another number.
    post(&other, "heartbeat", &beat).is_problem(401, "unauthenticated");
    post(&own.replace("dmk_1_", "dmk_2_"), "heartbeat", &beat).is_problem(401, "unauthenticated");
    post(&own, "heartbeat", &json!({ "epoch": 2 })).is_problem(403, "forbidden");
    // Nothing but its own attempt.
    let released = json!({ "epoch": 1, "began": false });
    post(&own, "release", &released).is_problem(403, "forbidden");
    for line in ["GET /v1/runs", "GET /v1/runs/r", "GET /v1/runs/r/tasks/e0001", "GET /nowhere"] {
        with(&site, &own, line, &json!({})).is_problem(403, "forbidden");
    }
    // Without an epoch it is that of the token: a holder never posts without a claim.
    let done = post(&own, "result", &json!({ "status": "ok", "value": 1 })).ok();
    assert_eq!((&done["state"], &done["repeat"]), (&json!("ok"), &json!(false)));
    let resolved = &site.events("r", "EFFECT_RESOLVED")[0];
    assert_eq!(resolved["data"]["epoch"], 1);
    assert_eq!(resolved["data"]["by"], "worker:task-token");
}

#[test]
fn the_token_of_an_attempt_that_is_over_is_a_late_post() {
    let mut site = Site::new();
    site.task("r", &json!({}));
    let first = site.claim("w", &json!({}));
    let token = token_of(&first["tasks"][0]);
    let released = json!({ "epoch": 1, "began": false });
    site.deed("r/e0001", "release", &released).ok();
    let second = site.claim("w", &json!({}));
    assert_eq!(second["tasks"][0]["epoch"], 2);
    let line = "POST /v1/runs/r/tasks/e0001/result";
    let late = with(&site, &token, line, &json!({ "status": "ok", "value": 1 }));
    assert_eq!(late.is_problem(409, "stale_lease")["currentEpoch"], 2);
    // The key stays over a restart, and only its owner may read it.
    let token = token_of(&second["tasks"][0]);
    site.served.restart();
    let key = site.served.cli.root().join(".dormouse/task-key");
    let meta = std::fs::metadata(&key).unwrap();
    assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (32, 0o600));
    with(&site, &token, line, &json!({ "status": "ok", "value": 1 })).ok();
    // No token stands in any file of the run.
    let journal = std::fs::read_dir(site.served.cli.root().join("r/journal")).unwrap();
    for file in journal {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains("dmk_") && !text.contains(&token));
    }
}
