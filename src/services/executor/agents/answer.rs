//! What an agent's answer says: the contract over JSON, and the one over an event stream.
//!
//! May not send anything or know statuses beyond "done". Invariant: an answer that its agent calls
//! unfinished is none.

use serde_json::{Map, Value, json};

use crate::codecs::json::{Surrogates, gate};
use crate::ground::limits::{AGENT_LINE_BYTES_MAX, HTTP_ANSWER_BYTES_MAX, JSON_DEPTH_MAX};
use crate::services::executor::http::says_error;

/// Members that may hold the answer; the first counts.
const ANSWERS: [&str; 5] = ["answer", "output", "result", "response", "message"];

/// What an answer says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// It is done: the value of the effect.
    Answer(Value),
    /// It failed, in its own words.
    Error(String),
    /// It says that it is not done yet.
    NotFinal,
    /// It cannot be read; why.
    Unreadable(String),
}

impl Said {
    /// What it is if it is no answer: the name of an error, a sentence, and whether another attempt
    /// would end the same.
    #[must_use]
    pub fn failure(&self) -> (&'static str, String, bool) {
        match self {
            Self::Error(why) => ("AgentError", why.clone(), false),
            Self::Unreadable(why) => ("AgentAnswer", why.clone(), true),
            Self::NotFinal | Self::Answer(_) => {
                ("AgentNotFinal", "the agent says that its answer is not final".to_owned(), true)
            }
        }
    }
}

/// Reads a whole body.
#[must_use]
pub fn of_body(content_type: &[u8], body: &[u8]) -> Said {
    if body.trim_ascii().is_empty() {
        return Said::Answer(json!({ "answer": "" }));
    }
    match gate(body, JSON_DEPTH_MAX, Surrogates::Paired).map(|json| json.to_value()) {
        Ok(Value::Object(members)) => of_members(members),
        Ok(other) => Said::Answer(json!({ "answer": other })),
        Err(why) => {
            let media = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
            let text = std::str::from_utf8(body).ok();
            match text.filter(|_| media.is_empty() || media.eq_ignore_ascii_case(b"text/plain")) {
                Some(text) => Said::Answer(json!({ "answer": text })),
                None => Said::Unreadable(format!("the answer is neither JSON nor text: {why}")),
            }
        }
    }
}

/// The error that a body reports, whatever its status: it names one and gives no answer.
#[must_use]
pub fn error_in(body: &[u8]) -> Option<String> {
    match gate(body, JSON_DEPTH_MAX, Surrogates::Paired).map(|json| json.to_value()) {
        Ok(Value::Object(members)) => error_of(&members),
        _ => None,
    }
}

