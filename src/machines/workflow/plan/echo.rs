//! Echo: work that only answers with its inputs, for trying documents out.
//!
//! May not touch the outside. Invariant: the answer is a function of the inputs and of how often it
//! was asked for before.

use serde_json::{Map, Value, json};

use super::outcome::{FAILED, SUSPENDED};
use crate::machines::workflow::shape::RESUMED;
use crate::machines::workflow::values::{Type, misfit};

/// What it is to answer besides its inputs.
const OUTPUTS: &str = "outputs";
/// How often it fails before it succeeds.
const FAIL_COUNT: &str = "fail-count";
/// Whether it waits for somebody first.
const SUSPEND: &str = "suspend";
/// How long it waits for somebody at most.
pub(super) const RESUME_AFTER: &str = "auto-resume-after";

/// The answer to work with these inputs that was repeated so often.
///
/// # Errors
/// What is wrong with the inputs.
pub(super) fn answer(inputs: &Map<String, Value>, retries: u32) -> Result<Value, String> {
    let failures = match inputs.get(FAIL_COUNT) {
        None => 0,
        Some(count) => count.as_u64().ok_or("fail-count is a whole number")?,
    };
    let suspends = match inputs.get(SUSPEND) {
        None => false,
        Some(flag) => flag.as_bool().ok_or("suspend is true or false")?,
    };
    let own = [OUTPUTS, FAIL_COUNT, SUSPEND, RESUME_AFTER, RESUMED];
    let echoed = inputs.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let mut values: Map<_, _> = echoed.map(|(name, value)| (name.clone(), value.clone())).collect();
    for output in inputs.get(OUTPUTS).and_then(Value::as_array).into_iter().flatten() {
        let text = |member: &str| output.get(member).and_then(Value::as_str);
        let name = text("name").ok_or("each of the outputs has a name")?;
        let of_type = text("type").unwrap_or_default();
        let given = output.get("value").filter(|value| !value.is_null());
        let value = given.or_else(|| inputs.get(name)).cloned();
        let value = value.unwrap_or_else(|| zero(of_type));
        if let Some(why) = misfit(Type::of(of_type), &[], &value) {
            return Err(format!("the output {name} {why}"));
        }
        values.insert(name.to_owned(), value);
    }
    let (code, message) = if u64::from(retries) < failures {
        (FAILED, format!("failure {} of {failures}", retries + 1))
    } else if suspends && !inputs.contains_key(RESUMED) {
        (SUSPENDED, "waits for an answer".to_owned())
    } else {
        (0, String::new())
    };
    let parameters: Vec<Value> =
        values.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    Ok(json!({ "code": code, "message": message, "parameters": parameters }))
}

/// What stands for a value that nobody gave.
fn zero(word: &str) -> Value {
    match Type::of(word) {
        Type::Whole | Type::Number => json!(0),
        Type::Flag => json!(false),
        Type::List => json!([]),
        Type::Object => json!({}),
        Type::Text | Type::Any => json!(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(inputs: &Value, retries: u32) -> Value {
        answer(inputs.as_object().unwrap(), retries).unwrap()
    }

    #[test]
    fn inputs_come_back_and_outputs_are_made_up() {
        let outputs = json!([
            { "name": "n", "type": "int" }, { "name": "a", "type": "string" },
            { "name": "ok", "type": "bool", "value": true }, { "name": "x", "type": "thing" },
        ]);
        let told = answered(&json!({ "a": "b", "outputs": outputs }), 0);
        assert_eq!(
            told["parameters"],
            json!([
                { "name": "a", "value": "b" }, { "name": "n", "value": 0 },
                { "name": "ok", "value": true }, { "name": "x", "value": "" },
            ])
        );
        let wrong = json!({ "outputs": [{ "name": "n", "type": "int", "value": "1" }] });
        assert!(answer(wrong.as_object().unwrap(), 0).is_err());
    }

    #[test]
    fn it_fails_then_waits_then_succeeds() {
        let mut inputs = json!({ "fail-count": 1, "suspend": true });
        assert_eq!(answered(&inputs, 0)["code"], FAILED);
        assert_eq!(answered(&inputs, 1)["code"], SUSPENDED);
        inputs[RESUMED] = true.into();
        assert_eq!(answered(&inputs, 1)["code"], 0);
    }
}
