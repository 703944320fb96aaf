//! The contract of the HTTP door: frozen in `fixtures/openapi.json`, true of every route.
//! `UPDATE_GOLDEN=1` writes the file anew.

#![allow(clippy::disallowed_methods, reason = "these tests read and write their golden file")]

use crate::served::{Answer, Served, raw};
use dormouse::doors::http::{Scope, contract};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

#[test]
fn the_contract_is_frozen() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/openapi.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, contract()).unwrap();
    }
    let frozen = fs::read_to_string(&path).unwrap_or_default();
    assert!(frozen == contract(), "the contract changed; UPDATE_GOLDEN=1 if that is meant");
}

/// Every route: method, path with names that nothing has, its right.
fn routes() -> Vec<(String, String, Option<String>)> {
    let api: Value = serde_json::from_str(&contract()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        let path = path.replace("{run}", "nothing").replace("{effect}", "e0001");
        let path = path.replace("{key}", "nothing");
        for (method, operation) in item.as_object().unwrap() {
            let right = operation["security"][0]["token"][0].as_str().map(str::to_owned);
            routes.push((method.to_uppercase(), path.clone(), right));
        }
    }
    assert!(routes.len() > 20);
    routes
}

#[test]
fn n1_every_route_wants_its_right() {
    let (mut tokens, mut expired) = (Vec::new(), String::new());
    let served = Served::with(|options| {
        for left_out in Scope::ALL {
            let others: Vec<_> = Scope::ALL.into_iter().filter(|s| *s != left_out).collect();
            let token = Served::token(options, left_out.name(), &others, 1_000_000);
            tokens.push((left_out.name(), token));
        }
        expired = Served::token(options, "expired", &Scope::ALL, 0);
    });
    let ask = |method: &str, path: &str, auth: &str| {
        let headers = format!("Host: {}\r\n{auth}", served.address);
        served.send(&raw(&format!("{method} {path}"), &headers, b""))
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for (method, path, right) in routes() {
        let Some(right) = right else {
            assert_eq!(ask(&method, &path, "").status, 200, "{method} {path}");
            continue;
        };
        let twice = format!("{}{}", bearer(&served.token), bearer(&served.token));
        let basic = format!("Authorization: Basic {}\r\n", served.token);
        let cut = bearer(&served.token[..served.token.len() - 1]);
        for auth in ["", &bearer("dmt_wrong"), &bearer(""), &cut, &bearer(&expired), &twice, &basic]
        {
            let refused = ask(&method, &path, auth);
            refused.is_problem(401, "unauthenticated");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        }
        for (left_out, token) in &tokens {
            let answer = ask(&method, &path, &bearer(token));
            if *left_out == right {
                answer.is_problem(403, "forbidden");
            } else {
                assert!(![401, 403].contains(&answer.status), "{method} {path}: {answer:?}");
            }
        }
    }
}

#[test]
fn n2_web_pages_and_other_names_are_kept_out() {
    let served = Served::with(|options| {
        options.allowed_hosts.push("build.internal".into());
        options.allowed_origins.push("https://ui.internal".into());
    });
    let port = served.address.port();
    let auth = format!("Authorization: Bearer {}\r\n", served.token);
    let ask = |line: &str, headers: &str, body: &[u8]| {
        served.send(&raw(line, &format!("{auth}{headers}"), body))
    };
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(ask("GET /v1/runs", &format!("Host: {host}:{port}\r\n"), b"").status, 200);
        let other = ask("GET /v1/runs", &format!("Host: {host}\r\n"), b"");
        other.is_problem(403, "host_refused");
    }
    assert_eq!(ask("GET /v1/runs", "Host: build.internal\r\n", b"").status, 200);
    let here = format!("127.0.0.1:{port}");
    let [two, elsewhere] = [
        format!("Host: {here}\r\nHost: {here}\r\n"),
        format!("Host: 127.0.0.1.evil.example:{port}\r\n"),
    ];
    for headers in ["Host: evil.example\r\n", "Host: \r\n", "", &two, &elsewhere] {
        let answer = ask("GET /v1/health/live", headers, b"");
        assert!([400, 403].contains(&answer.status), "{headers}: {answer:?}");
    }
    // The target of a request may name a host as well.
    let target = format!("GET http://evil.example:{port}/v1/runs");
    ask(&target, &format!("Host: {here}\r\n"), b"").is_problem(403, "host_refused");
    let host = format!("Host: {here}\r\n");
    for origin in ["https://evil.example", "null", "https://ui.internal.evil.example"] {
        let headers = format!("{host}Origin: {origin}\r\n");
        for line in ["GET /v1/runs", "OPTIONS /v1/runs", "GET /v1/health/live"] {
            let answer = ask(line, &headers, b"");
            answer.is_problem(403, "origin_refused");
            assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
        }
    }
    let listed = ask("GET /v1/runs", &format!("{host}Origin: https://ui.internal\r\n"), b"");
    assert_eq!(listed.status, 200);
    assert!(!listed.head.to_lowercase().contains("access-control"));
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; b=1"] {
        let headers = format!("{host}Content-Type: {kind}\r\n");
        ask("POST /v1/runs", &headers, b"{}").is_problem(415, "unsupported_media");
    }
    ask("POST /v1/runs", &host, b"{}").is_problem(415, "unsupported_media");
    let encoded = format!("{host}Content-Type: application/json\r\nContent-Encoding: gzip\r\n");
    ask("POST /v1/runs", &encoded, b"\x1f\x8b").is_problem(415, "unsupported_media");
}

