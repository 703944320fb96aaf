//! YAML text as a tree in which every value knows its line.
//!
//! May not know what a document means. Invariant: a [`Node`] has no aliases, no member twice, and
//! is bounded in depth and size.

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};
use serde_json::Value;

use crate::ground::limits::{JSON_DEPTH_MAX, YAML_NODES_MAX};

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its line, from 1.
    pub line: usize,
    /// Its column in characters, from 1.
    pub column: usize,
    /// Where the name of the member begins whose value it is; 0 if it is none.
    pub name_column: usize,
    /// The value.
    pub yaml: Yaml,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    /// A scalar without quotes: a text, a number, true, false or nothing.
    Plain(String),
    /// A scalar with quotes: a text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// Members: line of the name, name, value.
    Map(Vec<(usize, String, Node)>),
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct NotYaml {
    /// Where, from 1.
    pub line: usize,
    /// What.
    pub why: String,
}

/// Reads one document. An empty one is an empty scalar.
pub fn read(text: &str) -> Result<Node, NotYaml> {
    let mut reader = Reader { events: Parser::new_from_str(text), nodes: 0 };
    let mut found = None;
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => break,
            (Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd, _) => {}
            (_, span) if found.is_some() => {
                return Err(wrong(&span, "there is more than one document"));
            }
            (event, span) => found = Some(reader.node(event, &span, 0)?),
        }
    }
    let nothing = Yaml::Plain(String::new());
    Ok(found.unwrap_or(Node { line: 1, column: 1, name_column: 0, yaml: nothing }))
}

impl Node {
    /// The members of a map.
    #[must_use]
    pub fn members(&self) -> Option<&[(usize, String, Self)]> {
        match &self.yaml {
            Yaml::Map(members) => Some(members),
            _ => None,
        }
    }

    /// A member of a map.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        self.members()?.iter().find(|(_, n, _)| n == name).map(|(_, _, node)| node)
    }

    /// A text; also one without quotes that could be something else. Nothing for an empty scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.yaml {
            Yaml::Plain(text) if !is_null(text) => Some(text),
            Yaml::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether nothing stands there.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.yaml, Yaml::Plain(text) if is_null(text))
    }

    /// True or false.
    #[must_use]
    pub fn switch(&self) -> Option<bool> {
        match &self.yaml {
            Yaml::Plain(text) => match text.as_str() {
                "true" | "True" | "TRUE" => Some(true),
                "false" | "False" | "FALSE" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// The same as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        match &self.yaml {
            Yaml::Text(text) => text.as_str().into(),
            Yaml::List(items) => items.iter().map(Self::json).collect(),
            Yaml::Map(members) => {
                members.iter().map(|(_, name, node)| (name.clone(), node.json())).collect()
            }
            Yaml::Plain(text) if is_null(text) => Value::Null,
            Yaml::Plain(text) => self.switch().map_or_else(
                || match serde_json::from_str(text) {
                    Ok(Value::Number(number)) => Value::Number(number),
                    _ => text.as_str().into(),
                },
                Value::Bool,
            ),
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn wrong(span: &Span, why: &str) -> NotYaml {
    NotYaml { line: span.start.line(), why: why.to_owned() }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), NotYaml> {
        match self.events.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(e)) => Err(NotYaml { line: e.marker().line(), why: e.info().to_owned() }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, NotYaml> {
        self.nodes += 1;
        if self.nodes > YAML_NODES_MAX || depth > JSON_DEPTH_MAX {
            return Err(wrong(span, "the document is too large or too deep"));
        }
        let yaml = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) => Yaml::Plain(text.into_owned()),
            Event::Scalar(text, ..) => Yaml::Text(text.into_owned()),
            Event::SequenceStart(..) => self.list(depth)?,
            Event::MappingStart(..) => self.map(depth)?,
            // They make small texts large.
            Event::Alias(_) => return Err(wrong(span, "aliases are not read here")),
            _ => return Err(wrong(span, "a value is missing")),
        };
        Ok(Node { line: span.start.line(), column: span.start.col() + 1, name_column: 0, yaml })
    }

    fn list(&mut self, depth: usize) -> Result<Yaml, NotYaml> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Yaml::List(items)),
                (event, span) => items.push(self.node(event, &span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Yaml, NotYaml> {
        let mut members: Vec<(usize, String, Node)> = Vec::new();
        loop {
            let (name, at) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Yaml::Map(members)),
                (Event::Scalar(name, ..), span) => (name.into_owned(), span.start),
                (_, span) => return Err(wrong(&span, "the name of a member is no text")),
            };
            if members.iter().any(|(_, known, _)| *known == name) {
                let why = format!("{name:?} stands there twice");
                return Err(NotYaml { line: at.line(), why });
            }
            let (event, span) = self.next()?;
            let mut node = self.node(event, &span, depth + 1)?;
            node.name_column = at.col() + 1;
            members.push((at.line(), name, node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_know_their_lines() {
        let text =
            "# a list\nagents:\n  - id: one\n    timeout: 30\n\n  - {id: 'two', on: [true, ~]}\n";
        let node = read(text).unwrap();
        let agents = json!([{ "id": "one", "timeout": 30 }, { "id": "two", "on": [true, null] }]);
        assert_eq!(node.json(), json!({ "agents": agents }));
        let Yaml::List(items) = &node.member("agents").unwrap().yaml else { panic!("{node:?}") };
        let lines: Vec<usize> = items.iter().map(|item| item.line).collect();
        assert_eq!(lines, [3, 6]);
        assert_eq!(items[0].members().unwrap()[1].0, 4);
    }

    #[test]
    fn scalars_are_what_they_look_like() {
        for (text, value) in [
            ("1.50", json!(1.5)),
            ("-3", json!(-3)),
            ("\"3\"", json!("3")),
            ("yes", json!("yes")),
            ("True", json!(true)),
            ("30s", json!("30s")),
            ("", json!(null)),
            ("~", json!(null)),
            ("|\n  a\n  b\n", json!("a\nb\n")),
        ] {
            assert_eq!(read(text).unwrap().json(), value, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_has_a_line() {
        for (text, line, why) in [
            ("a: 1\nb: [1\n", 3, ""),
            ("a: 1\na: 2\n", 2, "\"a\" stands there twice"),
            ("a: &x 1\nb: *x\n", 2, "aliases"),
            ("a: 1\n---\nb: 2\n", 3, "more than one document"),
            ("? [1]\n: 2\n", 1, "the name of a member"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.why.contains(why), "{text:?}: {error}");
            assert_eq!(error.line, line, "{text:?}: {error}");
        }
        let deep = "[".repeat(5000);
        assert!(read(&deep).is_err());
        let wide = format!("[{}]", "1,".repeat(YAML_NODES_MAX));
        assert!(read(&wide).is_err());
    }
}
