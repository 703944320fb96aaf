//! From an answer to an outcome: the body as it was asked for, header fields that matter.
//!
//! May not send anything. Invariant: a value is kept only of a status that was expected, and only
//! whole.

use std::borrow::Cow;
use std::collections::BTreeMap;

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde::Serialize;
use serde_json::{Value, json};

use super::definition::{Definition, Shape};
use super::exchange::{Head, Rest, Unread};
use super::outcome::{Class, Seen, classify, retry_after_ms};
use super::wire::Traffic;
use super::{Client, ended, failure};
use crate::codecs::event::{BlobRef, ErrorInfo};
use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::clock::Stopwatch;
use crate::ground::limits::{
    HTTP_ERROR_BODY_BYTES_MAX, JSON_DEPTH_MAX, RETRY_AFTER_MS_MAX, VALUE_BYTES_MAX,
};
use crate::services::executor::Outcome;
use crate::services::executor::redact::Redactor;
use crate::shells::run_dir::dir::RunDir;

/// Header fields of an answer that are kept.
const KEPT: &[&str] = &[
    "content-type",
    "content-language",
    "date",
    "etag",
    "last-modified",
    "link",
    "location",
    "retry-after",
    "x-request-id",
    "x-correlation-id",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
];

/// Everything that reading an answer takes.
pub(super) struct Reading<'a> {
    pub(super) client: &'a Client,
    pub(super) definition: &'a Definition,
    pub(super) redactor: &'a Redactor,
    pub(super) traffic: &'a Traffic,
    pub(super) watch: Stopwatch,
}

/// The value of an effect.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'a> {
    status: u16,
    headers: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_blob: Option<BlobRef>,
    url: Cow<'a, str>,
    duration_ms: u64,
}

/// A body as it is kept.
#[derive(Debug, PartialEq)]
enum Kept {
    Value(Json),
    Blob(Vec<u8>),
}

