//! JSON text: the gate for foreign bytes, and canonical text for digests.
//!
//! May not know what a document means. Invariant: a [`Json`] is one well-formed value without white
//! space outside strings, its numbers and escapes exactly as they were received.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde_json::value::RawValue;

/// One JSON value, kept as text: received bytes minus the white space outside strings. `1.10` stays
/// `1.10` and big integers keep their digits.
#[derive(Clone)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The value `null`.
    #[must_use]
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The JSON text of a value of ours. Panics never: only called with types that serialise.
    #[must_use]
    pub fn of<T: serde::Serialize + ?Sized>(value: &T) -> Self {
        serde_json::value::to_raw_value(value).map_or_else(|_| Self::null(), Self)
    }

    /// Reads the text as a type of ours.
    ///
    /// # Errors
    /// When the text has another shape than `T`.
    pub fn read<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// The text as a tree, for display and for looking into.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        self.well_formed().read().unwrap_or(serde_json::Value::Null)
    }

    /// The same value with the replacement character for every half of a surrogate pair: what can
    /// leave JavaScript. The text is unchanged where there is none.
    #[must_use]
    pub fn well_formed(&self) -> Cow<'_, Self> {
        let text = self.as_str();
        if !text.contains("\\ud") && !text.contains("\\uD") {
            return Cow::Borrowed(self);
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('\\') {
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            let mut units = UnitReader { rest };
            let lone = matches!(units.next_char(), Some(Err(_)));
            let taken = rest.len() - units.rest.len();
            out.push_str(if lone { "\\ufffd" } else { &rest[..taken] });
            rest = &rest[taken..];
        }
        out.push_str(rest);
        RawValue::from_string(out).map_or(Cow::Borrowed(self), |raw| Cow::Owned(Self(raw)))
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // Binary formats have no raw JSON of their own: there the value is its text.
        if s.is_human_readable() { self.0.serialize(s) } else { s.serialize_str(self.as_str()) }
    }
}

impl<'de> serde::Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            return Box::<RawValue>::deserialize(d).map(Self);
        }
        let text = String::deserialize(d)?;
        RawValue::from_string(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// Why bytes are not JSON that is accepted here, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why} at byte {offset} (line {line}, column {column})")]
pub struct NotJson {
    /// What is wrong.
    pub why: String,
    /// Byte offset from the start, 0-based.
    pub offset: usize,
    /// Line, 1-based.
    pub line: usize,
    /// Column in bytes, 1-based.
    pub column: usize,
}

/// What a gate lets through beyond strict JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surrogates {
    /// `\ud800` alone is refused: the rule for everything that people and programs send.
    Paired,
    /// `\ud800` alone passes: JavaScript strings may hold it, so values of a process may.
    Lone,
}

/// Reads foreign bytes: strict UTF-8 without a byte order mark, one value and nothing after it,
/// nesting up to `depth_max`, no duplicate keys, no lone surrogates unless allowed.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn gate(bytes: &[u8], depth_max: usize, surrogates: Surrogates) -> Result<Json, NotJson> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => return Err(not_json(bytes, e.valid_up_to(), "invalid UTF-8")),
    };
    let mut scanner = Scanner { text, at: 0, out: String::with_capacity(text.len()), surrogates };
    scanner
        .value(depth_max)
        .and_then(|()| scanner.end())
        .map_err(|why| not_json(bytes, scanner.at, &why))?;
    RawValue::from_string(scanner.out).map(Json).map_err(|e| not_json(bytes, 0, &e.to_string()))
}

