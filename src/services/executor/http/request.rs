//! From a definition to a request: placeholders filled in, secrets fetched, header fields set.
//!
//! May not send anything. Invariant: secrets are fetched for the host that the request goes to,
//! and cannot change which host that is.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue,
    USER_AGENT,
};
use serde_json::{Map, Value};
use url::Url;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::definition::{Body, Definition};
use super::exchange::Order;
use super::failure;
use super::wire::Hop;
use crate::codecs::event::ErrorInfo;
use crate::ports::telemetry::Metrics;
use crate::services::executor::guard::{Guard, Origin, Refusal};
use crate::services::executor::redact::Redactor;
use crate::services::executor::secrets::{Missing, Secret, Secrets, Use};
use crate::services::executor::{Attempt, template};

/// Fields that belong to the connection, or say where the request goes.
const RESERVED: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
];

/// Stands for a secret while nobody knows yet whether its host may have it.
const STAND_IN: &str = "dormouse-secret";

/// A request that may leave, and what hides its secrets in whatever comes back.
pub(crate) struct Prepared {
    /// What is sent.
    pub(crate) order: Order,
    /// Hides what must not be kept.
    pub(crate) redactor: Redactor,
}

impl From<template::Error> for Box<ErrorInfo> {
    fn from(error: template::Error) -> Self {
        Box::new(failure("HttpDefinition", error.to_string()))
    }
}

impl From<Refusal> for Box<ErrorInfo> {
    fn from(refusal: Refusal) -> Self {
        Box::new(failure("HttpRefused", refusal.to_string()))
    }
}

impl From<Missing> for Box<ErrorInfo> {
    fn from(missing: Missing) -> Self {
        Box::new(failure("SecretMissing", missing.to_string()))
    }
}

/// Prepares the request of an attempt. An error means that nothing can be sent.
pub(super) async fn prepare(
    attempt: &Attempt,
    definition: &Definition,
    guard: &Guard,
    secrets: &Secrets,
    metrics: &Arc<Metrics>,
) -> Result<Prepared, Box<ErrorInfo>> {
    let templates = definition.templates();
    let names = template::secrets_in(&templates)?;
    let stand_ins = names.iter().map(|name| (name.clone(), Secret::of(name, STAND_IN)));
    let stand_ins: BTreeMap<String, Secret> = stand_ins.collect();
    let url = template::fill(&Value::String(definition.url.clone()), &scope(attempt, &stand_ins))?;
    let origin = Origin::of(&guard.look(url.value().as_str().unwrap_or_default())?);
    if origin.host.contains(STAND_IN) {
        let why = "a secret stands in the host of the URL";
        return Err(Box::new(failure("HttpRefused", why.to_owned())));
    }
    let mut known = BTreeMap::new();
    for name in names {
        let secret = secrets.resolve(&name, Use::Host(&origin.host)).await?;
        known.insert(name, secret);
    }
    let redactor = Redactor::of(known.values(), Arc::clone(metrics));
    let filled = template::fill(&templates, &scope(attempt, &known))?;
    let order = order(definition, filled.value(), guard, attempt);
    let order = order.and_then(|order| {
        let same = Origin::of(&order.hop.url) == origin;
        let why = "a secret changes the host of the URL";
        if same { Ok(order) } else { Err(Box::new(failure("HttpRefused", why.to_owned()))) }
    });
    match order {
        Ok(order) => Ok(Prepared { order, redactor }),
        Err(mut error) => {
            error.message = redactor.text(&error.message).into_owned();
            Err(error)
        }
    }
}

fn scope<'a>(attempt: &'a Attempt, secrets: &'a BTreeMap<String, Secret>) -> template::Scope<'a> {
    template::Scope {
        args: attempt.args.as_ref(),
        run_id: attempt.run_id.as_str(),
        effect_id: attempt.effect_id,
        idempotency_key: &attempt.idempotency_key,
        secrets,
    }
}

