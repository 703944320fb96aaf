//! What a daemon is sent: the bodies of requests.
//!
//! May not decide anything. Invariant: values leave as they were given, byte for byte.

use std::path::Path;

use serde::Serialize;

use super::failure::Failure;
use crate::codecs::event::ErrorInfo;
use crate::codecs::json::Json;
use crate::ground::id::EffectId;
use crate::machines::effect::post::PostStatus;
use crate::services::repair::{Loss, Order};
use crate::services::runs::accept::{OnChange, OnRemoved};
use crate::services::runs::create::{NewRun, Source};
use crate::services::runs::post::{self, Output};
use crate::services::runs::steer::Signal;

/// Where process code comes from.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Code<'a> {
    entry: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    process_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process_root: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    library_root: Option<&'a Path>,
    pins: &'a [String],
}

impl<'a> Code<'a> {
    fn of(source: &'a Source) -> Self {
        let export = source.entry.export_name.as_ref();
        let export = export.map_or(String::new(), |export| format!("#{export}"));
        Self {
            entry: format!("{}{export}", source.entry.path.display()),
            process_id: source.process_id.as_deref(),
            process_root: source.root.as_deref(),
            library_root: source.library_root.as_deref(),
            pins: &source.extra,
        }
    }
}

/// `POST /v1/runs`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Creating<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Code<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd: Option<&'a str>,
    non_interactive: bool,
}

impl<'a> Creating<'a> {
    pub(super) fn of(new: &'a NewRun) -> Self {
        Self {
            source: new.source.as_ref().map(Code::of),
            inputs: new.inputs.as_ref(),
            run_id: new.run_id.as_ref().map(crate::ground::id::RunId::as_str),
            idempotency_key: new.idempotency_key.as_deref(),
            tags: &new.tags,
            cwd: new.cwd.as_deref(),
            non_interactive: new.non_interactive,
        }
    }
}

/// `POST …/assign-process`.
#[derive(Serialize)]
pub(super) struct Assigning<'a> {
    source: Code<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<&'a Json>,
    force: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> Assigning<'a> {
    pub(super) fn of(
        source: &'a Source,
        inputs: Option<&'a Json>,
        force: bool,
        reason: Option<&'a str>,
    ) -> Self {
        Self { source: Code::of(source), inputs, force, reason }
    }
}

/// `POST …/accept`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepting<'a> {
    source: Code<'a>,
    on_args_change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_removed: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    yes: bool,
}

impl<'a> Accepting<'a> {
    pub(super) fn of(
        source: &'a Source,
        on_change: OnChange,
        on_removed: Option<OnRemoved>,
        reason: Option<&'a str>,
    ) -> Self {
        let on_args_change = match on_change {
            OnChange::Keep => "keep",
            OnChange::Redo => "redo",
            OnChange::Fail => "fail",
        };
        let on_removed = on_removed.map(|choice| match choice {
            OnRemoved::Keep => "keep",
            OnRemoved::Cancel => "cancel",
        });
        Self { source: Code::of(source), on_args_change, on_removed, reason, yes: true }
    }
}

/// `POST …/recover`.
#[derive(Serialize)]
pub(super) struct Recovering<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) patch: Option<Patching<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
}

/// Another value inside the outcome of an effect.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Patching<'a> {
    pub(super) effect_id: EffectId,
    pub(super) path: &'a str,
    pub(super) value: &'a Json,
}

/// `POST …/signals`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Signalling<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal_id: Option<&'a str>,
    payload: &'a Json,
}

impl<'a> Signalling<'a> {
    pub(super) fn of(signal: &'a Signal) -> Self {
        Self {
            name: &signal.name,
            correlation_key: signal.correlation_key.as_deref(),
            signal_id: signal.signal_id.as_deref(),
            payload: &signal.payload,
        }
    }
}

/// An error, and whether another attempt may help.
#[derive(Serialize)]
struct Failing<'a> {
    #[serde(flatten)]
    error: &'a ErrorInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    retryable: Option<bool>,
}

/// `POST …/tasks/{effect}/result`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Posting<'a> {
    status: PostStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failing<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invocation_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_ref: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_ref: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Json>,
}

impl<'a> Posting<'a> {
    pub(super) fn of(posting: &'a post::Posting) -> Result<Self, Failure> {
        let (stdout, stdout_ref) = printed("stdout", posting.stdout.as_ref())?;
        let (stderr, stderr_ref) = printed("stderr", posting.stderr.as_ref())?;
        Ok(Self {
            status: posting.status,
            value: posting.value.as_ref(),
            error: posting
                .error
                .as_ref()
                .map(|error| Failing { error, retryable: posting.retryable }),
            epoch: posting.epoch.map(|epoch| epoch.0),
            invocation_key: posting.invocation_key.as_deref(),
            stdout,
            stdout_ref,
            stderr,
            stderr_ref,
            started_at: posting.started_at.as_deref(),
            finished_at: posting.finished_at.as_deref(),
            metadata: posting.metadata.as_ref(),
        })
    }
}

type Printed<'a> = (Option<&'a str>, Option<&'a str>);

/// What a task printed: its text, or the file that holds it.
fn printed<'a>(name: &str, output: Option<&'a Output>) -> Result<Printed<'a>, Failure> {
    match output {
        None => Ok((None, None)),
        Some(Output::Reference(file)) => Ok((None, Some(file))),
        Some(Output::Content(bytes)) => {
            let text = std::str::from_utf8(bytes).map_err(|_| {
                let what = format!("--{name}-file is not UTF-8, and a daemon takes text");
                let next = format!("put it into the run directory and give --{name}-ref");
                Failure::usage(&what, &next)
            })?;
            Ok((Some(text), None))
        }
    }
}

/// `POST /v1/runs/{run}/repair`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Repairing<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    accept_loss: Option<u64>,
    accept_any_loss: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> Repairing<'a> {
    pub(super) fn of(order: &'a Order) -> Self {
        let accept_loss = if let Loss::Records(count) = order.loss { Some(count) } else { None };
        Self {
            accept_loss,
            accept_any_loss: order.loss == Loss::Unknown,
            from: order.from.as_deref(),
            reason: order.why.as_deref(),
        }
    }
}