fn not_json(bytes: &[u8], offset: usize, why: &str) -> NotJson {
    let before = &bytes[..offset.min(bytes.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    NotJson {
        why: why.to_owned(),
        offset,
        line: before.split(|b| *b == b'\n').count(),
        column: offset - line_start + 1,
    }
}

/// Walks a text once, copying tokens and dropping white space.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    out: String,
    surrogates: Surrogates,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), String> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { Err("more bytes after the value".into()) }
    }

    fn value(&mut self, depth_left: usize) -> Result<(), String> {
        self.space();
        match self.peek() {
            None => Err("the text ends where a value should be".into()),
            Some(b'{' | b'[') if depth_left == 0 => Err("nested too deeply".into()),
            Some(b'{') => self.object(depth_left - 1),
            Some(b'[') => self.array(depth_left - 1),
            Some(b'"') => self.string().map(|token| self.out.push_str(token)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
        }
    }

    fn word(&mut self) -> Result<(), String> {
        let rest = &self.text[self.at..];
        let word = ["true", "false", "null"].into_iter().find(|w| rest.starts_with(w));
        let word =
            word.ok_or_else(|| format!("unexpected {:?}", rest.chars().next().unwrap_or(' ')))?;
        self.at += word.len();
        self.out.push_str(word);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), String> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err("a digit is missing in a number".into()) }
    }

    fn number(&mut self) -> Result<(), String> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let token = &self.text[start..self.at];
        if token.parse::<f64>().is_ok_and(f64::is_finite) {
            self.out.push_str(token);
            Ok(())
        } else {
            self.at = start;
            Err("a number is out of range".into())
        }
    }

    fn array(&mut self, depth_left: usize) -> Result<(), String> {
        self.open('[');
        if self.closed(b']') {
            return Ok(());
        }
        loop {
            self.value(depth_left)?;
            if !self.more(b']')? {
                return Ok(());
            }
        }
    }

    fn object(&mut self, depth_left: usize) -> Result<(), String> {
        self.open('{');
        if self.closed(b'}') {
            return Ok(());
        }
        let mut keys: HashSet<Cow<'a, str>> = HashSet::new();
        loop {
            self.space();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err("a key in double quotes is missing".into());
            }
            let token = self.string()?;
            if !keys.insert(unescape(token)) {
                self.at = start;
                return Err(format!(
                    "duplicate key {}",
                    token.chars().take(80).collect::<String>()
                ));
            }
            self.out.push_str(token);
            self.space();
            if self.peek() != Some(b':') {
                return Err("a colon is missing".into());
            }
            self.open(':');
            self.value(depth_left)?;
            if !self.more(b'}')? {
                return Ok(());
            }
        }
    }

    /// Takes one punctuation mark that is known to be there.
    fn open(&mut self, mark: char) {
        self.at += 1;
        self.out.push(mark);
    }

    /// Whether `close` follows at once.
    fn closed(&mut self, close: u8) -> bool {
        self.space();
        let is = self.peek() == Some(close);
        if is {
            self.open(char::from(close));
        }
        is
    }

    /// Whether another member follows; else `close` was taken.
    fn more(&mut self, close: u8) -> Result<bool, String> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.open(',');
                Ok(true)
            }
            Some(b) if b == close => {
                self.open(char::from(close));
                Ok(false)
            }
            _ => Err(format!("a comma or {:?} is missing", char::from(close))),
        }
    }

    /// The token of a string, quotes included.
    fn string(&mut self) -> Result<&'a str, String> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err("a string does not end".into()),
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => return Err("a control character inside a string".into()),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(&self.text[start..self.at])
    }

    fn escape(&mut self) -> Result<(), String> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                return Ok(());
            }
            Some(b'u') => self.at += 1,
            _ => return Err("an unknown escape inside a string".into()),
        }
        let first = self.hex4()?;
        let paired = match first {
            0xd800..=0xdbff if self.text[self.at..].starts_with("\\u") => {
                let back = self.at;
                self.at += 2;
                let low = matches!(self.hex4()?, 0xdc00..=0xdfff);
                if !low {
                    self.at = back;
                }
                low
            }
            0xd800..=0xdfff => false,
            _ => true,
        };
        if paired || self.surrogates == Surrogates::Lone {
            return Ok(());
        }
        self.at = start;
        Err("half of a surrogate pair inside a string".into())
    }

    fn hex4(&mut self) -> Result<u32, String> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let text = digits.filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let code = text
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u32::from_str_radix(d, 16).ok());
        self.at += 4;
        code.ok_or_else(|| {
            self.at -= 4;
            "four hex digits are missing in a string".to_owned()
        })
    }
}

/// The characters behind a string token of a text that passed the gate. A lone surrogate keeps its
/// escape, so that two keys are equal exactly when their strings are.
pub(super) fn unescape(token: &str) -> Cow<'_, str> {
    let inner = &token[1..token.len() - 1];
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut units = UnitReader { rest: inner };
    while let Some(unit) = units.next_char() {
        match unit {
            Ok(c) => out.push(c),
            Err(lone) => push_escape(&mut out, lone),
        }
    }
    Cow::Owned(out)
}

/// Writes a code unit as an escape of four hex digits.
fn push_escape(out: &mut String, unit: u32) {
    out.push_str("\\u");
    out.extend((0..4).rev().filter_map(|i| char::from_digit(unit >> (4 * i) & 15, 16)));
}

/// Reads the characters of a well-formed string token's inside.
struct UnitReader<'a> {
    rest: &'a str,
}

impl UnitReader<'_> {
    /// The next character, or the code of a lone surrogate.
    fn next_char(&mut self) -> Option<Result<char, u32>> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        if c != '\\' {
            self.rest = chars.as_str();
            return Some(Ok(c));
        }
        let kind = chars.next()?;
        self.rest = chars.as_str();
        let plain = match kind {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return Some(self.code_point()),
            other => other,
        };
        Some(Ok(plain))
    }

    fn code_unit(&mut self) -> u32 {
        let (digits, rest) = self.rest.split_at(4);
        self.rest = rest;
        u32::from_str_radix(digits, 16).unwrap_or(0xfffd)
    }

    fn code_point(&mut self) -> Result<char, u32> {
        let first = self.code_unit();
        if (0xd800..0xdc00).contains(&first) && self.rest.starts_with("\\u") {
            let back = self.rest;
            self.rest = &self.rest[2..];
            let second = self.code_unit();
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(code).ok_or(first);
            }
            self.rest = back;
        }
        char::from_u32(first).ok_or(first)
    }
}

