//! `key create`: a key that signs exports.
//!
//! May not print the secret. Invariant: an existing file is never overwritten.

use std::path::PathBuf;

use serde_json::json;

use crate::codecs::format::signature::SecretKey;
use crate::doors::cli::context::Context;
use crate::doors::cli::failure::{Exit, Failure};
use crate::doors::cli::{input, output};

/// Make a key that signs exports, in a new file that only you may read, and print its public half.
///
/// Example:
///   dormouse key create ~/.dormouse/export.key
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the key goes; the file must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit, Failure> {
    let file = input::absolute(&args.file)?;
    let disk = &context.runs.disk;
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    seed[..16].copy_from_slice(&disk.random());
    seed[16..].copy_from_slice(&disk.random());
    let key = SecretKey::from_seed(&seed);
    let text = zeroize::Zeroizing::new(key.text());
    context.runs.keep_key(&file, text.as_bytes())?;
    let public = key.public().to_string();
    if context.json {
        output::json(&json!({ "file": file, "publicKey": public }));
    } else {
        output::line(&public);
    }
    Ok(Exit::Done)
}
