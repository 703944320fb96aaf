//! Findings: what is wrong with a document, where, and what was probably meant.
//!
//! May not stop at the first one. Invariant: a report is sorted by place, and every code in it is
//! explained in the documentation.

use std::fmt::Write as _;

use serde::Serialize;

use crate::codecs::outline::Place;

/// Most findings of one report: beyond them the author has enough to do.
pub const FINDINGS_MAX: usize = 200;
/// Longest line of a document that is shown whole.
const SHOWN_COLUMNS_MAX: usize = 160;

/// Whether a document can be run with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No.
    Error,
    /// Yes, but the author may be surprised.
    Warning,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable code, `E-…` or `W-…`.
    pub code: &'static str,
    /// JSON pointer of what it is about.
    pub pointer: String,
    /// Where it stands in the text, from 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What was probably meant, or what is allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether it is an error.
    pub severity: Severity,
}

/// Findings on their way.
#[derive(Debug, Default)]
pub struct Findings {
    all: Vec<Finding>,
    is_lenient: bool,
}

/// What other engines put up with.
const LENIENT: &[&str] = &[
    "E-UNKNOWN-FIELD",
    "E-NO-EFFECT",
    "E-RETRY-CONTAINER",
    "E-READONLY",
    "E-ITEMS-LIMIT",
    "E-VALUE-AND-FROM",
    "E-REF",
];

impl Findings {
    /// None so far. What other engines put up with will be a warning if they are lenient.
    #[must_use]
    pub const fn of(is_lenient: bool) -> Self {
        Self { all: Vec::new(), is_lenient }
    }

    /// Whether what other engines put up with is a warning.
    #[must_use]
    pub const fn is_lenient(&self) -> bool {
        self.is_lenient
    }

    /// Adds one. Its code says how severe it is.
    pub fn add(
        &mut self,
        code: &'static str,
        pointer: &str,
        at: Place,
        message: impl Into<String>,
    ) -> &mut Finding {
        let is_warning = code.starts_with('W') || self.is_lenient && LENIENT.contains(&code);
        let severity = if is_warning { Severity::Warning } else { Severity::Error };
        let (pointer, Place { line, column }) = (pointer.to_owned(), at);
        if self.all.len() > FINDINGS_MAX {
            self.all.pop();
        }
        let message = message.into();
        self.all.push(Finding { code, pointer, line, column, message, hint: None, severity });
        let last = self.all.len() - 1;
        &mut self.all[last]
    }

    /// Whether there are more than will be told: looking for hints to others is in vain.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.all.len() > FINDINGS_MAX
    }

    /// Adds what was found in a part of the document, whose pointers begin at `before`: here they
    /// begin at `now`.
    pub fn adopt(&mut self, found: Vec<Finding>, before: &str, now: &str) {
        self.all.extend(found.into_iter().map(|finding| {
            let pointer = finding.pointer.strip_prefix(before).map(|rest| format!("{now}{rest}"));
            Finding { pointer: pointer.unwrap_or(finding.pointer.clone()), ..finding }
        }));
    }

    /// All of them, in the order of their places, none twice.
    #[must_use]
    pub fn sorted(mut self) -> Vec<Finding> {
        let key = |f: &Finding| (f.line, f.column, f.pointer.clone(), f.code, f.message.clone());
        self.all.sort_by_key(key);
        self.all.dedup();
        self.all.truncate(FINDINGS_MAX);
        self.all
    }
}

impl Finding {
    /// Adds what was probably meant.
    pub fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }

    /// Whether a document with it is refused.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// For people: the place, the line with a caret below, the hint.
    #[must_use]
    pub fn print(&self, file: &str, text: &str) -> String {
        let Self { code, pointer, line, column, message, .. } = self;
        let severity = if self.is_error() { "error" } else { "warning" };
        let mut out = format!("{severity}[{code}]: {message}\n  --> {file}:{line}:{column}");
        if !pointer.is_empty() {
            let _ = write!(out, " ({pointer})");
        }
        let shown = text.lines().nth(line.saturating_sub(1)).unwrap_or("");
        if !shown.trim().is_empty() && shown.chars().count() <= SHOWN_COLUMNS_MAX {
            let number = line.to_string();
            let margin = " ".repeat(number.len());
            // A tab stays a tab, or the caret would stand elsewhere.
            let blank = |c: char| if c == '\t' { '\t' } else { ' ' };
            let before: String = shown.chars().take(column - 1).map(blank).collect();
            let _ = write!(out, "\n{margin} |\n{number} | {shown}\n{margin} | {before}^");
        }
        if let Some(hint) = &self.hint {
            let _ = write!(out, "\n  = {hint}");
        }
        out
    }
}

/// The member of a JSON pointer for a name.
#[must_use]
pub fn member(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// The name among `known` that was probably meant.
#[must_use]
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.collect();
    if let Some(same) = known.iter().find(|name| name.eq_ignore_ascii_case(given)) {
        return Some(same);
    }
    let far = (given.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(given, name), name))
        .filter(|(distance, _)| *distance <= far)
        .min()
        .map(|(_, name)| name)
}

/// What to say about a name that is not among `known`.
#[must_use]
pub fn did_you_mean<'a>(given: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    const LISTED_MAX: usize = 20;
    if let Some(near) = nearest(given, known.clone()) {
        return format!("did you mean {near:?}?");
    }
    let listed: Vec<&str> = known.take(LISTED_MAX).collect();
    if listed.is_empty() {
        "there is none".to_owned()
    } else {
        format!("known: {}", listed.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_points_at_its_place() {
        let mut findings = Findings::default();
        let at = Place { line: 2, column: 3 };
        findings.add("E-TYPE", "/a~1b", at, "wrong").hint("did you mean \"x\"?");
        let all = findings.sorted();
        assert_eq!(
            all[0].print("f.json", "{\n\t\"a/b\": 1}"),
            "error[E-TYPE]: wrong\n  --> f.json:2:3 (/a~1b)\n  |\n2 | \t\"a/b\": 1}\n  | \t ^\n  \
             = did you mean \"x\"?"
        );
    }

    #[test]
    fn names_are_guessed() {
        let known = ["executor", "template", "when"];
        assert_eq!(nearest("executer", known.into_iter()), Some("executor"));
        assert_eq!(nearest("When", known.into_iter()), Some("when"));
        assert_eq!(nearest("zebra", known.into_iter()), None);
        assert_eq!(did_you_mean("zebra", known.into_iter()), "known: executor, template, when");
    }
}
