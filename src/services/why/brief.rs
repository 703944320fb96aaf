//! What an agent that comes back after a crash must know of a run: what was done, what is open, and
//! what of that it may touch.
//!
//! May not read values from files, nor judge what a worker may do: the rules of claims and posts
//! do. Invariant: whatever may have been executed without a trace is never said to be safe.

use std::sync::Arc;

use serde::Serialize;

use super::found::{Found, Seen};
use super::unblock::Answer;
use super::walk::Walk;
use crate::codecs::event::{Event, Record};
use crate::codecs::json::Json;
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, RunId, Seq};
use crate::ground::limits::{BRIEF_EFFECTS_MAX, BRIEF_SUMMARY_BYTES_MAX, LEASE_TTL_MS_DEFAULT};
use crate::machines::effect::Wait;
use crate::machines::effect::claim::{Claim, claim};
use crate::machines::effect::life::{Effect, EffectStatus};

/// A run in brief.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Brief {
    /// The run.
    pub run: Stand,
    /// What has ended, in order, newest last.
    pub done: Vec<Done>,
    /// Older ends that are left out.
    pub done_omitted: usize,
    /// What has not, by number.
    pub open: Vec<Open>,
    /// Open effects that are left out.
    pub open_omitted: usize,
}

/// Where the run stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stand {
    /// Its id.
    pub run_id: RunId,
    /// The finer name of its state.
    pub state: &'static str,
    /// Its process.
    pub process_id: Option<String>,
    /// Why it does not go on.
    pub headline: String,
    /// Its last record.
    pub head: Seq,
}

/// An effect that has ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// The effect.
    pub effect_id: EffectId,
    /// What people call it.
    pub title: String,
    /// Its kind.
    pub kind: String,
    /// `ok`, `error`, `cancelled`.
    pub status: &'static str,
    /// Digest of its value.
    pub value_digest: Option<Digest>,
    /// The beginning of its value, or what went wrong.
    pub summary: String,
}

/// An effect without an outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// The effect.
    pub effect_id: EffectId,
    /// What people call it.
    pub title: String,
    /// Its kind.
    pub kind: String,
    /// `requested`, `started`, `uncertain`.
    pub state: &'static str,
    /// Its last start; 0: none.
    pub epoch: Epoch,
    /// What may be done about it.
    pub safe: Safe,
    /// The command for that, or what is waited for.
    pub how: String,
}

/// What whoever comes back may do about an open effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Safe {
    /// Nobody is at it: claim it, then execute it.
    ClaimAndExecute,
    /// Whoever asks holds it: post what came of it, or that nobody knows.
    PostOnly,
    /// Nobody knows whether it was executed: do not execute it.
    DecideFirst,
    /// It is not for whoever asks, or not yet.
    Wait,
}

impl Brief {
    /// A run in brief, for `worker` if it says who it is.
    #[must_use]
    pub fn of(seen: Seen<'_>, worker: Option<&str>) -> Self {
        let state = seen.state;
        let mut ended: Vec<(Seq, &Effect)> = state
            .effects
            .values()
            .filter(|effect| !effect.superseded)
            .filter_map(|effect| Some((effect.ended.as_ref()?.seq, effect)))
            .collect();
        ended.sort_unstable_by_key(|(seq, _)| *seq);
        let done_omitted = ended.len().saturating_sub(BRIEF_EFFECTS_MAX);
        let done = ended[done_omitted..].iter().map(|(seq, effect)| done(seen, effect, *seq));
        let open = state.open_effects().take(BRIEF_EFFECTS_MAX);
        let top = Walk::from(Found::of(seen), seen.memory.is_some(), seen.now).why(Vec::new());
        Self {
            run: Stand {
                run_id: state.run_id.clone(),
                state: top.state,
                process_id: state.process.as_ref().map(|process| process.process_id.clone()),
                headline: top.headline,
                head: state.head.seq,
            },
            done: done.collect(),
            done_omitted,
            open: open.map(|effect| opened(seen, effect, worker)).collect(),
            open_omitted: state.open.len().saturating_sub(BRIEF_EFFECTS_MAX),
        }
    }
}

fn title(effect: &Effect) -> String {
    let shown = effect.title.as_ref().or(effect.label.as_ref()).or(effect.task_id.as_ref());
    shown.unwrap_or(&effect.name).clone()
}

