//! Fuzz targets: one function for each format and each parser, from any bytes to a check.
//!
//! `fuzz_targets` feeds them from libFuzzer; the ordinary tests feed them what was found before and
//! seeds that they change at random. A target panics if what it checks does not hold, and for no
//! other reason. Invariant: a target depends on its bytes alone.

mod document;
mod doors;
mod files;
mod journal;
mod log;
mod text;

pub use document::{expression, workflow_document};
pub use doors::{http_request, turn, url_guard};
pub use files::{agents_yaml, config_toml, lock_note, root_json, run_json, state_cache};
pub use journal::{event, journal_line, journal_open, mended};
pub use log::{log_payload, log_scan, segment_header};
pub use text::{json_gate, names, source};

/// A target and its name.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("agents_yaml", agents_yaml),
    ("config_toml", config_toml),
    ("event", event),
    ("expression", expression),
    ("http_request", http_request),
    ("journal_line", journal_line),
    ("journal_open", journal_open),
    ("json_gate", json_gate),
    ("lock_note", lock_note),
    ("log_payload", log_payload),
    ("log_scan", log_scan),
    ("names", names),
    ("root_json", root_json),
    ("run_json", run_json),
    ("segment_header", segment_header),
    ("source", source),
    ("state_cache", state_cache),
    ("turn", turn),
    ("url_guard", url_guard),
    ("workflow_document", workflow_document),
];

/// The first byte, which says how the rest is taken.
fn choice(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}