/// How [`canonical`] prints numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// The shortest text that ECMAScript prints, `-0` as `0`: for the digests of arguments.
    EcmaScript,
    /// As written: for comparing two posts, where only the layout is ignored.
    AsWritten,
}

/// Canonical text of a gated value: no white space, keys sorted by code point, strings with the
/// shortest escapes. Inside strings every occurrence of `replace.0` becomes `replace.1`: a moved
/// run directory must not change a digest.
#[must_use]
pub fn canonical(json: &Json, numbers: Numbers, replace: Option<(&str, &str)>) -> String {
    let mut writer = Canonical { text: json.as_str(), at: 0, numbers, replace };
    let mut out = String::with_capacity(json.as_str().len());
    writer.value(&mut out);
    out
}

/// Rewrites one gated text; every step relies on the gate having passed.
struct Canonical<'a> {
    text: &'a str,
    at: usize,
    numbers: Numbers,
    replace: Option<(&'a str, &'a str)>,
}

impl<'a> Canonical<'a> {
    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(b' ')
    }

    fn value(&mut self, out: &mut String) {
        match self.byte() {
            b'{' => self.object(out),
            b'[' => self.array(out),
            b'"' => {
                let token = self.string_token();
                self.string(token, out);
            }
            _ => self.scalar(out),
        }
    }

    fn array(&mut self, out: &mut String) {
        out.push('[');
        self.at += 1;
        while self.byte() != b']' {
            self.value(out);
            if self.byte() == b',' {
                out.push(',');
                self.at += 1;
            }
        }
        self.at += 1;
        out.push(']');
    }

    fn object(&mut self, out: &mut String) {
        self.at += 1;
        let mut members: Vec<(Cow<'a, str>, String)> = Vec::new();
        while self.byte() != b'}' {
            let token = self.string_token();
            self.at += 1;
            let mut member = String::new();
            self.string(token, &mut member);
            member.push(':');
            self.value(&mut member);
            members.push((unescape(token), member));
            self.at += usize::from(self.byte() == b',');
        }
        self.at += 1;
        // Rust compares strings by UTF-8 bytes, which is the order of code points.
        members.sort_by(|a, b| a.0.cmp(&b.0));
        out.push('{');
        for (i, (_, member)) in members.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str(member);
        }
        out.push('}');
    }

    fn string_token(&mut self) -> &'a str {
        let start = self.at;
        self.at += 1;
        while self.byte() != b'"' {
            self.at += if self.byte() == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        &self.text[start..self.at]
    }

    fn string(&self, token: &str, out: &mut String) {
        let inner = &token[1..token.len() - 1];
        let replaced = match self.replace {
            Some((from, to)) if !from.is_empty() && inner.contains(from) => inner.replace(from, to),
            _ if !inner.contains('\\') => {
                out.push_str(token);
                return;
            }
            _ => inner.to_owned(),
        };
        out.push('"');
        let mut units = UnitReader { rest: &replaced };
        while let Some(unit) = units.next_char() {
            match unit {
                Ok('"') => out.push_str("\\\""),
                Ok('\\') => out.push_str("\\\\"),
                Ok('\u{8}') => out.push_str("\\b"),
                Ok('\u{c}') => out.push_str("\\f"),
                Ok('\n') => out.push_str("\\n"),
                Ok('\r') => out.push_str("\\r"),
                Ok('\t') => out.push_str("\\t"),
                Ok(c) if u32::from(c) < 0x20 => push_escape(out, u32::from(c)),
                Ok(c) => out.push(c),
                Err(lone) => push_escape(out, lone),
            }
        }
        out.push('"');
    }

    fn scalar(&mut self, out: &mut String) {
        let start = self.at;
        while !matches!(self.byte(), b',' | b']' | b'}' | b' ') {
            self.at += 1;
        }
        let token = &self.text[start..self.at];
        match (self.numbers, token.parse::<f64>()) {
            (Numbers::EcmaScript, Ok(number)) => out.push_str(&ecma_number(number)),
            _ => out.push_str(token),
        }
    }
}