fn done(seen: Seen<'_>, effect: &Effect, seq: Seq) -> Done {
    let (value_digest, summary) = match seen.record(seq).map(|record| &record.event) {
        Some(Event::EffectResolved(end)) => {
            let signal = end.signal_seq.and_then(|seq| seen.record(seq));
            let (sent, digest) = sent(signal);
            let value = end.value.as_ref().or(sent).map(Json::as_str);
            let error = end.error.as_ref().map(|e| format!("{}: {}", e.name, e.message));
            let blob = end.value_blob.as_ref().map(|b| format!("{} bytes", b.bytes));
            let summary = error.or_else(|| value.map(str::to_owned)).or(blob);
            (end.value_digest.or(digest), summary.unwrap_or_default())
        }
        Some(Event::EffectCancelled(gone)) => (None, gone.reason.clone()),
        _ => (None, String::new()),
    };
    Done {
        effect_id: effect.id,
        title: title(effect),
        kind: effect.kind.clone(),
        status: effect.status.name(),
        value_digest,
        summary: cut(summary),
    }
}

/// The payload that a signal brought, and its digest.
fn sent(signal: Option<&Arc<Record>>) -> (Option<&Json>, Option<Digest>) {
    match signal.map(|record| &record.event) {
        Some(Event::SignalReceived(signal)) => (signal.payload.as_ref(), Some(signal.digest)),
        _ => (None, None),
    }
}

/// A text that is not too long for a summary.
fn cut(mut text: String) -> String {
    if text.len() > BRIEF_SUMMARY_BYTES_MAX {
        text.truncate(text.floor_char_boundary(BRIEF_SUMMARY_BYTES_MAX - '…'.len_utf8()));
        text.push('…');
    }
    text
}

fn opened(seen: Seen<'_>, effect: &Effect, worker: Option<&str>) -> Open {
    let answer = Answer { run: seen.name, effect };
    let holds_it = worker.is_some() && effect.worker.as_deref() == worker;
    let (safe, how) = match effect.status {
        EffectStatus::Uncertain => {
            let commands = answer.decide(false).join(", or: ");
            (Safe::DecideFirst, format!("find out what happened, then: {commands}"))
        }
        EffectStatus::Started if holds_it => (Safe::PostOnly, answer.post()),
        EffectStatus::Requested if matches!(effect.wait, Wait::Outside) => {
            match seen.may_start(effect) {
                Ok(()) => (Safe::ClaimAndExecute, answer.claim(worker)),
                Err(why) => (Safe::Wait, why),
            }
        }
        _ => (Safe::Wait, seen.why_open(effect)),
    };
    Open {
        effect_id: effect.id,
        title: title(effect),
        kind: effect.kind.clone(),
        state: effect.status.name(),
        epoch: effect.epoch,
        safe,
        how,
    }
}

impl Seen<'_> {
    /// Whether a worker may begin with a requested effect now, or why not.
    fn may_start(&self, effect: &Effect) -> Result<(), String> {
        match self.memory {
            Some(memory) if memory.holds.contains_key(&effect.id) => {
                return Err(self.why_open(effect));
            }
            // Whether another run has its key, only a daemon knows.
            None if effect.policy.idempotency_key.is_some() => {
                return Err("it has an idempotency key: only a daemon starts it".to_owned());
            }
            _ => {}
        }
        let anybody = Claim {
            worker: "anybody".into(),
            ttl_ms: LEASE_TTL_MS_DEFAULT,
            claim_id: None,
            target: None,
            slots: Vec::new(),
        };
        let claimed = claim(&self.state.standing(self.now), effect, &anybody, self.now);
        claimed.map(|_| ()).map_err(|refusal| refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_ends_between_characters() {
        let text = "é".repeat(BRIEF_SUMMARY_BYTES_MAX);
        let short = cut(text.clone());
        assert!(short.len() <= BRIEF_SUMMARY_BYTES_MAX && short.ends_with('…'));
        assert!(text.starts_with(short.trim_end_matches('…')));
        assert_eq!(cut("a".repeat(BRIEF_SUMMARY_BYTES_MAX)).len(), BRIEF_SUMMARY_BYTES_MAX);
    }
}
