//! JSON or YAML text as a tree in which every value and every name knows its place.
//!
//! May not know what a document means. Invariant: an [`Outline`] has no member twice, and is
//! bounded in depth and size.

use serde_json::{Number, Value};

use crate::codecs::json::{Surrogates, gate};
use crate::codecs::yaml::{self, Node, Yaml};

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Where.
    pub at: Place,
    /// What.
    pub part: Part,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Nothing.
    Null,
    /// True or false.
    Flag(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// Items.
    List(Vec<Outline>),
    /// Members, in the author's order.
    Map(Vec<Member>),
}

/// A member of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Where its name stands.
    pub at: Place,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Outline,
}

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Notation {
    /// What the name of a file says.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}: {why}", .at.line)]
pub struct Unreadable {
    /// Where.
    pub at: Place,
    /// What.
    pub why: String,
}

/// Reads a text.
///
/// # Errors
/// The first thing that is wrong.
pub fn read(text: &str, notation: Notation, depth_max: usize) -> Result<Outline, Unreadable> {
    if notation == Notation::Yaml {
        let node = yaml::read(text)
            .map_err(|e| Unreadable { at: Place { line: e.line, column: 1 }, why: e.why })?;
        return Ok(of_yaml(node));
    }
    gate(text.as_bytes(), depth_max, Surrogates::Paired).map_err(|e| {
        let start = e.offset - (e.column - 1);
        let column =
            text.get(start..e.offset).map_or(e.column, |before| before.chars().count() + 1);
        Unreadable { at: Place { line: e.line, column }, why: e.why }
    })?;
    let mut walk = Walk { text, at: 0, place: Place { line: 1, column: 1 } };
    Ok(walk.value())
}

fn of_yaml(node: Node) -> Outline {
    let at = Place { line: node.line, column: node.column };
    let part = match node.yaml {
        Yaml::Text(text) => Part::Text(text),
        Yaml::List(items) => Part::List(items.into_iter().map(of_yaml).collect()),
        Yaml::Map(members) => Part::Map(
            members
                .into_iter()
                .map(|(line, name, value)| {
                    let at = Place { line, column: value.name_column };
                    Member { at, name, value: of_yaml(value) }
                })
                .collect(),
        ),
        yaml @ Yaml::Plain(_) => of_value(Node { yaml, ..node }.json()),
    };
    Outline { at, part }
}

fn of_value(value: Value) -> Part {
    match value {
        Value::Bool(flag) => Part::Flag(flag),
        Value::Number(number) => Part::Number(number),
        Value::String(text) => Part::Text(text),
        _ => Part::Null,
    }
}

impl Outline {
    /// A member of a map.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Self> {
        self.members().iter().find(|member| member.name == name).map(|member| &member.value)
    }

    /// The members of a map; none of anything else.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        match &self.part {
            Part::Map(members) => members,
            _ => &[],
        }
    }

    /// The items of a list; none of anything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.part {
            Part::List(items) => items,
            _ => &[],
        }
    }

    /// A text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.part {
            Part::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether nothing stands there: null, or an empty text, list or map.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.part {
            Part::Null => true,
            Part::Text(text) => text.is_empty(),
            Part::List(items) => items.is_empty(),
            Part::Map(members) => members.is_empty(),
            Part::Flag(_) | Part::Number(_) => false,
        }
    }

    /// The value without its places.
    #[must_use]
    pub fn value(&self) -> Value {
        match &self.part {
            Part::Null => Value::Null,
            Part::Flag(flag) => Value::Bool(*flag),
            Part::Number(number) => Value::Number(number.clone()),
            Part::Text(text) => Value::String(text.clone()),
            Part::List(items) => items.iter().map(Self::value).collect(),
            Part::Map(members) => {
                members.iter().map(|m| (m.name.clone(), m.value.value())).collect()
            }
        }
    }
}

/// Walks over JSON that was let through the gate.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    place: Place,
}

impl<'a> Walk<'a> {
    fn peek(&self) -> char {
        self.text[self.at..].chars().next().unwrap_or('\0')
    }

