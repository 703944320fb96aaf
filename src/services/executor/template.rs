//! Placeholders in definitions: `${args.a.b}`, `${runId}`, `${effectId}`, `${idempotencyKey}` and
//! `${secret:NAME}`; `$${` stands for `${` itself.
//!
//! May not know where a definition is used. Invariant: nothing is evaluated, and what was put in is
//! not looked through again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use zeroize::{Zeroize as _, Zeroizing};

use super::secrets::Secret;
use crate::ground::id::EffectId;
use crate::ground::id::is_secret_name;

/// What placeholders stand for.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The arguments of the call.
    pub args: Option<&'a Value>,
    /// The run.
    pub run_id: &'a str,
    /// The effect.
    pub effect_id: EffectId,
    /// The key that is the same over all attempts.
    pub idempotency_key: &'a str,
    /// Secrets by name: those that [`secrets_in`] names.
    pub secrets: &'a BTreeMap<String, Secret>,
}

/// Why a definition cannot be filled in: its author mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such placeholder.
    #[error("${{{0}}} is no placeholder; write $${{ for a text that begins with ${{")]
    Unknown(String),
    /// The closing brace is missing.
    #[error("a placeholder is not closed: {0:?}")]
    Open(String),
    /// The arguments have no such member.
    #[error("the arguments have no {0}")]
    Absent(String),
}

/// A filled value that may hold secrets: its texts are wiped when it goes.
#[derive(Default)]
pub struct Filled(Value);

