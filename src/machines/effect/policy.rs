//! Policy: the rules under which an effect is executed, merged once and frozen at its request.
//!
//! May not know configuration files. Invariant: what is journaled is complete; no later default
//! changes it.

use serde_json::Value;

use super::{probe, sense};
use crate::codecs::event::{OnUncertain, Policy, Retry};
use crate::codecs::json::Json;

/// Attempts when an author says only `retry: true` or `idempotent: true`.
const ATTEMPTS_DEFAULT: u32 = 5;
/// Attempts that may fail before anything began: bridges about six hours of an absent service.
const NOT_BEGUN_MAX_DEFAULT: u32 = 100;
/// The same for commands: a program that cannot be started today cannot be started tomorrow.
const SHELL_NOT_BEGUN_MAX: u32 = 3;
/// Attempts at a request that asks for nothing but an answer.
const SAFE_ATTEMPTS: u32 = 4;
/// Attempts that any author may ask for (`attempts_max`).
const ATTEMPTS_MAX: u32 = 1_000;
/// Longest explicit idempotency key.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// What is repeated, and when, where the author leaves it open.
pub const RETRY_DEFAULT: Retry = retry(ATTEMPTS_DEFAULT);
/// What is repeated where nobody asked for it: only what never began.
static ONCE: Retry = retry(1);
/// Most entries of a list in a policy.
const LIST_ITEMS_MAX: usize = 8;
/// Most limit keys of one effect (`limit_keys_max`).
const LIMIT_KEYS_MAX: usize = 4;

/// What an effect is by nature, before its author says anything about it. Nothing of it depends on
/// configuration: the same call has the same nature wherever it is executed.
struct Nature {
    /// Executing it twice does no harm.
    idempotent: bool,
    /// Attempts that may end in a failure.
    attempts: u32,
    /// Attempts that may fail before anything began.
    not_begun: u32,
    /// How long an attempt may take, where the definition says so.
    timeout_ms: Option<u64>,
}

impl Nature {
    fn of(kind: &str, def: Option<&Json>) -> Self {
        let plain = Self {
            idempotent: false,
            attempts: 1,
            not_begun: NOT_BEGUN_MAX_DEFAULT,
            timeout_ms: None,
        };
        match kind {
            // A child run is created by key, so asking twice does no harm.
            "run" => Self { idempotent: true, ..plain },
            "shell" => Self { not_begun: SHELL_NOT_BEGUN_MAX, ..plain },
            "http" => {
                let def = def.map_or(Value::Null, Json::to_value);
                let member = |name: &str| super::member(&def, "http", name);
                let method = member("method").map_or(Some("GET"), Value::as_str);
                let safe = ["GET", "HEAD", "OPTIONS"];
                let idempotent =
                    method.is_some_and(|m| safe.iter().any(|s| m.eq_ignore_ascii_case(s)));
                let attempts = if idempotent { SAFE_ATTEMPTS } else { 1 };
                // A time that makes no sense is for whoever reads the rest of the definition.
                let timeout_ms = member("timeout").and_then(|v| millis("timeout", v).ok());
                Self { idempotent, attempts, timeout_ms, ..plain }
            }
            _ => plain,
        }
    }

    /// Its rules of repetition; nothing where they are everybody's.
    fn retry(&self) -> Option<Retry> {
        let retry = Retry { max_not_begun: self.not_begun, ..retry(self.attempts) };
        (retry != ONCE).then_some(retry)
    }
}

/// Resolves an author's options for an effect of `kind` with definition `def`.
///
/// # Errors
/// A sentence that names the option, its value and what is allowed.
pub fn resolve(kind: &str, def: Option<&Json>, options: Option<&Json>) -> Result<Policy, String> {
    let policy = read(kind, def, options)?;
    if let Some(options) = options {
        sense::check(kind, &options.to_value())?;
    }
    Ok(policy)
}

