//! Steering a run: cancel, halt, pause, resume, patch, signal.
//!
//! May not know who may steer. Invariant: a repeat of what stands already is told so and appends
//! nothing.

use serde_json::Value;

use crate::codecs::event::{
    ErrorInfo, Event, OperatorNote, Patch, Payload, RunCancelRequested, RunCompleted, RunFailed,
    RunPaused, RunResumed, Seal, SignalReceived,
};
use crate::codecs::json::{Json, Numbers, canonical};
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Seq};
use crate::ground::limits::SIGNAL_BACKLOG_MAX;
use crate::machines::effect::life::EffectStatus;
use crate::machines::replay::check::output_digest;
use crate::machines::replay::drafts;

use super::open::{OpenRun, record_at};
use super::trouble::Trouble;
use super::{Error, Result, Runs};

/// What became of a deed: the record that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The record.
    pub seq: Seq,
    /// It stood there already.
    pub repeat: bool,
}

/// A signal to send.
#[derive(Debug, Clone)]
pub struct Signal {
    /// Its name.
    pub name: String,
    /// What a wait may name besides.
    pub correlation_key: Option<String>,
    /// The same id is accepted once; made up if nothing.
    pub signal_id: Option<String>,
    /// What the wait resolves with.
    pub payload: Json,
}

/// How an operator closes a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinalStatus {
    /// As completed.
    Completed,
    /// As failed.
    Failed,
}

impl Runs {
    /// Asks for cancellation. The process is told when the run goes on.
    pub fn cancel(&self, reference: &str, reason: Option<String>, now: bool) -> Result<Done> {
        self.deed(reference, |run| run.cancel(reason, now))
    }

    /// Closes a run from outside: open effects are given up, then the end is written.
    pub fn halt(&self, reference: &str, reason: &str, as_: FinalStatus) -> Result<Done> {
        self.deed(reference, |run| {
            let done = run.halt(reason, as_)?;
            // Its child runs go with it.
            if !done.repeat {
                run.drive_children()?;
            }
            Ok(done)
        })
    }

    /// Keeps a run from going on; posts and signals are still taken.
    pub fn pause(&self, reference: &str) -> Result<Done> {
        self.deed(reference, OpenRun::pause)
    }

    /// Lets a paused or held run go on.
    pub fn resume(&self, reference: &str, reason: Option<String>) -> Result<Done> {
        self.deed(reference, |run| run.resume(reason))
    }

    /// Lets a run that its process's error holds go on, with another value inside the outcome of
    /// one effect if given: (effect, dot-separated path, value).
    pub fn recover(
        &self,
        reference: &str,
        patch: Option<(EffectId, String, Json)>,
        reason: Option<String>,
    ) -> Result<Done> {
        self.deed(reference, |run| run.recover(patch, reason))
    }

    /// Sends a signal.
    pub fn signal(&self, reference: &str, signal: Signal) -> Result<Done> {
        self.deed(reference, |run| run.signal(signal))
    }

    /// Writes a remark into a journal; legal in every state.
    pub fn note(&self, reference: &str, text: &str) -> Result<Done> {
        self.deed(reference, |run| run.note(text))
    }

    /// Opens, does, closes; also when the deed was refused.
    fn deed(
        &self,
        reference: &str,
        deed: impl FnOnce(&mut OpenRun) -> Result<Done>,
    ) -> Result<Done> {
        let mut run = self.open(reference)?;
        let done = deed(&mut run);
        run.close_after(done)
    }
}

impl OpenRun {
    /// Asks for cancellation. The process is told when the run goes on.
    pub fn cancel(&mut self, reason: Option<String>, now: bool) -> Result<Done> {
        if let Some(stands) = self.state().cancel.clone() {
            if now {
                self.give_up_everything("no time for clean-up")?;
            }
            return Ok(Done { seq: stands.seq, repeat: true });
        }
        self.must_be_open()?;
        let by = self.runs.by.clone();
        self.fresh(RunCancelRequested { reason, now, by }.into())
    }

    /// Closes a run from outside: open effects are given up, then the end is written.
    pub fn halt(&mut self, reason: &str, as_: FinalStatus) -> Result<Done> {
        if let Some((_, seq)) = self.state().end {
            return Ok(Done { seq, repeat: true });
        }
        let by = self.runs.by.clone();
        self.give_up_everything("run halted")?;
        let seal = Some(Seal { reason: reason.to_owned(), by });
        let done = self.fresh(match as_ {
            FinalStatus::Completed => RunCompleted {
                output: Some(Json::null()),
                output_blob: None,
                output_digest: output_digest(&Json::null()),
                warnings: Vec::new(),
                seal,
                cause: None,
            }
            .into(),
            FinalStatus::Failed => {
                let (name, message) = ("ManualHalt".to_owned(), reason.to_owned());
                let error = ErrorInfo { name, message, stack: None, data: None };
                let (last_effect, warnings, cause) = (None, Vec::new(), None);
                RunFailed { error, last_effect, warnings, seal, cause }.into()
            }
        })?;
        Ok(done)
    }

    /// Keeps a run from going on; posts and signals are still taken.
    pub fn pause(&mut self) -> Result<Done> {
        if self.state().paused.is_some() {
            return Ok(Done { seq: self.state().head.seq, repeat: true });
        }
        self.must_be_open()?;
        let by = self.runs.by.clone();
        self.fresh(RunPaused { reason: "operator".into(), effect_id: None, by }.into())
    }

