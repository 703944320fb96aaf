//! Redaction: whatever is kept of an attempt that used secrets passes here.
//!
//! May not know where a text came from. Invariant: what comes out holds no secret of at least
//! [`SECRET_REDACTED_BYTES_MIN`] bytes in any form that [`Hider`] knows.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use super::secrets::Secret;
use crate::codecs::hide::Hider;
use crate::codecs::json::Json;
use crate::ground::limits::SECRET_REDACTED_BYTES_MIN;
use crate::ports::telemetry::Metrics;

/// Hides the secrets of one attempt.
pub struct Redactor {
    hider: Hider,
    metrics: Arc<Metrics>,
}

/// What stands in the place of a secret.
#[must_use]
pub fn mark(name: &str) -> String {
    format!("«secret:{name}»")
}

/// Whether a secret is long enough to be looked for.
#[must_use]
pub fn is_hidden(secret: &Secret) -> bool {
    secret.text().len() >= SECRET_REDACTED_BYTES_MIN
}

impl Redactor {
    /// Hides these secrets.
    #[must_use]
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a Secret>, metrics: Arc<Metrics>) -> Self {
        let secrets = secrets.into_iter().filter(|secret| is_hidden(secret));
        let hider = Hider::of(secrets.map(|secret| (mark(secret.name()), secret.text())));
        Self { hider, metrics }
    }

    /// The bytes without secrets.
    #[must_use]
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(hidden) = self.hider.hide(bytes) else { return Cow::Borrowed(bytes) };
        self.metrics.redactions.add(hidden.count);
        Cow::Owned(hidden.bytes)
    }

    /// The text without secrets.
    #[must_use]
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // Forms of a text begin and end at its characters.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// The value without secrets in texts, names and numbers; unchanged if there are none.
    #[must_use]
    pub fn json(&self, json: Json) -> Json {
        if self.hider.is_empty() {
            return json;
        }
        let mut value = json.to_value();
        if self.value(&mut value) { Json::of(&value) } else { json }
    }

    /// Takes the secrets out of a value. Says whether there were any.
    pub fn value(&self, value: &mut Value) -> bool {
        let text = match value {
            Value::Null | Value::Bool(_) => return false,
            Value::Number(number) => Cow::Owned(number.to_string()),
            Value::String(text) => Cow::Borrowed(text.as_str()),
            Value::Array(items) => {
                return items.iter_mut().fold(false, |found, item| self.value(item) | found);
            }
            Value::Object(members) => {
                let mut found = members.values_mut().fold(false, |f, item| self.value(item) | f);
                if members.keys().any(|name| matches!(self.text(name), Cow::Owned(_))) {
                    found = true;
                    let all = std::mem::take(members).into_iter();
                    *members = all.map(|(k, v)| (self.text(&k).into_owned(), v)).collect();
                }
                return found;
            }
        };
        let Cow::Owned(hidden) = self.text(&text) else { return false };
        *value = Value::String(hidden);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use serde_json::json;

    const SECRET: &str = "p4ss/w+rd \"é\n?";

    fn redactor() -> Redactor {
        let secrets = [Secret::of("K", SECRET), Secret::of("SHORT", "1234567")];
        Redactor::of(&secrets, Arc::new(Metrics::default()))
    }

    fn percent(text: &str, all: bool, upper: bool) -> String {
        let spell = |b: u8| match b {
            b if b.is_ascii_alphanumeric() && !all => char::from(b).to_string(),
            b' ' if !all => "+".to_owned(),
            b if upper => format!("%{b:02X}"),
            b => format!("%{b:02x}"),
        };
        text.bytes().map(spell).collect()
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        let json_text = json!(SECRET).to_string();
        let escaped = "p4ss\\/w+rd\\u0020\\\"\\u00e9\\n?";
        for form in [
            SECRET.to_owned(),
            json_text[1..json_text.len() - 1].to_owned(),
            escaped.to_owned(),
            percent(SECRET, false, true),
            percent(SECRET, false, false),
            percent(SECRET, true, true),
        ] {
            let hidden = redactor().text(&format!("<{form}>")).into_owned();
            assert_eq!(hidden, "<«secret:K»>", "{form}");
        }
        let plain = "p4ss «secret:K» 1234567 p4ss/w+rd \"é\n!";
        assert!(matches!(redactor().text(plain), Cow::Borrowed(_)));
    }

    #[test]
    fn base64_is_found_at_every_offset() {
        for before in ["", "u", "us", "user:", "user:x"] {
            for after in ["", "!", "!!", "!!!"] {
                let whole = format!("{before}{SECRET}{after}");
                for encoded in [
                    STANDARD.encode(&whole),
                    URL_SAFE_NO_PAD.encode(&whole),
                    percent(&STANDARD.encode(&whole), false, true),
                ] {
                    let hidden = redactor().text(&encoded).into_owned();
                    assert!(hidden.contains("«secret:K»"), "{encoded}: {hidden}");
                    let left: String = hidden.split("«secret:K»").collect();
                    let most = (before.len() + after.len()) * 4 / 3 + 12;
                    assert!(left.len() <= most, "{encoded}: {hidden}");
                }
            }
        }
    }

    #[test]
    fn values_lose_their_secrets_and_nothing_else() {
        let redactor = redactor();
        let number = Secret::of("N", "123456789");
        let numbers = Redactor::of([&number], Arc::new(Metrics::default()));
        let kept = Json::of(&json!({ "a": [1, "x"], "big": 1e300 }));
        assert_eq!(redactor.json(kept.clone()), kept);
        let mut value = json!({ "a": [{ SECRET: SECRET }], "b": format!("x{SECRET}") });
        assert!(redactor.value(&mut value));
        assert_eq!(value, json!({ "a": [{ "«secret:K»": "«secret:K»" }], "b": "x«secret:K»" }));
        let mut value = json!({ "n": 123_456_789 });
        assert!(numbers.value(&mut value));
        assert_eq!(value, json!({ "n": "«secret:N»" }));
        assert_eq!(redactor.metrics.redactions.value(), 4);
    }

    #[test]
    fn the_longer_of_two_secrets_is_hidden_whole() {
        let secrets = [Secret::of("A", "abcdefgh"), Secret::of("B", "abcdefghijkl")];
        let redactor = Redactor::of(&secrets, Arc::new(Metrics::default()));
        assert_eq!(redactor.text("abcdefghijkl abcdefgh"), "«secret:B» «secret:A»");
    }
}
