//! Ask: an effect whose outcome nobody knows, as a question to a person (`onUncertain: "ask"`).
//!
//! May not know who answers nor how they are asked. Invariant: the question is the effect itself,
//! and its answer a decision: nothing else is recorded, and its process hears of neither.

use serde_json::{Value, json};

use super::decide::{Choice, Decision};
use super::life::Effect;
use super::plain_error;
use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::id::Epoch;
use crate::ground::limits::JSON_DEPTH_MAX;

/// What may be answered.
pub const OPTIONS: [&str; 3] = ["retry", "done", "failed"];

/// What is shown to whoever is asked.
#[must_use]
pub fn payload(effect: &Effect) -> Value {
    let cause = effect.uncertain_cause.as_deref().unwrap_or("no cause");
    let title = effect.title.as_deref().or(effect.label.as_deref()).unwrap_or(&effect.kind);
    let question = format!("Nobody knows whether {title:?} was executed ({cause}). What happened?");
    json!({
        "question": question, "options": OPTIONS, "cause": cause, "kind": effect.kind,
        "epoch": effect.epoch, "attempts": effect.attempts,
    })
}

/// What a person says.
#[derive(Debug, Clone, Default)]
pub struct Words {
    /// Yes or no.
    pub approved: bool,
    /// One of the options.
    pub option: Option<String>,
    /// The value, for `done`: JSON, or a text as it is. What went wrong, for `failed`.
    pub response: Option<String>,
    /// What went wrong.
    pub feedback: Option<String>,
    /// The start that the answer is about.
    pub epoch: Option<Epoch>,
}

/// The decision that an answer is.
///
/// # Errors
/// A sentence that says what is missing.
pub fn decision(words: &Words) -> Result<Decision, String> {
    let said = words.response.as_ref();
    let failed = || {
        let plain = || "a person said that it failed".to_owned();
        let message = words.feedback.as_ref().or(said).cloned().unwrap_or_else(plain);
        Choice::Failed(plain_error("TaskError", message))
    };
    let what = match (words.approved, words.option.as_deref()) {
        (true, Some("retry")) => Choice::Retry,
        (true, Some("done")) => {
            let said = said.ok_or("done needs a response: the value that the process is to see")?;
            let read = gate(said.as_bytes(), JSON_DEPTH_MAX, Surrogates::Paired);
            Choice::Done(read.unwrap_or_else(|_| Json::of(said)))
        }
        (true | false, Some("failed")) | (false, None) => failed(),
        _ => {
            let options = OPTIONS.join(", ");
            return Err(format!("the answer is one of {options}; a rejection is failed"));
        }
    };
    let epoch = words.epoch.ok_or("the answer names the epoch that it is about")?;
    let option = words.option.as_deref().unwrap_or("failed");
    let reason = words.feedback.clone().unwrap_or_else(|| format!("a person was asked: {option}"));
    Ok(Decision { what, epoch, reason, evidence: None, force: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(approved: bool, option: &str, response: &str) -> Result<Choice, String> {
        let word = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let words = Words {
            approved,
            option: word(option),
            response: word(response),
            feedback: None,
            epoch: Some(Epoch(1)),
        };
        decision(&words).map(|decision| decision.what)
    }

    #[test]
    fn an_answer_is_a_decision() {
        assert_eq!(said(true, "retry", ""), Ok(Choice::Retry));
        assert_eq!(said(true, "done", "{\"n\": 1}"), Ok(Choice::Done(Json::of(&json!({"n": 1})))));
        assert_eq!(said(true, "done", "shipped it"), Ok(Choice::Done(Json::of("shipped it"))));
        for (approved, option) in [(true, "failed"), (false, "failed"), (false, "")] {
            let failed = Choice::Failed(plain_error("TaskError", "no room".into()));
            assert_eq!(said(approved, option, "no room"), Ok(failed));
        }
        assert!(said(true, "", "").unwrap_err().contains("retry, done, failed"));
        assert!(said(false, "retry", "").unwrap_err().contains("a rejection is failed"));
        assert!(said(true, "done", "").unwrap_err().contains("needs a response"));
        let nameless = Words { option: Some("failed".into()), ..Words::default() };
        assert!(decision(&nameless).unwrap_err().contains("epoch"));
    }
}
