//! Printing on standard output.
//!
//! May not know verbs. Invariant: a closed pipe is no failure; nothing is printed twice.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

/// Prints a value as one line of JSON.
pub(super) fn json(value: &Value) {
    line(&value.to_string());
}

/// Prints a line. Whoever closed the pipe has seen enough.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints a remark on standard error.
pub(super) fn remark(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints warnings on standard error.
pub(super) fn warnings(warnings: &[String]) {
    for warning in warnings {
        remark(&format!("warning: {warning}"));
    }
}

/// Whether a person watches standard error.
pub(super) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
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