    fn step(&mut self) -> char {
        let c = self.peek();
        self.at = (self.at + c.len_utf8()).min(self.text.len());
        if c == '\n' {
            self.place = Place { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
        c
    }

    /// Leaves what separates values behind.
    fn space(&mut self) {
        while matches!(self.peek(), ' ' | '\t' | '\n' | '\r' | ',' | ':') {
            self.step();
        }
    }

    /// Up to the first character for which `ends` holds.
    fn until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let start = self.at;
        while self.at < self.text.len() && !ends(self.peek()) {
            self.step();
        }
        &self.text[start..self.at]
    }

    fn string(&mut self) -> String {
        let start = self.at;
        self.step();
        while self.at < self.text.len() {
            match self.step() {
                '\\' => {
                    self.step();
                }
                '"' => break,
                _ => {}
            }
        }
        serde_json::from_str(&self.text[start..self.at]).unwrap_or_default()
    }

    fn value(&mut self) -> Outline {
        self.space();
        let at = self.place;
        let part = match self.peek() {
            '{' => self.map(),
            '[' => self.list(),
            '"' => Part::Text(self.string()),
            _ => {
                let word = self.until(|c| matches!(c, ',' | ']' | '}') || c.is_ascii_whitespace());
                of_value(serde_json::from_str(word).unwrap_or_default())
            }
        };
        Outline { at, part }
    }

    fn list(&mut self) -> Part {
        let mut items = Vec::new();
        self.step();
        loop {
            self.space();
            if self.at >= self.text.len() || self.peek() == ']' {
                self.step();
                return Part::List(items);
            }
            items.push(self.value());
        }
    }

    fn map(&mut self) -> Part {
        let mut members = Vec::new();
        self.step();
        loop {
            self.space();
            if self.at >= self.text.len() || self.peek() == '}' {
                self.step();
                return Part::Map(members);
            }
            let at = self.place;
            let name = self.string();
            members.push(Member { at, name, value: self.value() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(outline: &Outline, out: &mut Vec<(String, usize, usize)>) {
        for member in outline.members() {
            out.push((member.name.clone(), member.at.line, member.at.column));
            let (line, column) = (member.value.at.line, member.value.at.column);
            out.push((String::new(), line, column));
            places(&member.value, out);
        }
        for item in outline.items() {
            out.push(("-".into(), item.at.line, item.at.column));
            places(item, out);
        }
    }

    fn at(text: &str, notation: Notation) -> Vec<(String, usize, usize)> {
        let mut out = Vec::new();
        places(&read(text, notation, 64).unwrap(), &mut out);
        out
    }

    #[test]
    fn names_and_values_know_their_places() {
        let row = |name: &str, line, column| (name.to_owned(), line, column);
        assert_eq!(
            at("{\n  \"é\": 1, \"b\": [true,\n    {\"c\": \"x\"}]}", Notation::Json),
            [
                row("é", 2, 3),
                row("", 2, 8),
                row("b", 2, 11),
                row("", 2, 16),
                row("-", 2, 17),
                row("-", 3, 5),
                row("c", 3, 6),
                row("", 3, 11),
            ]
        );
        assert_eq!(
            at("é: 1\nb:\n  - true\n  - {c: x, d: 'y'}\n", Notation::Yaml),
            [
                row("é", 1, 1),
                row("", 1, 4),
                row("b", 2, 1),
                row("", 3, 3),
                row("-", 3, 5),
                row("-", 4, 5),
                row("c", 4, 6),
                row("", 4, 9),
                row("d", 4, 12),
                row("", 4, 15),
            ]
        );
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        let wrong = |text, notation| read(text, notation, 3).unwrap_err();
        let twice = wrong("{\"a\": 1,\n \"é\": 2, \"a\": 3}", Notation::Json);
        assert_eq!(
            (twice.at, twice.why.as_str()),
            (Place { line: 2, column: 10 }, "duplicate key \"a\"")
        );
        assert!(wrong("[[[[1]]]]", Notation::Json).why.contains("deeply"));
        assert_eq!(wrong("a: 1\na: 2\n", Notation::Yaml).at.line, 2);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Quarters are exact, whoever reads them.
            (-4000..4000i32).prop_map(|n| Value::from(f64::from(n) / 4.0)),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_same_value_comes_out(value in any_value(), pretty: bool) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            prop_assert_eq!(read(&text, Notation::Json, 64).unwrap().value(), value);
        }

        #[test]
        fn no_text_is_too_strange(text in "[ -~\n{}\\[\\]\":,]{0,60}") {
            let _ = read(&text, Notation::Json, 8);
            let _ = read(&text, Notation::Yaml, 8);
        }
    }
}