/// The same for a call that a journal may hold already: what is refused here must not grow, or a
/// replay would throw where the call was made. Whatever else makes no sense is refused at record.
///
/// # Errors
/// As above.
pub fn read(kind: &str, def: Option<&Json>, options: Option<&Json>) -> Result<Policy, String> {
    let nature = Nature::of(kind, def);
    let options = options.map_or(Value::Null, Json::to_value);
    let option = |name: &str| options.get(name).filter(|v| !v.is_null());
    let stated = option("idempotent").map(|v| boolean("idempotent", v)).transpose()?;
    let idempotent = stated.unwrap_or(nature.idempotent);
    let base = Retry { max_not_begun: nature.not_begun, ..RETRY_DEFAULT };
    let repeats = match option("retry") {
        Some(Value::Bool(false)) => Nature { attempts: 1, ..nature }.retry(),
        None if stated != Some(true) => nature.retry(),
        Some(Value::Bool(true)) | None => Some(base),
        Some(given) => Some(retry_of(given, &base)?),
    };
    let limit_keys = strings("limitKeys", option("limitKeys"))?;
    if limit_keys.len() > LIMIT_KEYS_MAX {
        return Err(format!("limitKeys has {} names, at most {LIMIT_KEYS_MAX}", limit_keys.len()));
    }
    let idempotency_key =
        option("idempotencyKey").map(|v| word("idempotencyKey", v)).transpose()?;
    if let Some(key) = idempotency_key.as_ref().filter(|k| k.len() > IDEMPOTENCY_KEY_BYTES_MAX) {
        let most = IDEMPOTENCY_KEY_BYTES_MAX;
        return Err(format!("idempotencyKey has {} bytes, at most {most}", key.len()));
    }
    Ok(Policy {
        idempotent,
        retry: repeats,
        attempt_timeout_ms: option("timeout")
            .map(|v| millis("timeout", v))
            .transpose()?
            .or(nature.timeout_ms),
        start_timeout_ms: option("startTimeout").map(|v| millis("startTimeout", v)).transpose()?,
        total_timeout_ms: total_timeout(kind, &options)?,
        on_uncertain: on_uncertain(option("onUncertain"), idempotent)?,
        probe: option("probe").map(probe::read).transpose()?,
        idempotency_key,
        limit_keys,
        priority: option("priority").map(priority).transpose()?,
        requires: strings("executorLabels", option("executorLabels"))?,
    })
}

impl Policy {
    /// The rules of repetition, also where the author gave none.
    #[must_use]
    pub fn retry_or_once(&self) -> &Retry {
        self.retry.as_ref().unwrap_or(&ONCE)
    }

    /// Whether nobody is asked what became of an effect, and no attempt follows.
    #[must_use]
    pub fn gives_up_at_once(&self) -> bool {
        self.on_uncertain == OnUncertain::Error && self.probe.is_none()
    }
}

/// Whether an effect of this kind is nothing but a wait for somebody.
pub(super) fn waits(kind: &str) -> bool {
    matches!(kind, "signal" | "breakpoint")
}

/// `deadline`; for signals and breakpoints the author's `timeout` is the limit of the whole wait.
fn total_timeout(kind: &str, options: &Value) -> Result<Option<u64>, String> {
    let name = if waits(kind) { "timeout" } else { "deadline" };
    options.get(name).filter(|v| !v.is_null()).map(|v| millis(name, v)).transpose()
}

fn on_uncertain(given: Option<&Value>, idempotent: bool) -> Result<OnUncertain, String> {
    match given.and_then(Value::as_str) {
        None if given.is_some() => Err("onUncertain is hold, retry, error or ask".into()),
        None | Some("retry") if idempotent => Ok(OnUncertain::Retry),
        None | Some("hold") => Ok(OnUncertain::Hold),
        Some("retry") => Err("onUncertain: retry needs idempotent: true".into()),
        Some("error") => Ok(OnUncertain::Error),
        Some("ask") => Ok(OnUncertain::Ask),
        Some(other) => Err(format!("onUncertain is hold, retry, error or ask, not {other:?}")),
    }
}

