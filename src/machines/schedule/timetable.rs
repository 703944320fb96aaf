//! Timetables: a cron expression on the clocks of a zone.
//!
//! A zone is a row of stretches of time, each with one offset. Inside a stretch the clock on the
//! wall and time itself go the same way, so only the seams need rules. The rules of zones are
//! built in: a schedule means the same on every machine. May not know the time.
//! Invariant: times come in order, each once.

use std::sync::LazyLock;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp as Instant};

use super::expression::Expression;
use crate::ground::clock::Timestamp;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The zone of an IANA name.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    ZONES.get(name).ok()
}

/// All names of zones.
#[must_use]
pub fn zones() -> Vec<String> {
    ZONES.available().map(|name| name.to_string()).collect()
}

/// When something is to happen.
#[derive(Debug, Clone)]
pub struct Timetable {
    /// The expression.
    pub expression: Expression,
    /// On whose clocks.
    pub zone: TimeZone,
    /// No time before this one counts.
    pub begin: Option<Timestamp>,
    /// No time after this one counts.
    pub end: Option<Timestamp>,
}

/// A stretch of one offset.
struct Stretch {
    offset: Offset,
    /// When it ends, if it does.
    end: Option<Instant>,
}

impl Timetable {
    /// The first time after `after`.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let from_begin = |begin: Timestamp| Timestamp::from_micros(begin.micros() - 1);
        let after = self.begin.map(from_begin).map_or(after, |begin| begin.max(after));
        let whole = after.micros().div_euclid(1_000_000) + 1;
        let found = self.first_from(Instant::from_second(whole).ok()?)?;
        let found = Timestamp::from_micros(found.as_microsecond());
        self.end.is_none_or(|end| found <= end).then_some(found)
    }

    /// The first time at `first` or later. A time that the clocks leave out comes when they have
    /// jumped, if it is a fixed one; a fixed time that they show twice comes the first time.
    fn first_from(&self, mut first: Instant) -> Option<Instant> {
        loop {
            let stretch = self.stretch(first);
            let mut low = stretch.offset.to_datetime(first);
            if self.expression.is_fixed()
                && let Some(shown_before) = self.shown_before(first)
            {
                let begins = self.begin_of_stretch(first) == Some(first);
                if begins && self.expression.from(shown_before).is_some_and(|at| at < low) {
                    return Some(first);
                }
                low = low.max(shown_before);
            }
            let at = self.expression.from(low)?;
            match stretch.end {
                Some(end) if at >= stretch.offset.to_datetime(end) => first = end,
                _ => return stretch.offset.to_timestamp(at).ok(),
            }
        }
    }

    fn stretch(&self, at: Instant) -> Stretch {
        let end = self.zone.following(at).next().map(|seam| seam.timestamp());
        Stretch { offset: self.zone.to_offset(at), end }
    }

    /// When the stretch around an instant began.
    fn begin_of_stretch(&self, at: Instant) -> Option<Instant> {
        let soon = at.checked_add(SECOND).ok()?;
        self.zone.preceding(soon).next().map(|seam| seam.timestamp())
    }

    /// How far the clocks had come when the stretch around an instant began.
    fn shown_before(&self, at: Instant) -> Option<DateTime> {
        let begin = self.begin_of_stretch(at)?;
        let last = begin.checked_sub(SECOND).ok()?;
        self.zone.to_offset(last).to_datetime(last).checked_add(SECOND).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(expression: &str, name: &str) -> Timetable {
        let expression = Expression::parse(expression).unwrap();
        Timetable { expression, zone: zone(name).unwrap(), begin: None, end: None }
    }

    fn instant(text: &str) -> Timestamp {
        Timestamp::from_micros(text.parse::<Instant>().unwrap().as_microsecond())
    }

    /// As people write them in the zone.
    fn times(table: &Timetable, after: &str, until: &str) -> Vec<String> {
        let next = |at: &Timestamp| table.next_after(*at);
        let all = std::iter::successors(table.next_after(instant(after)), next);
        all.take_while(|at| *at <= instant(until))
            .map(|at| {
                let at = Instant::from_microsecond(at.micros()).unwrap();
                at.to_zoned(table.zone.clone()).strftime("%H:%M%:z").to_string()
            })
            .collect()
    }

    /// Days on which clocks are changed: a zone, and a span around the change.
    type Day = (&'static str, &'static str, &'static str);
    const BERLIN_SPRING: Day = ("Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z");
    const BERLIN_AUTUMN: Day = ("Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T12:00:00Z");
    const NEW_YORK_SPRING: Day =
        ("America/New_York", "2026-03-08T00:00:00Z", "2026-03-08T16:00:00Z");
    const NEW_YORK_AUTUMN: Day =
        ("America/New_York", "2026-11-01T00:00:00Z", "2026-11-01T16:00:00Z");
    const HOWE_SPRING: Day =
        ("Australia/Lord_Howe", "2026-10-03T12:00:00Z", "2026-10-03T18:00:00Z");
    const HOWE_AUTUMN: Day =
        ("Australia/Lord_Howe", "2026-04-04T12:00:00Z", "2026-04-04T18:00:00Z");

    #[test]
    fn clocks_that_jump_lose_no_fixed_time_and_clocks_that_fall_back_repeat_none() {
        for (expression, (zone, after, until), expected) in [
            ("30 2 * * *", BERLIN_SPRING, "03:00+02:00"),
            ("0,15,30 2 * * *", BERLIN_SPRING, "03:00+02:00"),
            ("0 2-4 * * *", BERLIN_SPRING, "03:00+02:00 04:00+02:00"),
            ("*/30 2 * * *", BERLIN_SPRING, ""),
            ("*/30 1-3 * * *", BERLIN_SPRING, "01:00+01:00 01:30+01:00 03:00+02:00 03:30+02:00"),
            ("30 2 * * *", BERLIN_AUTUMN, "02:30+02:00"),
            ("0 3 * * *", BERLIN_AUTUMN, "03:00+01:00"),
            ("*/30 2 * * *", BERLIN_AUTUMN, "02:00+02:00 02:30+02:00 02:00+01:00 02:30+01:00"),
            ("30 2 * * *", NEW_YORK_SPRING, "03:00-04:00"),
            ("30 1 * * *", NEW_YORK_AUTUMN, "01:30-04:00"),
            ("*/30 1 * * *", NEW_YORK_AUTUMN, "01:00-04:00 01:30-04:00 01:00-05:00 01:30-05:00"),
            ("15 2 * * *", HOWE_SPRING, "02:30+11:00"),
            ("45 2 * * *", HOWE_SPRING, "02:45+11:00"),
            ("*/15 2 * * *", HOWE_SPRING, "02:30+11:00 02:45+11:00"),
            ("45 1 * * *", HOWE_AUTUMN, "01:45+11:00"),
            ("*/20 1 * * *", HOWE_AUTUMN, "01:00+11:00 01:20+11:00 01:40+11:00 01:40+10:30"),
        ] {
            let found = times(&table(expression, zone), after, until).join(" ");
            assert_eq!(found, expected, "{expression} in {zone}");
        }
    }

    /// A day that a whole country left out.
    #[test]
    fn a_day_that_never_was_is_made_up_for() {
        let table = table("0 12 * * *", "Pacific/Apia");
        let all = times(&table, "2011-12-29T12:00:00Z", "2011-12-31T00:00:00Z");
        assert_eq!(all, ["12:00-10:00", "00:00+14:00", "12:00+14:00"]);
    }

    /// From wherever one looks, the same times come: in every zone with a clock that is changed.
    #[test]
    fn it_does_not_matter_from_where_one_looks() {
        for name in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"] {
            for expression in ["30 2 * * *", "*/20 1-3 * * *", "0 0 * * *", "45 1 * * *"] {
                let table = table(expression, name);
                let (begin, end) =
                    (instant("2026-01-01T00:00:00Z"), instant("2027-01-01T00:00:00Z"));
                let next = |at: &Timestamp| table.next_after(*at);
                let all: Vec<_> = std::iter::successors(table.next_after(begin), next)
                    .take_while(|at| *at < end)
                    .collect();
                assert!(all.windows(2).all(|two| two[0] < two[1]));
                if table.expression.is_fixed() {
                    assert_eq!(all.len(), 365, "{expression} in {name}");
                }
                for two in all.windows(2) {
                    let half = i64::midpoint(two[0].micros(), two[1].micros());
                    for looked in [half, two[1].micros() - 1, two[0].micros() + 1] {
                        let found = table.next_after(Timestamp::from_micros(looked));
                        assert_eq!(found, Some(two[1]), "{expression} in {name}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_window_counts_with_both_its_ends() {
        let window = Timetable {
            begin: Some(instant("2026-11-20T12:00:00Z")),
            end: Some(instant("2026-11-20T12:02:00Z")),
            ..table("* * * * *", "UTC")
        };
        let all = times(&window, "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        assert_eq!(all, ["12:00+00:00", "12:01+00:00", "12:02+00:00"]);
    }

    #[test]
    fn zones_are_built_in_and_others_are_unknown() {
        assert!(zone("UTC").is_some() && zone("Asia/Kathmandu").is_some());
        assert!(
            zone("Europe/Atlantis").is_none() && zone("").is_none() && zone("+02:00").is_none()
        );
        assert!(zones().len() > 400);
    }
}
