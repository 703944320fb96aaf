//! The command of a worker: one process for one task.
//!
//! May not know daemons. Invariant: the process and its group are gone when its end is known.

use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::limits::{JSON_DEPTH_MAX, VALUE_BYTES_MAX};

/// An exit code that says: try again later.
const EXIT_TEMPORARY: i32 = 75;

/// A command that runs.
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
}

/// How a command ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With a value.
    Ok(Json),
    /// With an error, and whether another attempt may help.
    Error {
        /// What is posted.
        error: Value,
        /// Nothing: the policy knows.
        retryable: Option<bool>,
    },
    /// Nobody can say.
    Unknown(String),
}

/// The variables that tell a command about its task.
pub(super) fn variables(task: &Value, outputs: &str) -> Vec<(&'static str, String)> {
    let text = |name: &str| match &task[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut all = vec![
        ("DORMOUSE_RUN_ID", text("runId")),
        ("DORMOUSE_EFFECT_ID", text("effectId")),
        ("DORMOUSE_EPOCH", text("epoch")),
        ("DORMOUSE_ATTEMPT", text("attempt")),
        ("DORMOUSE_IDEMPOTENCY_KEY", text("idempotencyKey")),
        ("DORMOUSE_OUTPUTS", outputs.to_owned()),
    ];
    if task["deadline"].is_string() {
        all.push(("DORMOUSE_DEADLINE", text("deadline")));
    }
    all
}

impl Running {
    /// Starts a command in a process group of its own, which a worker can end.
    pub(super) fn start(
        command: &[String],
        variables: &[(&'static str, String)],
    ) -> std::io::Result<Self> {
        let [program, args @ ..] = command else {
            return Err(std::io::Error::other("there is no command"));
        };
        #[allow(clippy::disallowed_methods, reason = "a worker is there to start this command")]
        let mut command = Command::new(program);
        command.args(args).envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let child = command.spawn()?;
        let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// Its process group.
    pub(super) const fn group(&self) -> Option<Pid> {
        self.group
    }

    /// Gives it the task and waits for its end. Blocks.
    pub(super) fn finish(mut self, task: &str) -> (std::io::Result<ExitStatus>, Vec<u8>) {
        let stdin = self.child.stdin.take();
        let text = task.to_owned();
        let feeding = std::thread::spawn(move || {
            // A command that reads nothing is none the worse.
            let _ = stdin.map(|mut stdin| stdin.write_all(text.as_bytes()));
        });
        let mut printed = Vec::new();
        let read = self.child.stdout.take().map_or(Ok(0), |stdout| {
            stdout.take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut printed)
        });
        let status = self.child.wait();
        end(self.group, Signal::KILL);
        let _ = feeding.join();
        (read.and(status), printed)
    }
}

/// Signals everybody in a process group who is there still.
pub(super) fn end(group: Option<Pid>, signal: Signal) {
    if let Some(group) = group {
        // Nobody left is what is wanted.
        let _ = kill_process_group(group, signal);
    }
}

/// What an exit means. What was written to the outputs file is the value; else what was printed.
pub(super) fn judge(
    status: &std::io::Result<ExitStatus>,
    printed: &[u8],
    outputs: Option<&[u8]>,
) -> Ended {
    let status = match status {
        Ok(status) => status,
        Err(e) => return Ended::Unknown(format!("the end of the command cannot be known: {e}")),
    };
    let error = |name: &str, message: String, data: Value| {
        let parts = [("name", json!(name)), ("message", json!(message)), ("data", data)];
        Value::Object(parts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => match value(printed, outputs) {
            Ok(value) => Ended::Ok(value),
            Err(why) => Ended::Unknown(why),
        },
        (Some(code), _) => Ended::Error {
            error: error("CommandExit", format!("exit code {code}"), json!({ "exitCode": code })),
            retryable: (code == EXIT_TEMPORARY).then_some(true),
        },
        (None, Some(signal)) => Ended::Error {
            error: error("CommandSignal", format!("signal {signal}"), json!({ "signal": signal })),
            retryable: None,
        },
        (None, None) => Ended::Unknown("the command ended in no known way".into()),
    }
}

fn value(printed: &[u8], outputs: Option<&[u8]>) -> Result<Json, String> {
    if let Some(outputs) = outputs {
        return gate(outputs, JSON_DEPTH_MAX, Surrogates::Paired)
            .map_err(|e| format!("what the command wrote is not JSON: {e}"));
    }
    if printed.len() > VALUE_BYTES_MAX {
        return Err(format!("the command printed more than {VALUE_BYTES_MAX} bytes"));
    }
    if printed.trim_ascii().is_empty() {
        return Ok(Json::null());
    }
    gate(printed, JSON_DEPTH_MAX, Surrogates::Paired)
        .or_else(|_| Ok(Json::of(&String::from_utf8_lossy(printed).trim_end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "as waiting for a child gives it")]
    fn exit(raw: i32) -> std::io::Result<ExitStatus> {
        Ok(ExitStatus::from_raw(raw))
    }

    #[test]
    fn only_what_is_known_is_said() {
        let ok = |printed: &[u8], outputs| match judge(&exit(0), printed, outputs) {
            Ended::Ok(value) => value.as_str().to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(ok(b"{\"n\":1.50}\n", None), "{\"n\":1.50}");
        assert_eq!(ok(b"plain\n", None), "\"plain\"");
        assert_eq!(ok(b"", None), "null");
        assert_eq!(ok(b"plain", Some(b"[1]")), "[1]");
        assert!(matches!(judge(&exit(0), b"", Some(b"{")), Ended::Unknown(_)));
        let temporary = judge(&exit(75 << 8), b"", None);
        assert!(matches!(temporary, Ended::Error { retryable: Some(true), .. }));
        assert!(matches!(judge(&exit(1 << 8), b"", None), Ended::Error { retryable: None, .. }));
        assert!(matches!(judge(&exit(9), b"", None), Ended::Error { .. }));
        let lost = Err(std::io::Error::other("gone"));
        assert!(matches!(judge(&lost, b"", None), Ended::Unknown(_)));
    }
}
