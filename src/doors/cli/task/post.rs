//! `task post`: post the outcome of an effect.
//!
//! May not decide whether a post is accepted. Invariant: exit 0 means that the outcome is durable.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{EffectArg, unknown_effect};
use crate::codecs::event::ErrorInfo;
use crate::codecs::json::{Json, Surrogates, gate};
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, output};
use crate::ground::id::Epoch;
use crate::ground::limits::JSON_DEPTH_MAX;
use crate::machines::effect::post::PostStatus as Said;
use crate::services::runs::post::{Output, Posting};
use crate::shells::run_dir::dir::RunDir;

/// Post the outcome of an effect. The run takes it in when it goes on.
///
/// Example:
///   dormouse task post RUN e0001 --status ok --value-inline '{"score": 9}'
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: EffectArg,
    /// How it ended
    #[arg(long, value_enum, ignore_case = true, required_unless_present = "from_stale")]
    status: Option<PostStatus>,
    /// The value: a JSON file (looked up in the run directory first), or - for standard input
    #[arg(long, value_name = "FILE")]
    value: Option<PathBuf>,
    /// The value, on the command line
    #[arg(long, value_name = "JSON", conflicts_with = "value")]
    value_inline: Option<String>,
    /// The error: a file with JSON {name, message, data} or plain text, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["value", "value_inline"])]
    error: Option<PathBuf>,
    /// Whether another attempt may help: true or false; if left out, the policy knows
    #[arg(long, value_name = "BOOL", requires = "epoch")]
    retryable: Option<bool>,
    /// What the task printed
    #[arg(long, value_name = "FILE")]
    stdout_file: Option<PathBuf>,
    /// File of the run directory that holds what the task printed
    #[arg(long, value_name = "PATH", conflicts_with = "stdout_file")]
    stdout_ref: Option<String>,
    /// What the task printed as errors
    #[arg(long, value_name = "FILE")]
    stderr_file: Option<PathBuf>,
    /// File of the run directory that holds what the task printed as errors
    #[arg(long, value_name = "PATH", conflicts_with = "stderr_file")]
    stderr_ref: Option<String>,
    /// When the work began
    #[arg(long, value_name = "TIME", value_parser = time)]
    started_at: Option<String>,
    /// When it ended
    #[arg(long, value_name = "TIME", value_parser = time)]
    finished_at: Option<String>,
    /// Anything to keep beside the outcome: a JSON file
    #[arg(long, value_name = "FILE")]
    metadata: Option<PathBuf>,
    /// Refuse unless the effect has this invocation key
    #[arg(long, value_name = "KEY")]
    invocation_key: Option<String>,
    /// The start that is answered, by whoever claimed it
    #[arg(long, value_name = "N")]
    epoch: Option<u64>,
    /// Post again what was refused: a file that was kept in the task's stale/, such as
    /// tasks/e0001/stale/1-1.json
    #[arg(long, value_name = "FILE")]
    #[arg(conflicts_with_all = ["status", "value", "value_inline", "error"])]
    from_stale: Option<PathBuf>,
    /// Say what would be posted, and post nothing
    #[arg(long)]
    dry_run: bool,
}

