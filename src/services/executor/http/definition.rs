//! What an effect of kind `http` asks for.
//!
//! May not fill placeholders in or send anything. Invariant: a [`Definition`] is within all limits,
//! and every member of the author's object was understood.

use std::time::Duration;

use hyper::Method;
use serde_json::{Map, Value};

use super::outcome::Statuses;
use crate::ground::limits::{
    HTTP_ANSWER_BYTES_MAX, HTTP_ATTEMPT_MS_DEFAULT, HTTP_CONNECT_MS_DEFAULT, HTTP_FOLLOW_MAX,
    VALUE_BYTES_MAX,
};

/// A request as its author describes it; texts of the first four members may hold placeholders.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Where to.
    pub url: String,
    /// Members of the query, appended to the URL's own.
    pub query: Map<String, Value>,
    /// Header fields.
    pub headers: Map<String, Value>,
    /// What is sent.
    pub body: Body,
    /// How.
    pub method: Method,
    /// How long the whole may take.
    pub timeout_ms: Option<u64>,
    /// How long name, connection and TLS may take.
    pub connect_ms: u64,
    /// Statuses that mean it was done.
    pub expect: Vec<Statuses>,
    /// Statuses that mean nothing was done.
    pub not_begun: Vec<Statuses>,
    /// How the body of the answer is read.
    pub response: Shape,
    /// Its longest.
    pub answer_bytes_max: usize,
    /// How many redirects are followed.
    pub follow: usize,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Nothing.
    Empty,
    /// A value as JSON.
    Json(Value),
    /// Members of a form.
    Form(Map<String, Value>),
    /// A text as it is.
    Text(String),
    /// A text with placeholders.
    Template(String),
}

/// How the body of an answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As its content type says; what is neither JSON nor text is kept as a blob.
    Auto,
    /// As JSON.
    Json,
    /// As text.
    Text,
    /// As bytes, kept as a blob.
    Blob,
}

const MEMBERS: &[&str] = &[
    "method",
    "url",
    "query",
    "headers",
    "json",
    "form",
    "body",
    "bodyTemplate",
    "timeout",
    "connectTimeout",
    "expectStatus",
    "notBegunStatus",
    "response",
    "maxResponseBytes",
    "follow",
];

impl Definition {
    /// Reads a definition: its member `http`, or, where there is none, the definition itself.
    ///
    /// # Errors
    /// A sentence that names the member and what is allowed.
    pub fn read(definition: &Value) -> Result<Self, String> {
        let inner = definition.get("http").and_then(Value::as_object);
        let members =
            inner.or_else(|| definition.as_object()).ok_or("an http task is an object")?;
        // A definition of its own holds members for others too: title, labels…
        let unknown = members.keys().find(|name| !MEMBERS.contains(&name.as_str()));
        if let (Some(name), Some(_)) = (unknown, inner) {
            return Err(format!("http.{name} is not known; there are {}", MEMBERS.join(", ")));
        }
        let get = |name: &str| members.get(name).filter(|value| !value.is_null());
        let limit = VALUE_BYTES_MAX as u64;
        Ok(Self {
            url: text("url", get("url"))?.ok_or("url is missing")?,
            query: object("query", get("query"))?,
            headers: object("headers", get("headers"))?,
            body: body(&get)?,
            method: method(get("method"))?,
            timeout_ms: get("timeout").map(|v| millis("timeout", v)).transpose()?,
            connect_ms: get("connectTimeout")
                .map_or(Ok(HTTP_CONNECT_MS_DEFAULT), |v| millis("connectTimeout", v))?,
            expect: statuses("expectStatus", get("expectStatus"))?
                .unwrap_or_else(|| vec![Statuses::Hundred(2)]),
            not_begun: statuses("notBegunStatus", get("notBegunStatus"))?.unwrap_or_default(),
            response: shape(get("response"))?,
            answer_bytes_max: number("maxResponseBytes", get("maxResponseBytes"), limit)?
                .unwrap_or(HTTP_ANSWER_BYTES_MAX),
            follow: number("follow", get("follow"), HTTP_FOLLOW_MAX)?.unwrap_or_default(),
        })
    }

    /// How long an attempt may take when its policy says nothing.
    #[must_use]
    pub fn limit_ms(&self) -> u64 {
        self.timeout_ms.unwrap_or(HTTP_ATTEMPT_MS_DEFAULT)
    }

    /// Whether asking twice does no harm.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// Everything that may hold placeholders, as one value.
    #[must_use]
    pub fn templates(&self) -> Value {
        let body = match &self.body {
            Body::Json(value) => value.clone(),
            Body::Form(members) => Value::Object(members.clone()),
            Body::Template(text) => Value::String(text.clone()),
            Body::Empty | Body::Text(_) => Value::Null,
        };
        serde_json::json!({
            "url": self.url, "query": self.query, "headers": self.headers, "body": body,
        })
    }
}

fn text(name: &str, value: Option<&Value>) -> Result<Option<String>, String> {
    let read =
        |v: &Value| v.as_str().map(str::to_owned).ok_or(format!("{name} is a text, not {v}"));
    value.map(read).transpose()
}

fn object(name: &str, value: Option<&Value>) -> Result<Map<String, Value>, String> {
    let read = |v: &Value| v.as_object().cloned().ok_or(format!("{name} is an object, not {v}"));
    value.map_or_else(|| Ok(Map::new()), read)
}

