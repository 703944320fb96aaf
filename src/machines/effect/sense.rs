//! Sense: options that can be read and that nobody can have meant.
//!
//! May not know what is journaled: that was accepted and stays so. Invariant: every refusal names
//! the option, its value and what is allowed.

use serde_json::Value;

use super::policy;

/// Members of `retry`.
const RETRY: [&str; 10] = [
    "maxAttempts",
    "maxNotBegun",
    "initial",
    "factor",
    "max",
    "jitter",
    "maxElapsed",
    "on",
    "notOn",
    "onExhausted",
];

/// Checks options that were read.
///
/// # Errors
/// A sentence that names the option, its value and what is allowed.
pub(super) fn check(kind: &str, options: &Value) -> Result<(), String> {
    for name in ["timeout", "startTimeout", "deadline"] {
        // Whoever waits for nothing longer than no time looks whether it is there.
        let may_be_none = name == "timeout" && policy::waits(kind);
        if let Some(value) = options.get(name).filter(|v| !v.is_null() && !may_be_none)
            && policy::millis(name, value)? == 0
        {
            return Err(format!("{name} is longer than no time, not {value}"));
        }
    }
    if let Some(key) = options.get("idempotencyKey").and_then(Value::as_str)
        && (key.is_empty() || has_control(key))
    {
        return Err(format!(
            "idempotencyKey is a text of one character or more without control characters, \
             not {key:?}"
        ));
    }
    for list in ["limitKeys", "executorLabels"] {
        let names = options.get(list).and_then(Value::as_array).into_iter().flatten();
        let odd = |name: &&str| name.is_empty() || name.contains('*') || has_control(name);
        if let Some(name) = names.filter_map(Value::as_str).find(odd) {
            return Err(format!(
                "{list} has names of one character or more without * and control characters, \
                 not {name:?}"
            ));
        }
    }
    options.get("retry").map_or(Ok(()), retry)
}

fn retry(given: &Value) -> Result<(), String> {
    let Some(members) = given.as_object() else { return Ok(()) };
    if let Some(name) = members.keys().find(|name| !RETRY.contains(&name.as_str())) {
        return Err(format!("retry.{name} is not known; there are {}", RETRY.join(", ")));
    }
    match members.get("factor").and_then(Value::as_f64) {
        Some(factor) if factor < 1.0 => {
            Err(format!("retry.factor is a number from 1 to 1000000, not {factor}"))
        }
        _ => Ok(()),
    }
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::policy::{read, resolve};
    use crate::codecs::event::Policy;
    use crate::codecs::json::Json;
    use serde_json::json;

    #[test]
    fn what_nobody_means_is_named_and_still_read() {
        for (options, why) in [
            (json!({ "timeout": 0 }), "timeout is longer than no time, not 0"),
            (json!({ "startTimeout": "0s" }), "startTimeout is longer than no time, not \"0s\""),
            (json!({ "deadline": 0 }), "deadline is"),
            (json!({ "idempotencyKey": "" }), "not \"\""),
            (json!({ "idempotencyKey": "a\nb" }), "idempotencyKey is a text"),
            (json!({ "idempotencyKey": "a\u{7f}" }), "idempotencyKey is a text"),
            (json!({ "limitKeys": ["a", ""] }), "limitKeys has names"),
            (json!({ "limitKeys": ["deploy:*"] }), "not \"deploy:*\""),
            (json!({ "executorLabels": ["\t"] }), "executorLabels has names"),
            (json!({ "retry": { "factor": 0 } }), "retry.factor is a number from 1"),
            (json!({ "retry": { "factor": 0.5 } }), "not 0.5"),
            (json!({ "retry": { "maxAttempt": 3 } }), "retry.maxAttempt is not known"),
        ] {
            let options = Json::of(&options);
            let error = resolve("agent", None, Some(&options)).unwrap_err();
            assert!(error.contains(why), "{error}");
            // A journal may hold it.
            assert_ne!(read("agent", None, Some(&options)).unwrap(), Policy::default());
        }
        for (kind, options) in [
            ("signal", json!({ "timeout": 0 })),
            ("agent", json!({ "timeout": null, "retry": { "factor": 1 }, "limitKeys": [] })),
            ("agent", json!({ "idempotencyKey": "\u{e9}", "retry": true })),
        ] {
            resolve(kind, None, Some(&Json::of(&options))).unwrap();
        }
    }
}
