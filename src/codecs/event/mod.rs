//! Events: what a journal record means. One enum, one struct per type, one list of names.
//!
//! May not know how a record is chained or stored, nor which event is legal when: the first is
//! [`crate::codecs::format::line`]'s, the second the fold's
//! ([`crate::machines::replay::state::RunState::apply`]). Invariant: an event prints as exactly the
//! bytes it was read from; anything else is refused.

pub mod clip;
mod effect;
mod run;

pub use effect::*;
pub use run::*;

use crate::codecs::json::Json;
use crate::ground::clock::Timestamp;
use crate::ground::digest::{Digest, Sum};
use crate::ground::id::{EffectId, Seq};

/// One record of a journal, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its place, from 1.
    pub seq: Seq,
    /// When it was appended. Never steps back inside a run once folded.
    pub at: Timestamp,
    /// What it says.
    pub event: Event,
    /// The chain sum over everything up to and including it.
    pub sum: Sum,
}

/// A value too large for a record: its place in `blobs/`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobRef {
    /// BLAKE3 of the raw content; its hex is the file's name.
    pub digest: Digest,
    /// Size of the content.
    pub bytes: u64,
}

/// A value that stands in the record or in a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// In the record.
    Inline(Json),
    /// In a blob that is durable before the record.
    Blob(BlobRef),
}

impl Payload {
    /// Splits into the pair of fields `x`, `xBlob`.
    #[must_use]
    pub fn split(self) -> (Option<Json>, Option<BlobRef>) {
        match self {
            Self::Inline(json) => (Some(json), None),
            Self::Blob(blob) => (None, Some(blob)),
        }
    }

    /// Joins the pair of fields `x`, `xBlob`; absent when both are. Where both are there, the one
    /// in the record is an excerpt of the blob.
    #[must_use]
    pub fn join(inline: Option<&Json>, blob: Option<&BlobRef>) -> Option<Self> {
        blob.cloned().map(Self::Blob).or_else(|| inline.cloned().map(Self::Inline))
    }
}

impl Event {
    /// The blobs that the record names.
    #[must_use]
    pub fn blobs(&self) -> Vec<&BlobRef> {
        let named = match self {
            Self::RunCreated(e) => [e.inputs_blob.as_ref(), None],
            Self::ProcessAssigned(e) => [e.inputs_blob.as_ref(), None],
            Self::RunContinued(e) => [e.inputs_blob.as_ref(), None],
            Self::SignalReceived(e) => [e.payload_blob.as_ref(), None],
            Self::RunCompleted(e) => [e.output_blob.as_ref(), None],
            Self::EffectRequested(e) => [e.def_blob.as_ref(), e.args_blob.as_ref()],
            Self::EffectResolved(e) => [e.value_blob.as_ref(), None],
            _ => [None, None],
        };
        named.into_iter().flatten().collect()
    }
}

impl Event {
    /// The effect that the record is about.
    #[must_use]
    pub const fn effect_id(&self) -> Option<EffectId> {
        match self {
            Self::EffectRequested(e) => Some(e.effect_id),
            Self::EffectStarted(e) => Some(e.effect_id),
            Self::EffectAttemptFailed(e) => Some(e.effect_id),
            Self::EffectUncertain(e) => Some(e.effect_id),
            Self::EffectResolved(e) => Some(e.effect_id),
            Self::EffectCancelled(e) => Some(e.effect_id),
            _ => None,
        }
    }
}

/// Reads a value that is there: `null` is a value, only a missing field is none.
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Json>, D::Error> {
    <Json as serde::Deserialize>::deserialize(d).map(Some)
}

/// Why the data of a record is not an event that this version writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// J62: written by a newer version.
    #[error("event type {0:?} is not known to this version of dormouse")]
    UnknownType(String),
    /// J62 or J23: a field is missing, unknown or of another shape.
    #[error("data of {event_type}: {why}")]
    Shape {
        /// The record's type.
        event_type: &'static str,
        /// What the decoder said.
        why: String,
    },
}

/// A writer that takes exactly the bytes it expects.
struct Expected<'a>(&'a [u8]);

impl std::io::Write for Expected<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let rest = self.0.strip_prefix(bytes).ok_or(std::io::ErrorKind::InvalidData)?;
        self.0 = rest;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Declares the enum, its names and the codec from one list.
macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident($data:ty) = $name:literal,)*) => {
        /// Everything that a journal may hold. The doc of each says who appends it, from which
        /// states it is legal and to which it leads.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $($(#[$doc])* $variant($data),)*
        }

        /// The names of all event types, in the order of `docs/formats.md`.
        pub const EVENT_TYPES: &[&str] = &[$($name),*];

        impl Event {
            /// The type as it stands in the record.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// The data as compact JSON text.
            #[must_use]
            pub fn data(&self) -> Json {
                match self { $(Self::$variant(data) => Json::of(data),)* }
            }

            /// Whether [`Event::data`] would give exactly `text`, without making the text.
            #[must_use]
            pub fn prints_as(&self, text: &str) -> bool {
                let mut rest = Expected(text.as_bytes());
                let same = match self {
                    $(Self::$variant(data) => serde_json::to_writer(&mut rest, data).is_ok(),)*
                };
                same && rest.0.is_empty()
            }

            /// Reads the data of a record of type `event_type`.
            ///
            /// # Errors
            /// The type is unknown, or the data is not what this version writes for it.
            pub fn decode(event_type: &str, data: &str) -> Result<Self, Error> {
                match event_type {
                    $($name => serde_json::from_str(data).map(Self::$variant).map_err(|e| {
                        Error::Shape { event_type: $name, why: e.to_string() }
                    }),)*
                    other => Err(Error::UnknownType(other.to_owned())),
                }
            }
        }

        $(impl From<$data> for Event {
            fn from(data: $data) -> Self { Self::$variant(data) }
        })*
    };
}

events! {
    /// First record of a run, appended by the door or the parent's executor. → created. An input
    /// of the process unless the run is bare.
    RunCreated(RunCreated) = "RUN_CREATED",
    /// A process for a bare run, or other code for an open one (`accepted`, `force`); appended for
    /// an operator or client. created, open → running. An input.
    ProcessAssigned(ProcessAssigned) = "PROCESS_ASSIGNED",
    /// A patch mark; an output of a turn. running → running.
    ValueObserved(ValueObserved) = "VALUE_OBSERVED",
    /// A signal arrived; appended by a door. Any open state → same. Its match is an
    /// `EFFECT_RESOLVED` of the same commit.
    SignalReceived(SignalReceived) = "SIGNAL_RECEIVED",
    /// Paused by an operator. Open → paused.
    RunPaused(RunPaused) = "RUN_PAUSED",
    /// Stopped by the engine until an operator looks. running → held; left by `RUN_RESUMED` or
    /// `PROCESS_ASSIGNED`.
    RunHeld(RunHeld) = "RUN_HELD",
    /// An operator lets it go on. paused, held → running, parked.
    RunResumed(RunResumed) = "RUN_RESUMED",
    /// Cancellation asked for; appended by a door or the parent; once. Open → cancelling. An input.
    RunCancelRequested(RunCancelRequested) = "RUN_CANCEL_REQUESTED",
    /// This generation ended by continueAsNew; an output. running → continued; the next generation
    /// begins at the next record, and this record is its first input.
    RunContinued(RunContinued) = "RUN_CONTINUED",
    /// The process returned; an output. running → completed. With `seal`, an operator's halt from
    /// any open state.
    RunCompleted(RunCompleted) = "RUN_COMPLETED",
    /// The process threw; an output. running → failed. With `seal` as above.
    RunFailed(RunFailed) = "RUN_FAILED",
    /// Ended by `ctx.halt` (an output) or an operator. running, open → halted.
    RunHalted(RunHalted) = "RUN_HALTED",
    /// Cancellation done; appended by the engine. cancelling with no open effect → cancelled.
    RunCancelled(RunCancelled) = "RUN_CANCELLED",
    /// Repair set something aside; any state → same.
    JournalRepaired(JournalRepaired) = "JOURNAL_REPAIRED",
    /// Up to here the records are another run's; the first own record of a fork, appended while it
    /// is made. Open → same, its hold aside.
    RunForkedFrom(RunForkedFrom) = "RUN_FORKED_FROM",
    /// A remark for whoever reads the journal; any state → same.
    OperatorNote(OperatorNote) = "OPERATOR_NOTE",
    /// The process asked for something outside; an output. – → requested.
    EffectRequested(EffectRequested) = "EFFECT_REQUESTED",
    /// Someone may now execute it; durable before anyone does. requested → started.
    EffectStarted(EffectStarted) = "EFFECT_STARTED",
    /// The attempt is closed and the effect open again. started, uncertain → requested.
    EffectAttemptFailed(EffectAttemptFailed) = "EFFECT_ATTEMPT_FAILED",
    /// Started, outcome unknown. started → uncertain; requested → uncertain for the causes
    /// `key_outcome_unknown`, `forked`, `repaired`.
    EffectUncertain(EffectUncertain) = "EFFECT_UNCERTAIN",
    /// The outcome. requested, started, uncertain → ok, error. An input.
    EffectResolved(EffectResolved) = "EFFECT_RESOLVED",
    /// Given up. requested, started, uncertain → cancelled. An input while the process waits for
    /// it.
    EffectCancelled(EffectCancelled) = "EFFECT_CANCELLED",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_value_is_not_a_missing_one() {
        let data = r#"{"effectId":"e0001","epoch":0,"status":"ok","value":null,"by":"timer"}"#;
        let event = Event::decode("EFFECT_RESOLVED", data).unwrap();
        assert_eq!(event.data().as_str(), data);
        let without = r#"{"effectId":"e0001","epoch":0,"status":"ok","by":"timer"}"#;
        let event = Event::decode("EFFECT_RESOLVED", without).unwrap();
        assert_eq!(event.data().as_str(), without);
    }
}