impl Reading<'_> {
    /// What came of it.
    pub(super) async fn read(&self, head: &Head, mut rest: Rest, dir: &RunDir) -> Outcome {
        let status = head.status.as_u16();
        if !self.definition.expect.iter().any(|expected| expected.have(status)) {
            return self.unexpected(head, rest).await;
        }
        let bytes = match rest.whole(self.definition.answer_bytes_max).await {
            Ok(bytes) => bytes,
            Err(Unread::Broken(why)) => return self.end(Seen::Broken, "HttpBroken", &why, head),
            Err(e) => return self.unreadable(&e.to_string(), 0, head),
        };
        let empty = bytes.is_empty() && matches!(status, 204 | 205 | 304);
        let (shape, size) =
            (if empty { Shape::Auto } else { self.definition.response }, bytes.len());
        match decode(shape, &head.headers, bytes, self.redactor) {
            Ok(kept) => self.keep(kept, head, dir.clone()).await,
            Err(why) => self.unreadable(&why, size, head),
        }
    }

    async fn keep(&self, kept: Kept, head: &Head, dir: RunDir) -> Outcome {
        let (body, body_blob) = match kept {
            Kept::Value(json) => (Some(json), None),
            Kept::Blob(bytes) => {
                // The disk may take its time.
                let put = tokio::task::spawn_blocking(move || dir.put_blob(&bytes));
                match put.await {
                    Ok(Ok(blob)) => (None, Some(blob)),
                    Ok(Err(e)) => {
                        return self.end(Seen::Broken, "HttpAnswer", &e.to_string(), head);
                    }
                    Err(e) => return self.end(Seen::Broken, "HttpAnswer", &e.to_string(), head),
                }
            }
        };
        let value = Json::of(&Whole {
            status: head.status.as_u16(),
            headers: self.headers(&head.headers),
            body,
            body_blob,
            url: self.redactor.text(head.url.as_str()),
            duration_ms: millis(self.watch),
        });
        if value.as_str().len() > VALUE_BYTES_MAX {
            let why = format!("the value has more than {VALUE_BYTES_MAX} bytes");
            return self.unreadable(&why, value.as_str().len(), head);
        }
        Outcome::ok(value)
    }

    fn headers(&self, all: &HeaderMap) -> BTreeMap<&'static str, String> {
        let mut kept = BTreeMap::new();
        for name in KEPT {
            let values = all.get_all(*name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()));
            let joined = values.collect::<Vec<_>>().join(", ");
            if !joined.is_empty() {
                kept.insert(*name, self.redactor.text(&joined).into_owned());
            }
        }
        kept
    }

    async fn unexpected(&self, head: &Head, mut rest: Rest) -> Outcome {
        let status = head.status.as_u16();
        let begun = rest.beginning(HTTP_ERROR_BODY_BYTES_MAX).await;
        let says_error = serde_json::from_slice(&begun).is_ok_and(|body| says_error(&body));
        let seen = Seen::Status {
            status,
            retry_after_ms: retry_after_of(&head.headers, self.client),
            says_error,
        };
        let shown = self.redactor.bytes(&begun).into_owned();
        let data = json!({ "body": String::from_utf8_lossy(&shown) });
        self.fail(seen, "HttpStatus", &format!("the server answered {status}"), data, head)
    }

    fn unreadable(&self, why: &str, size: usize, head: &Head) -> Outcome {
        self.fail(Seen::Unreadable, "HttpAnswer", why, json!({ "bytes": size }), head)
    }

    fn end(&self, seen: Seen, name: &str, why: &str, head: &Head) -> Outcome {
        self.fail(seen, name, why, json!({}), head)
    }

    fn fail(&self, seen: Seen, name: &str, why: &str, data: Value, head: &Head) -> Outcome {
        let mut data = data;
        data["status"] = head.status.as_u16().into();
        data["url"] = self.redactor.text(head.url.as_str()).into();
        data["headers"] = json!(self.headers(&head.headers));
        let mut class = classify(seen, &self.definition.expect, &self.definition.not_begun);
        if head.acted && matches!(class, Class::NotBegun { .. }) {
            class = Class::Unknown;
        }
        let message = self.redactor.text(why).into_owned();
        let error = ErrorInfo { data: Some(Json::of(&data)), ..failure(name, message) };
        ended(class, &error, self.traffic)
    }
}

/// A time in whole milliseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hours at most")]
fn millis(watch: Stopwatch) -> u64 {
    (watch.seconds() * 1e3) as u64
}

/// How long a server asks to wait, as far as that is heeded.
pub(crate) fn retry_after_of(headers: &HeaderMap, client: &Client) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let now_seconds = client.clock.now().micros().div_euclid(1_000_000);
    Some(retry_after_ms(text, now_seconds)?.min(RETRY_AFTER_MS_MAX))
}

/// Whether a body is an object with a member `error` that says something.
pub(crate) fn says_error(body: &Value) -> bool {
    match body.get("error") {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(members)) => !members.is_empty(),
        Some(Value::Bool(true) | Value::Number(_)) => true,
    }
}

