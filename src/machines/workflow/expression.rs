//! Expressions: comparisons of printed forms, and for everything else the Common Expression
//! Language.
//!
//! May not know the run that it is evaluated in. Invariant: the same scope gives the same value, on
//! every machine and in every order of memory.

use serde_json::Value;

use super::cel::{self, Program};
use super::reference::{Reference, Root};
use super::values::same;
use crate::ground::limits::WORKFLOW_EXPRESSION_BYTES_MAX;

/// What an expression can see.
pub trait Scope {
    /// The value behind a path; nothing where there is none.
    fn get(&self, reference: &Reference) -> Option<Value>;
    /// Everything behind a root, of tasks only those that are named.
    fn root(&self, root: Root, tasks: &[String]) -> Value;
}

/// An expression that was read.
#[derive(Debug, Clone)]
pub struct Expression {
    /// As it is written.
    pub text: String,
    form: Form,
    /// The paths in it.
    pub references: Vec<Reference>,
    /// Words without quotes that count as texts.
    pub words: Vec<String>,
}

#[derive(Debug, Clone)]
enum Form {
    Flag(bool),
    Compare { left: Operand, equal: bool, right: Operand },
    Cel(Program),
}

#[derive(Debug, Clone)]
enum Operand {
    Text(String),
    Path(Reference),
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > WORKFLOW_EXPRESSION_BYTES_MAX {
            return Err(format!("it has more than {WORKFLOW_EXPRESSION_BYTES_MAX} bytes"));
        }
        if let Some(simple) = Self::simple(text.trim()) {
            return Ok(Self { text: text.to_owned(), ..simple });
        }
        let program = Program::compile(text)?;
        let references = program.references.clone();
        Ok(Self { text: text.to_owned(), form: Form::Cel(program), references, words: Vec::new() })
    }

    /// The form without operators but one `==` or `!=`.
    fn simple(text: &str) -> Option<Self> {
        let of = |form, references, words| Self { text: String::new(), form, references, words };
        if let "true" | "false" = text {
            return Some(of(Form::Flag(text == "true"), Vec::new(), Vec::new()));
        }
        let at = operator(text)?;
        let equal = text.as_bytes().get(at) == Some(&b'=');
        let (mut references, mut words) = (Vec::new(), Vec::new());
        let mut operand = |text: &str| {
            let operand = operand(text.trim(), &mut words)?;
            if let Operand::Path(reference) = &operand {
                references.push(reference.clone());
            }
            Some(operand)
        };
        let (left, right) = (operand(&text[..at])?, operand(&text[at + 2..])?);
        Some(of(Form::Compare { left, equal, right }, references, words))
    }

    /// Whether it is a comparison of printed forms with a quoted number on one side.
    #[must_use]
    pub fn quoted_number(&self) -> Option<&Reference> {
        let Form::Compare { left, right, .. } = &self.form else { return None };
        match (left, right) {
            (Operand::Path(path), Operand::Text(text))
            | (Operand::Text(text), Operand::Path(path))
                if text.parse::<f64>().is_ok() && !self.words.contains(text) =>
            {
                Some(path)
            }
            _ => None,
        }
    }

    /// Its value.
    ///
    /// # Errors
    /// Why it has none.
    pub fn value(&self, scope: &dyn Scope) -> Result<Value, String> {
        match &self.form {
            Form::Flag(flag) => Ok(Value::Bool(*flag)),
            Form::Compare { left, equal, right } => {
                let value = |operand: &Operand| match operand {
                    Operand::Text(text) => Some(Value::String(text.clone())),
                    Operand::Path(reference) => scope.get(reference),
                };
                let (left, right) = (value(left), value(right));
                Ok(Value::Bool(same(left.as_ref(), right.as_ref()) == *equal))
            }
            Form::Cel(program) => program.value(scope),
        }
    }

    /// Its value as a condition.
    ///
    /// # Errors
    /// Why it has none, or that it is neither true nor false.
    pub fn holds(&self, scope: &dyn Scope) -> Result<bool, String> {
        match self.value(scope)? {
            Value::Bool(flag) => Ok(flag),
            Value::String(text) if text == "true" || text == "false" => Ok(text == "true"),
            other => {
                let kind = super::values::type_name(&other);
                Err(format!("a condition must be true or false, and this is {kind}"))
            }
        }
    }
}

/// The only `==` or `!=` outside quotes and braces; nothing when there is another one.
fn operator(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut found = None;
    let mut at = 0;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(open), b) => quote = Some(open).filter(|open| *open != b),
            (None, b @ (b'\'' | b'"')) => quote = Some(b),
            (None, b'=' | b'!') if bytes.get(at + 1) == Some(&b'=') => {
                if found.is_some() {
                    return None;
                }
                found = Some(at);
                at += 1;
            }
            _ => {}
        }
        at += 1;
    }
    found.filter(|_| quote.is_none())
}

