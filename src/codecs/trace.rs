//! Where a run stands in a trace: W3C `traceparent`, and the ids that follow from a run.
//!
//! May not know spans or who collects them. Invariant: an id depends on the run, its effect and its
//! epoch alone, so that a restart goes on in the same trace, and no id is all zeros.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ground::digest::hex;
use crate::ground::id::{EffectId, Epoch, RunId};

/// The bit of a trace's flags that says that its spans are kept.
const SAMPLED: u8 = 1;

/// A place in a trace, as it is handed on: `00-<trace>-<span>-<flags>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: [u8; 16],
    span: [u8; 8],
    flags: u8,
}

/// The text is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent such as 00-<32 hex digits>-<16 hex digits>-01")]
pub struct Unreadable;

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex(&self.trace), hex(&self.span), self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let parts: Vec<&str> = text.split('-').collect();
        // A later version may say more, but says this much in the same way.
        let [version, trace, span, flags, rest @ ..] = &parts[..] else { return Err(Unreadable) };
        let [version] = bytes(version).ok_or(Unreadable)?;
        if version == u8::MAX || (version == 0 && !rest.is_empty()) {
            return Err(Unreadable);
        }
        let trace = bytes(trace).filter(|trace| *trace != [0; 16]).ok_or(Unreadable)?;
        let span = bytes(span).filter(|span| *span != [0; 8]).ok_or(Unreadable)?;
        let [flags] = bytes(flags).ok_or(Unreadable)?;
        Ok(Self { trace, span, flags: flags & SAMPLED })
    }
}

/// So many bytes in small hex digits.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let small = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    if text.len() != 2 * N || !text.as_bytes().iter().all(small) {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The trace of a run: its caller's, or one of its own.
#[derive(Debug, Clone, Copy)]
pub struct RunTrace<'a> {
    run: &'a RunId,
    caller: Option<TraceContext>,
}

impl<'a> RunTrace<'a> {
    /// Of a run, and where its caller stood.
    #[must_use]
    pub const fn new(run: &'a RunId, caller: Option<TraceContext>) -> Self {
        Self { run, caller }
    }

    /// The trace.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        let own = || first(blake3::hash(&[b"trace", self.run.as_str().as_bytes()].concat()));
        self.caller.map_or_else(own, |caller| caller.trace)
    }

    /// Whether its spans are kept.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.caller.is_none_or(|caller| caller.flags & SAMPLED != 0)
    }

    /// The span of whoever called for the run.
    #[must_use]
    pub fn caller_span(&self) -> Option<[u8; 8]> {
        self.caller.map(|caller| caller.span)
    }

    /// The span of the run itself.
    #[must_use]
    pub fn run_span(&self) -> [u8; 8] {
        self.span("", Epoch(0))
    }

    /// The span of an effect, over all its attempts.
    #[must_use]
    pub fn effect_span(&self, effect: EffectId) -> [u8; 8] {
        self.attempt_span(effect, Epoch(0))
    }

    /// The span of one attempt.
    #[must_use]
    pub fn attempt_span(&self, effect: EffectId, epoch: Epoch) -> [u8; 8] {
        self.span(&effect.to_string(), epoch)
    }

    /// The place that the work of an attempt goes on from.
    #[must_use]
    pub fn attempt(&self, effect: EffectId, epoch: Epoch) -> TraceContext {
        TraceContext {
            trace: self.id(),
            span: self.attempt_span(effect, epoch),
            flags: if self.is_sampled() { SAMPLED } else { 0 },
        }
    }

    fn span(&self, effect: &str, epoch: Epoch) -> [u8; 8] {
        // No id holds a slash: two places never give the same text.
        first(blake3::hash(format!("{}/{effect}/{epoch}", self.run).as_bytes()))
    }
}

/// The beginning of a digest; all zeros would be no id.
fn first<const N: usize>(digest: blake3::Hash) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&digest.as_bytes()[..N]);
    if out == [0; N] { [1; N] } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn ids_depend_on_run_effect_and_epoch_alone() {
        let (r, s): (RunId, RunId) = ("r".parse().unwrap(), "s".parse().unwrap());
        let (one, two) = (EffectId::new(1), EffectId::new(2));
        let own = RunTrace::new(&r, None);
        let first = own.attempt(one, Epoch(1));
        assert_eq!(first, RunTrace::new(&r, None).attempt(one, Epoch(1)));
        assert_ne!(first.span, own.attempt(one, Epoch(2)).span);
        assert_ne!(first.span, own.attempt(two, Epoch(1)).span);
        assert_ne!(first.span, own.effect_span(one));
        assert_ne!(own.run_span(), own.effect_span(one));
        assert_ne!(own.id(), RunTrace::new(&s, None).id());
        assert_eq!(own.caller_span(), None);
        let caller: TraceContext = CALLER.parse().unwrap();
        let run = RunTrace::new(&r, Some(caller));
        assert_eq!((run.id(), run.caller_span()), (caller.trace, Some(caller.span)));
        assert_eq!(run.attempt(one, Epoch(1)).span, first.span);
        assert!(run.attempt(one, Epoch(1)).to_string().starts_with(&CALLER[..36]));
        assert_eq!(first.to_string().parse(), Ok(first));
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        assert_eq!(CALLER.parse::<TraceContext>().unwrap().to_string(), CALLER);
        let later = CALLER.replacen("00-", "01-", 1) + "-more";
        assert_eq!(later.parse::<TraceContext>().unwrap().to_string(), CALLER);
        let unsampled: TraceContext = CALLER.replace("-01", "-00").parse().unwrap();
        assert!(!RunTrace::new(&"r".parse().unwrap(), Some(unsampled)).is_sampled());
        for bad in [
            "",
            "00",
            &CALLER[..CALLER.len() - 1],
            &CALLER.replace("-01", "-01-x"),
            &CALLER.replacen("00-", "ff-", 1),
            &CALLER.to_uppercase(),
            &CALLER.replace("b7ad6b7169203331", "0000000000000000"),
            &CALLER.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &CALLER.replace("0af7651916cd43dd8448eb211c80319c", "zz"),
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(Unreadable), "{bad}");
        }
    }
}
