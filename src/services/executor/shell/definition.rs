//! What a shell effect asks for, read from its definition.
//!
//! May not know what is allowed. Invariant: a definition that is read says everything that matters
//! about the command; a word that is wrong is an error that names it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Exit codes that are no failure, unless told otherwise.
const EXPECTED: &[i32] = &[0];

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Definition {
    pub(super) command: Command,
    pub(super) cwd: Option<String>,
    pub(super) env: BTreeMap<String, String>,
    /// What it reads.
    pub(super) stdin: String,
    pub(super) expected: Vec<i32>,
    /// What it prints is JSON.
    pub(super) json: bool,
    /// A failure is a value.
    pub(super) failure_is_value: bool,
}

/// What is executed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// A program and its arguments.
    Argv(String, Vec<String>),
    /// A text for `/bin/sh -c`.
    Text(String),
}

impl Command {
    /// The program, as it was named.
    pub(super) fn program(&self) -> &str {
        match self {
            Self::Argv(program, _) => program,
            Self::Text(_) => "/bin/sh",
        }
    }

    pub(super) fn args(&self) -> Vec<String> {
        match self {
            Self::Argv(_, args) => args.clone(),
            Self::Text(text) => vec!["-c".to_owned(), text.clone()],
        }
    }
}

impl Definition {
    /// Reads a definition: the members of its `shell` object, else its own.
    pub(super) fn read(def: &Value) -> Result<Self, String> {
        let nothing = Map::new();
        let whole = def.as_object().unwrap_or(&nothing);
        let inner = whole.get("shell").and_then(Value::as_object);
        let member = |name: &str| {
            let inner = inner.and_then(|inner| inner.get(name));
            inner.or_else(|| whole.get(name)).filter(|v| !v.is_null())
        };
        let command = command(member("argv"), member("command"), member("args"))?;
        let expected = match (member("expectedExitCodes"), member("expectedExitCode")) {
            (Some(codes), _) => numbers("expectedExitCodes", codes)?,
            (None, Some(code)) => vec![number("expectedExitCode", code)?],
            (None, None) => EXPECTED.to_vec(),
        };
        Ok(Self {
            command,
            cwd: member("cwd").map(|cwd| text("cwd", cwd)).transpose()?,
            env: member("env").map(env).transpose()?.unwrap_or_default(),
            stdin: match member("stdin") {
                Some(Value::String(text)) => text.clone(),
                Some(json) => json.to_string(),
                None => String::new(),
            },
            expected,
            json: match member("output").map(|output| text("output", output)).transpose()? {
                Some(output) if output == "json" => true,
                Some(output) if output != "text" => {
                    return Err(format!("output is text or json, not {output:?}"));
                }
                _ => member("parseOutput") == Some(&Value::String("json".to_owned())),
            },
            failure_is_value: match member("onExit") {
                Some(word) => match text("onExit", word)?.as_str() {
                    "value" => true,
                    "error" => false,
                    other => return Err(format!("onExit is error or value, not {other:?}")),
                },
                // Definitions of this form come from a world in which commands never throw.
                None => inner.is_some(),
            },
        })
    }
}

fn command(
    argv: Option<&Value>,
    command: Option<&Value>,
    given: Option<&Value>,
) -> Result<Command, String> {
    let list = |name: &str, value: &Value| match value {
        Value::Array(items) => items.iter().map(|item| text(name, item)).collect(),
        other => Err(format!("{name} is a list of texts, not {other}")),
    };
    let command = match (argv, command) {
        (Some(words), _) | (None, Some(words @ Value::Array(_))) => {
            let mut words: Vec<String> = list("argv", words)?;
            if words.is_empty() {
                return Err("argv is empty".to_owned());
            }
            Command::Argv(words.remove(0), words)
        }
        (None, Some(word)) => match given {
            Some(given) => Command::Argv(text("command", word)?, list("args", given)?),
            None => Command::Text(text("command", word)?),
        },
        (None, None) => return Err("there is no argv and no command".to_owned()),
    };
    if command.program().is_empty() {
        return Err("the program has no name".to_owned());
    }
    Ok(command)
}

/// A text that a program can be given.
fn text(name: &str, value: &Value) -> Result<String, String> {
    match value.as_str() {
        Some(text) if text.contains('\0') => Err(format!("{name} has a NUL in it")),
        Some(text) => Ok(text.to_owned()),
        None => Err(format!("{name} is a text, not {value}")),
    }
}

fn env(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let Some(members) = value.as_object() else {
        return Err(format!("env is an object of texts, not {value}"));
    };
    let pair = |(name, value): (&String, &Value)| {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!("env has a variable of the name {name:?}"));
        }
        Ok((name.clone(), text(&format!("env.{name}"), value)?))
    };
    members.iter().map(pair).collect()
}

fn numbers(name: &str, value: &Value) -> Result<Vec<i32>, String> {
    match value {
        Value::Array(items) => items.iter().map(|item| number(name, item)).collect(),
        other => Ok(vec![number(name, other)?]),
    }
}

fn number(name: &str, value: &Value) -> Result<i32, String> {
    let n = value.as_i64().and_then(|n| i32::try_from(n).ok()).filter(|n| (0..=255).contains(n));
    n.ok_or_else(|| format!("{name} is a number from 0 to 255, not {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_are_read() {
        let def = Definition::read(&json!({ "argv": ["git", "log"], "expectedExitCodes": [0, 1],
            "env": { "A": "1" }, "stdin": { "a": 1 }, "output": "json", "cwd": "/x" }));
        let def = def.unwrap();
        assert_eq!(def.command, Command::Argv("git".to_owned(), vec!["log".to_owned()]));
        assert_eq!((def.expected, def.json, def.failure_is_value), (vec![0, 1], true, false));
        assert_eq!((def.stdin.as_str(), def.cwd.as_deref()), ("{\"a\":1}", Some("/x")));
        let def = json!({ "shell": { "command": "exit 3", "expectedExitCode": 3 } });
        let def = Definition::read(&def).unwrap();
        assert_eq!(def.command.args(), ["-c", "exit 3"]);
        assert_eq!((def.expected, def.failure_is_value), (vec![3], true));
        let def = json!({ "shell": { "command": "npm", "args": ["test"] } });
        let def = Definition::read(&def).unwrap();
        assert_eq!(def.command, Command::Argv("npm".to_owned(), vec!["test".to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (def, named) in [
            (json!(null), "no argv and no command"),
            (json!({ "argv": [] }), "argv is empty"),
            (json!({ "argv": [""] }), "no name"),
            (json!({ "argv": ["a", 1] }), "argv is a text"),
            (json!({ "argv": ["a\0b"] }), "NUL"),
            (json!({ "command": 3 }), "command is a text"),
            (json!({ "argv": ["a"], "env": { "A=B": "" } }), "A=B"),
            (json!({ "argv": ["a"], "env": { "A": 1 } }), "env.A"),
            (json!({ "argv": ["a"], "expectedExitCodes": [256] }), "expectedExitCodes"),
            (json!({ "argv": ["a"], "output": "xml" }), "output"),
            (json!({ "argv": ["a"], "onExit": "ignore" }), "onExit"),
        ] {
            let error = Definition::read(&def).unwrap_err();
            assert!(error.contains(named), "{def}: {error}");
        }
    }
}