#[test]
fn n3_the_socket_is_its_owners() {
    use std::os::unix::fs::PermissionsExt as _;
    let served = Served::new();
    let place = served.cli.root().join(".dormouse/socket");
    assert_eq!(fs::metadata(place).unwrap().permissions().mode() & 0o777, 0o600);
    // No token and no Host are needed there, and the caller says who they are.
    let kind = "Content-Type: application/json\r\n";
    let create = raw("POST /v1/runs", kind, br#"{"runId":"a"}"#);
    assert_eq!(served.send_socket(&create).status, 201);
    let note = |name: &str| {
        let headers = format!("{kind}X-Dormouse-Operator: {name}\r\n");
        raw("POST /v1/runs/a/note", &headers, br#"{"text":"x"}"#)
    };
    served.send_socket(&note("ada")).ok();
    served.send_socket(&note(&"x".repeat(65))).is_problem(400, "bad_request");
    let journal = served.cli.root().join("a/journal/0000000001.jsonl");
    let journal = fs::read_to_string(journal).unwrap();
    assert!(journal.contains(r#""by":"operator:local""#), "{journal}");
    assert!(journal.contains(r#""by":"operator:ada""#), "{journal}");
    served.post("/v1/runs/a/note", &serde_json::json!({ "text": "y" })).ok();
    let events = served.get("/v1/runs/a/events?reverse=true&pageSize=1").ok();
    assert_eq!(events["events"][0]["data"]["by"], "client:all");
}

#[test]
fn n4_what_is_no_request_gets_no_further() {
    let served = Served::new();
    let host = format!("Host: {}\r\n", served.address);
    let old = format!("GET /v1/health/live HTTP/1.0\r\n{host}\r\n");
    served.send(old.as_bytes()).is_problem(400, "bad_request");
    let long = format!("{host}X-Long: {}\r\n", "x".repeat(300_000));
    let answer = served.send(&raw("GET /v1/health/live", &long, b""));
    assert_eq!(answer.status, 431, "{answer:?}");
    let many = "X-Many: y\r\n".repeat(100);
    let answer = served.send(&raw("GET /v1/health/live", &format!("{host}{many}"), b""));
    assert_eq!(answer.status, 431, "{answer:?}");
    let mut stream = served.tcp();
    stream.write_all(b"\x16\x03\x01 not http\r\n\r\n").unwrap();
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said);
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    // Two lengths that disagree: one request and a half, or two. Neither is guessed.
    for lengths in ["Content-Length: 4\r\nContent-Length: 40\r\n", "Content-Length: +4\r\n"] {
        let head = format!("POST /v1/runs HTTP/1.1\r\n{host}{lengths}\r\n{{}}..");
        assert_eq!(served.send(head.as_bytes()).status, 400, "{lengths}");
    }
}

#[test]
fn n4_a_chunked_body_with_a_length_is_one_request() {
    let served = Served::new();
    let (host, token) = (served.address, &served.token);
    let auth = format!("Host: {host}\r\nAuthorization: Bearer {token}\r\n");
    let kind = "Content-Type: application/json\r\n";
    let mut stream = served.tcp();
    // Were the length believed, the rest of the body would be a second request.
    let smuggled = format!("0\r\n\r\nGET /v1/health/live HTTP/1.1\r\n{auth}\r\n");
    let head = format!(
        "POST /v1/runs/none/note HTTP/1.1\r\n{auth}{kind}Content-Length: {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{smuggled}",
        smuggled.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    let _ = stream.read_to_string(&mut said);
    assert!(said.starts_with("HTTP/1.1 4"), "{said}");
    assert!(said.matches("HTTP/1.1 ").count() <= 2, "{said}");
}

#[test]
fn what_no_route_has_is_a_problem() {
    let served = Served::new();
    served.get("/v1/nothing").is_problem(404, "route_not_found");
    served.get("/").is_problem(404, "route_not_found");
    let answer = served.send(&served.request("DELETE /v1/runs", "", b""));
    answer.is_problem(405, "method_not_allowed");
    let allowed = answer.header("allow").unwrap_or("");
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[test]
fn routes_that_want_no_body_read_it_and_refuse_unknown_members() {
    let served = Served::new();
    served.create_bare("r");
    for path in ["/v1/audit", "/v1/runs/r/rebuild-state", "/v1/index/rebuild"] {
        served.post(path, &json!({ "x": 1 })).is_problem(422, "unknown_field");
        assert!(served.post(path, &json!({})).status < 300, "{path}");
    }
    // A client that still sends finds nobody gone: the answer comes after the body.
    let whole = served.request("POST /v1/nothing", "", b"{\"a\":1}");
    let (head, body) = whole.split_at(whole.len() - 7);
    let mut stream = served.tcp();
    stream.write_all(head).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    assert!(stream.read(&mut [0; 1]).is_err(), "it answered before the body came");
    stream.set_read_timeout(None).unwrap();
    stream.write_all(body).unwrap();
    Answer::read(&mut stream).is_problem(404, "route_not_found");
}
