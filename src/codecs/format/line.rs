//! One journal record as one line: envelope, chain sum, canonical bytes.
//!
//! `{"seq":N,"at":"…","type":"…","data":{…},"sum":"<32 hex>"}` and a line feed. The last 43 bytes
//! have a fixed form, so a reader cuts there and never searches. May not know files or what an
//! event is legal after. Invariant: a line that decodes is byte for byte the line that encoding
//! the decoded record gives.

use super::compact;
use crate::codecs::event::{self, Event, Record};
use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::digest::Sum;
use crate::ground::id::{RunId, Seq};
use crate::ground::limits::{JOURNAL_RECORD_BYTES_MAX, JSON_DEPTH_MAX};
use crate::ground::sabotage::{self, Guard};
use std::fmt::Write;

/// Length of `,"sum":"` + 32 hex digits + `"}` + line feed.
pub const TRAILER_BYTES: usize = 43;

const SUM_FIELD: &[u8; 8] = b",\"sum\":\"";

/// Why a line is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The trailer has not its fixed form, or the sum does not follow from the line before.
    #[error("the line does not verify")]
    Sum,
    /// The line verifies but is longer than a record may be (J25).
    #[error("the line has {0} bytes, more than a record may have")]
    TooLong(usize),
    /// The line verifies but is not how a record is written (J23).
    #[error("the line verifies but was not written by dormouse: {0}")]
    NotCanonical(String),
    /// The line verifies and comes from a newer version (J62).
    #[error("the record is of a newer version: {0}")]
    Newer(String),
}

/// What the first record of a run builds on.
#[must_use]
pub fn genesis(run: &RunId) -> Sum {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"dormouse-journal/1\n");
    if !sabotage::is_removed(Guard::NoSeed) {
        hasher.update(run.as_str().as_bytes()).update(b"\n");
    }
    Sum::from_hasher(&hasher)
}

/// The sum of a line whose bytes before the trailer are `body`.
#[must_use]
pub fn chain(previous: Sum, body: &[u8]) -> Sum {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous.as_bytes()).update(body);
    Sum::from_hasher(&hasher)
}

