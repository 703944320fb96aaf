//! What an exchange over HTTP says about the work: the rows H1 to H9.
//!
//! May not know bytes or connections. Invariant: a class other than unknown is given only when
//! somebody who knows has said so: the guard and the kernel before anything was sent, the server
//! after it.

/// A status, or all of a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statuses {
    /// One.
    One(u16),
    /// Those with this first digit.
    Hundred(u16),
}

impl Statuses {
    /// Reads `204` or `2xx`.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let known = |n: &u16| (100..600).contains(n);
        match text.strip_suffix("xx") {
            Some(digit) => digit.parse().ok().filter(|n| known(&(n * 100))).map(Self::Hundred),
            None => text.parse().ok().filter(known).map(Self::One),
        }
    }

    /// Whether this status is one of them.
    #[must_use]
    pub const fn have(self, status: u16) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Hundred(digit) => status / 100 == digit,
        }
    }
}

/// What was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The request is not one that may be sent: guard, URL, secret.
    Refused,
    /// Nothing of it was sent.
    Unsent,
    /// Some of it was sent, and no whole answer came.
    Broken,
    /// A status came.
    Status {
        /// The status.
        status: u16,
        /// How long the server asks to wait, in milliseconds.
        retry_after_ms: Option<u64>,
        /// The body is an object with a member `error` that says something.
        says_error: bool,
    },
    /// An expected status came with a body that is not what was asked for, or too long.
    Unreadable,
}

/// What it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It was done.
    Ok,
    /// Nothing was done.
    NotBegun {
        /// Nor will it be by asking again.
        is_final: bool,
        /// Not before this time has passed.
        retry_after_ms: Option<u64>,
    },
    /// It failed, and the server says so.
    Reported {
        /// It would fail again.
        is_final: bool,
    },
    /// Nobody knows.
    Unknown,
}

impl Class {
    /// Its word in records and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotBegun { .. } => "not_begun",
            Self::Reported { .. } => "reported",
            Self::Unknown => "unknown",
        }
    }
}

/// What is meant by what was seen. `expect` wins over `not_begun`.
#[must_use]
pub fn classify(seen: Seen, expect: &[Statuses], not_begun: &[Statuses]) -> Class {
    let (status, retry_after_ms, says_error) = match seen {
        Seen::Refused => return Class::NotBegun { is_final: true, retry_after_ms: None },
        Seen::Unsent => return Class::NotBegun { is_final: false, retry_after_ms: None },
        Seen::Broken => return Class::Unknown,
        Seen::Unreadable => return Class::Reported { is_final: true },
        Seen::Status { status, retry_after_ms, says_error } => (status, retry_after_ms, says_error),
    };
    let among = |statuses: &[Statuses]| statuses.iter().any(|s| s.have(status));
    match status {
        _ if among(expect) => Class::Ok,
        _ if among(not_begun) => Class::NotBegun { is_final: false, retry_after_ms },
        421 | 425 | 429 => Class::NotBegun { is_final: false, retry_after_ms },
        503 if retry_after_ms.is_some() => Class::NotBegun { is_final: false, retry_after_ms },
        // A proxy answers so, too, when it does not know what became of the request behind it.
        408 | 502 | 503 | 504 if says_error => Class::Reported { is_final: false },
        408 | 502 | 503 | 504 => Class::Unknown,
        500.. => Class::Reported { is_final: false },
        _ => Class::Reported { is_final: true },
    }
}

/// Reads `Retry-After`: seconds, or a date, which `now_seconds` turns into a distance.
#[must_use]
pub fn retry_after_ms(text: &str, now_seconds: i64) -> Option<u64> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let distance = date.as_second().saturating_sub(now_seconds).max(0);
    u64::try_from(distance).ok()?.checked_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORTED: Class = Class::Reported { is_final: false };
    const FINAL: Class = Class::Reported { is_final: true };

    fn not_begun(retry_after_ms: Option<u64>) -> Class {
        Class::NotBegun { is_final: false, retry_after_ms }
    }

    fn of(seen: Seen) -> Class {
        classify(seen, &[Statuses::Hundred(2)], &[Statuses::One(423)])
    }

    fn status(status: u16, retry_after_ms: Option<u64>, says_error: bool) -> Class {
        of(Seen::Status { status, retry_after_ms, says_error })
    }

    #[test]
    fn h1_what_may_not_be_sent_is_not_begun_and_final() {
        assert_eq!(of(Seen::Refused), Class::NotBegun { is_final: true, retry_after_ms: None });
    }

    #[test]
    fn h2_what_was_not_sent_is_not_begun() {
        assert_eq!(of(Seen::Unsent), not_begun(None));
    }

    #[test]
    fn h3_a_server_that_says_it_did_not_act_is_believed() {
        for code in [421, 425, 429, 423] {
            for error in [false, true] {
                assert_eq!(status(code, None, error), not_begun(None), "{code}");
                assert_eq!(status(code, Some(7), error), not_begun(Some(7)), "{code}");
            }
        }
        assert_eq!(status(503, Some(0), true), not_begun(Some(0)));
    }

    #[test]
    fn h4_what_is_expected_is_ok() {
        for code in [200, 201, 204, 299] {
            assert_eq!(status(code, Some(1), true), Class::Ok, "{code}");
        }
        let seen = Seen::Status { status: 429, retry_after_ms: None, says_error: false };
        let statuses = [Statuses::One(429)];
        assert_eq!(classify(seen, &statuses, &statuses), Class::Ok, "expectation wins");
    }

    #[test]
    fn h5_a_refusal_is_reported_and_final() {
        for code in [101, 301, 302, 304, 307, 400, 401, 403, 404, 409, 410, 422, 451, 499] {
            assert_eq!(status(code, None, true), FINAL, "{code}");
        }
        let seen = Seen::Status { status: 202, retry_after_ms: None, says_error: false };
        assert_eq!(classify(seen, &[Statuses::One(200)], &[]), FINAL, "it acted otherwise");
    }

    #[test]
    fn h6_a_failure_of_the_server_is_reported() {
        for code in [500, 501, 505, 507, 599] {
            assert_eq!(status(code, None, false), REPORTED, "{code}");
        }
    }

    #[test]
    fn h7_what_a_proxy_may_say_is_unknown_unless_it_names_an_error() {
        for code in [408, 502, 503, 504] {
            assert_eq!(status(code, None, false), Class::Unknown, "{code}");
            assert_eq!(status(code, None, true), REPORTED, "{code}");
        }
    }

    #[test]
    fn h8_what_broke_off_is_unknown() {
        assert_eq!(of(Seen::Broken), Class::Unknown);
    }

    #[test]
    fn h9_what_cannot_be_read_was_done() {
        assert_eq!(of(Seen::Unreadable), FINAL);
    }

    #[test]
    fn statuses_are_read() {
        for (text, has, lacks) in [("2xx", 299, 300), ("404", 404, 405), ("1xx", 100, 200)] {
            let statuses = Statuses::read(text).unwrap();
            assert!(statuses.have(has) && !statuses.have(lacks), "{text}");
        }
        for text in ["", "xx", "0xx", "6xx", "99", "600", "2x", "+2xx4", "20 0"] {
            assert_eq!(Statuses::read(text), None, "{text}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = 784_111_777;
        for (text, ms) in [
            ("0", Some(0)),
            (" 120 ", Some(120_000)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10_000)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after_ms(text, now), ms, "{text:?}");
        }
    }
}