fn error_of(members: &Map<String, Value>) -> Option<String> {
    let answered = members.get("answer").is_some_and(|a| !a.is_null() && a != "");
    let error = members.get("error").filter(|_| !answered)?;
    if !says_error(&json!({ "error": error })) {
        return None;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let inner = error.get("message").and_then(text);
    Some(text(error).or(inner).unwrap_or_else(|| error.to_string()))
}

fn of_members(members: Map<String, Value>) -> Said {
    if let Some(error) = error_of(&members) {
        return Said::Error(error);
    }
    if members.get("final") == Some(&Value::Bool(false)) {
        return Said::NotFinal;
    }
    let given = |name: &&str| members.get(*name).is_some_and(|value| !value.is_null());
    let Some(name) = ANSWERS.into_iter().find(given) else {
        let why = format!("the answer has none of the members {}", ANSWERS.join(", "));
        return Said::Unreadable(why);
    };
    let mut value = json!({ "answer": members[name] });
    let metadata = members.get("metadata").filter(|metadata| !metadata.is_null());
    if let Some(metadata) = metadata {
        value["metadata"] = metadata.clone();
    }
    let told = |known: &String| known == name || known == "metadata" || known == "final";
    if !members.keys().all(told) {
        value["raw"] = Value::Object(members);
    }
    Said::Answer(value)
}

/// An event stream as it comes.
#[derive(Debug, Default)]
pub struct Stream {
    line: Vec<u8>,
    answer: String,
    bytes: usize,
}

impl Stream {
    /// Takes the next bytes. Says what was said once it is said.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Said> {
        self.bytes += bytes.len();
        if self.bytes > HTTP_ANSWER_BYTES_MAX {
            let why = format!("the stream has more than {HTTP_ANSWER_BYTES_MAX} bytes");
            return Some(Said::Unreadable(why));
        }
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > AGENT_LINE_BYTES_MAX {
                    let why = format!("a line has more than {AGENT_LINE_BYTES_MAX} bytes");
                    return Some(Said::Unreadable(why));
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if let Some(said) = self.end_of_line(&line) {
                return Some(said);
            }
        }
        None
    }

    fn end_of_line(&mut self, line: &[u8]) -> Option<Said> {
        let Ok(line) = std::str::from_utf8(line) else {
            return Some(Said::Unreadable("the stream is not text".to_owned()));
        };
        let data = line.strip_suffix('\r').unwrap_or(line).strip_prefix("data:")?;
        // One space belongs to the form; more belong to the answer.
        let data = data.strip_prefix(' ').unwrap_or(data);
        if data == "[DONE]" {
            return Some(Said::Answer(json!({ "answer": std::mem::take(&mut self.answer) })));
        }
        self.answer.push_str(data);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(body: &str) -> Said {
        of_body(b"application/json", body.as_bytes())
    }

    #[test]
    fn answers_are_found() {
        for (body, value) in [
            (r#"{"answer":"a"}"#, json!({ "answer": "a" })),
            (r#"{"answer":"a","final":true}"#, json!({ "answer": "a" })),
            (
                r#"{"output":1,"answer":null}"#,
                json!({ "answer": 1, "raw": { "output": 1, "answer": null } }),
            ),
            (r#"{"message":"m"}"#, json!({ "answer": "m" })),
            (
                r#"{"result":[1],"metadata":{"t":1}}"#,
                json!({ "answer": [1], "metadata": { "t": 1 } }),
            ),
            (
                r#"{"response":"r","x":1}"#,
                json!({ "answer": "r", "raw": { "response": "r", "x": 1 } }),
            ),
            (
                r#"{"answer":"a","error":"e"}"#,
                json!({ "answer": "a", "raw": { "answer": "a", "error": "e" } }),
            ),
            (r#""text""#, json!({ "answer": "text" })),
            ("[1]", json!({ "answer": [1] })),
            ("", json!({ "answer": "" })),
            (" \n", json!({ "answer": "" })),
        ] {
            assert_eq!(said(body), Said::Answer(value), "{body}");
        }
        assert_eq!(of_body(b"text/plain", b"hello"), Said::Answer(json!({ "answer": "hello" })));
    }

    #[test]
    fn what_is_no_answer_is_said() {
        assert_eq!(said(r#"{"error":"no"}"#), Said::Error("no".to_owned()));
        assert_eq!(said(r#"{"error":{"message":"no"}}"#), Said::Error("no".to_owned()));
        assert_eq!(said(r#"{"error":"no","final":false}"#), Said::Error("no".to_owned()));
        assert_eq!(said(r#"{"answer":"so far","final":false}"#), Said::NotFinal);
        for (content_type, body) in
            [("application/json", "{\"x\":1}"), ("text/html", "<p>"), ("application/json", "{")]
        {
            let said = of_body(content_type.as_bytes(), body.as_bytes());
            assert!(matches!(said, Said::Unreadable(_)), "{body}: {said:?}");
        }
        assert_eq!(error_in(br#"{"error":"no","answer":""}"#).as_deref(), Some("no"));
        assert_eq!(error_in(b"<html>"), None);
    }

    fn streamed(pieces: &[&str]) -> Option<Said> {
        let mut stream = Stream::default();
        pieces.iter().find_map(|piece| stream.take(piece.as_bytes()))
    }

    #[test]
    fn a_stream_ends_where_it_says() {
        let answer = |text: &str| Some(Said::Answer(json!({ "answer": text })));
        let whole =
            "event: x\ndata: Hel\ndata:lo\r\n\n: comment\ndata:  you\ndata: [DONE]\ndata: no";
        assert_eq!(streamed(&[whole]), answer("Hello you"));
        let bytes: Vec<String> = whole.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(streamed(&bytes), answer("Hello you"));
        assert_eq!(streamed(&["data: Hel\n", "data: [DONE]"]), None, "the line is not over");
        let long = format!("data: {}", "x".repeat(AGENT_LINE_BYTES_MAX));
        assert!(matches!(streamed(&[&long]), Some(Said::Unreadable(_))));
        let line = format!("data: {}\n", "x".repeat(60_000));
        let many = vec![line.as_str(); HTTP_ANSWER_BYTES_MAX / 60_000 + 1];
        assert!(matches!(streamed(&many), Some(Said::Unreadable(_))));
    }
}
