//! Time spans as files of agents write them: `30s`, `1m30s`, `1.5h`, or seconds.
//!
//! May not know what a span is for. Invariant: a span that was read is longer than nothing and
//! shorter than a year.

const UNITS: &[(&str, f64)] =
    &[("ms", 1.0), ("s", 1e3), ("m", 60e3), ("h", 3_600e3), ("d", 86_400e3)];
const YEAR_MS: f64 = 365.0 * 86_400e3;

/// Reads a span, in milliseconds.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked before")]
pub fn read(text: &str) -> Option<u64> {
    let millis = match text.parse::<u32>() {
        Ok(seconds) => f64::from(seconds) * 1e3,
        Err(_) => sum(text)?,
    };
    (1.0..YEAR_MS).contains(&millis).then_some(millis as u64)
}

fn sum(text: &str) -> Option<f64> {
    let (mut rest, mut millis) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &tail[..end])?;
        millis += number * unit.1;
        rest = &tail[end..];
    }
    Some(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        for (text, millis) in [
            ("30s", Some(30_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("500ms", Some(500)),
            ("2d", Some(172_800_000)),
            ("45", Some(45_000)),
            ("", None),
            ("0", None),
            ("0s", None),
            ("s", None),
            ("1.5", None),
            ("1x", None),
            ("-1s", None),
            ("1..5s", None),
            ("999999999999h", None),
        ] {
            assert_eq!(read(text), millis, "{text:?}");
        }
    }
}
