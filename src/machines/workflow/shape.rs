//! Shape: a document against the table of fields.
//!
//! May not know what fields mean together. Invariant: every member of a document is visited once,
//! and what is wrong with one does not hide another.

use serde_json::Number;

use super::fields::{Field, Kind, SYNONYMS, Shape};
use super::finding::{Findings, did_you_mean, member, nearest};
use super::span;
use crate::codecs::outline::{Member, Outline, Part};
use crate::ground::limits::WORKFLOW_EXPRESSION_BYTES_MAX;

/// The member that holds what other engines do not know.
pub const EXTENSION: &str = "x-dormouse";
/// Longest name of anything but a parameter.
const NAME_BYTES_MAX: usize = 63;
/// Longest name of a parameter.
const PARAMETER_NAME_CHARS_MAX: usize = 256;
/// The input that says to work that it was answered: nobody else may use the name.
pub const RESUMED: &str = "__resumed";

/// Checks one object.
pub fn object(part: &Outline, shape: &Shape, pointer: &str, findings: &mut Findings) {
    let Part::Map(members) = &part.part else {
        return wrong(part, pointer, "an object", findings);
    };
    for given in members {
        let path = member(pointer, &given.name);
        if given.name == EXTENSION {
            extension(&given.value, shape, &path, findings);
            continue;
        }
        match shape.fields.iter().find(|field| field.name == given.name) {
            Some(field) => value(&given.value, &field.kind, &path, findings),
            None => unknown(given, shape.fields, &path, findings),
        }
    }
    for field in shape.fields.iter().filter(|field| field.needed) {
        if part.member(field.name).is_none_or(|given| given.part == Part::Null) {
            let what = format!("{:?} is missing", field.name);
            findings.add("E-MISSING", pointer, part.at, what).hint(field.about);
        }
    }
}

fn extension(part: &Outline, shape: &Shape, pointer: &str, findings: &mut Findings) {
    if !matches!(part.part, Part::Map(_)) {
        return wrong(part, pointer, "an object", findings);
    }
    for given in part.members() {
        let path = member(pointer, &given.name);
        match shape.extension.iter().find(|field| field.name == given.name) {
            Some(field) => value(&given.value, &field.kind, &path, findings),
            None => unknown(given, shape.extension, &path, findings),
        }
    }
}

fn unknown(given: &Member, fields: &'static [Field], path: &str, findings: &mut Findings) {
    let name = given.name.as_str();
    let allowed = || {
        let open = |f: &&Field| !matches!(f.kind, Kind::Barred(..));
        fields.iter().filter(open).map(|field| field.name)
    };
    let same_word = SYNONYMS.iter().find(|(other, _)| *other == name).map(|(_, ours)| *ours);
    let near = same_word.filter(|ours| *ours == EXTENSION || allowed().any(|n| n == *ours));
    let hint = match near.or_else(|| nearest(name, allowed())) {
        Some(near) => format!("did you mean {near:?}?"),
        None if allowed().next().is_none() => "nothing can stand here".to_owned(),
        None => format!("allowed here: {}", allowed().collect::<Vec<_>>().join(", ")),
    };
    let what = format!("there is no {name:?} here");
    findings.add("E-UNKNOWN-FIELD", path, given.at, what).hint(hint);
}

fn wrong(part: &Outline, pointer: &str, wanted: &str, findings: &mut Findings) {
    let what = format!("this is {}, and must be {wanted}", describe(part));
    findings.add("E-TYPE", pointer, part.at, what);
}

fn describe(part: &Outline) -> String {
    match &part.part {
        Part::Null => "null".to_owned(),
        Part::Flag(flag) => flag.to_string(),
        Part::Number(number) => number.to_string(),
        Part::Text(text) if text.chars().count() <= 40 => format!("the text {text:?}"),
        Part::Text(_) => "a text".to_owned(),
        Part::List(_) => "a list".to_owned(),
        Part::Map(_) => "an object".to_owned(),
    }
}

/// Checks one value.
fn value(part: &Outline, kind: &Kind, pointer: &str, findings: &mut Findings) {
    if part.part == Part::Null {
        return;
    }
    match kind {
        Kind::Any => {}
        Kind::Object(shape) => object(part, shape, pointer, findings),
        Kind::List(of) => list(part, of, pointer, findings),
        Kind::Names if part.text().is_some() => {}
        Kind::Names => list(part, &Kind::Text, pointer, findings),
        Kind::Barred(code, why) => {
            if !part.is_empty() {
                findings.add(code, pointer, part.at, *why);
            }
        }
        Kind::Flag => {
            if !matches!(part.part, Part::Flag(_)) {
                wrong(part, pointer, "true or false", findings);
            }
        }
        Kind::Whole(least, most) => whole(part, *least, *most, pointer, findings),
        Kind::Number(least, most) => number(part, *least, *most, pointer, findings),
        Kind::Amount(units) => amount(part, units, pointer, findings),
        Kind::Free if matches!(part.part, Part::Map(_)) => {}
        Kind::Free => wrong(part, pointer, "an object", findings),
        Kind::Texts => texts(part, pointer, findings),
        Kind::Text
        | Kind::Name
        | Kind::ParameterName
        | Kind::Version
        | Kind::Span(_)
        | Kind::Expression
        | Kind::Reference
        | Kind::Word(_) => match part.text() {
            Some(text) => word(part, text, kind, pointer, findings),
            None => wrong(part, pointer, "a text", findings),
        },
    }
}

fn list(part: &Outline, of: &Kind, pointer: &str, findings: &mut Findings) {
    let Part::List(items) = &part.part else {
        return wrong(part, pointer, "a list", findings);
    };
    for (i, item) in items.iter().enumerate() {
        let path = format!("{pointer}/{i}");
        if item.part == Part::Null {
            wrong(item, &path, "a value", findings);
        }
        value(item, of, &path, findings);
    }
}

