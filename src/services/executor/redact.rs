//! Redaction: whatever is kept of an attempt that used secrets passes here.
//!
//! Finds a secret as it is, percent-encoded, escaped as in JSON, and in base64 at any offset. May
//! not know where a text came from. Invariant: what comes out holds no secret of at least
//! [`SECRET_REDACTED_BYTES_MIN`] bytes in one of these forms.

use std::borrow::Cow;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::Value;
use zeroize::Zeroizing;

use super::secrets::Secret;
use crate::codecs::json::Json;
use crate::ground::limits::SECRET_REDACTED_BYTES_MIN;
use crate::ports::telemetry::Metrics;

/// How a text may spell bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Plain,
    Percent,
    Json,
}

const SPELLINGS: [Spelling; 3] = [Spelling::Plain, Spelling::Percent, Spelling::Json];

/// One form of one secret.
struct Needle {
    mark: String,
    bytes: Zeroizing<Vec<u8>>,
    base64: bool,
    /// A character of base64 before and after tells some bits of the secret.
    ragged: (bool, bool),
}

/// Hides the secrets of one attempt.
pub struct Redactor {
    needles: Vec<Needle>,
    metrics: Arc<Metrics>,
}

impl Redactor {
    /// Hides these secrets.
    #[must_use]
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a Secret>, metrics: Arc<Metrics>) -> Self {
        let long = |secret: &&Secret| secret.text().len() >= SECRET_REDACTED_BYTES_MIN;
        let mut needles: Vec<Needle> =
            secrets.into_iter().filter(long).flat_map(needles_of).collect();
        // A secret that begins with another one is hidden whole.
        needles.sort_by_key(|needle| std::cmp::Reverse(needle.bytes.len()));
        Self { needles, metrics }
    }

    /// The bytes without secrets.
    #[must_use]
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let (mut out, mut at) = (Vec::new(), 0);
        let mut taken = 0;
        while at < bytes.len() {
            let Some((needle, length)) = self.at(&bytes[at..]) else {
                at += 1;
                continue;
            };
            let mut end = at + length;
            let mut begin = at;
            let symbol = |at: usize| bytes.get(at).is_some_and(|b| is_symbol(*b));
            if needle.ragged.0 && begin > taken && symbol(begin - 1) {
                begin -= 1;
            }
            if needle.ragged.1 && symbol(end) {
                end += 1;
            }
            out.extend_from_slice(&bytes[taken..begin]);
            out.extend_from_slice(needle.mark.as_bytes());
            self.metrics.redactions.one();
            (at, taken) = (end, end);
        }
        if taken == 0 {
            return Cow::Borrowed(bytes);
        }
        out.extend_from_slice(&bytes[taken..]);
        Cow::Owned(out)
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
        if self.needles.is_empty() {
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

    /// The secret that a text begins with, and how many bytes it takes there.
    fn at(&self, text: &[u8]) -> Option<(&Needle, usize)> {
        self.needles.iter().find_map(|needle| {
            let length = SPELLINGS.iter().find_map(|how| spells(text, needle, *how))?;
            Some((needle, length))
        })
    }
}

fn needles_of(secret: &Secret) -> Vec<Needle> {
    let mark = format!("«secret:{}»", secret.name());
    let plain = secret.text().as_bytes();
    let mut needles = vec![Needle {
        mark: mark.clone(),
        bytes: Zeroizing::new(plain.to_vec()),
        base64: false,
        ragged: (false, false),
    }];
    // Inside a longer text a secret may begin at any of three places of a group.
    for before in 0..3 {
        let padded = Zeroizing::new([&[0; 2][..before], plain].concat());
        let whole = Zeroizing::new(STANDARD_NO_PAD.encode(&*padded));
        let first = [0, 2, 3][before];
        let last = padded.len() * 8 / 6;
        needles.push(Needle {
            mark: mark.clone(),
            bytes: Zeroizing::new(whole.as_bytes()[first..last].to_vec()),
            base64: true,
            ragged: (before > 0, padded.len() % 3 > 0),
        });
    }
    needles
}

fn is_symbol(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// How many bytes of `text` spell the needle, if it begins with it.
fn spells(text: &[u8], needle: &Needle, how: Spelling) -> Option<usize> {
    let (mut at, mut matched) = (0, 0);
    while matched < needle.bytes.len() {
        let mut decoded = [0; 4];
        let (count, taken) = decode(text.get(at..)?, how, &mut decoded)?;
        for byte in &decoded[..count] {
            let wanted = *needle.bytes.get(matched)?;
            let same = match (wanted, byte) {
                (b'+', b'-') | (b'/', b'_') => needle.base64,
                // Forms write a space as a plus.
                (b' ', b'+') => how == Spelling::Percent,
                (wanted, byte) => wanted == *byte,
            };
            if !same {
                return None;
            }
            matched += 1;
        }
        at += taken;
    }
    Some(at)
}

/// The bytes that a text spells first: how many, and how many bytes of the text that takes.
fn decode(text: &[u8], how: Spelling, into: &mut [u8; 4]) -> Option<(usize, usize)> {
    into[0] = *text.first()?;
    let hex = |from: usize, to: usize| {
        let digits = std::str::from_utf8(text.get(from..to)?).ok()?;
        let all_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| all_hex)
    };
    match (how, into[0]) {
        (Spelling::Percent, b'%') => {
            let Some(byte) = hex(1, 3).and_then(|byte| u8::try_from(byte).ok()) else {
                return Some((1, 1));
            };
            into[0] = byte;
            Some((1, 3))
        }
        (Spelling::Json, b'\\') => {
            into[0] = match text.get(1)? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'f' => 12,
                b'u' => {
                    let point = hex(2, 6).and_then(char::from_u32)?;
                    return Some((point.encode_utf8(into).len(), 6));
                }
                other => *other,
            };
            Some((1, 2))
        }
        _ => Some((1, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
