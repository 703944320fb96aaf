//! What the end of a command means.
//!
//! May not decide whether it is tried again. Invariant: only an exit that was asked for is a
//! success.

use serde_json::{Map, Value, json};

use crate::codecs::event::{ErrorInfo, FailureClass};
use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::limits::{
    JSON_DEPTH_MAX, SHELL_ERROR_BYTES_MAX, SHELL_INLINE_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::machines::effect::plain_error;
use crate::ports::disk::{self, Kind, Open};
use crate::services::runs::post::Output;
use crate::shells::runner::folder::Folder;
use crate::shells::runner::{Exit, Stopped};

use super::super::{Attempt, Outcome};
use super::definition::Definition;
use super::{not_begun, unreadable};

/// What came of an attempt whose command ended.
pub(super) fn of(attempt: &Attempt, folder: &Folder, exit: &Exit) -> Outcome {
    if let Some(why) = &exit.spawn_failed {
        return not_begun(why.clone());
    }
    let def = match Definition::read(&attempt.definition) {
        Ok(def) => def,
        Err(why) => return Outcome::failed(FailureClass::Reported, plain_error("ShellExit", why)),
    };
    match judge(attempt, &def, folder, exit) {
        Ok(outcome) => outcome,
        Err(e) => unreadable(&e),
    }
}

fn judge(
    attempt: &Attempt,
    def: &Definition,
    folder: &Folder,
    exit: &Exit,
) -> disk::Result<Outcome> {
    let problem = problem(def, exit);
    let is_value = problem.is_none() || (def.failure_is_value && attempt.is_last);
    // An error stands in the record itself.
    let inline = if is_value { SHELL_INLINE_BYTES_MAX } else { SHELL_ERROR_BYTES_MAX };
    let mut value = value(attempt, folder, exit, (problem.is_none(), inline))?;
    let log = |stream: &str| Output::Reference(format!("tasks/{}/{stream}.log", attempt.effect_id));
    let ok = |value: Json| Outcome::Ok {
        value,
        stdout: Some(log("stdout")),
        stderr: Some(log("stderr")),
    };
    if let Some(mut error) = problem {
        value.insert("error".to_owned(), json!(error.message));
        let is_final = exit.stopped == Some(Stopped::Cancel);
        if is_value && !is_final {
            return Ok(ok(Json::of(&value)));
        }
        error.data = Some(Json::of(&value));
        let class = FailureClass::Reported;
        return Ok(Outcome::Failed { class, error, is_final, retry_after_ms: None });
    }
    match chosen(def, folder)? {
        Ok(None) => Ok(ok(Json::of(&value))),
        Ok(Some(Chosen::Value(chosen))) => Ok(ok(chosen)),
        Ok(Some(Chosen::Printed(printed))) => {
            value.insert("json".to_owned(), printed.to_value());
            Ok(ok(Json::of(&value)))
        }
        Err(why) => {
            let error =
                ErrorInfo { data: Some(Json::of(&value)), ..plain_error("ShellOutput", why) };
            let class = FailureClass::Reported;
            Ok(Outcome::Failed { class, error, is_final: true, retry_after_ms: None })
        }
    }
}

/// Why an end is a failure.
fn problem(def: &Definition, exit: &Exit) -> Option<ErrorInfo> {
    let name = def.command.program();
    let (word, what) = match (exit.stopped, exit.code, exit.signal) {
        (Some(Stopped::Timeout), ..) => ("ShellTimeout", format!("{name} took too long")),
        (Some(Stopped::Cancel), ..) => ("ShellCancelled", format!("{name} was given up")),
        (None, Some(code), _) if def.expected.contains(&code) => return None,
        (None, Some(code), _) => ("ShellExit", format!("{name} exited with code {code}")),
        (None, None, Some(n)) => ("ShellSignal", format!("{name} was ended by signal {n}")),
        (None, None, None) => ("ShellSignal", format!("{name} was ended")),
    };
    Some(plain_error(word, what))
}

/// What a command gave besides its exit code.
enum Chosen {
    /// It wrote its value where it was told.
    Value(Json),
    /// It printed JSON, as was asked for.
    Printed(Json),
}

fn chosen(def: &Definition, folder: &Folder) -> disk::Result<Result<Option<Chosen>, String>> {
    let most = VALUE_BYTES_MAX as u64;
    let read = |name: &str| match disk::optional(folder.dir().read_file(name, Open::Read, most)) {
        Err(e) if e.kind == Kind::TooLarge => Ok(Err(format!("its value is longer than {most}"))),
        read => read.map(Ok),
    };
    let parse = |bytes: &[u8], what: &str| {
        gate(bytes, JSON_DEPTH_MAX, Surrogates::Paired)
            .map_err(|e| format!("{what} is no JSON: {e}"))
    };
    let written = match read(&folder.outputs())? {
        Ok(None) => None,
        Ok(Some(bytes)) => Some(parse(&bytes, "what it wrote to DORMOUSE_OUTPUTS")),
        Err(why) => Some(Err(why)),
    };
    if let Some(written) = written {
        return Ok(written.map(|value| Some(Chosen::Value(value))));
    }
    if !def.json {
        return Ok(Ok(None));
    }
    let printed = read("stdout.log")?;
    let parsed = printed.and_then(|bytes| parse(&bytes.unwrap_or_default(), "what it printed"));
    Ok(parsed.map(|value| Some(Chosen::Printed(value))))
}

/// The value of an attempt, whether it succeeded or not.
fn value(
    attempt: &Attempt,
    folder: &Folder,
    exit: &Exit,
    (success, inline): (bool, usize),
) -> disk::Result<Map<String, Value>> {
    let mut value = Map::new();
    let mut put = |name: &str, what: Value| value.insert(name.to_owned(), what);
    put("exitCode", json!(exit.code));
    if let Some(signal) = exit.signal {
        put("signal", json!(signal));
    }
    put("success", json!(success));
    let mut lossy = false;
    for (stream, blob) in [("stdout", "stdoutBlob"), ("stderr", "stderrBlob")] {
        let bytes = read_log(folder, stream)?;
        let end = &bytes[bytes.len().saturating_sub(inline)..];
        let text = String::from_utf8_lossy(end);
        lossy |= matches!(text, std::borrow::Cow::Owned(_));
        put(stream, json!(text));
        if end.len() < bytes.len() {
            put(blob, json!(attempt.dir.put_blob(&bytes)?));
        }
    }
    if lossy {
        put("lossy", json!(true));
    }
    put("truncated", json!(exit.truncated));
    put("durationMs", json!(exit.duration_ms));
    Ok(value)
}

fn read_log(folder: &Folder, stream: &str) -> disk::Result<Vec<u8>> {
    let name = format!("{stream}.log");
    let Some(file) = disk::optional(folder.dir().open(&name, Open::Read))? else {
        return Ok(Vec::new());
    };
    file.read_all(u64::MAX)
}
