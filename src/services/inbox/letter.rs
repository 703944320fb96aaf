//! A letter: what a file of the inbox says, an outcome or a signal.
//!
//! May not open files. Invariant: a letter with a member that nobody knows, or with a word too few,
//! is none.

use serde::Deserialize;

use crate::codecs::event::ErrorInfo;
use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, RunId};
use crate::ground::limits::JSON_DEPTH_MAX;
use crate::machines::effect::post::PostStatus;
use crate::services::runs::post::{Output, Posting};
use crate::services::runs::steer::Signal;
use crate::services::runs::trouble::Trouble;

/// What a file asks for.
#[derive(Debug)]
pub(super) struct Letter {
    /// The run.
    pub(super) run: RunId,
    /// What to do to it.
    pub(super) deed: Deed,
}

/// What is done to the run.
#[derive(Debug)]
pub(super) enum Deed {
    /// An outcome.
    Post(Box<Posting>),
    /// A signal.
    Signal(Signal),
}

/// An outcome as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Outcome {
    run_id: RunId,
    effect_id: EffectId,
    status: PostStatus,
    #[serde(default, deserialize_with = "present")]
    value: Option<Json>,
    error: Option<ErrorInfo>,
    epoch: Option<Epoch>,
    invocation_key: Option<String>,
    stdout: Option<String>,
    stderr: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
    #[serde(default, deserialize_with = "present")]
    metadata: Option<Json>,
}

/// A signal as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Signalled {
    run_id: RunId,
    signal: String,
    correlation_key: Option<String>,
    #[serde(default, deserialize_with = "present")]
    payload: Option<Json>,
    signal_id: Option<String>,
}

/// Only what tells the two apart.
#[derive(Deserialize)]
struct Either {
    signal: Option<serde::de::IgnoredAny>,
}

/// Reads a value that is there: `null` is a value, only a missing member is none.
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(d).map(Some)
}

/// Reads the file `name`.
pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Letter, Trouble> {
    let refused = |why: String| {
        Trouble::new("inbox_file_refused", why)
            .next("mend the file and move it into the inbox again")
    };
    let json =
        gate(bytes, JSON_DEPTH_MAX, Surrogates::Paired).map_err(|e| refused(e.to_string()))?;
    let wrong = |e: serde_json::Error| refused(e.to_string());
    if json.read::<Either>().map_err(wrong)?.signal.is_none() {
        return outcome(json.read().map_err(wrong)?).map_err(|why| refused(why.to_owned()));
    }
    let said: Signalled = json.read().map_err(wrong)?;
    if said.signal.is_empty() {
        return Err(refused("the signal has no name".to_owned()));
    }
    // The same file, found again after a crash, is the same signal.
    let made_up = || {
        let digest = Digest::of(&[name.as_bytes(), b"\0", bytes].concat());
        format!("inbox:{}", &digest.hex()[..32])
    };
    let signal = Signal {
        name: said.signal,
        correlation_key: said.correlation_key,
        signal_id: Some(said.signal_id.unwrap_or_else(made_up)),
        payload: said.payload.unwrap_or_else(Json::null),
    };
    Ok(Letter { run: said.run_id, deed: Deed::Signal(signal) })
}

fn outcome(said: Outcome) -> Result<Letter, &'static str> {
    match said.status {
        PostStatus::Ok if said.error.is_some() => return Err("an error belongs to status error"),
        PostStatus::Error | PostStatus::Unknown if said.value.is_some() => {
            return Err("a value belongs to status ok");
        }
        PostStatus::Error if said.error.is_none() => return Err("status error needs an error"),
        _ => {}
    }
    let printed = |text: Option<String>| text.map(|text| Output::Content(text.into_bytes()));
    let posting = Posting {
        effect: said.effect_id,
        status: said.status,
        value: said.value,
        error: said.error,
        retryable: None,
        epoch: said.epoch,
        invocation_key: said.invocation_key,
        stdout: printed(said.stdout),
        stderr: printed(said.stderr),
        started_at: said.started_at,
        finished_at: said.finished_at,
        metadata: said.metadata,
    };
    Ok(Letter { run: said.run_id, deed: Deed::Post(Box::new(posting)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        read("x.json", text.as_bytes()).map(|_| ()).unwrap_err().what
    }

    #[test]
    fn what_is_no_letter_is_told_why() {
        for (text, why) in [
            ("", "ends where a value should be"),
            ("[]", "invalid length 0"),
            (r#"{"runId":"r","runId":"r"}"#, "duplicate key"),
            (r#"{"runId":"r","effectId":"e0001","status":"ok","x":1}"#, "unknown field `x`"),
            (r#"{"runId":"../r","effectId":"e0001","status":"ok"}"#, "run id"),
            (r#"{"runId":"r","effectId":"e1","status":"ok"}"#, "effect id"),
            (r#"{"runId":"r","effectId":"e0001","status":"done"}"#, "unknown variant"),
            (r#"{"runId":"r","effectId":"e0001","status":"error"}"#, "needs an error"),
            (r#"{"runId":"r","effectId":"e0001","status":"error","value":1}"#, "status ok"),
            (r#"{"runId":"r","signal":""}"#, "no name"),
            (r#"{"runId":"r","signal":"go","value":1}"#, "unknown field `value`"),
            ("{} {}", "more bytes after"),
        ] {
            assert!(refusal(text).contains(why), "{text}: {}", refusal(text));
        }
    }

    #[test]
    fn a_signal_without_an_id_is_known_by_its_file() {
        let id = |name: &str, text: &str| match read(name, text.as_bytes()).unwrap().deed {
            Deed::Signal(signal) => signal.signal_id.unwrap(),
            Deed::Post(_) => unreachable!(),
        };
        let (one, two) = (r#"{"runId":"r","signal":"go"}"#, r#"{"runId":"r","signal":"go" }"#);
        assert_eq!(id("a.json", one), id("a.json", one));
        assert_ne!(id("a.json", one), id("b.json", one));
        assert_ne!(id("a.json", one), id("a.json", two));
        assert_eq!(id("a.json", r#"{"runId":"r","signal":"go","signalId":"s"}"#), "s");
    }

    #[test]
    fn null_is_a_value() {
        let posting = |text: &str| match read("a.json", text.as_bytes()).unwrap().deed {
            Deed::Post(posting) => posting,
            Deed::Signal(_) => unreachable!(),
        };
        let with = r#"{"runId":"r","effectId":"e0001","status":"ok","value":null}"#;
        assert_eq!(posting(with).value, Some(Json::null()));
        let without = r#"{"runId":"r","effectId":"e0001","status":"ok"}"#;
        assert_eq!(posting(without).value, None);
    }
}