/// Appends the trailer with `sum` to a body.
pub(super) fn push_trailer(out: &mut Vec<u8>, sum: Sum) {
    out.extend_from_slice(SUM_FIELD);
    out.extend_from_slice(sum.to_string().as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// The bytes of one record, line feed included, and its sum.
#[must_use]
pub fn encode(seq: Seq, at: Timestamp, event: &Event, previous: Sum) -> (Vec<u8>, Sum) {
    encode_data(seq, at, event.name(), &event.data(), previous)
}

/// The same from the parts of an event.
#[must_use]
pub fn encode_data(
    seq: Seq,
    at: Timestamp,
    event_type: &str,
    data: &Json,
    previous: Sum,
) -> (Vec<u8>, Sum) {
    let mut text = String::with_capacity(data.as_str().len() + 160);
    // Writing to a string cannot fail.
    let _ = write!(text, r#"{{"seq":{seq},"at":"{at}","type":"{event_type}","data":"#);
    text.push_str(data.as_str());
    let mut out = text.into_bytes();
    let sum = chain(previous, &out);
    push_trailer(&mut out, sum);
    (out, sum)
}

/// Cuts a whole line into body and stated sum; nothing if the trailer has not its form.
#[must_use]
pub fn split(line: &[u8]) -> Option<(&[u8], Sum)> {
    let cut = line.len().checked_sub(TRAILER_BYTES)?;
    let (body, trailer) = line.split_at(cut);
    if !trailer.starts_with(SUM_FIELD) || !trailer.ends_with(b"\"}\n") {
        return None;
    }
    let sum = std::str::from_utf8(&trailer[8..40]).ok()?.parse().ok()?;
    Some((body, sum))
}

/// The parts of a line, verified or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Its place.
    pub seq: Seq,
    /// When.
    pub at: Timestamp,
    /// The event's type.
    pub event_type: &'a str,
    /// The event's data, unread.
    pub data: &'a str,
}

/// Reads the envelope of a body by position: fields, order and spelling are fixed.
///
/// # Errors
/// The first part that has another form.
pub fn envelope(body: &str) -> Result<Envelope<'_>, &'static str> {
    let rest = body.strip_prefix("{\"seq\":").ok_or("it does not begin with its seq")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = rest.split_at(digits);
    let canonical = !number.is_empty() && (number == "0" || !number.starts_with('0'));
    let seq = number.parse().ok().filter(|_| canonical).ok_or("its seq is not a number")?;
    let rest = rest.strip_prefix(",\"at\":\"").ok_or("its at is missing")?;
    let (at, rest) = rest.split_at_checked(27).ok_or("its at is missing")?;
    let at = timestamp(at).ok_or("its at is not a time")?;
    let rest = rest.strip_prefix("\",\"type\":\"").ok_or("its type is missing")?;
    let end = rest.bytes().take_while(|b| b.is_ascii_uppercase() || *b == b'_').count();
    let (event_type, rest) = rest.split_at(end);
    let data = rest.strip_prefix("\",\"data\":").ok_or("its data is missing")?;
    Ok(Envelope { seq: Seq(seq), at, event_type, data })
}

/// `YYYY-MM-DDTHH:MM:SS.ffffffZ` by position: the parser of [`Timestamp`] is for what people type
/// and several times slower. Days that a month does not have fall to that parser's refusal.
fn timestamp(text: &str) -> Option<Timestamp> {
    let b = text.as_bytes();
    let number = |from: usize, to: usize| {
        b[from..to]
            .iter()
            .try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(*d - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
    if b.len() != 27 || marks.iter().any(|(i, mark)| b[*i] != *mark) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let micros = number(20, 26)?;
    if !(1..=12).contains(&month) || !(1..=28).contains(&day) {
        // The end of a month is where calendars differ.
        return text.parse().ok();
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Years are counted from March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + day_of_era - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp::from_micros(seconds * 1_000_000 + micros))
}

/// Checks the chain and reads a whole line, line feed included.
///
/// # Errors
/// The line does not follow from `previous`, or follows and is not a record of this version.
pub fn decode(line: &[u8], previous: Sum) -> Result<Record, Error> {
    let (body, stated) = split(line).ok_or(Error::Sum)?;
    if chain(previous, body) != stated && !sabotage::is_removed(Guard::NoChain) {
        return Err(Error::Sum);
    }
    if line.len() > JOURNAL_RECORD_BYTES_MAX {
        return Err(Error::TooLong(line.len()));
    }
    let strange = |why: &str| Error::NotCanonical(why.to_owned());
    let body = std::str::from_utf8(body).map_err(|_| strange("it is not UTF-8"))?;
    let Envelope { seq, at, event_type, data } = envelope(body).map_err(strange)?;
    compact::check(data, JSON_DEPTH_MAX).map_err(strange)?;
    let event = Event::decode(event_type, data).map_err(|e| judge(&e))?;
    // Values inside are kept as text; everything else must print as it was read.
    if !event.prints_as(data) {
        return Err(strange("its data is not in canonical form"));
    }
    Ok(Record { seq, at, event, sum: stated })
}

/// Newer or strange: a name that is not known speaks for a newer writer.
fn judge(error: &event::Error) -> Error {
    match error {
        event::Error::Shape { why, .. } if !why.starts_with("unknown ") => {
            Error::NotCanonical(error.to_string())
        }
        newer => Error::Newer(newer.to_string()),
    }
}

/// The name of the segment whose first record is `first`.
#[must_use]
pub fn segment_name(first: Seq) -> String {
    format!("{:010}.jsonl", first.0)
}

/// The place in a segment's name; nothing if it is not one.
#[must_use]
pub fn segment_first(name: &str) -> Option<Seq> {
    let digits = name.strip_suffix(".jsonl")?;
    let first = Seq(digits.parse().ok()?);
    (first.0 > 0 && segment_name(first) == name).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codecs::event::OperatorNote;

    fn note(text: &str) -> Event {
        OperatorNote { text: text.into(), by: "operator:test".into() }.into()
    }

    fn run(id: &str) -> RunId {
        id.parse().unwrap()
    }

    #[test]
    fn the_vectors_hold() {
        let vectors = include_str!("../../../fixtures/vectors/journal-lines.txt");
        let mut rows = vectors.lines().filter(|row| !row.starts_with('#') && !row.is_empty());
        let id = rows.next().unwrap().strip_prefix("run ").unwrap();
        let mut sum = genesis(&run(id));
        assert_eq!(rows.next().unwrap(), format!("genesis {sum}"));
        while let Some(body) = rows.next() {
            sum = chain(sum, body.as_bytes());
            assert_eq!(rows.next().unwrap(), sum.to_string(), "{body}");
        }
    }

    #[test]
    fn a_line_reads_back_and_ends_in_its_trailer() {
        let at = "2026-11-20T12:00:00.000001Z".parse().unwrap();
        let start = genesis(&run("r"));
        let (line, sum) = encode(Seq(7), at, &note("hällo \u{1f600}"), start);
        let record = decode(&line, start).unwrap();
        assert_eq!((record.seq, record.at, record.sum), (Seq(7), at, sum));
        assert_eq!(record.event, note("hällo \u{1f600}"));
        let (body, stated) = split(&line).unwrap();
        assert_eq!((body.len() + TRAILER_BYTES, stated), (line.len(), sum));
        assert_eq!(decode(&line, sum), Err(Error::Sum));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let start = genesis(&run("r"));
        let (line, _) = encode(Seq(1), Timestamp::default(), &note("x"), start);
        for bit in 0..line.len() * 8 {
            let mut bad = line.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad, start), Err(Error::Sum), "bit {bit}");
        }
        for cut in 0..line.len() {
            assert_eq!(decode(&line[..cut], start), Err(Error::Sum), "cut {cut}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_and_any_payload_read_back(
            text in ".*",
            payload in proptest::collection::vec((".{0,9}", proptest::prelude::any::<f64>()), 0..5),
            micros in 0..4_000_000_000_000_000_i64,
            seq in 1..u64::MAX,
        ) {
            let map: std::collections::BTreeMap<_, _> =
                payload.into_iter().filter(|(_, number)| number.is_finite()).collect();
            let event = Event::from(crate::codecs::event::SignalReceived {
                signal_id: text.clone(),
                name: text,
                correlation_key: None,
                payload: Some(Json::of(&map)),
                payload_blob: None,
                digest: crate::ground::digest::Digest::of(b""),
                by: "operator:test".into(),
            });
            let start = genesis(&run("r"));
            let at = Timestamp::from_micros(micros);
            let (line, sum) = encode(Seq(seq), at, &event, start);
            let record = decode(&line, start);
            proptest::prop_assert_eq!(record, Ok(Record { seq: Seq(seq), at, event, sum }));
        }
    }

    fn forged(body: &str) -> Error {
        let start = genesis(&run("r"));
        let mut line = body.as_bytes().to_vec();
        push_trailer(&mut line, chain(start, body.as_bytes()));
        decode(&line, start).unwrap_err()
    }

    #[test]
    fn what_verifies_but_was_not_written_by_us_is_told_apart() {
        const HEAD: &str = r#"{"seq":1,"at":"2026-11-20T12:00:00.000000Z","type":"OPERATOR_NOTE","#;
        for data in [
            r#""data":{"by":"a","text":"hi"}"#,
            r#""data":{"text":"hi", "by":"a"}"#,
            r#""data":{"text":"hi","text":"hi","by":"a"}"#,
            r#""data":{"text":"h\u0069","by":"a"}"#,
            r#""data":{"text":"hi"}"#,
            r#""data":{"text":1,"by":"a"}"#,
            r#" "data":{"text":"hi","by":"a"}"#,
            "\"data\":{\"text\":\"hi\",\"by\":\"a\"",
        ] {
            assert!(matches!(forged(&format!("{HEAD}{data}")), Error::NotCanonical(_)), "{data}");
        }
        let signal = |payload: &str| {
            let digest = crate::ground::digest::Digest::of(b"");
            format!(
                concat!(
                    r#"{{"seq":1,"at":"2026-11-20T12:00:00.000000Z","type":"SIGNAL_RECEIVED","#,
                    r#""data":{{"signalId":"s","name":"n","payload":{},"digest":"{}","by":"b"}}"#
                ),
                payload, digest
            )
        };
        for payload in ["{\"a\": 1}", "{\"a\":1,\"a\":2}", "1e999", &"[".repeat(200)] {
            assert!(matches!(forged(&signal(payload)), Error::NotCanonical(_)), "{payload}");
        }
        for newer in [
            format!(r#"{HEAD}"data":{{"text":"hi","mood":"good","by":"a"}}"#),
            HEAD.replace("OPERATOR_NOTE", "RUN_DREAMT") + r#""data":{}"#,
        ] {
            assert!(matches!(forged(&newer), Error::Newer(_)), "{newer}");
        }
        let long = format!(r#"{HEAD}"data":{{"text":"{}","by":"a"}}"#, "x".repeat(300_000));
        assert!(matches!(forged(&long), Error::TooLong(_)));
    }

    #[test]
    fn times_by_position_are_the_times_of_the_parser() {
        let mut micros = -62_135_596_800_000_000;
        while micros < 253_402_207_200_000_000 {
            let text = Timestamp::from_micros(micros).to_string();
            assert_eq!(timestamp(&text), text.parse().ok(), "{text}");
            micros += 86_400_000_000 * 13 + 12_345_678_901;
        }
        for bad in ["2026-02-30T12:00:00.000000Z", "2026-11-20T24:00:00.000000Z", "x"] {
            assert_eq!(timestamp(bad), None, "{bad}");
        }
    }
}
