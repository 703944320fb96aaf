//! References: paths to values, as authors write them.
//!
//! May not know values. Invariant: a reference that is read begins with a known root.

use std::fmt::Write as _;

use serde_json::Value;

/// Where a path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// The run: its arguments, its name.
    Workflow,
    /// What the enclosing template was given.
    Inputs,
    /// The tasks beside, or inside.
    Tasks,
    /// The round of the innermost loop.
    Round,
    /// What the thing itself brought.
    Outputs,
    /// How the thing itself ended.
    Phase,
    /// Its code.
    Code,
    /// Its message.
    Message,
    /// The attempts so far.
    Retry,
    /// What a hook is about.
    Hook,
    /// The machine.
    System,
    /// The schedule.
    Cron,
}

/// The words that paths begin with.
pub const ROOTS: &[(&str, Root)] = &[
    ("workflow", Root::Workflow),
    ("inputs", Root::Inputs),
    ("tasks", Root::Tasks),
    ("loop_iter", Root::Round),
    ("iterator", Root::Round),
    ("outputs", Root::Outputs),
    ("phase", Root::Phase),
    ("code", Root::Code),
    ("msg", Root::Message),
    ("retry", Root::Retry),
    ("hook", Root::Hook),
    ("system", Root::System),
    ("cron", Root::Cron),
];

impl Root {
    /// The root that a word means.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        ROOTS.iter().find(|(name, _)| *name == word).map(|(_, root)| *root)
    }

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        ROOTS.iter().find(|(_, root)| *root == self).map_or("", |(name, _)| name)
    }
}

/// One part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// `.name`.
    Name(String),
    /// `["name"]`.
    Quoted(String),
    /// `[3]`.
    Index(i64),
}

impl Segment {
    /// The name in it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) | Self::Quoted(name) => Some(name),
            Self::Index(_) => None,
        }
    }
}

/// A path to a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Where it begins.
    pub root: Root,
    /// What follows.
    pub segments: Vec<Segment>,
}

impl Reference {
    /// Reads a path. The old word `workflow.arguments.parameters` is read as
    /// `workflow.parameters`.
    ///
    /// # Errors
    /// What is wrong with it; nothing if it does not begin with a known root.
    pub fn parse(text: &str) -> Result<Self, Option<String>> {
        let text = text.trim();
        let end = text.find(['.', '[']).unwrap_or(text.len());
        let root = Root::of(&text[..end]).ok_or(None)?;
        let segments = segments(&text[end..]).map_err(Some)?;
        Ok(Self::of(root, segments))
    }

    /// A path from its parts.
    #[must_use]
    pub fn of(root: Root, mut segments: Vec<Segment>) -> Self {
        let named = |i: usize| segments.get(i).and_then(Segment::name);
        if root == Root::Workflow && named(0) == Some("arguments") && named(1) == Some("parameters")
        {
            segments.remove(0);
        }
        Self { root, segments }
    }

    /// The name at a place of the path.
    #[must_use]
    pub fn name(&self, at: usize) -> Option<&str> {
        self.segments.get(at).and_then(Segment::name)
    }

    /// The task that it is about.
    #[must_use]
    pub fn task(&self) -> Option<&str> {
        self.name(0).filter(|_| self.root == Root::Tasks)
    }

    /// The parameter that it names, as far as that can be known without the parameters: where the
    /// list of them stands, and the path below.
    #[must_use]
    pub fn parameter(&self) -> Option<&[Segment]> {
        let skipped = match self.root {
            Root::Workflow | Root::Inputs | Root::Outputs if self.name(0) == Some("parameters") => {
                1
            }
            Root::Tasks
                if self.name(1) == Some("outputs") && self.name(2) == Some("parameters") =>
            {
                3
            }
            _ => return None,
        };
        Some(&self.segments[skipped..])
    }

    /// As an author would write it.
    #[must_use]
    pub fn print(&self) -> String {
        let mut out = self.root.word().to_owned();
        for segment in &self.segments {
            let _ = match segment {
                Segment::Name(name) => write!(out, ".{name}"),
                Segment::Quoted(name) => write!(out, "[{name:?}]"),
                Segment::Index(i) => write!(out, "[{i}]"),
            };
        }
        out
    }
}

fn segments(text: &str) -> Result<Vec<Segment>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            if end == 0 {
                return Err("a name is missing after a dot".to_owned());
            }
            out.push(Segment::Name(after[..end].to_owned()));
            rest = &after[end..];
        } else if let Some((segment, after)) = bracket(rest) {
            out.push(segment);
            rest = after;
        } else {
            return Err(format!("{rest:?} is not a part of a path"));
        }
    }
    Ok(out)
}