const fn retry(max_attempts: u32) -> Retry {
    Retry {
        max_attempts,
        max_not_begun: NOT_BEGUN_MAX_DEFAULT,
        initial_ms: 1_000,
        factor: 2.0,
        max_ms: 300_000,
        jitter: 0.5,
        max_elapsed_ms: None,
        on: Vec::new(),
        not_on: Vec::new(),
        on_exhausted: None,
    }
}

fn retry_of(given: &Value, base: &Retry) -> Result<Retry, String> {
    let Some(map) = given.as_object() else {
        return Err("retry is true, false or an object".into());
    };
    let field = |name: &str| map.get(name).filter(|v| !v.is_null());
    let count = |name: &'static str, default: u32| {
        field(name).map_or(Ok(default), |v| {
            let n = v.as_u64().and_then(|n| u32::try_from(n).ok());
            n.filter(|n| (1..=ATTEMPTS_MAX).contains(n)).ok_or_else(|| {
                format!("retry.{name} is a whole number from 1 to {ATTEMPTS_MAX}, not {v}")
            })
        })
    };
    let span = |name: &str, default: u64| field(name).map_or(Ok(default), |v| millis(name, v));
    let number = |name: &str, default: f64, most: f64| {
        field(name).map_or(Ok(default), |v| {
            let n = v.as_f64().filter(|n| (0.0..=most).contains(n));
            n.ok_or_else(|| format!("retry.{name} is a number from 0 to {most}, not {v}"))
        })
    };
    Ok(Retry {
        max_attempts: count("maxAttempts", base.max_attempts)?,
        max_not_begun: count("maxNotBegun", base.max_not_begun)?,
        initial_ms: span("initial", base.initial_ms)?,
        factor: number("factor", base.factor, 1e6)?,
        max_ms: span("max", base.max_ms)?,
        jitter: number("jitter", base.jitter, 1.0)?,
        max_elapsed_ms: field("maxElapsed").map(|v| millis("maxElapsed", v)).transpose()?,
        on: strings("retry.on", field("on"))?,
        not_on: strings("retry.notOn", field("notOn"))?,
        on_exhausted: field("onExhausted").map(on_exhausted).transpose()?,
    })
}

fn on_exhausted(value: &Value) -> Result<String, String> {
    match value.as_str() {
        Some(word @ ("fail" | "pause")) => Ok(word.to_owned()),
        _ => Err(format!("retry.onExhausted is fail or pause, not {value}")),
    }
}

/// A duration: milliseconds, or text such as `1h 30m`.
///
/// # Errors
/// A sentence that names the option and its value.
pub fn millis(name: &str, value: &Value) -> Result<u64, String> {
    let wrong = || format!("{name} is milliseconds or a duration such as \"1h 30m\", not {value}");
    match value {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        Value::Number(n) => n
            .as_f64()
            .filter(|ms| (0.0..=9e15).contains(ms))
            .map(|ms| ms.ceil() as u64)
            .ok_or_else(wrong),
        Value::String(text) => {
            let parsed = humantime::parse_duration(text).map_err(|_| wrong())?;
            u64::try_from(parsed.as_millis()).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

fn boolean(name: &str, value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{name} is true or false, not {value}"))
}

fn word(name: &str, value: &Value) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| format!("{name} is a text, not {value}"))?;
    if text.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        let most = IDEMPOTENCY_KEY_BYTES_MAX;
        return Err(format!("{name} has {} bytes, at most {most}", text.len()));
    }
    Ok(text.to_owned())
}

/// A list that stands in the record: bounded, so that the record always fits.
fn strings(name: &str, value: Option<&Value>) -> Result<Vec<String>, String> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() > LIST_ITEMS_MAX => {
            Err(format!("{name} has {} entries, at most {LIST_ITEMS_MAX}", items.len()))
        }
        Some(Value::Array(items)) => items.iter().map(|item| word(name, item)).collect(),
        Some(other) => Err(format!("{name} is a list of texts, not {other}")),
    }
}

