//! Text that comes from outside: JSON, names, sources of processes.

use dormouse::codecs::json::{Numbers, Surrogates, canonical, gate};
use dormouse::codecs::source::{analyze, strip_types};
use dormouse::codecs::trace::TraceContext;
use dormouse::ground::clock::Timestamp;
use dormouse::ground::digest::{Digest, Sum};
use dormouse::ground::id::{EffectId, RunId};
use dormouse::machines::limits::Rate;
use dormouse::machines::workflow::reference::{Reference, pieces};
use dormouse::machines::workflow::span;
use dormouse::services::executor::agents::duration;
use dormouse::shells::commit_log::{segment_file, segment_number};

use super::choice;

/// What the gate lets through is JSON to others too, means the same, and passes again unchanged.
pub fn json_gate(data: &[u8]) {
    let (how, data) = choice(data);
    let depth = 1 + usize::from(how >> 1);
    let surrogates = if how & 1 == 0 { Surrogates::Paired } else { Surrogates::Lone };
    let Ok(json) = gate(data, depth, surrogates) else { return };
    assert!(json.as_str().len() <= data.len());
    let again = gate(json.as_str().as_bytes(), depth, surrogates);
    let again = again.unwrap_or_else(|e| panic!("what passed is refused: {e}"));
    assert_eq!(again.as_str(), json.as_str());
    for numbers in [Numbers::AsWritten, Numbers::EcmaScript] {
        let text = canonical(&json, numbers, None);
        assert!(gate(text.as_bytes(), depth, surrogates).is_ok(), "{text}");
    }
    let _ = json.to_value();
    if how & 1 == 0 {
        let ours = serde_json::from_slice::<serde::de::IgnoredAny>(data);
        assert!(ours.is_ok(), "only the gate takes it");
    }
}

/// What is read of a name is printed as it was.
fn same<T: std::str::FromStr + ToString>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string(), text);
    }
}

/// Names, times, spans, sums: whatever somebody sends where one is expected.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    same::<RunId>(text);
    same::<EffectId>(text);
    same::<Digest>(text);
    same::<Sum>(text);
    let _ = text.parse::<Rate>();
    if let Ok(at) = text.parse::<Timestamp>() {
        assert_eq!(at.to_string().parse::<Timestamp>().ok(), Some(at));
    }
    if let Ok(place) = text.parse::<TraceContext>() {
        assert_eq!(place.to_string().parse::<TraceContext>(), Ok(place));
    }
    if let Some(number) = segment_number(text) {
        assert_eq!(segment_file(number), text);
    }
    let _ = (duration::read(text), span::parse(text, false));
    if let Some(millis) = span::parse(text, true) {
        assert_eq!(span::parse(&span::print(millis), true), Some(millis));
    }
    let _ = pieces(text).len();
    if let Ok(reference) = Reference::parse(text) {
        let _ = reference.print();
    }
}

/// A source text is read, and its types are taken out, or what is wrong is said.
pub fn source(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = analyze("main.js", text);
    if let Ok(plain) = strip_types("main.ts", text) {
        assert_eq!(plain.lines().count(), text.lines().count(), "lines keep their numbers");
    }
}
