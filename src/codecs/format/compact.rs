//! The check for JSON text of our own: the rules of the gate for foreign bytes, and no layout.
//!
//! Runs over every journal line that is read, so it copies nothing. May not know what the text
//! means. Invariant: it accepts exactly the texts that the gate would give back unchanged.

use crate::codecs::json::unescape;

/// Checks that `text` is one JSON value without white space outside strings, without duplicate
/// keys, nested no deeper than `depth_max`, its numbers finite. Lone surrogates pass: values of a
/// process may hold them.
///
/// # Errors
/// What is wrong, in words.
pub fn check(text: &str, depth_max: usize) -> Result<(), &'static str> {
    let mut walker = Walker { text, bytes: text.as_bytes(), at: 0, keys: Vec::new() };
    walker.value(depth_max)?;
    if walker.at == text.len() { Ok(()) } else { Err("more bytes after the value") }
}

struct Walker<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Keys of the open objects, innermost last.
    keys: Vec<&'a str>,
}

type Checked = Result<(), &'static str>;

impl Walker<'_> {
    fn peek(&self) -> u8 {
        // 0 can stand nowhere in a JSON text, so it serves as the end.
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn take(&mut self, byte: u8) -> bool {
        let is = self.peek() == byte;
        self.at += usize::from(is);
        is
    }

    fn value(&mut self, depth_left: usize) -> Checked {
        match self.peek() {
            b'"' => self.string(),
            b'{' | b'[' if depth_left == 0 => Err("nested too deeply"),
            b'{' => self.object(depth_left - 1),
            b'[' => self.array(depth_left - 1),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &str) -> Checked {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err("an unknown word");
        }
        self.at += word.len();
        Ok(())
    }

    fn array(&mut self, depth_left: usize) -> Checked {
        self.at += 1;
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth_left)?;
            if !self.take(b',') {
                return if self.take(b']') { Ok(()) } else { Err("an array does not end") };
            }
        }
    }

    fn object(&mut self, depth_left: usize) -> Checked {
        self.at += 1;
        if self.take(b'}') {
            return Ok(());
        }
        let base = self.keys.len();
        loop {
            let start = self.at;
            if self.peek() != b'"' {
                return Err("a key is missing");
            }
            self.string()?;
            let key = &self.text[start..self.at];
            self.keys.push(key);
            if !self.take(b':') {
                return Err("a colon is missing");
            }
            self.value(depth_left)?;
            if self.take(b',') {
                continue;
            }
            return if self.take(b'}') {
                self.distinct(base)
            } else {
                Err("an object does not end")
            };
        }
    }

    /// Forgets the keys from `base` on, which must differ from each other.
    fn distinct(&mut self, base: usize) -> Checked {
        let keys = &mut self.keys[base..];
        let twice = if keys.iter().any(|key| key.contains('\\')) {
            let mut plain: Vec<_> = keys.iter().map(|key| unescape(key)).collect();
            plain.sort_unstable();
            plain.windows(2).any(|pair| pair[0] == pair[1])
        } else if keys.len() <= 12 {
            // The usual case; sorting would cost more than these few comparisons.
            (1..keys.len()).any(|i| keys[..i].contains(&keys[i]))
        } else {
            keys.sort_unstable();
            keys.windows(2).any(|pair| pair[0] == pair[1])
        };
        self.keys.truncate(base);
        if twice { Err("duplicate key") } else { Ok(()) }
    }

    fn string(&mut self) -> Checked {
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or(&[]);
            let plain = rest.iter().position(|b| *b == b'"' || *b == b'\\' || *b < 0x20);
            self.at += plain.ok_or("a string does not end")?;
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                _ => return Err("a control character inside a string"),
            }
        }
    }

    fn escape(&mut self) -> Checked {
        self.at += 1;
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                let digits = self.bytes.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
                    return Err("four hex digits are missing in a string");
                }
                self.at += 5;
            }
            _ => return Err("an unknown escape inside a string"),
        }
        Ok(())
    }

    fn digits(&mut self) -> Checked {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err("a digit is missing in a number") }
    }

    fn number(&mut self) -> Checked {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        let mut may_overflow = self.at - start > 300;
        if matches!(self.peek(), b'e' | b'E') {
            may_overflow = true;
            self.at += 1;
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        let finite = || self.text[start..self.at].parse::<f64>().is_ok_and(f64::is_finite);
        if may_overflow && !finite() { Err("a number is out of range") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codecs::json::{Surrogates, gate};
    use proptest::prelude::*;

    #[test]
    fn refuses_what_the_gate_would_change_or_refuse() {
        for bad in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e999",
            "NaN",
            "1 ",
            " 1",
            "{\"a\": 1}",
            "[1, 2]",
            "\"\u{1}\"",
            "\"\\x\"",
            "{\"a\":1,\"a\":2}",
            "tru",
            "\"",
            "{\"a\":1,\"\\u0061\":2}",
            "[[[[]]]]",
            "{\"a\"}",
            "[1",
            "{\"a\":1",
            "-",
            "1e",
            "\0",
        ] {
            assert!(check(bad, 3).is_err(), "{bad:?}");
        }
        for good in ["1", "-0", "1e3", "1.10", "{\"a\":[1,{\"b\":null}]}", "\"\\ud800\"", "[]"] {
            assert_eq!(check(good, 3), Ok(()), "{good:?}");
        }
        let many: Vec<String> = (0..40).map(|i| format!("\"k{}\":0", i % 39)).collect();
        assert_eq!(check(&format!("{{{}}}", many.join(",")), 3), Err("duplicate key"));
    }

    proptest! {
        #[test]
        fn agrees_with_the_gate(text in r#"[\[\]{}",:0-9eE.\-+ \\ua-c]{0,24}"#) {
            let gated = gate(text.as_bytes(), 5, Surrogates::Lone);
            let same = gated.is_ok_and(|json| json.as_str() == text);
            prop_assert_eq!(check(&text, 5).is_ok(), same, "{:?}", text);
        }
    }
}