impl Filled {
    /// The value.
    #[must_use]
    pub const fn value(&self) -> &Value {
        &self.0
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hole<'a> {
    Args(&'a str),
    RunId,
    EffectId,
    IdempotencyKey,
    Secret(&'a str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Hole(Hole<'a>),
}

/// Puts in what the placeholders of all texts of `template` stand for; names of members are taken
/// as they are.
pub fn fill(template: &Value, scope: &Scope<'_>) -> Result<Filled, Error> {
    // Wiped even when a later text fails.
    let mut filled = Filled(Value::Null);
    filled.0 = fill_value(template, scope)?;
    Ok(filled)
}

/// The names of all secrets that `template` asks for.
pub fn secrets_in(template: &Value) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    collect(template, &mut names)?;
    Ok(names)
}

fn collect(template: &Value, names: &mut BTreeSet<String>) -> Result<(), Error> {
    match template {
        Value::String(text) => {
            for piece in pieces(text)? {
                if let Piece::Hole(Hole::Secret(name)) = piece {
                    names.insert(name.to_owned());
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(|item| collect(item, names)),
        Value::Object(members) => members.values().try_for_each(|item| collect(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

fn fill_value(template: &Value, scope: &Scope<'_>) -> Result<Value, Error> {
    Ok(match template {
        Value::String(text) => fill_text(text, scope)?,
        Value::Array(items) => {
            items.iter().map(|item| fill_value(item, scope)).collect::<Result<_, _>>()?
        }
        Value::Object(members) => {
            let member =
                |(name, item): (&String, &Value)| Ok((name.clone(), fill_value(item, scope)?));
            Value::Object(members.iter().map(member).collect::<Result<_, Error>>()?)
        }
        plain => plain.clone(),
    })
}

fn fill_text(text: &str, scope: &Scope<'_>) -> Result<Value, Error> {
    let pieces = pieces(text)?;
    if let [Piece::Hole(hole)] = pieces[..] {
        return content(hole, scope);
    }
    let mut parts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        parts.push(match piece {
            Piece::Text(text) => Value::String(text.to_owned()),
            Piece::Hole(hole) => content(hole, scope)?,
        });
    }
    let shown = |part: &Value| part.as_str().map_or_else(|| part.to_string().len(), str::len);
    // Made once at its length: a text that grows leaves its beginnings behind in memory.
    let mut whole = String::with_capacity(parts.iter().map(shown).sum());
    for mut part in parts {
        match &part {
            Value::String(text) => whole.push_str(text),
            other => whole.push_str(&other.to_string()),
        }
        wipe(&mut part);
    }
    Ok(Value::String(whole))
}

fn content(hole: Hole<'_>, scope: &Scope<'_>) -> Result<Value, Error> {
    Ok(match hole {
        Hole::Args(path) => member(scope.args, path)?.clone(),
        Hole::RunId => scope.run_id.into(),
        Hole::EffectId => scope.effect_id.to_string().into(),
        Hole::IdempotencyKey => scope.idempotency_key.into(),
        Hole::Secret(name) => {
            let secret = scope.secrets.get(name);
            let secret = secret.ok_or_else(|| Error::Absent(format!("secret {name}")))?;
            secret.text().into()
        }
    })
}

/// The member of the arguments at a path such as `a.0.b`; the whole at an empty one.
fn member<'a>(args: Option<&'a Value>, path: &str) -> Result<&'a Value, Error> {
    let absent = || Error::Absent(if path.is_empty() { "value".into() } else { path.to_owned() });
    let mut at = args.ok_or_else(absent)?;
    for name in path.split('.').filter(|_| !path.is_empty()) {
        let next = match at {
            Value::Array(items) => name.parse().ok().and_then(|index: usize| items.get(index)),
            other => other.get(name),
        };
        at = next.ok_or_else(absent)?;
    }
    Ok(at)
}

fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Error> {
    if let Some(name) = text.strip_prefix("secret:").filter(|name| is_secret_name(name)) {
        return Ok(vec![Piece::Hole(Hole::Secret(name))]);
    }
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            // The first of the two dollars goes.
            found.extend([Piece::Text(&rest[..at - 1]), Piece::Text("${")]);
            rest = &rest[at + 2..];
            continue;
        }
        let inner = &rest[at + 2..];
        let cut = || rest[at..].chars().take(40).collect();
        let end = inner.find('}').ok_or_else(|| Error::Open(cut()))?;
        found.extend([Piece::Text(&rest[..at]), Piece::Hole(hole(&inner[..end])?)]);
        rest = &inner[end + 1..];
    }
    found.push(Piece::Text(rest));
    found.retain(|piece| *piece != Piece::Text(""));
    Ok(found)
}

/// Puts in secrets alone, where every other text is taken as it is: `secret:NAME` as a whole and
/// `${secret:NAME}` inside.
///
/// # Errors
/// The name of a secret that `found` does not know.
pub fn fill_secrets<'s>(
    text: &str,
    found: &dyn Fn(&str) -> Option<&'s Secret>,
) -> Result<Zeroizing<String>, String> {
    let mut whole = Zeroizing::new(String::new());
    for piece in secret_pieces(text) {
        let more = match piece {
            Ok(text) => text,
            Err(name) => found(name).ok_or_else(|| name.to_owned())?.text(),
        };
        // Grown by hand: a text that grows by itself leaves its beginnings behind in memory.
        let mut longer = String::with_capacity(whole.len() + more.len());
        longer.push_str(&whole);
        longer.push_str(more);
        whole = Zeroizing::new(longer);
    }
    Ok(whole)
}

/// The names of the secrets that [`fill_secrets`] would put in.
pub fn secrets_named(text: &str) -> impl Iterator<Item = &str> {
    secret_pieces(text).into_iter().filter_map(Result::err)
}

/// Texts, and names of secrets.
fn secret_pieces(text: &str) -> Vec<Result<&str, &str>> {
    if let Some(name) = text.strip_prefix("secret:").filter(|name| is_secret_name(name)) {
        return vec![Err(name)];
    }
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find("${secret:") {
        let inner = &rest[at + "${secret:".len()..];
        let name =
            inner.split('}').next().filter(|name| name.len() < inner.len() && is_secret_name(name));
        let Some(name) = name else {
            let next = rest.len() - inner.len();
            found.push(Ok(&rest[..next]));
            rest = inner;
            continue;
        };
        found.extend([Ok(&rest[..at]), Err(name)]);
        rest = &inner[name.len() + 1..];
    }
    found.push(Ok(rest));
    found
}

fn hole(inner: &str) -> Result<Hole<'_>, Error> {
    match inner {
        "args" => return Ok(Hole::Args("")),
        "runId" => return Ok(Hole::RunId),
        "effectId" => return Ok(Hole::EffectId),
        "idempotencyKey" => return Ok(Hole::IdempotencyKey),
        _ => {}
    }
    let path = inner.strip_prefix("args.").filter(|path| path.split('.').all(|p| !p.is_empty()));
    let secret = inner.strip_prefix("secret:").filter(|name| is_secret_name(name));
    match (path, secret) {
        (Some(path), _) => Ok(Hole::Args(path)),
        (_, Some(name)) => Ok(Hole::Secret(name)),
        _ => Err(Error::Unknown(inner.chars().take(40).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn filled(template: &Value) -> Result<Value, Error> {
        let args = json!({ "a": { "b": [1, "two", null] }, "text": "${runId}" });
        let secrets = [("KEY".to_owned(), Secret::of("KEY", "s3cret-value"))].into();
        let scope = Scope {
            args: Some(&args),
            run_id: "R1",
            effect_id: EffectId::new(2),
            idempotency_key: "R1/e0002",
            secrets: &secrets,
        };
        fill(template, &scope).map(|filled| filled.value().clone())
    }

    #[test]
    fn placeholders_take_values() {
        for (template, value) in [
            (json!("plain"), json!("plain")),
            (json!("${runId}/${effectId}"), json!("R1/e0002")),
            (json!("k=${idempotencyKey}"), json!("k=R1/e0002")),
            (json!("${args.a.b.1}"), json!("two")),
            (json!("${args.a.b}"), json!([1, "two", null])),
            (json!("n: ${args.a.b.0}"), json!("n: 1")),
            (json!("${args.a.b} ${args.a.b.2}"), json!("[1,\"two\",null] null")),
            (json!({ "x": ["${args.a}"], "${runId}": 1 }), {
                json!({ "x": [{ "b": [1, "two", null] }], "${runId}": 1 })
            }),
            (json!("${args.text}!"), json!("${runId}!")),
            (json!("a $${b} $ } {"), json!("a ${b} $ } {")),
            (json!("secret:KEY"), json!("s3cret-value")),
            (json!("Bearer ${secret:KEY}"), json!("Bearer s3cret-value")),
            (json!("a secret:KEY"), json!("a secret:KEY")),
            (json!("secret:not a name"), json!("secret:not a name")),
            (json!(1.5), json!(1.5)),
        ] {
            assert_eq!(filled(&template).unwrap(), value, "{template}");
        }
    }

    #[test]
    fn whatever_else_looks_like_one_is_refused() {
        let unknown = |inner: &str| Error::Unknown(inner.to_owned());
        for (template, error) in [
            ("${1+1}", unknown("1+1")),
            ("${}", unknown("")),
            ("${args.}", unknown("args.")),
            ("${argsx}", unknown("argsx")),
            ("${secret:}", unknown("secret:")),
            ("${secret:a b}", unknown("secret:a b")),
            ("${env.HOME}", unknown("env.HOME")),
            ("x ${runId", Error::Open("${runId".to_owned())),
            ("${args.nothing}", Error::Absent("nothing".to_owned())),
            ("${args.a.b.3}", Error::Absent("a.b.3".to_owned())),
            ("${secret:OTHER}", Error::Absent("secret OTHER".to_owned())),
        ] {
            assert_eq!(filled(&json!(template)), Err(error), "{template}");
        }
    }

    #[test]
    fn secrets_alone_are_put_into_texts_that_mean_something_else() {
        let key = Secret::of("KEY", "value");
        let find = |name: &str| (name == "KEY").then_some(&key);
        for (text, filled) in [
            ("secret:KEY", "value"),
            ("a ${secret:KEY}/${secret:KEY}", "a value/value"),
            ("${HOME} $${x ${secret:a b} ${secret:KEY", "${HOME} $${x ${secret:a b} ${secret:KEY"),
            ("a secret:KEY", "a secret:KEY"),
            ("", ""),
        ] {
            assert_eq!(fill_secrets(text, &find).unwrap().as_str(), filled);
        }
        assert_eq!(fill_secrets("${secret:NO}", &find).unwrap_err(), "NO");
        assert!(secrets_named("x${secret:A}${secret:B}").eq(["A", "B"]));
    }

    #[test]
    fn secrets_are_named_before_they_are_needed() {
        let template = json!({ "a": ["secret:ONE", "x ${secret:TWO} ${secret:ONE}"], "b": "$${" });
        let names: Vec<String> = secrets_in(&template).unwrap().into_iter().collect();
        assert_eq!(names, ["ONE", "TWO"]);
        assert!(secrets_in(&json!("${nothing}")).is_err());
    }
}
