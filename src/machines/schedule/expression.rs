//! Cron expressions: which times of a calendar without a zone they mean.
//!
//! May not know zones. Invariant: an expression that is read comes at least once.

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;

/// Names of whole expressions.
const ALIASES: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
/// Names of months, and of days of the week.
const MONTHS: &[&str] =
    &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
/// What each field is called, and which names may stand in it.
const FIELDS: &[(&str, &[&str])] = &[
    ("minute", &[]),
    ("hour", &[]),
    ("day of month", &[]),
    ("month", MONTHS),
    ("day of week", DAYS),
];
/// A day from which every expression is tried once.
const BEGINNING: DateTime = jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0);

/// A cron expression of five fields.
#[derive(Debug, Clone)]
pub struct Expression {
    cron: Cron,
    text: String,
    is_fixed: bool,
}

impl Expression {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let spelled = match ALIASES.iter().find(|(name, _)| *name == text) {
            Some((_, spelled)) => spelled,
            None if text.starts_with('@') => {
                let known: Vec<&str> = ALIASES.iter().map(|(name, _)| *name).collect();
                return Err(format!("{text:?} is not one of {}", known.join(", ")));
            }
            None => text,
        };
        let fields: Vec<&str> = spelled.split_ascii_whitespace().collect();
        if fields.len() != FIELDS.len() {
            let names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
            return Err(format!("{text:?} has not the five fields {}", names.join(", ")));
        }
        for (field, (name, words)) in fields.iter().zip(FIELDS) {
            check(field, name, words)?;
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let cron = parser.build().parse(&fields.join(" ")).map_err(|e| format!("{text:?}: {e}"))?;
        let is_fixed = fields[..2].iter().all(|field| !field.contains(['*', '/']));
        let read = Self { cron, text: text.to_owned(), is_fixed };
        match read.from(BEGINNING) {
            Some(_) => Ok(read),
            None => Err(format!("{text:?} never comes")),
        }
    }

    /// The first time at `begin` or later.
    #[must_use]
    pub fn from(&self, begin: DateTime) -> Option<DateTime> {
        self.cron.find_next_occurrence(&begin, true).ok()
    }

    /// Whether it names times of the day, and not a step between them.
    #[must_use]
    pub const fn is_fixed(&self) -> bool {
        self.is_fixed
    }

    /// As its author wrote it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Whether a field is of numbers, names of its own, lists, ranges and steps: the parser below would
/// take more.
fn check(field: &str, name: &str, words: &[&str]) -> Result<(), String> {
    for part in field.split([',', '-', '/']) {
        let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let is_word = words.iter().any(|word| word.eq_ignore_ascii_case(part));
        if !is_number && !is_word && part != "*" {
            return Err(format!("{field:?} cannot stand for the {name}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use proptest::prelude::*;

    fn days(text: &str, from: DateTime, count: usize) -> Vec<String> {
        let read = Expression::parse(text).unwrap();
        let next = |at: &DateTime| read.from(*at + jiff::SignedDuration::from_secs(60));
        let all = std::iter::successors(read.from(from), next).take(count);
        all.map(|at| at.strftime("%m-%d %H:%M").to_string()).collect()
    }

    #[test]
    fn fields_mean_what_a_crontab_means() {
        let november = date(2026, 11, 20).at(0, 0, 0, 0);
        for (text, expected) in [
            ("*/20 9-10 * * *", &["11-20 09:00", "11-20 09:20", "11-20 09:40", "11-20 10:00"][..]),
            ("0 12 1 * MON", &["11-23 12:00", "11-30 12:00", "12-01 12:00"]),
            ("30 6 * jan-feb 7", &["01-03 06:30", "01-10 06:30"]),
            ("0 0 * * 0", &["11-22 00:00", "11-29 00:00"]),
            ("5,10 0 29 2 *", &["02-29 00:05", "02-29 00:10"]),
            ("@weekly", &["11-22 00:00"]),
            ("@midnight", &["11-20 00:00", "11-21 00:00"]),
            ("@hourly", &["11-20 00:00", "11-20 01:00"]),
            ("@annually", &["01-01 00:00"]),
            ("0 0 13 * FRI", &["11-20 00:00", "11-27 00:00", "12-04 00:00", "12-11 00:00"]),
        ] {
            assert_eq!(days(text, november, expected.len()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_crontab_is_refused() {
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "0 * * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "5-1 * * * *",
            "@reboot",
            "@DAILY",
            "* * L * *",
            "* * 15W * *",
            "* * * * 5L",
            "* * * * MON#2",
            "* * ? * *",
            "* * * * +1",
            "MON * * * *",
            "* * * MON *",
            "* * * * JAN",
            "0 0 30 2 *",
            "a",
            "1,,2 * * * *",
            "/5 * * * *",
        ] {
            assert!(Expression::parse(bad).is_err(), "{bad:?}");
        }
        for (text, yes) in [
            ("0 2 * * *", true),
            ("0,30 1-3 * * *", true),
            ("*/5 2 * * *", false),
            ("0 * * * *", false),
            ("@daily", true),
            ("@hourly", false),
        ] {
            assert_eq!(Expression::parse(text).unwrap().is_fixed(), yes, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[@0-9*/,a-z #LW?+-]{0,30}") {
            let _ = Expression::parse(&text);
        }
    }
}
