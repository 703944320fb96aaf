//! Drafts: the records that an engine asks for, with values too large for a record set apart.
//!
//! May not append anything. Invariant: a draft's record fits into a journal line, whatever the
//! author wrote; what was cut for display is marked.

use super::check;
use super::engine::cancel_outcome;
use super::state::RunState;
use crate::codecs::event::clip::{clip, clip_error, cut, inline_or_marked};
use crate::codecs::event::{
    BlobRef, EffectCancelled, EffectRequested, EffectResolved, ErrorInfo, Event, ObservedOp,
    Payload, Policy, RunCancelled, RunCompleted, RunContinued, RunFailed, RunHalted, Status,
    ValueObserved,
};
use crate::codecs::json::Json;
use crate::codecs::turn::{Output, Request};
use crate::ground::digest::Digest;
use crate::ground::id::{EffectId, Epoch, Seq};
use crate::ground::limits::INLINE_BYTES_MAX;
use crate::machines::effect::life::Effect;
use crate::machines::effect::{self, policy};

/// Longest label kept in a record.
const LABEL_BYTES_MAX: usize = 256;
/// Most labels kept in a record.
const LABELS_MAX: usize = 16;
/// Most warnings kept in an end record.
const WARNINGS_MAX: usize = 20;
/// Largest member of a definition that the runtime itself looks at.
const FACT_BYTES_MAX: usize = 4096;

/// A record to append.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// What it says.
    pub event: Event,
    /// Values that must be durable in `blobs/` before it.
    pub blobs: Vec<Json>,
}

/// A draft of an event whose values are small.
#[must_use]
pub fn plain(event: Event) -> Draft {
    Draft { event, blobs: Vec::new() }
}

/// A draft of an event that may carry a large value.
#[must_use]
pub fn with_value(mut event: Event) -> Draft {
    let mut blobs = Vec::new();
    match &mut event {
        Event::EffectResolved(EffectResolved { value, value_blob, .. }) => {
            set_apart(value, value_blob, &mut blobs);
        }
        Event::SignalReceived(signal) => {
            set_apart(&mut signal.payload, &mut signal.payload_blob, &mut blobs);
        }
        Event::RunCreated(created) => {
            set_apart(&mut created.inputs, &mut created.inputs_blob, &mut blobs);
        }
        Event::ProcessAssigned(assigned) => {
            set_apart(&mut assigned.inputs, &mut assigned.inputs_blob, &mut blobs);
        }
        _ => {}
    }
    Draft { event, blobs }
}

/// Moves a value that is too large for a record into `blobs`.
fn set_apart(value: &mut Option<Json>, blob: &mut Option<BlobRef>, blobs: &mut Vec<Json>) {
    if let Some(large) = value.take_if(|v| v.as_str().len() > INLINE_BYTES_MAX) {
        let bytes = large.as_str().as_bytes();
        *blob = Some(BlobRef { digest: Digest::of(bytes), bytes: bytes.len() as u64 });
        blobs.push(large);
    }
}

fn payload(value: Option<Json>, blobs: &mut Vec<Json>) -> (Option<Json>, Option<BlobRef>) {
    let (mut inline, mut blob) = value.map(Payload::Inline).map_or((None, None), Payload::split);
    set_apart(&mut inline, &mut blob, blobs);
    (inline, blob)
}

/// The record of a request; followed by its refusal when it can never run.
#[must_use]
pub fn requested(request: &Request, cause: Seq) -> Vec<Draft> {
    let id = EffectId::new(request.ordinal);
    let mut blobs = Vec::new();
    let (def, def_blob) = payload(Some(request.def.clone()), &mut blobs);
    let def = def.or_else(|| excerpt(request).ok().flatten());
    let (args, args_blob) = payload(request.args.clone(), &mut blobs);
    let digest = |text: &str| text.parse().unwrap_or_else(|_| Digest::of(text.as_bytes()));
    let event = EffectRequested {
        effect_id: id,
        key: request.key.clone(),
        name: clip(&request.name),
        scope: clip(&request.scope),
        cause,
        kind: clip(&request.kind),
        task_id: request.task_id.as_deref().map(clip),
        title: request.title.as_deref().map(clip),
        label: request.label.as_deref().map(clip),
        labels: request.labels.iter().take(LABELS_MAX).map(|l| cut(l, LABEL_BYTES_MAX)).collect(),
        def,
        def_blob,
        def_digest: digest(&request.def_digest),
        args,
        args_blob,
        args_digest: digest(&request.args_digest),
        policy: policy(request).unwrap_or_default(),
        cleanup: request.cleanup,
    };
    let refusal = refusal(request, &event.policy);
    let mut batch = vec![Draft { event: event.into(), blobs }];
    batch.extend(refusal);
    batch
}

fn policy(request: &Request) -> Result<Policy, String> {
    policy::resolve(&request.kind, Some(&request.def), request.options.as_ref())
}

/// The answer to a request that can never run, if it is one. Options that were accepted into the
/// record stay accepted: those that are refused leave no policy there.
#[must_use]
pub fn refusal(request: &Request, recorded: &Policy) -> Option<Draft> {
    let refused_options = policy(request).err().filter(|_| *recorded == Policy::default());
    let why = refused_options.or_else(|| excerpt(request).err())?;
    Some(plain(refused(EffectId::new(request.ordinal), why)))
}