fn texts(part: &Outline, pointer: &str, findings: &mut Findings) {
    if !matches!(part.part, Part::Map(_)) {
        return wrong(part, pointer, "an object", findings);
    }
    for given in part.members() {
        let path = member(pointer, &given.name);
        if given.value.text().is_none() {
            wrong(&given.value, &path, "a text", findings);
        }
        if given.name == "dormouse/overlay" {
            let what = "overlays are not read: write x-dormouse where it belongs";
            findings.add("E-UNSUPPORTED", &path, given.at, what);
        }
    }
}

fn whole(part: &Outline, least: i64, most: i64, pointer: &str, findings: &mut Findings) {
    let given = match &part.part {
        Part::Number(number) => number.as_i64(),
        _ => None,
    };
    let Some(given) = given else { return wrong(part, pointer, "a whole number", findings) };
    if !(least..=most).contains(&given) {
        let what = format!("{given} is not from {least} to {most}");
        findings.add("E-RANGE", pointer, part.at, what);
    }
}

fn number(part: &Outline, least: f64, most: f64, pointer: &str, findings: &mut Findings) {
    let given = match &part.part {
        Part::Number(number) => Number::as_f64(number),
        _ => None,
    };
    let Some(given) = given else { return wrong(part, pointer, "a number", findings) };
    if !(least..=most).contains(&given) {
        let what = format!("{given} is not from {least} to {most}");
        findings.add("E-RANGE", pointer, part.at, what);
    }
}

fn amount(part: &Outline, units: &[&str], pointer: &str, findings: &mut Findings) {
    let fits = match &part.part {
        Part::Number(given) if units.contains(&"m") => given.as_f64().is_some_and(|n| n > 0.0),
        Part::Number(given) => given.as_u64().is_some(),
        Part::Text(text) => {
            let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
            text.is_empty() || unit.len() < text.len() && units.contains(&unit)
        }
        _ => false,
    };
    if !fits {
        let known: Vec<&str> = units.iter().copied().filter(|unit| !unit.is_empty()).collect();
        let wanted = match &known[..] {
            [] => "a whole number".to_owned(),
            known => format!("a number, or a text like \"2{}\"", known.join("\", \"2")),
        };
        wrong(part, pointer, &wanted, findings);
    }
}

/// Checks a text for what it must look like.
fn word(part: &Outline, text: &str, kind: &Kind, pointer: &str, findings: &mut Findings) {
    let at = part.at;
    match kind {
        Kind::Name if !is_name(text) => {
            let what = format!("{text:?} is not a name");
            let hint = "1 to 63 of a-z, 0-9 and hyphens, a letter or digit at both ends";
            findings.add("E-NAME", pointer, at, what).hint(hint);
        }
        Kind::ParameterName if text == RESUMED => {
            let what = format!("{text:?} is the runtime's own");
            findings.add("E-RESERVED", pointer, at, what);
        }
        Kind::ParameterName if !is_parameter_name(text) => {
            let what = format!("{text:?} is not a name of a parameter");
            findings.add("E-NAME", pointer, at, what).hint("1 to 256 printable characters");
        }
        Kind::Version if !is_version(text) => {
            findings.add("E-VERSION", pointer, at, format!("{text:?} is not like 1.2.3"));
        }
        Kind::Span(millis) if !text.is_empty() && span::parse(text, *millis).is_none() => {
            let what = format!("{text:?} is not a duration");
            findings.add("E-DURATION", pointer, at, what).hint("like 1d2h30m, 90s, 0s");
        }
        Kind::Expression if text.len() > WORKFLOW_EXPRESSION_BYTES_MAX => {
            let what = format!("an expression has at most {WORKFLOW_EXPRESSION_BYTES_MAX} bytes");
            findings.add("E-LIMIT", pointer, at, what);
        }
        Kind::Word(words) if !text.is_empty() && !words.contains(&text) => {
            let code = match pointer {
                "/apiVersion" => "E-API-VERSION",
                "/kind" => "E-KIND",
                _ if pointer.ends_with("/type") => "E-PARAM-TYPE",
                _ if pointer.ends_with("/strategy") => "E-AGGREGATE",
                _ => "E-WORD",
            };
            let what = format!("{text:?} is not known here");
            let hint = did_you_mean(text, words.iter().copied());
            findings.add(code, pointer, at, what).hint(hint);
        }
        _ => {}
    }
}

/// Whether a text is a DNS label.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_parameter_name(text: &str) -> bool {
    (1..=PARAMETER_NAME_CHARS_MAX).contains(&text.chars().count())
        && !text.contains(char::is_control)
}

fn is_version(text: &str) -> bool {
    let (numbers, suffix) = text.split_once('-').map_or((text, None), |(n, s)| (n, Some(s)));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '.';
    numbers.split('.').count() == 3
        && numbers.split('.').all(is_number)
        && suffix.is_none_or(|s| !s.is_empty() && s.chars().all(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions() {
        for (text, yes) in [("a", true), ("a-1", true), ("-a", false), ("A", false), ("", false)] {
            assert_eq!(is_name(text), yes, "{text:?}");
        }
        for (text, yes) in [
            ("1.2.3", true),
            ("1.2.3-rc.1", true),
            ("1.2", false),
            ("1.2.x", false),
            ("1.2.3-", false),
        ] {
            assert_eq!(is_version(text), yes, "{text:?}");
        }
        assert!(is_name(&"a".repeat(63)) && !is_name(&"a".repeat(64)));
    }
}
