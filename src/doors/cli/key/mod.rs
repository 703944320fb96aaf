//! `dormouse key …`: one file a verb.
//!
//! May not show a secret. Invariant: what signs stands in one file that its owner alone may read.

mod create;

use std::path::Path;

use clap::Subcommand;

use super::context::Context;
use super::failure::{Exit, Failure};
use crate::codecs::format::signature::{PublicKey, SecretKey};
use crate::services::export::no_key;
use crate::services::runs::Error;

/// No key file is longer.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// What can be done about keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(about = "Make a key, and print what others need to check its signatures")]
    Create(create::Args),
}

pub(super) fn dispatch(verb: Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Create(args) => create::run(&args, context),
    }
}

/// Reads the key that signs.
pub(super) fn secret(context: &Context, file: &Path) -> Result<SecretKey, Failure> {
    let read = context.runs.disk.read_user_file(file, KEY_FILE_BYTES_MAX);
    let bytes = read.map_err(Error::from)?;
    Ok(SecretKey::read(&bytes).map_err(|e| no_key(&file.display().to_string(), e))?)
}

/// Reads a public key from the command line.
pub(super) fn public(text: &str) -> Result<PublicKey, Failure> {
    Ok(text.parse().map_err(|e| no_key(&format!("--key {text:?}"), e))?)
}