/// What the runtime has to know of a definition that stands in a blob: the fold reads records
/// alone. Nothing for a definition that stands in the record.
fn excerpt(request: &Request) -> Result<Option<Json>, String> {
    if request.def.as_str().len() <= INLINE_BYTES_MAX {
        return Ok(None);
    }
    let Some((section, names)) = effect::Wait::facts(&request.kind) else { return Ok(None) };
    let def = request.def.to_value();
    let inner = def.get(section).unwrap_or(&def);
    let mut kept = serde_json::Map::new();
    for name in names {
        let Some(value) = inner.get(name).or_else(|| def.get(name)) else { continue };
        let bytes = value.to_string().len();
        if bytes > FACT_BYTES_MAX {
            let kind = &request.kind;
            return Err(format!("{name} of a {kind} has {bytes} bytes, at most {FACT_BYTES_MAX}"));
        }
        kept.insert((*name).to_owned(), value.clone());
    }
    Ok(Some(Json::of(&serde_json::json!({ "kind": request.kind, section: kept }))))
}

/// The answer to a request that can never run.
fn refused(id: EffectId, why: String) -> Event {
    let error = effect::plain_error("InvalidTaskDefinitionError", why);
    let bare = EffectResolved::bare(id, Epoch(0), Status::Error, "engine");
    EffectResolved { error: Some(error), ..bare }.into()
}

/// The record of a patch mark.
#[must_use]
pub fn mark(key: &str, id: &str, cause: Seq) -> Draft {
    let value = Json::of(id);
    plain(ValueObserved { key: key.to_owned(), op: ObservedOp::Patch, value, cause }.into())
}

/// The record that gives up an effect.
#[must_use]
pub fn effect_cancelled(effect: &Effect, reason: &str, by: &str) -> Event {
    EffectCancelled {
        effect_id: effect.id,
        epoch: effect.epoch,
        outcome: cancel_outcome(effect),
        reason: clip(reason),
        by: by.to_owned(),
    }
    .into()
}

/// The end of a cancelled run.
#[must_use]
pub fn cancelled(reason: Option<String>, error: Option<ErrorInfo>) -> Draft {
    plain(RunCancelled { reason, error: error.map(clip_error), by: "engine".into() }.into())
}

/// The end of a run by its process, or its next generation.
#[must_use]
pub fn end(state: &RunState, output: &Output, cause: Seq, warnings: &[String]) -> Draft {
    let mut blobs = Vec::new();
    let warnings: Vec<String> = warnings.iter().take(WARNINGS_MAX).map(|w| clip(w)).collect();
    let event = match output {
        Output::Halted { reason, payload } => RunHalted {
            reason: clip(reason),
            payload: payload.clone().map(inline_or_marked),
            cause: Some(cause),
            by: "process".into(),
        }
        .into(),
        Output::Continued { inputs, entry, carry } => {
            return continued(state, inputs.as_ref(), entry.as_deref(), carry.as_ref(), cause);
        }
        Output::Failed { error } => RunFailed {
            error: clip_error(error.clone()),
            last_effect: last_effect(state, cause),
            warnings,
            seal: None,
            cause: Some(cause),
        }
        .into(),
        Output::Completed { output } => {
            let (inline, blob) = payload(Some(output.clone()), &mut blobs);
            RunCompleted {
                output: inline,
                output_blob: blob,
                output_digest: check::output_digest(output),
                warnings,
                seal: None,
                cause: Some(cause),
            }
            .into()
        }
        Output::Request(_) | Output::Mark { .. } => unreachable!("a settled process has ended"),
    };
    Draft { event, blobs }
}

fn continued(
    state: &RunState,
    inputs: Option<&Json>,
    entry: Option<&str>,
    carry: Option<&Json>,
    cause: Seq,
) -> Draft {
    let Some(mut process) = state.process.clone() else {
        unreachable!("only a process continues");
    };
    if let Some(entry) = entry {
        let (path, export) = entry.split_once('#').map_or((entry, None), |(p, e)| (p, Some(e)));
        path.clone_into(&mut process.entry);
        process.export_name = export.map(str::to_owned);
    }
    let mut blobs = Vec::new();
    let (inputs, inputs_blob) = payload(inputs.cloned(), &mut blobs);
    let event = RunContinued {
        generation: state.generation + 1,
        process,
        inputs,
        inputs_blob,
        carry: carry.cloned(),
        cause,
    };
    Draft { event: event.into(), blobs }
}

/// The effect whose outcome the failing turn was fed.
fn last_effect(state: &RunState, cause: Seq) -> Option<EffectId> {
    state.effects.values().find(|e| e.ended.as_ref().is_some_and(|x| x.seq == cause)).map(|e| e.id)
}

/// An output as records will show it, so that both can be compared: cut where records cut it, and
/// an error where no record can hold it.
#[must_use]
pub fn settle(output: Output) -> Output {
    match output {
        Output::Continued { carry: Some(carry), .. } if carry.as_str().len() > INLINE_BYTES_MAX => {
            let (large, most) = (carry.as_str().len(), INLINE_BYTES_MAX);
            let why =
                format!("carry has {large} bytes, at most {most}: pass large values as inputs");
            Output::Failed { error: effect::plain_error("LimitError", why) }
        }
        Output::Failed { error } => Output::Failed { error: clip_error(error) },
        Output::Halted { reason, payload } => {
            Output::Halted { reason: clip(&reason), payload: payload.map(inline_or_marked) }
        }
        Output::Request(mut request) => {
            request.kind = clip(&request.kind);
            Output::Request(request)
        }
        other => other,
    }
}