fn order(
    definition: &Definition,
    filled: &Value,
    guard: &Guard,
    attempt: &Attempt,
) -> Result<Order, Box<ErrorInfo>> {
    let mut url = guard.look(filled["url"].as_str().unwrap_or_default())?;
    add_query(&mut url, filled["query"].as_object())?;
    let (body, content_type) = body(definition, &filled["body"])?;
    let mut headers = usual_headers(attempt);
    if !definition.is_safe() {
        headers.insert("idempotency-key", header("Idempotency-Key", &attempt.idempotency_key)?);
    }
    if let Some(content_type) = content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    let mut secret_headers = Vec::new();
    for (name, value) in filled["headers"].as_object().into_iter().flatten() {
        let key = header_name(name)?;
        headers.remove(&key);
        let template = &definition.headers[name];
        let secret = template::secrets_in(template).is_ok_and(|names| !names.is_empty());
        for item in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            let mut value = header(name, &plain(name, item)?)?;
            value.set_sensitive(secret || key == AUTHORIZATION || key == COOKIE);
            headers.append(&key, value);
        }
        if secret {
            secret_headers.push(key);
        }
    }
    Ok(Order {
        hop: Hop { method: definition.method.clone(), url, headers, body },
        secret_headers,
        follow: definition.follow,
        connect_ms: definition.connect_ms,
    })
}

/// What every request carries unless its author says otherwise.
pub(crate) fn usual_headers(attempt: &Attempt) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let agent = concat!("dormouse/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    // Nothing is unpacked, so that an answer cannot grow beyond its limit.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let trace = attempt.traceparent.as_ref().and_then(|text| HeaderValue::from_str(text).ok());
    if let Some(trace) = trace {
        headers.insert("traceparent", trace);
    }
    headers
}

/// A header field's name that an author may set.
pub(crate) fn header_name(name: &str) -> Result<HeaderName, Box<ErrorInfo>> {
    let refused = |why: &str| {
        let name: String = name.chars().take(40).collect();
        Box::new(failure("HttpDefinition", format!("the header {name:?} {why}")))
    };
    let key: HeaderName = name.parse().map_err(|_| refused("has no possible name"))?;
    if RESERVED.contains(&key.as_str()) {
        Err(refused("is set by the connection"))
    } else {
        Ok(key)
    }
}

/// A header field's value.
pub(crate) fn header(name: &str, text: &str) -> Result<HeaderValue, Box<ErrorInfo>> {
    HeaderValue::from_str(text).map_err(|_| {
        let why = format!("the value of the header {name:?} has a character that none may have");
        Box::new(failure("HttpDefinition", why))
    })
}

fn add_query(url: &mut Url, query: Option<&Map<String, Value>>) -> Result<(), Box<ErrorInfo>> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(()) };
    let mut pairs = url.query_pairs_mut();
    for (name, value) in query {
        for item in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
            if !item.is_null() {
                pairs.append_pair(name, &plain(name, item)?);
            }
        }
    }
    Ok(())
}

/// A text, a number or a truth value as a text.
fn plain(name: &str, value: &Value) -> Result<Zeroizing<String>, Box<ErrorInfo>> {
    match value {
        Value::String(text) => Ok(Zeroizing::new(text.clone())),
        Value::Number(_) | Value::Bool(_) => Ok(Zeroizing::new(value.to_string())),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            let why = format!("{name:?} holds something other than text, numbers, true and false");
            Err(Box::new(failure("HttpDefinition", why)))
        }
    }
}

fn body(
    definition: &Definition,
    filled: &Value,
) -> Result<(Bytes, Option<&'static str>), Box<ErrorInfo>> {
    let (text, content_type) = match &definition.body {
        Body::Empty => return Ok((Bytes::new(), None)),
        Body::Json(_) => (Zeroizing::new(filled.to_string()), "application/json"),
        Body::Form(_) => {
            let mut form = Serializer::new(String::new());
            for (name, value) in filled.as_object().into_iter().flatten() {
                for item in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
                    form.append_pair(name, &plain(name, item)?);
                }
            }
            (Zeroizing::new(form.finish()), "application/x-www-form-urlencoded")
        }
        Body::Text(text) => (Zeroizing::new(text.clone()), "text/plain; charset=utf-8"),
        Body::Template(_) => (plain("bodyTemplate", filled)?, "text/plain; charset=utf-8"),
    };
    // Wiped when the last part of it is sent.
    Ok((wiped(text), Some(content_type)))
}

/// Bytes that are wiped when nobody holds them any more.
pub(crate) fn wiped(text: Zeroizing<String>) -> Bytes {
    struct Owned(Zeroizing<String>);
    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    Bytes::from_owner(Owned(text))
}