/// What is kept of a post that was refused, as far as it says how the task ended.
#[derive(serde::Deserialize)]
struct Refused {
    status: PostStatus,
    value: Option<Json>,
    error: Option<ErrorInfo>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum PostStatus {
    /// Well
    Ok,
    /// Badly
    Error,
    /// Nobody knows: it began, and may have happened
    Unknown,
}

impl From<PostStatus> for Said {
    fn from(status: PostStatus) -> Self {
        match status {
            PostStatus::Ok => Self::Ok,
            PostStatus::Error => Self::Error,
            PostStatus::Unknown => Self::Unknown,
        }
    }
}

/// A time that a record keeps as it was given.
fn time(text: &str) -> Result<String, String> {
    let wrong = |_| "give a time such as 2026-11-20T12:00:00Z".to_owned();
    text.parse::<jiff::Timestamp>().map(|_| text.to_owned()).map_err(wrong)
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let posting = posting(args, context)?;
    if args.dry_run {
        let seen = context.runs.look(&args.target.run)?;
        if seen.state.effect(posting.effect).is_none() {
            return Err(unknown_effect(&seen, posting.effect));
        }
        output::json(&json!({
            "status": "skipped", "dryRun": true,
            "plan": {
                "runDir": seen.dir.path(), "effectId": posting.effect, "status": posting.status,
                "valueProvided": posting.value.is_some(),
                "errorProvided": posting.error.is_some(),
                "stdoutRef": args.stdout_ref, "stderrRef": args.stderr_ref,
                "stdoutFile": args.stdout_file, "stderrFile": args.stderr_file,
            },
        }));
        return Ok(Exit::Done);
    }
    let posted = context.post(&args.target.run, &posting)?;
    report(context, &posted);
    Ok(Exit::Done)
}

/// What a post prints; shared with the breakpoint verbs.
pub(in crate::doors::cli) fn report(context: &Context, posted: &Value) {
    if context.json {
        return output::json(posted);
    }
    let warnings = posted["warnings"].as_array().into_iter().flatten();
    let warnings: Vec<String> = warnings.filter_map(|w| w.as_str().map(str::to_owned)).collect();
    output::warnings(&warnings);
    let text = |name: &str| posted[name].as_str().unwrap_or("-");
    let word = if posted["repeat"] == true { "stands already" } else { "is posted" };
    let (status, effect, seq) = (text("status"), text("effectId"), &posted["seq"]);
    output::line(&format!("outcome {status} of effect {effect} {word} (record {seq})"));
    if posted["normalizedShellFailure"] == true {
        output::remark("the error of a shell task is stored as a value with success: false");
    }
}

fn posting(args: &Args, context: &Context) -> Result<Posting, Failure> {
    let effect = args.target.id()?;
    let dir = context.runs.find(&args.target.run)?;
    let runs = &context.runs;
    let json = |flag: &str, path: &Path| -> Result<Json, Failure> {
        input::parse(flag, &input::run_bytes(runs, &dir, flag, path)?)
    };
    let (status, value, error) = match &args.from_stale {
        Some(path) => {
            let kept = input::run_bytes(runs, &dir, "--from-stale", path)?;
            let kept: Refused = serde_json::from_slice(&kept).map_err(|e| {
                let what = format!("--from-stale is no post that was refused: {e}");
                Failure::usage(&what, "name a file in tasks/<effect>/stale/")
            })?;
            // A value that is null was kept as null.
            let null = || (kept.status == PostStatus::Ok).then(Json::null);
            (kept.status, kept.value.or_else(null), kept.error)
        }
        None => said(args, context, &dir)?,
    };
    let printed = |flag: &str, file: &Option<PathBuf>, reference: &Option<String>| match file {
        Some(path) => Ok(Some(Output::Content(input::run_bytes(runs, &dir, flag, path)?))),
        None => Ok::<_, Failure>(reference.clone().map(Output::Reference)),
    };
    Ok(Posting {
        effect,
        status: status.into(),
        retryable: args.retryable.filter(|_| error.is_some()),
        value,
        error,
        epoch: args.epoch.map(Epoch),
        invocation_key: args.invocation_key.clone(),
        stdout: printed("--stdout-file", &args.stdout_file, &args.stdout_ref)?,
        stderr: printed("--stderr-file", &args.stderr_file, &args.stderr_ref)?,
        started_at: args.started_at.clone(),
        finished_at: args.finished_at.clone(),
        metadata: args.metadata.as_deref().map(|path| json("--metadata", path)).transpose()?,
    })
}

/// How the task ended, as the options say.
fn said(
    args: &Args,
    context: &Context,
    dir: &RunDir,
) -> Result<(PostStatus, Option<Json>, Option<ErrorInfo>), Failure> {
    let status = args.status.unwrap_or(PostStatus::Ok);
    let ok = status == PostStatus::Ok;
    if !ok && (args.value_inline.is_some() || args.value.is_some()) {
        return Err(Failure::usage("--value belongs to --status ok", "give --error FILE"));
    }
    if ok && args.error.is_some() {
        return Err(Failure::usage("--error belongs to --status error", "give --value FILE"));
    }
    let value = match (&args.value, &args.value_inline) {
        (Some(path), _) => {
            Some(input::parse("--value", &input::run_bytes(&context.runs, dir, "--value", path)?)?)
        }
        (None, Some(text)) => Some(input::inline("--value-inline", text)?),
        (None, None) => None,
    };
    let error = match status {
        PostStatus::Ok => None,
        PostStatus::Unknown if args.error.is_none() => None,
        _ => Some(error(args.error.as_deref(), context, dir)?),
    };
    Ok((status, value, error))
}

/// The posted error: JSON with a message, else plain text.
pub(super) fn error(
    path: Option<&Path>,
    context: &Context,
    dir: &RunDir,
) -> Result<ErrorInfo, Failure> {
    let plain = |name: &str, message: &str| ErrorInfo {
        name: name.to_owned(),
        message: message.to_owned(),
        stack: None,
        data: None,
    };
    let Some(path) = path else {
        return Ok(plain("Error", "Task reported failure"));
    };
    let bytes = input::run_bytes(&context.runs, dir, "--error", path)?;
    let Ok(json) = gate(&bytes, JSON_DEPTH_MAX, Surrogates::Paired) else {
        let text = String::from_utf8(bytes).map_err(|_| {
            Failure::usage("--error is neither JSON nor UTF-8 text", "give JSON {name, message}")
        })?;
        let text = text.trim_end();
        return Ok(plain("Error", text.strip_prefix("Error: ").unwrap_or(text)));
    };
    let tree = json.to_value();
    let word = |name: &str| tree.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    if let Some(text) = tree.as_str() {
        return Ok(plain("Error", text));
    }
    if !tree.is_object() {
        return Err(Failure::usage("--error is JSON, but no object", "give JSON {name, message}"));
    }
    let data = tree.get("data").map(Json::of);
    // An object without any of the known members is data as a whole.
    let data = data.or_else(|| word("message").is_none().then(|| json.clone()));
    Ok(ErrorInfo {
        name: word("name").unwrap_or_else(|| "TaskError".into()),
        message: word("message").unwrap_or_else(|| "Task failed".into()),
        stack: word("stack"),
        data,
    })
}
