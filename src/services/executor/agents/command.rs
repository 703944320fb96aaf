//! An agent that is a command: it is told on its standard input what others are told over HTTP, and
//! what it prints is its answer.
//!
//! May not start anything: the executor of commands does. Invariant: what counts is what stands in
//! the log of the effect, so that it is the same whichever daemon reads it.

use serde_json::{Value, json};

use super::agent::CommandLine;
use super::answer::{Said, of_body};
use super::contract;
use crate::codecs::event::FailureClass;
use crate::codecs::json::Json;
use crate::ground::limits::HTTP_ANSWER_BYTES_MAX;
use crate::ports::disk::{self, Open};
use crate::services::executor::http::failure;
use crate::services::executor::{Attempt, Outcome};
use crate::shells::runner::folder::Folder;

/// The definition of the command, before it is known what it is told.
pub(super) fn definition(line: &CommandLine) -> Value {
    json!({ "argv": line.argv, "cwd": line.cwd, "env": line.env })
}

/// The attempt of the command.
pub(super) fn order(id: &str, line: &CommandLine, attempt: &Attempt) -> Attempt {
    let mut definition = definition(line);
    definition["stdin"] = contract::body(id, None, None, attempt);
    Attempt { definition, ..attempt.clone() }
}

/// What its end means.
pub(super) async fn heard(outcome: Outcome, attempt: &Attempt) -> Outcome {
    let Outcome::Ok { stdout, stderr, .. } = outcome else { return outcome };
    let its = attempt.clone();
    let read = tokio::task::spawn_blocking(move || printed(&its)).await;
    let said = match read {
        Ok(Ok(printed)) => of_body(b"", &printed),
        Ok(Err(e)) => Said::Unreadable(format!("what it printed cannot be read: {e}")),
        Err(e) => Said::Unreadable(format!("what it printed was not read: {e}")),
    };
    if let Said::Answer(value) = said {
        return Outcome::Ok { value: Json::of(&value), stdout, stderr };
    }
    let (name, why, is_final) = said.failure();
    let class = FailureClass::Reported;
    Outcome::Failed { class, error: failure(name, why), is_final, retry_after_ms: None }
}

fn printed(attempt: &Attempt) -> disk::Result<Vec<u8>> {
    let folder = Folder::make(&attempt.dir, attempt.effect_id, attempt.epoch)?;
    let read = folder.dir().read_file("stdout.log", Open::Read, HTTP_ANSWER_BYTES_MAX as u64);
    Ok(disk::optional(read)?.unwrap_or_default())
}