fn priority(value: &Value) -> Result<u32, String> {
    let n = value.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n <= 1_000);
    n.ok_or_else(|| format!("priority is a whole number from 0 to 1000, not {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "a table of literals")]
    fn policy(kind: &str, options: Value) -> Result<Policy, String> {
        resolve(kind, None, Some(&Json::of(&options)))
    }

    #[test]
    fn authors_words_become_a_complete_policy() {
        let resolved = policy("agent", json!({ "idempotent": true, "timeout": "1m" })).unwrap();
        assert_eq!(resolved.attempt_timeout_ms, Some(60_000));
        assert_eq!(resolved.retry.unwrap().max_attempts, 5);
        assert_eq!(resolved.on_uncertain, OnUncertain::Retry);
        assert_eq!(policy("signal", json!({ "timeout": 5 })).unwrap().total_timeout_ms, Some(5));
        assert_eq!(resolve("agent", None, None).unwrap(), Policy::default());
        let retry = policy("x", json!({ "retry": { "maxAttempts": 2, "initial": "250ms" } }));
        assert_eq!(retry.unwrap().retry.unwrap().initial_ms, 250);
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        for (options, named) in [
            (json!({ "onUncertain": "retry" }), "idempotent"),
            (json!({ "timeout": "soon" }), "timeout"),
            (json!({ "priority": 1001 }), "priority"),
            (json!({ "retry": { "maxAttempts": 0 } }), "maxAttempts"),
            (json!({ "retry": { "onExhausted": "wait" } }), "onExhausted"),
            (json!({ "probe": true }), "probe"),
            (json!({ "probe": { "kind": "ftp", "def": {} } }), "probe.kind"),
            (json!({ "probe": { "kind": "http" } }), "probe.def"),
            (json!({ "probe": { "kind": "http", "def": {} } }), "url"),
            (json!({ "probe": { "kind": "http", "def": {}, "often": 1 } }), "probe.often"),
            (
                json!({ "probe": { "kind": "http", "def": { "url": "x" }, "maxAttempts": 0 } }),
                "maxAttempts",
            ),
            (json!({ "probe": { "kind": "http", "def": { "url": "y".repeat(20_000) } } }), "bytes"),
            (json!({ "limitKeys": ["a", "b", "c", "d", "e"] }), "limitKeys"),
            (json!({ "idempotencyKey": "x".repeat(256) }), "idempotencyKey"),
        ] {
            let error = policy("agent", options).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
    #[test]
    fn kinds_differ_by_nature() {
        let of = |kind: &str, def: Value| resolve(kind, Some(&Json::of(&def)), None).unwrap();
        let said = |policy: &Policy| {
            let retry = policy.retry_or_once();
            (policy.idempotent, retry.max_attempts, retry.max_not_begun, policy.attempt_timeout_ms)
        };
        let get = of("http", json!({ "kind": "http", "http": { "url": "http://a" } }));
        assert_eq!(said(&get), (true, 4, 100, None));
        assert_eq!(get.on_uncertain, OnUncertain::Retry);
        let head = json!({ "kind": "http", "method": "head", "url": "x", "timeout": "2s" });
        assert_eq!(said(&of("http", head)), (true, 4, 100, Some(2_000)));
        let put = of("http", json!({ "http": { "url": "http://a", "method": "PUT" } }));
        assert_eq!((said(&put), put.on_uncertain), ((false, 1, 100, None), OnUncertain::Hold));
        assert_eq!(said(&of("shell", json!({}))), (false, 1, 3, None));
        assert_eq!(said(&of("mcp", json!({}))), (false, 1, 100, None));
        assert_eq!(said(&of("run", json!({}))), (true, 1, 100, None));
        assert_eq!(of("agent", json!({})), Policy::default());
        let said = |options: Value| said(&policy("shell", options).unwrap());
        assert_eq!(said(json!({ "retry": true })), (false, 5, 3, None));
        assert_eq!(said(json!({ "retry": { "maxAttempts": 2 } })), (false, 2, 3, None));
        assert_eq!(said(json!({ "idempotent": true })), (true, 5, 3, None));
        assert_eq!(said(json!({ "idempotent": true, "retry": false })), (true, 1, 3, None));
    }
}
