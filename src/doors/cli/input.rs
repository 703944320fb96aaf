//! Reading what a command line names: value files, standard input, inline JSON.
//!
//! May not know verbs. Invariant: every byte from outside passes the JSON gate, and none beyond the
//! limit is held in memory.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::codecs::json::{Json, Surrogates, gate};
use crate::ground::limits::{JSON_DEPTH_MAX, VALUE_BYTES_MAX};
use crate::services::runs::trouble::Trouble;
use crate::services::runs::{Error, Runs};
use crate::shells::run_dir::dir::RunDir;

use super::failure::Failure;

/// A path made absolute against the working directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|e| Failure::usage(&format!("{}: {e}", path.display()), "give an absolute path"))
}

/// JSON from a file, or from standard input for `-`. `flag` names the option in errors.
pub(super) fn json_file(runs: &Runs, flag: &str, path: &Path) -> Result<Json, Failure> {
    parse(flag, &bytes(runs, flag, path)?)
}

/// JSON from the command line itself.
pub(super) fn inline(flag: &str, text: &str) -> Result<Json, Failure> {
    parse(flag, text.as_bytes())
}

/// The bytes of a file, or of standard input for `-`.
pub(super) fn bytes(runs: &Runs, flag: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    if path != Path::new("-") {
        let read = runs.disk.read_user_file(path, VALUE_BYTES_MAX as u64);
        return read.map_err(|e| match e.kind {
            crate::ports::disk::Kind::TooLarge => too_large(flag),
            crate::ports::disk::Kind::NotFound => Error::NotFound(
                Trouble::new(
                    "file_not_found",
                    format!("{flag}: {} does not exist", path.display()),
                )
                .next("check the path with `ls -l`"),
            )
            .into(),
            _ => Failure::usage(&format!("{flag}: {e}: {}", e.source), "name a regular file"),
        });
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|e| Failure::usage(&format!("{flag}: standard input: {e}"), ""))?;
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(too_large(flag));
    }
    Ok(bytes)
}

/// The bytes of a value file for a post: relative paths are looked up in the run directory first,
/// then in the working directory.
pub(super) fn run_bytes(
    runs: &Runs,
    dir: &RunDir,
    flag: &str,
    path: &Path,
) -> Result<Vec<u8>, Failure> {
    if path.is_relative()
        && path != Path::new("-")
        && let Some(text) = path.to_str()
        && let Ok(bytes) = dir.read_relative(text, VALUE_BYTES_MAX as u64)
    {
        return Ok(bytes);
    }
    bytes(runs, flag, path)
}

pub(super) fn parse(flag: &str, bytes: &[u8]) -> Result<Json, Failure> {
    gate(bytes, JSON_DEPTH_MAX, Surrogates::Paired)
        .map_err(|e| Failure::usage(&format!("{flag} is not JSON: {e}"), "give strict JSON"))
}

fn too_large(flag: &str) -> Failure {
    let what = format!("{flag} has more than {VALUE_BYTES_MAX} bytes (value_bytes_max)");
    Error::Refused(Trouble::new("value_too_large", what)).into()
}
