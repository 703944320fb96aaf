//! Texts of the configuration that may hold secrets: variables and header fields for a server.
//!
//! May not know what they are for. Invariant: a secret goes only where its section says.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use crate::ground::id::EffectId;
use crate::services::executor::http::Client;
use crate::services::executor::redact::Redactor;
use crate::services::executor::secrets::{Secret, Use};
use crate::services::executor::template::{self, Filled, Scope};

/// Texts by name, with their secrets, and what hides those again.
pub(super) async fn filled(
    client: &Client,
    to: Use<'_>,
    texts: &BTreeMap<String, String>,
) -> Result<(Filled, Redactor), String> {
    let plain = |(name, text): (&String, &String)| (name.clone(), Value::String(text.clone()));
    let wanted = Value::Object(texts.iter().map(plain).collect::<Map<_, _>>());
    let mut found: BTreeMap<String, Secret> = BTreeMap::new();
    for name in template::secrets_in(&wanted).map_err(|e| e.to_string())? {
        let secret = client.secrets.resolve(&name, to).await.map_err(|e| e.to_string())?;
        found.insert(name, secret);
    }
    // A server serves all runs: it has no arguments, and a text that names a run names none.
    let scope = Scope {
        args: None,
        run_id: "",
        effect_id: EffectId::new(1),
        idempotency_key: "",
        secrets: &found,
    };
    let filled = template::fill(&wanted, &scope).map_err(|e| e.to_string())?;
    Ok((filled, Redactor::of(found.values(), Arc::clone(&client.metrics))))
}

/// The texts of a filled object, by name.
pub(super) fn texts(filled: &Filled) -> BTreeMap<String, String> {
    let members = filled.value().as_object().into_iter().flatten();
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    members.filter_map(text).collect()
}

/// The same as fields of a head.
pub(super) fn headers(filled: &Filled) -> Result<HashMap<HeaderName, HeaderValue>, String> {
    let field = |(name, text): (String, String)| {
        let unfit = || format!("{name} is no header field");
        let field = HeaderName::try_from(&name).map_err(|_| unfit())?;
        let mut value = HeaderValue::try_from(text).map_err(|_| unfit())?;
        value.set_sensitive(true);
        Ok((field, value))
    };
    texts(filled).into_iter().map(field).collect()
}