fn operand(text: &str, words: &mut Vec<String>) -> Option<Operand> {
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote) {
            let inner = inner.strip_suffix(quote)?;
            // Escapes and several texts are more than this form knows.
            let is_plain = !inner.contains(quote) && !inner.contains('\\') && !inner.contains("{{");
            return is_plain.then(|| Operand::Text(inner.to_owned()));
        }
    }
    if let Some(inner) = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")) {
        return Reference::parse(inner).ok().map(Operand::Path);
    }
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    if text.is_empty() || !text.chars().all(in_word) {
        let in_path = |c: char| in_word(c) || matches!(c, '[' | ']' | '"' | '\'');
        let path = Reference::parse(text).ok().filter(|_| text.chars().all(in_path));
        return path.map(Operand::Path);
    }
    if cel::is_number(text) || matches!(text, "true" | "false" | "null") {
        return Some(Operand::Text(text.to_owned()));
    }
    match Reference::parse(text) {
        Ok(reference) => Some(Operand::Path(reference)),
        Err(Some(_)) => None,
        Err(None) => {
            words.push(text.to_owned());
            Some(Operand::Text(text.to_owned()))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::machines::workflow::reference::drill;
    use proptest::prelude::*;
    use serde_json::json;

    /// A scope over one value with a member for each root.
    pub(in crate::machines::workflow) struct Fixed(pub(in crate::machines::workflow) Value);

    impl Scope for Fixed {
        fn get(&self, reference: &Reference) -> Option<Value> {
            drill(self.0.get(reference.root.word())?, &reference.segments).cloned()
        }

        fn root(&self, root: Root, _tasks: &[String]) -> Value {
            self.0.get(root.word()).cloned().unwrap_or(json!({}))
        }
    }

    fn scope() -> Fixed {
        Fixed(json!({
            "tasks": { "step-a": { "phase": "Succeeded", "code": 0, "outputs": { "parameters": {
                "n": 200, "x-y": 1.5, "os": "linux", "l": [1, 2, 3], "big": 1_000_000,
                "o": { "b": 1, "a": 2 } } } } },
            "inputs": { "parameters": { "name": "ann", "flag": true } },
            "loop_iter": { "index": 2 },
        }))
    }

    fn value(text: &str) -> Result<Value, String> {
        Expression::parse(text)?.value(&scope())
    }

    #[test]
    fn printed_forms_and_cel() {
        for (text, wanted) in [
            ("true", json!(true)),
            ("tasks.step-a.outputs.parameters.n == '200'", json!(true)),
            ("tasks.step-a.outputs.parameters.big == 1000000", json!(true)),
            ("{{tasks.step-a.phase}} != \"Failed\"", json!(true)),
            ("tasks.step-a.phase == Succeeded", json!(true)),
            ("tasks.step-b.phase == 'x'", json!(false)),
            ("tasks.step-a.phase == 'Succeeded' && 1 < 2", json!(true)),
            ("tasks.step-a.outputs.parameters.n == '200' || false", json!(false)),
            ("tasks.step-a.outputs.parameters.n + 1", json!(201)),
            ("tasks.step-a.outputs.parameters.n - 1", json!(199)),
            ("tasks.step-a.outputs.parameters.x-y * 2.0", json!(3.0)),
            ("'{{inputs.parameters.name}}-' + \"x\"", json!("ann-x")),
            ("loop_iter.index != 2", json!(false)),
            ("loop_iter.index < 2", json!(false)),
            ("has(tasks.step-a.outputs.parameters.zz) ? 1 : 2", json!(2)),
            ("tasks.step-a.outputs.parameters.l.map(x, x * 2)", json!([2, 4, 6])),
            ("tasks.step-a.outputs.parameters.o.map(k, k)", json!(["a", "b"])),
            ("size(tasks.step-a.outputs.parameters.l) > 2 ? 'many' : 'few'", json!("many")),
            ("inputs.parameters.flag && 'a' in ['a', 'b']", json!(true)),
            ("json('{\"b\": 1, \"a\": [2]}')", json!({ "a": [2], "b": 1 })),
            ("text(1.50) + text([1])", json!("1.5[1]")),
            ("'abc'.matches('^a.c$') && 'abc'.startsWith('ab')", json!(true)),
        ] {
            assert_eq!(value(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, named) in [
            ("1 +", ""),
            ("now() > 1", "now"),
            ("foo.bar == 1 && true", "foo"),
            ("timestamp('x') == 1 && true", "timestamp"),
            ("tasks[inputs.parameters.name].phase == 'x' && true", "tasks"),
        ] {
            let error = Expression::parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
        let deep = format!("{}1{}", "(".repeat(200), ")".repeat(200));
        assert!(Expression::parse(&deep).is_err());
        let long = vec!["1"; 1500].join(" + ");
        assert!(Expression::parse(&long).is_err());
        let ternary = format!("{}1", "true ? 1 : ".repeat(500));
        assert!(Expression::parse(&ternary).is_err());
    }

    #[test]
    fn what_fails_is_told_without_values() {
        for text in [
            "tasks.step-a.outputs.parameters.zz > 1",
            "1 / (loop_iter.index - 2) > 0",
            "inputs.parameters.name > 1",
            "json('{')",
            "9223372036854775807 + 1 > 0",
        ] {
            let error = value(text).unwrap_err();
            assert!(!error.is_empty() && !error.contains("HashMap"), "{text}: {error}");
        }
        assert!(Expression::parse("1 + 1").unwrap().holds(&scope()).is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[a-z0-9 ().\\[\\]'\"{}=!<>&|+*?:,-]{0,60}") {
            if let Ok(expression) = Expression::parse(&text) {
                let _ = expression.value(&scope());
            }
        }
    }
}
