//! Blobs: uploaded for one attempt, durable before the answer, named by results, read back.

#![allow(clippy::disallowed_methods, reason = "these tests read the files of a run")]

use crate::claims::Site;
use crate::served::{Answer, raw};
use dormouse::ground::digest::Digest;
use serde_json::{Value, json};

const TASK: &str = "/v1/runs/r/tasks/e0001";

fn put(site: &Site, query: &str, bytes: &[u8]) -> Answer {
    let kind = "Content-Type: application/octet-stream\r\n";
    let line = format!("PUT {TASK}/blobs{query}");
    site.served.send(&site.served.request(&line, kind, bytes))
}

fn claimed() -> (Site, Value) {
    let site = Site::new();
    site.task("r", &json!({}));
    let task = site.claim("w", &json!({}))["tasks"][0].clone();
    (site, task)
}

#[test]
fn what_is_uploaded_is_a_value_and_what_was_printed() {
    let (site, task) = claimed();
    // Longer than a piece, and than what a record holds.
    let value = json!({ "text": "x".repeat(600_000) }).to_string();
    let answer = put(&site, "?epoch=1", value.as_bytes());
    assert_eq!(answer.status, 201, "{answer:?}");
    let blob = answer.json();
    let digest = Digest::of(value.as_bytes());
    assert_eq!(blob, json!({ "digest": digest.to_string(), "bytes": value.len() }));
    let file = site.served.cli.root().join("r/blobs").join(digest.hex());
    assert_eq!(std::fs::read(&file).unwrap(), value.as_bytes());
    // The same again is the same; the task's token is enough.
    let token = task["taskToken"].as_str().unwrap();
    let head = format!("Host: {}\r\nAuthorization: Bearer {token}\r\n", site.served.address);
    let line = format!("PUT {TASK}/blobs");
    assert_eq!(site.served.send(&raw(&line, &head, value.as_bytes())).json(), blob);
    let printed = put(&site, "?epoch=1", b"one\ntwo\n").json();
    let both = json!({ "epoch": 1, "status": "ok", "value": 1, "valueBlob": blob });
    site.deed("r/e0001", "result", &both).is_problem(400, "bad_request");
    let other = json!({ "epoch": 1, "status": "ok", "valueBlob": blob, "worker": "x" });
    site.deed("r/e0001", "result", &other).is_problem(409, "leased");
    let body = json!({
        "epoch": 1, "status": "ok", "valueBlob": blob, "stdoutBlob": printed, "worker": "w",
    });
    let done = site.deed("r/e0001", "result", &body).ok();
    assert_eq!(done["state"], "ok");
    let shown = site.show("r/e0001");
    assert_eq!(shown["result"]["value"]["text"].as_str().unwrap().len(), 600_000);
    let data = &site.events("r", "EFFECT_RESOLVED")[0]["data"];
    assert_eq!(data["valueBlob"], blob);
    let name = printed["digest"].as_str().unwrap().strip_prefix("b3:").unwrap();
    assert_eq!(data["stdout"], format!("blobs/{name}"));
    let link = format!("{TASK}/blobs/{}", blob["digest"].as_str().unwrap());
    let back = site.served.get(&link);
    assert_eq!((back.status, back.body), (200, value.into_bytes()));
    // A file that is not what its name says is never sent to the end.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, vec![b'y'; blob["bytes"].as_u64().unwrap().try_into().unwrap()]).unwrap();
    assert!(site.served.get(&link).body.len() < 600_000);
}

#[test]
fn an_upload_is_fenced_bounded_and_named_only_if_it_came() {
    let (site, _) = claimed();
    put(&site, "", b"x").is_problem(409, "leased");
    put(&site, "?epoch=2", b"x").is_problem(409, "unknown_epoch");
    put(&site, "?epoch=one", b"x").is_problem(400, "bad_request");
    let never = Digest::of(b"never").to_string();
    let absent = json!({ "digest": never, "bytes": 5 });
    let body = json!({ "epoch": 1, "status": "ok", "valueBlob": absent });
    site.deed("r/e0001", "result", &body).is_problem(404, "blob_unknown");
    let body = json!({ "epoch": 1, "status": "ok", "value": 1, "stderrBlob": absent });
    site.deed("r/e0001", "result", &body).is_problem(404, "blob_unknown");
    site.served.get(&format!("{TASK}/blobs/{never}")).is_problem(404, "blob_unknown");
    site.served.get(&format!("{TASK}/blobs/..%2Frun.json")).is_problem(400, "bad_request");
    let text = put(&site, "?epoch=1", b"no json").json();
    let body = json!({ "epoch": 1, "status": "ok", "valueBlob": text });
    site.deed("r/e0001", "result", &body).is_problem(400, "value_not_json");
    let back = json!({ "epoch": 1, "began": false });
    site.deed("r/e0001", "release", &back).ok();
    put(&site, "?epoch=1", b"x").is_problem(409, "attempt_closed");
    // Whoever claimed nothing brings parts of what they post without a claim.
    assert_eq!(put(&site, "", b"[1]").status, 201);
    site.claim("w", &json!({}));
    put(&site, "?epoch=1", b"x").is_problem(409, "stale_lease");
    site.deed("r/e0001", "result", &json!({ "epoch": 2, "status": "ok", "value": 1 })).ok();
    put(&site, "?epoch=2", b"x").is_problem(409, "effect_ended");
}

#[test]
fn an_upload_that_is_too_long_leaves_nothing() {
    let cli = crate::cli::Cli::waiting();
    let served = crate::served::Served::over(cli, |options| options.bounds.blob_bytes_max = 1_000);
    let runs = served.get("/v1/runs").ok();
    let run = runs["runs"][0]["runId"].as_str().unwrap().to_owned();
    let line = format!("PUT /v1/runs/{run}/tasks/e0001/blobs");
    served.send(&served.request(&line, "", &[7; 1_001])).is_problem(413, "payload_too_large");
    // The same without saying how long it is.
    let head = format!("Host: {}\r\nAuthorization: Bearer {}\r\n", served.address, served.token);
    let head = format!("{line} HTTP/1.1\r\n{head}Connection: close\r\nTransfer-Encoding: chunked");
    let whole =
        [format!("{head}\r\n\r\n3e9\r\n").as_bytes(), &[7; 1_001], b"\r\n0\r\n\r\n"].concat();
    served.send(&whole).is_problem(413, "payload_too_large");
    let blobs = served.cli.root().join(&run).join("blobs");
    let left = std::fs::read_dir(blobs).map_or(0, |left| left.count());
    assert_eq!(left, 0);
    assert_eq!(served.send(&served.request(&line, "", &[7; 1_000])).status, 201);
}
