//! Printing on standard output.
//!
//! May not know verbs. Invariant: a closed pipe is no failure, any other refusal of standard output
//! is one; nothing is printed twice.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;

use serde_json::Value;

/// Width of a bar that shows how far something is.
const BAR_COLUMNS: usize = 40;
/// Runs between two looks of whoever watches.
const WATCH_STEP: usize = 64;

/// Prints a value as one line of JSON.
pub(super) fn json(value: &Value) {
    line(&value.to_string());
}

/// The first refusal of standard output.
static REFUSED: Mutex<Option<(io::ErrorKind, String)>> = Mutex::new(None);

/// Prints a line. After a refusal nothing more is printed.
pub(super) fn line(text: &str) {
    if has_ended() {
        return;
    }
    let mut stdout = io::stdout().lock();
    let done = stdout.write_all(format!("{text}\n").as_bytes()).and_then(|()| stdout.flush());
    if let (Err(e), Ok(mut refused)) = (done, REFUSED.lock()) {
        *refused = Some((e.kind(), e.to_string()));
    }
}

/// Standard output for a verb that prints bytes instead of lines.
pub(super) fn bytes() -> impl io::Write {
    io::stdout().lock()
}

/// Whether nobody can read what is printed: followers need not go on. Asks the pipe itself, for a
/// follower may have nothing to print for a long time.
pub(super) fn has_ended() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    if REFUSED.lock().is_ok_and(|refused| refused.is_some()) {
        return true;
    }
    let stdout = io::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let answered = poll(&mut asked, Some(&at_once)).is_ok_and(|n| n > 0);
    answered && asked[0].revents().contains(PollFlags::ERR)
}

/// Why standard output could not be written. Whoever closed the pipe has seen enough: that is no
/// failure.
pub(super) fn failure() -> Option<String> {
    let refused = REFUSED.lock().ok()?.clone();
    refused.filter(|(kind, _)| *kind != io::ErrorKind::BrokenPipe).map(|(_, why)| why)
}

/// Prints a remark on standard error.
pub(super) fn remark(text: &str) {
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

/// Prints warnings on standard error.
pub(super) fn warnings(warnings: &[String]) {
    for warning in warnings {
        remark(&format!("warning: {warning}"));
    }
}

/// Whether a person watches standard error.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Shows how far something is, to a person who watches.
pub(super) fn progress(done: usize, all: usize) {
    if !is_watched() {
        return;
    }
    let filled = (done * BAR_COLUMNS).checked_div(all).unwrap_or(BAR_COLUMNS).min(BAR_COLUMNS);
    let (full, rest) = ("█".repeat(filled), "·".repeat(BAR_COLUMNS - filled));
    let end = if done < all { "" } else { "\n" };
    let mut stderr = io::stderr().lock();
    // Nobody may be watching any more.
    let _ = write!(stderr, "\r{full}{rest} {done} of {all} runs{end}");
}

/// Shows how far a work on many runs is, now and then.
pub(super) fn watch() -> impl Fn(usize, usize) + Sync {
    let shown = Mutex::new(());
    move |done, all| {
        if (done % WATCH_STEP == 0 || done == all)
            && let Ok(_one_at_a_time) = shown.lock()
        {
            progress(done, all);
        }
    }
}

/// Prints a table with a header.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    let text = table.to_string();
    for row in text.lines() {
        line(row.trim_end());
    }
}
