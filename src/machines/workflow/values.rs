//! Values of parameters: their types, their text, when two are equal.
//!
//! May not know where a value comes from. Invariant: nothing is converted to fit a type.

use serde_json::{Number, Value};

/// What a parameter may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A text.
    Text,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// True or false.
    Flag,
    /// A list.
    List,
    /// An object.
    Object,
    /// Anything.
    Any,
}

impl Type {
    /// The type that an author's word means.
    #[must_use]
    pub fn of(word: &str) -> Self {
        match word {
            "string" => Self::Text,
            "integer" | "int" => Self::Whole,
            "number" | "float" => Self::Number,
            "boolean" | "bool" => Self::Flag,
            "array" | "list" => Self::List,
            "object" => Self::Object,
            _ => Self::Any,
        }
    }

    /// Whether a value is of this type.
    #[must_use]
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Text => value.is_string(),
            Self::Whole => value.is_i64() || value.as_f64().is_some_and(is_whole),
            Self::Number => value.is_number(),
            Self::Flag => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
        }
    }

    /// Whether a value of another type may fit this one.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        let numbers = [Self::Whole, Self::Number];
        self == other
            || self == Self::Any
            || other == Self::Any
            || numbers.contains(&self) && numbers.contains(&other)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Whole => "integer",
            Self::Number => "number",
            Self::Flag => "boolean",
            Self::List => "array",
            Self::Object => "object",
            Self::Any => "any",
        }
    }
}

/// Whether a number is whole, and small enough to be exact.
fn is_whole(number: f64) -> bool {
    number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0
}

/// The name of a value's own type.
#[must_use]
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value as text: a text itself, numbers without exponent, the rest as JSON.
#[must_use]
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number_text(number),
        other => other.to_string(),
    }
}

fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => format!("{float}"),
        _ => number.to_string(),
    }
}

/// Whether two values are the same to `==` between printed forms. What is absent, or null, equals
/// nothing.
#[must_use]
pub fn same(left: Option<&Value>, right: Option<&Value>) -> bool {
    let (Some(left), Some(right)) = (left, right) else { return false };
    match (left, right) {
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
            left == right
        }
        (Value::Number(number), Value::String(word))
        | (Value::String(word), Value::Number(number)) => {
            let parsed: Option<f64> = word.parse().ok().filter(|_| is_number_shaped(word));
            parsed.map_or_else(|| number_text(number) == *word, |n| number.as_f64() == Some(n))
        }
        _ => text(left) == text(right),
    }
}

fn is_number_shaped(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        && word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'))
}

/// What is wrong with a value for a parameter, if anything is.
#[must_use]
pub fn misfit(of_type: Type, choices: &[Value], value: &Value) -> Option<String> {
    if !of_type.admits(value) {
        return Some(format!("must be {}, and is {}", of_type.name(), type_name(value)));
    }
    if choices.is_empty() || choices.iter().any(|choice| same_number(choice, value)) {
        return None;
    }
    let listed: Vec<String> = choices.iter().take(20).map(Value::to_string).collect();
    Some(format!("must be one of {}", listed.join(", ")))
}

fn same_number(left: &Value, right: &Value) -> bool {
    left == right || left.is_number() && left.as_f64() == right.as_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_convert_nothing() {
        for (word, value, fits) in [
            ("string", json!("1"), true),
            ("string", json!(1), false),
            ("int", json!(1), true),
            ("int", json!(1.0), true),
            ("int", json!(1.5), false),
            ("integer", json!("1"), false),
            ("float", json!(1), true),
            ("bool", json!("true"), false),
            ("list", json!([]), true),
            ("object", json!({}), true),
            ("json", json!(null), true),
            ("", json!(1), true),
        ] {
            assert_eq!(Type::of(word).admits(&value), fits, "{word} {value}");
        }
    }

    #[test]
    fn printed_forms_are_compared() {
        for (left, right, equal) in [
            (json!(200), json!("200"), true),
            (json!(1_000_000), json!("1000000"), true),
            (json!(1.5), json!("1.50"), true),
            (json!(true), json!("true"), true),
            (json!([1]), json!("[1]"), false),
            (json!([1]), json!([1]), true),
            (json!(null), json!(null), false),
            (json!("a"), json!("b"), false),
        ] {
            assert_eq!(same(Some(&left), Some(&right)), equal, "{left} {right}");
        }
        assert!(!same(None, None));
        assert_eq!(text(&json!(200.0)), "200");
        assert_eq!(text(&json!(1e21)), "1000000000000000000000");
    }

    #[test]
    fn choices_are_checked() {
        assert_eq!(misfit(Type::Any, &[json!(1), json!("a")], &json!(1.0)), None);
        let why = misfit(Type::Text, &[json!("a")], &json!("b")).unwrap();
        assert_eq!(why, "must be one of \"a\"");
    }
}