fn number(name: &str, value: Option<&Value>, most: u64) -> Result<Option<usize>, String> {
    let wrong = |v: &Value| format!("{name} is a whole number up to {most}, not {v}");
    let read = |v: &Value| {
        let n = v.as_u64().filter(|n| *n <= most).ok_or_else(|| wrong(v))?;
        usize::try_from(n).map_err(|_| wrong(v))
    };
    value.map(read).transpose()
}

/// Milliseconds, or a text such as `10s`.
fn millis(name: &str, value: &Value) -> Result<u64, String> {
    let spelled = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    let span = value.as_u64().map(Duration::from_millis).or(spelled);
    let millis = span.and_then(|span| u64::try_from(span.as_millis()).ok());
    let wrong = || format!("{name} is milliseconds or a text such as \"10s\", not {value}");
    millis.filter(|ms| *ms > 0).ok_or_else(wrong)
}

fn method(value: Option<&Value>) -> Result<Method, String> {
    let Some(value) = value else { return Ok(Method::GET) };
    let name = value.as_str().unwrap_or_default().to_ascii_uppercase();
    let spoken = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"];
    let known = spoken.contains(&name.as_str()).then(|| Method::from_bytes(name.as_bytes()));
    known.and_then(Result::ok).ok_or(format!("method is one of {}, not {value}", spoken.join(", ")))
}

fn shape(value: Option<&Value>) -> Result<Shape, String> {
    match value.map(|v| (v, v.as_str().unwrap_or_default())) {
        None | Some((_, "auto")) => Ok(Shape::Auto),
        Some((_, "json")) => Ok(Shape::Json),
        Some((_, "text")) => Ok(Shape::Text),
        Some((_, "blob")) => Ok(Shape::Blob),
        Some((other, _)) => Err(format!("response is auto, json, text or blob, not {other}")),
    }
}

fn statuses(name: &str, value: Option<&Value>) -> Result<Option<Vec<Statuses>>, String> {
    let Some(value) = value else { return Ok(None) };
    let read = |item: &Value| {
        let text = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
        Statuses::read(&text)
            .ok_or(format!("{name} holds statuses such as 404 or \"2xx\", not {item}"))
    };
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    items.iter().map(read).collect::<Result<_, _>>().map(Some)
}

fn body<'a>(get: &dyn Fn(&str) -> Option<&'a Value>) -> Result<Body, String> {
    let given: Vec<&str> = ["json", "form", "body", "bodyTemplate"]
        .into_iter()
        .filter(|name| get(name).is_some())
        .collect();
    match given[..] {
        [] => Ok(Body::Empty),
        ["json"] => Ok(Body::Json(get("json").cloned().unwrap_or_default())),
        ["form"] => Ok(Body::Form(object("form", get("form"))?)),
        ["body"] => Ok(Body::Text(text("body", get("body"))?.unwrap_or_default())),
        [_] => Ok(Body::Template(text("bodyTemplate", get("bodyTemplate"))?.unwrap_or_default())),
        _ => Err(format!("{} are given, at most one may be", given.join(" and "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_definition_has_its_defaults() {
        let plain = Definition::read(&json!({ "kind": "http", "title": "x", "url": "http://a" }));
        let plain = plain.unwrap();
        assert_eq!((plain.method.as_str(), plain.limit_ms()), ("GET", 30_000));
        assert_eq!((plain.connect_ms, plain.follow), (10_000, 0));
        assert_eq!(plain.answer_bytes_max, 10 * 1024 * 1024);
        assert_eq!((plain.response, plain.body.clone()), (Shape::Auto, Body::Empty));
        assert!(plain.is_safe() && plain.expect == [Statuses::Hundred(2)]);
        let full = Definition::read(&json!({ "kind": "http", "http": {
            "url": "http://a", "method": "post", "timeout": "2s", "connectTimeout": 5,
            "json": { "a": 1 }, "expectStatus": [200, "3xx"], "notBegunStatus": 423,
            "response": "text", "maxResponseBytes": 10, "follow": 5, "query": null,
        } }));
        let full = full.unwrap();
        assert_eq!((full.limit_ms(), full.connect_ms, full.follow), (2_000, 5, 5));
        assert_eq!(full.expect, [Statuses::One(200), Statuses::Hundred(3)]);
        assert_eq!((full.not_begun[0], full.is_safe()), (Statuses::One(423), false));
        assert_eq!(full.body, Body::Json(json!({ "a": 1 })));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (http, why) in [
            (json!({}), "url is missing"),
            (json!({ "url": 1 }), "url is a text"),
            (json!({ "url": "x", "metod": "POST" }), "http.metod is not known"),
            (json!({ "url": "x", "method": "CONNECT" }), "method is one of GET"),
            (json!({ "url": "x", "timeout": "soon" }), "timeout is milliseconds"),
            (json!({ "url": "x", "timeout": 0 }), "timeout is milliseconds"),
            (json!({ "url": "x", "follow": 6 }), "up to 5"),
            (json!({ "url": "x", "maxResponseBytes": 1e9 }), "up to 16777216"),
            (json!({ "url": "x", "response": "xml" }), "auto, json, text or blob"),
            (json!({ "url": "x", "expectStatus": ["ok"] }), "such as 404"),
            (json!({ "url": "x", "json": 1, "body": "y" }), "json and body are given"),
            (json!({ "url": "x", "headers": [] }), "headers is an object"),
        ] {
            let said = Definition::read(&json!({ "kind": "http", "http": http })).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert!(Definition::read(&json!("http://a")).is_err());
    }
}