/// `[3]` or `["name"]` at the beginning of a text, and what follows it.
#[must_use]
pub fn bracket(text: &str) -> Option<(Segment, &str)> {
    let inner = text.strip_prefix('[')?;
    let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote {
        let end = inner[1..].find(quote)? + 1;
        let name = &inner[1..end];
        let after = inner[end + 1..].strip_prefix(']')?;
        return (!name.contains('\\')).then(|| (Segment::Quoted(name.to_owned()), after));
    }
    let end = inner.find(']')?;
    let index = inner[..end].trim().parse().ok()?;
    Some((Segment::Index(index), &inner[end + 1..]))
}

/// Follows a path into a value.
#[must_use]
pub fn drill<'v>(value: &'v Value, path: &[Segment]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        Segment::Name(name) | Segment::Quoted(name) => value.get(name),
        Segment::Index(i) => value.get(usize::try_from(*i).ok()?),
    })
}

/// Finds the parameter that a path names: names may hold dots, so the longest one that is there
/// counts, and the rest is followed into its value. Gives the number of segments of the name.
#[must_use]
pub fn longest<T>(path: &[Segment], find: impl Fn(&str) -> Option<T>) -> Option<(T, usize)> {
    let dotted = path.iter().take_while(|s| matches!(s, Segment::Name(_))).count();
    for taken in (2..=dotted).rev() {
        let names: Vec<&str> = path[..taken].iter().filter_map(Segment::name).collect();
        if let Some(found) = find(&names.join(".")) {
            return Some((found, taken));
        }
    }
    Some((find(path.first()?.name()?)?, 1))
}

/// The pieces of a text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text.
    Text(&'a str),
    /// `{{…}}` that begins with a known root, and how it is written.
    Reference(Reference, &'a str),
    /// `{{…}}` with a root and something wrong behind it.
    Broken(&'a str, String),
    /// `{{word}}` that begins with no root.
    Other(&'a str),
}

/// Splits a text at its placeholders.
#[must_use]
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let Some(length) = rest[start..].find("}}") else { break };
        let end = start + length + 2;
        if start > 0 {
            out.push(Piece::Text(&rest[..start]));
        }
        let inner = &rest[start + 2..end - 2];
        out.push(match Reference::parse(inner) {
            Ok(reference) => Piece::Reference(reference, inner.trim()),
            Err(Some(why)) => Piece::Broken(inner.trim(), why),
            Err(None) => Piece::Other(&rest[start..end]),
        });
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        out.push(Piece::Text(rest));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn paths_are_read() {
        for (text, printed) in [
            ("workflow.arguments.parameters.a", "workflow.parameters.a"),
            (
                " tasks.step-a.outputs.parameters.x[0]['b c'].d ",
                "tasks.step-a.outputs.parameters.x[0][\"b c\"].d",
            ),
            ("phase", "phase"),
            ("iterator.item.name", "loop_iter.item.name"),
        ] {
            assert_eq!(Reference::parse(text).unwrap().print(), printed);
        }
        assert_eq!(Reference::parse("other.x"), Err(None));
        assert!(matches!(Reference::parse("tasks..x"), Err(Some(_))));
        assert!(matches!(Reference::parse("tasks[x]"), Err(Some(_))));
    }

    #[test]
    fn the_longest_name_counts() {
        let reference = Reference::parse("inputs.parameters.a.b.c").unwrap();
        let known = json!({ "a": { "b": { "c": 1 } }, "a.b": { "c": 2 } });
        let path = reference.parameter().unwrap();
        let (value, taken) = longest(path, |name| known.get(name)).unwrap();
        assert_eq!(drill(value, &path[taken..]), Some(&json!(2)));
        assert_eq!(longest(path, |name| (name == "z").then_some(())), None);
    }

    #[test]
    fn only_known_roots_are_placeholders() {
        let found = pieces("a {{ inputs.parameters.x }}{{other}} {{tasks..}} {{");
        assert!(
            matches!(
                &found[..],
                [
                    Piece::Text("a "),
                    Piece::Reference(..),
                    Piece::Other("{{other}}"),
                    Piece::Text(" "),
                    Piece::Broken(..),
                    Piece::Text(" {{")
                ]
            ),
            "{found:?}"
        );
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[a-z.\\[\\]'\"{}0-9é]{0,40}") {
            let _ = Reference::parse(&format!("tasks{text}"));
            let _ = pieces(&text);
        }
    }
}
