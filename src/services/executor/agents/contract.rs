//! The contract with agents: what they are sent.
//!
//! May not read answers. Invariant: what a process says goes into the body as it is, and is never
//! searched for placeholders.

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::agent::{Endpoint, Protocol, Token};
use super::postbox::Slip;
use crate::codecs::event::ErrorInfo;
use crate::ground::limits::HTTP_CONNECT_MS_DEFAULT;
use crate::services::executor::guard::{self, Guard, Origin};
use crate::services::executor::http::Client;
use crate::services::executor::http::exchange::Order;
use crate::services::executor::http::request::{header, header_name, usual_headers};
use crate::services::executor::http::wire::Hop;
use crate::services::executor::redact::Redactor;
use crate::services::executor::secrets::{Secret, Use};
use crate::services::executor::{Attempt, template};

/// A request to an agent.
pub(super) struct Asked {
    /// Lets it through to the agent's own origin.
    pub(super) guard: Guard,
    /// What is sent.
    pub(super) order: Order,
    /// Hides what must not be kept.
    pub(super) redactor: Redactor,
}

/// The agent that a definition names: `agent.name`, or `agent` itself.
pub(super) fn agent_of(definition: &Value) -> Option<&str> {
    let agent = definition.get("agent")?;
    agent.as_str().or_else(|| agent.get("name")?.as_str())
}

/// What the agent is told, as a text, and as a value if it was none.
pub(super) fn prompt_of(attempt: &Attempt) -> (String, Option<&Value>) {
    let definition = &attempt.definition;
    let inner = definition.get("agent").and_then(|agent| agent.get("prompt"));
    let prompt = inner.or_else(|| definition.get("prompt")).or(attempt.args.as_ref());
    match prompt {
        None => (String::new(), None),
        Some(Value::String(text)) => (text.clone(), None),
        Some(other) => (other.to_string(), Some(other)),
    }
}

/// Makes the request of an attempt. An error means that nothing can be sent.
pub(super) async fn prepare(
    client: &Client,
    id: &str,
    endpoint: &Endpoint,
    attempt: &Attempt,
    slip: Option<&Slip>,
) -> Result<Asked, Box<ErrorInfo>> {
    let url = guard::read(&endpoint.url)?;
    let origin = Origin::of(&url);
    let (secrets, token) = secrets(client, endpoint, &origin.host).await?;
    let known = secrets.values().chain(&token).chain(slip.map(|slip| &slip.token));
    let redactor = Redactor::of(known, Arc::clone(&client.metrics));
    let mut headers = headers(id, endpoint, attempt)?;
    let mut secret_headers = Vec::new();
    for (name, text) in &endpoint.headers {
        let scope = template::Scope {
            args: None,
            run_id: attempt.run_id.as_str(),
            effect_id: attempt.effect_id,
            idempotency_key: &attempt.idempotency_key,
            secrets: &secrets,
        };
        let filled = template::fill(&Value::String(text.clone()), &scope)?;
        let (key, mut value) =
            (header_name(name)?, header(name, filled.value().as_str().unwrap_or_default())?);
        value.set_sensitive(true);
        headers.insert(key.clone(), value);
        secret_headers.push(key);
    }
    if let Some(token) = &token {
        let text = zeroize::Zeroizing::new(format!("Bearer {}", token.text()));
        let mut value = header("Authorization", &text)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    if let Some(slip) = slip {
        let mut token = header("X-Dormouse-Task-Token", slip.token.text())?;
        token.set_sensitive(true);
        headers.insert(HeaderName::from_static("x-dormouse-task-token"), token);
        let url = header("X-Dormouse-Result-Url", &slip.url)?;
        headers.insert(HeaderName::from_static("x-dormouse-result-url"), url);
    }
    let body = Bytes::from(told(id, endpoint, attempt).to_string());
    let hop = Hop { method: Method::POST, url, headers, body };
    let connect_ms = HTTP_CONNECT_MS_DEFAULT;
    Ok(Asked {
        guard: client.guard.and(origin),
        order: Order { hop, secret_headers, follow: 0, connect_ms },
        redactor,
    })
}

/// The secrets of an endpoint's header fields by name, and its token.
async fn secrets(
    client: &Client,
    endpoint: &Endpoint,
    host: &str,
) -> Result<(BTreeMap<String, Secret>, Option<Secret>), Box<ErrorInfo>> {
    let mut known = BTreeMap::new();
    for name in template::secrets_in(&json!(endpoint.headers))? {
        let secret = client.secrets.resolve(&name, Use::Host(host)).await?;
        known.insert(name, secret);
    }
    let token = match &endpoint.token {
        None => None,
        Some(Token::Secret(name)) => Some(client.secrets.resolve(name, Use::Host(host)).await?),
        Some(Token::Variable(name)) => Some(client.secrets.variable(name).await?),
    };
    Ok((known, token))
}

fn headers(id: &str, endpoint: &Endpoint, attempt: &Attempt) -> Result<HeaderMap, Box<ErrorInfo>> {
    let mut headers = usual_headers(attempt);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accepted = match endpoint.protocol {
        Protocol::Json => "application/json",
        Protocol::Sse => "text/event-stream",
    };
    headers.insert(ACCEPT, HeaderValue::from_static(accepted));
    let run = attempt.run_id.as_str();
    for (name, text) in [
        ("idempotency-key", attempt.idempotency_key.as_str()),
        ("x-dormouse-run-id", run),
        ("x-dormouse-effect-id", &attempt.effect_id.to_string()),
        ("x-dormouse-epoch", &attempt.epoch.to_string()),
        ("x-dormouse-attempt", &attempt.attempt.to_string()),
        ("x-aetheris-job-id", run),
        ("x-aetheris-agent-id", endpoint.agent_id.as_deref().unwrap_or(id)),
        ("x-aetheris-framework", endpoint.framework.as_deref().unwrap_or_default()),
    ] {
        if !text.is_empty() {
            headers.insert(HeaderName::from_static(name), header(name, text)?);
        }
    }
    Ok(headers)
}

fn told(id: &str, endpoint: &Endpoint, attempt: &Attempt) -> Value {
    let agent_id = endpoint.agent_id.as_deref();
    if endpoint.protocol == Protocol::Json {
        return body(id, agent_id, endpoint.framework.as_deref(), attempt);
    }
    let (text, _) = prompt_of(attempt);
    let mut body = json!({ "session_id": attempt.run_id.as_str(), "message": text });
    if let Some(agent_id) = agent_id {
        body["agent_id"] = agent_id.into();
    }
    body
}

/// What an agent is told of an attempt, as JSON.
pub(super) fn body(
    id: &str,
    agent_id: Option<&str>,
    framework: Option<&str>,
    attempt: &Attempt,
) -> Value {
    let (text, input) = prompt_of(attempt);
    let run = attempt.run_id.as_str();
    let mut body = json!({
        "goal": text,
        "message": text,
        "content": text,
        "session_id": run,
        "metadata": {
            "agent_id": agent_id.unwrap_or(id),
            "framework": framework,
            "job_id": run,
            "run_id": run,
            "effect_id": attempt.effect_id.to_string(),
            "attempt": attempt.attempt,
            "idempotency_key": attempt.idempotency_key,
        },
    });
    if let Some(input) = input {
        body["input"] = input.clone();
    }
    body
}
