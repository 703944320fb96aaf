//! Reads journals by their published format, to judge them from outside.
//!
//! Shares no code with the program. Invariant: every line that is given verifies.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Bytes of `,"sum":"…"}` at the end of a line.
const TRAILER_BYTES: usize = 42;

fn chained(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes().first_chunk().unwrap()
}

fn hex(sum: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(sum))
}

/// The bytes of a journal: its segments, one after the other.
pub(crate) fn bytes(run: &Path) -> Result<String, String> {
    let dir = run.join("journal");
    let said = |e: std::io::Error| format!("{}: {e}", dir.display());
    let mut segments = Vec::new();
    for entry in fs::read_dir(&dir).map_err(said)? {
        let path = entry.map_err(said)?.path();
        if path.extension().is_some_and(|e| e == "jsonl") {
            segments.push(path);
        }
    }
    segments.sort();
    let texts = segments.iter().map(fs::read_to_string).collect::<Result<Vec<_>, _>>();
    Ok(texts.map_err(said)?.concat())
}

/// The records of a run, each a whole line.
pub(crate) fn records(run: &Path) -> Result<Vec<Value>, String> {
    let id = run.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    verified(id, &bytes(run)?)
}

/// The records of a journal whose chain holds.
pub(crate) fn verified(id: &str, text: &str) -> Result<Vec<Value>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(format!("the journal of {id} ends in the middle of a line"));
    }
    let mut sum = chained(&[b"dormouse-journal/1\n", id.as_bytes(), b"\n"]);
    let mut records: Vec<Value> = Vec::new();
    for line in text.lines() {
        let cut = line.len().checked_sub(TRAILER_BYTES).filter(|at| line.is_char_boundary(*at));
        let (body, trailer) = line.split_at(cut.ok_or_else(|| format!("{id}: {line}"))?);
        sum = chained(&[&sum, body.as_bytes()]);
        if trailer != format!(",\"sum\":\"{}\"}}", hex(sum)) {
            return Err(format!("the chain of {id} breaks at {line}"));
        }
        let record: Value = serde_json::from_str(line).map_err(|e| format!("{id}: {e}: {line}"))?;
        if record["seq"].as_u64() != Some(records.len() as u64 + 1) {
            return Err(format!("{id} has a gap before {line}"));
        }
        records.push(record);
    }
    Ok(records)
}
