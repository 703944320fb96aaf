//! Durations of documents: `1d2h3m4s`.
//!
//! May not know clocks. Invariant: what is printed is read as the same number of seconds.

use std::fmt::Write as _;

/// Longest duration: ten years.
const DAYS_MAX: u64 = 3650;
/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Milliseconds of a duration: groups from days to seconds, each at most once, in this order.
/// Milliseconds are read where they are allowed.
#[must_use]
pub fn parse(text: &str, millis: bool) -> Option<u64> {
    let mut rest = text;
    let mut units = UNITS.iter().filter(|(unit, _)| millis || *unit != "ms");
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (_, size) = units.find(|(unit, _)| *unit == &rest[..letters])?;
        total = total.checked_add(count.checked_mul(*size)?)?;
        rest = &rest[letters..];
    }
    (!text.is_empty() && total <= DAYS_MAX * 86_400_000).then_some(total)
}

/// A duration in whole seconds.
#[must_use]
pub fn print(millis: u64) -> String {
    let mut rest = millis;
    let mut out = String::new();
    for (unit, size) in &UNITS[..4] {
        if rest >= *size {
            let _ = write!(out, "{}{unit}", rest / size);
            rest %= size;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_in_order() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("1d2h3m4s", Some(93_784_000)),
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("3650d", Some(315_360_000_000)),
            ("3651d", None),
            ("1m1h", None),
            ("1s1s", None),
            ("1.5s", None),
            ("5", None),
            ("s", None),
            ("", None),
            ("1ms", None),
            ("99999999999999999999d", None),
            ("1é", None),
        ] {
            assert_eq!(parse(text, false), millis, "{text:?}");
        }
        assert_eq!(parse("1s500ms", true), Some(1_500));
    }

    #[test]
    fn what_is_printed_can_be_read() {
        for millis in [0, 1_000, 61_000, 93_784_000, 86_400_000] {
            assert_eq!(parse(&print(millis), false), Some(millis));
        }
        assert_eq!(print(1_999), "1s");
    }
}