/// The text that ECMAScript's `Number::toString` prints for a finite number.
#[must_use]
pub fn ecma_number(number: f64) -> String {
    if number == 0.0 {
        return "0".to_owned();
    }
    // `{:e}` gives the shortest digits that read back equal: "-1.2345e-7".
    let text = format!("{:e}", number.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // The value is 0.DIGITS times ten to the power of `point`.
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    let body = if (count..=21).contains(&point) {
        format!("{digits}{}", zeros(point - count))
    } else if (1..=21).contains(&point) {
        let (whole, rest) = digits.split_at(usize::try_from(point).unwrap_or(0));
        format!("{whole}.{rest}")
    } else if (-5..=0).contains(&point) {
        format!("0.{}{digits}", zeros(-point))
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        format!("{first}{dot}{rest}e{}{}", if point > 0 { '+' } else { '-' }, (point - 1).abs())
    };
    format!("{}{body}", if number < 0.0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(text: &str) -> Result<String, NotJson> {
        gate(text.as_bytes(), 100, Surrogates::Paired).map(|j| j.as_str().to_owned())
    }

    fn canon(text: &str) -> String {
        let json = gate(text.as_bytes(), 100, Surrogates::Lone).unwrap();
        canonical(&json, Numbers::EcmaScript, Some(("/runs/r1", "${RUN_DIR}")))
    }

    #[test]
    fn the_gate_keeps_tokens_and_drops_space() {
        assert_eq!(
            strict(" { \"a\" : [ 1.10 , -0 , 1e3, \"x y\" ] } \n").unwrap(),
            r#"{"a":[1.10,-0,1e3,"x y"]}"#
        );
        assert_eq!(
            strict("123456789012345678901234567890").unwrap(),
            "123456789012345678901234567890"
        );
    }

    #[test]
    fn the_gate_refuses_what_is_not_strict_json() {
        let deep = "[".repeat(101) + &"]".repeat(101);
        for (bad, why) in [
            ("", "ends"),
            ("{", "key"),
            ("[1,]", "unexpected"),
            ("{\"a\":1,}", "key"),
            ("01", "more bytes"),
            ("1.", "digit"),
            (".5", "unexpected"),
            ("+1", "unexpected"),
            ("1e999", "range"),
            ("NaN", "unexpected"),
            ("\"\u{1}\"", "control"),
            ("\"\\x\"", "escape"),
            ("\"\\ud800\"", "surrogate"),
            ("\"\\u12\"", "hex"),
            ("{\"a\":1,\"a\":2}", "duplicate"),
            ("{\"a\":1,\"\\u0061\":2}", "duplicate"),
            ("1 2", "more bytes"),
            ("\u{feff}1", "unexpected"),
            ("'a'", "unexpected"),
            ("tru", "unexpected"),
            (deep.as_str(), "deeply"),
        ] {
            let error = strict(bad).unwrap_err();
            assert!(error.why.contains(why), "{bad:?}: {error}");
        }
        assert_eq!(gate(b"\"\xff\"", 9, Surrogates::Paired).unwrap_err().offset, 1);
        let error = strict("{\n \"a\": 1,\n \"a\": 2}").unwrap_err();
        assert_eq!((error.line, error.column), (3, 2));
    }

    #[test]
    fn canonical_text_sorts_by_code_point_and_prints_numbers_as_ecmascript_does() {
        assert_eq!(
            canon("{\"b\":1.0,\"a\":[1e21,1e-7,-0,100,0.000001,123.456,1e20]}"),
            r#"{"a":[1e+21,1e-7,0,100,0.000001,123.456,100000000000000000000],"b":1}"#
        );
        // U+FF5E sorts before U+1F600 by code point, after it by UTF-16 unit.
        assert_eq!(canon("{\"\u{1f600}\":1,\"\u{ff5e}\":2}"), "{\"\u{ff5e}\":2,\"\u{1f600}\":1}");
        assert_eq!(canon(r#""\u0041\/\u001f\ud83d\ude00\uD800""#), "\"A/\\u001f\u{1f600}\\ud800\"");
        assert_eq!(canon(r#"{"p":"see /runs/r1/tasks"}"#), r#"{"p":"see ${RUN_DIR}/tasks"}"#);
    }

    #[test]
    fn half_a_surrogate_pair_does_not_leave_javascript() {
        let json =
            gate(br#"["a\ud83d","\ud83d\ude00","\\ud83d",1.10]"#, 9, Surrogates::Lone).unwrap();
        assert_eq!(json.well_formed().as_str(), r#"["a\ufffd","\ud83d\ude00","\\ud83d",1.10]"#);
        assert_eq!(json.to_value()[0], "a\u{fffd}");
    }

    #[test]
    fn comparing_posts_keeps_numbers_as_written() {
        let json = gate(b"{\"b\":1.0,\"a\":1e3}", 9, Surrogates::Paired).unwrap();
        assert_eq!(canonical(&json, Numbers::AsWritten, None), r#"{"a":1e3,"b":1.0}"#);
    }
}