    /// Lets a paused or held run go on.
    pub fn resume(&mut self, reason: Option<String>) -> Result<Done> {
        self.must_be_stopped()?;
        let by = self.runs.by.clone();
        self.fresh(RunResumed { reason, patch: None, by }.into())
    }

    /// Lets a run that its process's error holds go on, with another value inside the outcome of
    /// one effect if given: (effect, dot-separated path, value).
    pub fn recover(
        &mut self,
        patch: Option<(EffectId, String, Json)>,
        reason: Option<String>,
    ) -> Result<Done> {
        self.must_be_stopped()?;
        let patch = patch.map(|(id, path, value)| self.patch(id, path, &value)).transpose()?;
        let by = self.runs.by.clone();
        self.fresh(RunResumed { reason, patch, by }.into())
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<Done> {
        let digest = Digest::of(canonical(&signal.payload, Numbers::AsWritten, None).as_bytes());
        if let Some((seq, before)) =
            signal.signal_id.as_ref().and_then(|id| self.state().signal_ids.get(id))
        {
            let same = match record_at(self.records(), *seq).map(|r| &r.event) {
                Some(Event::SignalReceived(old)) => {
                    old.name == signal.name && old.correlation_key == signal.correlation_key
                }
                _ => false,
            };
            if same && *before == digest {
                return Ok(Done { seq: *seq, repeat: true });
            }
            let what = format!(
                "a signal of this id was received at record {seq} with another name or payload"
            );
            return Err(Error::Conflict(Trouble::new("signal_id_taken", what)));
        }
        self.must_be_open()?;
        if self.state().signals.len() >= SIGNAL_BACKLOG_MAX {
            let what = format!("{SIGNAL_BACKLOG_MAX} signals wait for the process already");
            return Err(Error::Refused(Trouble::new("signal_backlog_max", what)));
        }
        let made_up = self.runs.fresh_id().to_string();
        let by = self.runs.by.clone();
        self.fresh(
            SignalReceived {
                signal_id: signal.signal_id.unwrap_or(made_up),
                name: signal.name,
                correlation_key: signal.correlation_key,
                payload: Some(signal.payload),
                payload_blob: None,
                digest,
                by,
            }
            .into(),
        )
    }

    /// Writes a remark into a journal; legal in every state.
    pub fn note(&mut self, text: &str) -> Result<Done> {
        let by = self.runs.by.clone();
        self.fresh(OperatorNote { text: text.to_owned(), by }.into())
    }

    fn fresh(&mut self, event: Event) -> Result<Done> {
        Ok(Done { seq: self.append(event)?.seq, repeat: false })
    }

    fn give_up_everything(&mut self, reason: &str) -> Result<()> {
        let by = self.runs.by.clone();
        let open: Vec<Event> =
            self.state().open_effects().map(|e| drafts::effect_cancelled(e, reason, &by)).collect();
        for event in open {
            self.append(event)?;
        }
        Ok(())
    }

    fn must_be_stopped(&self) -> Result<()> {
        self.must_be_open()?;
        if self.state().held.is_some() || self.state().paused.is_some() {
            return Ok(());
        }
        let what = format!("run {} is neither held nor paused", self.dir.id());
        let next = format!("dormouse run iterate {}", self.dir.id());
        Err(Error::Conflict(Trouble::new("not_stopped", what).next(next)))
    }

    /// The whole value of an effect after one place in it was replaced.
    fn patch(&self, id: EffectId, path: String, value: &Json) -> Result<Patch> {
        let invalid = |what: String| Error::Invalid(Trouble::new("patch_invalid", what));
        let effect = self.state().effect(id).filter(|e| e.status == EffectStatus::Ok);
        let effect = effect.ok_or_else(|| invalid(format!("effect {id} has no value to patch")))?;
        let seq = effect.ended.as_ref().map_or(Seq(0), |e| e.seq);
        let before = match self.state().patches.get(&id) {
            Some(patched) => patched.clone(),
            None => match record_at(self.records(), seq).map(|r| &r.event) {
                Some(Event::EffectResolved(r)) => {
                    let payload = Payload::join(r.value.as_ref(), r.value_blob.as_ref())
                        .or_else(|| signal_payload(self, r.signal_seq?));
                    payload.map(|p| self.value(&p)).transpose()?.unwrap_or_else(Json::null)
                }
                _ => Json::null(),
            },
        };
        let mut whole = before.to_value();
        let mut place = &mut whole;
        for key in path.split('.') {
            let Value::Object(map) = place else {
                return Err(invalid(format!("{path}: {key} is not inside an object")));
            };
            place = map.entry(key.to_owned()).or_insert(Value::Null);
        }
        *place = value.to_value();
        Ok(Patch { effect_id: id, path, value: Json::of(&whole) })
    }
}

/// The payload of a signal that resolved an effect.
fn signal_payload(run: &OpenRun, seq: Seq) -> Option<Payload> {
    match record_at(run.records(), seq).map(|r| &r.event) {
        Some(Event::SignalReceived(s)) => {
            Payload::join(s.payload.as_ref(), s.payload_blob.as_ref())
        }
        _ => None,
    }
}
