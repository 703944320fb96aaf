//! Reads journals by their published format, to judge them from outside.
//!
//! Shares no code with the program. Invariant: every line that is given verifies.

use std::path::Path;

use serde_json::Value;

use crate::ports::disk::{Disk, Open};

/// Bytes of `,"sum":"…"}` at the end of a line.
const TRAILER_BYTES: usize = 42;
/// Longest segment that is read.
const JOURNAL_BYTES_MAX: u64 = 1 << 28;

fn chained(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut sum = [0; 16];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    sum
}

fn hex(sum: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(sum))
}

/// The bytes of a journal: its segments, one after the other.
pub fn bytes(disk: &dyn Disk, run: &Path) -> Result<String, String> {
    let said = |e: crate::ports::disk::Error| format!("{}: {e}", run.display());
    let dir = disk.open_dir(run).and_then(|dir| dir.open_dir("journal")).map_err(said)?;
    let mut text = String::new();
    // Names of segments sort as their records do.
    for name in dir.list().map_err(said)? {
        if name.strip_suffix(".jsonl").is_some() {
            let bytes = dir.read_file(&name, Open::Read, JOURNAL_BYTES_MAX).map_err(said)?;
            let more = std::str::from_utf8(&bytes).map_err(|e| format!("{name}: {e}"))?;
            text.push_str(more);
        }
    }
    Ok(text)
}

/// The records of a run, each a whole line.
pub fn records(disk: &dyn Disk, run: &Path) -> Result<Vec<Value>, String> {
    let id = run.file_name().and_then(|name| name.to_str()).ok_or("no name")?;
    verified(id, &bytes(disk, run)?)
}

/// The records of a journal whose chain holds.
pub fn verified(id: &str, text: &str) -> Result<Vec<Value>, String> {
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