fn decode(
    shape: Shape,
    headers: &HeaderMap,
    bytes: Vec<u8>,
    redactor: &Redactor,
) -> Result<Kept, String> {
    let encoding = headers.get(CONTENT_ENCODING).map(|v| v.as_bytes().to_ascii_lowercase());
    if encoding.is_some_and(|encoding| encoding != b"identity") {
        return Err("the answer is compressed, though that was not asked for".to_owned());
    }
    let json = |bytes: &[u8]| gate(bytes, JSON_DEPTH_MAX, Surrogates::Paired);
    let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) => Ok(Kept::Value(Json::of(&redactor.text(&text)))),
        Err(e) => Err(e.into_bytes()),
    };
    let blob = |bytes: Vec<u8>| Kept::Blob(redactor.bytes(&bytes).into_owned());
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    let media = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let says_json = media.eq_ignore_ascii_case(b"application/json")
        || media.to_ascii_lowercase().ends_with(b"+json");
    match shape {
        Shape::Json => {
            let json = json(&bytes).map_err(|e| format!("the answer is not JSON: {e}"))?;
            Ok(Kept::Value(redactor.json(json)))
        }
        Shape::Text => text(bytes).map_err(|_| "the answer is not text".to_owned()),
        Shape::Blob => Ok(blob(bytes)),
        Shape::Auto if bytes.is_empty() => Ok(Kept::Value(Json::null())),
        Shape::Auto => match json(&bytes) {
            Ok(json) if says_json => Ok(Kept::Value(redactor.json(json))),
            _ => Ok(text(bytes).unwrap_or_else(blob)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::telemetry::Metrics;
    use crate::services::executor::secrets::Secret;
    use std::sync::Arc;

    fn kept(shape: Shape, content_type: &'static str, bytes: &[u8]) -> Result<Kept, String> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        let secret = Secret::of("K", "canary-value");
        let redactor = Redactor::of([&secret], Arc::new(Metrics::default()));
        decode(shape, &headers, bytes.to_vec(), &redactor)
    }

    fn value(value: &Value) -> Kept {
        Kept::Value(Json::of(value))
    }

    #[test]
    fn a_body_is_read_as_asked() {
        let json_type = "Application/JSON; charset=utf-8";
        for (shape, content_type, bytes, is) in [
            (Shape::Auto, json_type, &b"{\"a\":1.10}"[..], None),
            (Shape::Auto, "application/problem+json", b"[1]", Some(value(&json!([1])))),
            (Shape::Auto, json_type, b"{broken", Some(value(&json!("{broken")))),
            (Shape::Auto, "text/plain", b"[1]", Some(value(&json!("[1]")))),
            (Shape::Auto, "text/plain", b"", Some(value(&json!(null)))),
            (Shape::Auto, "image/png", b"\xff", Some(Kept::Blob(b"\xff".to_vec()))),
            (Shape::Json, "text/plain", b" [1] ", Some(value(&json!([1])))),
            (Shape::Text, json_type, b"[1]", Some(value(&json!("[1]")))),
            (Shape::Blob, json_type, b"[1]", Some(Kept::Blob(b"[1]".to_vec()))),
            (Shape::Json, json_type, b"[\"canary-value\"]", Some(value(&json!(["«secret:K»"])))),
            (Shape::Text, "", b"canary-value", Some(value(&json!("«secret:K»")))),
            (Shape::Blob, "", b"canary-value\xff", {
                Some(Kept::Blob(["«secret:K»".as_bytes(), b"\xff"].concat()))
            }),
        ] {
            let got = kept(shape, content_type, bytes).unwrap();
            let text = Kept::Value(gate(br#"{"a":1.10}"#, 9, Surrogates::Paired).unwrap());
            assert_eq!(got, is.unwrap_or(text), "{shape:?} {bytes:?}");
        }
        assert!(kept(Shape::Json, "", b"").is_err() && kept(Shape::Text, "", b"\xff").is_err());
        let packed = [(CONTENT_ENCODING, "gzip".parse().unwrap())].into_iter().collect();
        let redactor = Redactor::of([], Arc::new(Metrics::default()));
        assert!(decode(Shape::Blob, &packed, vec![1], &redactor).is_err());
    }

    #[test]
    fn an_error_says_something() {
        for (body, says) in [
            (json!({ "error": "no" }), true),
            (json!({ "error": { "code": 1 } }), true),
            (json!({ "error": " " }), false),
            (json!({ "error": null }), false),
            (json!({ "error": {} }), false),
            (json!({ "errors": ["x"] }), false),
            (json!("error"), false),
            (json!(null), false),
        ] {
            assert_eq!(says_error(&body), says, "{body}");
        }
    }
}
