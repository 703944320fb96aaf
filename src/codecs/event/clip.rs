//! Clip: what is too large for a record is cut, and says so.
//!
//! May not know which records there are. Invariant: cutting what was cut changes nothing.

use super::ErrorInfo;
use crate::codecs::json::Json;
use crate::ground::limits::{ERROR_BYTES_MAX, INLINE_BYTES_MAX};

/// Longest title, label or name kept in a record.
const TEXT_BYTES_MAX: usize = 1024;

/// A text for display, cut to 1 KiB.
#[must_use]
pub fn clip(text: &str) -> String {
    cut(text, TEXT_BYTES_MAX)
}

/// A text cut to `bytes_max`, marked.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    // What was cut fits, so that cutting again changes nothing.
    let mark = format!("… ({} bytes)", text.len());
    let room = bytes_max.saturating_sub(mark.len());
    let end = (0..=room).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}{mark}", &text[..end])
}

/// Cuts an error to what a record keeps.
#[must_use]
pub fn clip_error(error: ErrorInfo) -> ErrorInfo {
    let share = ERROR_BYTES_MAX / 4;
    ErrorInfo {
        name: clip(&error.name),
        message: cut(&error.message, share),
        stack: error.stack.map(|s| cut(&s, share)),
        data: error.data.map(|d| if d.as_str().len() > 2 * share { marked(&d) } else { d }),
    }
}

/// What a list of several errors shows of each.
#[must_use]
pub fn brief_error(error: &ErrorInfo) -> ErrorInfo {
    let (name, message) = (clip(&error.name), clip(&error.message));
    ErrorInfo { name, message, stack: None, data: None }
}

/// A value that has no blob of its own: what is too large is said to have been there.
#[must_use]
pub fn inline_or_marked(value: Json) -> Json {
    if value.as_str().len() > INLINE_BYTES_MAX { marked(&value) } else { value }
}

fn marked(value: &Json) -> Json {
    Json::of(&serde_json::json!({ "truncated": true, "bytes": value.as_str().len() }))
}
