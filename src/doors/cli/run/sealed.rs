//! An export that a command is given, and whose it has to be.
//!
//! May not read it. Invariant: a key that is none is refused before the file is looked at.

use std::path::PathBuf;

use crate::codecs::format::signature::PublicKey;
use crate::doors::cli::failure::Failure;
use crate::doors::cli::{input, key};

/// The file, and the signature that it needs.
#[derive(Debug, clap::Args)]
pub(super) struct SealedArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose signature it must have, as `key create` printed it
    #[arg(long, value_name = "PUBLIC")]
    key: Option<String>,
}

impl SealedArgs {
    /// Where it is, and the key.
    pub(super) fn read(&self) -> Result<(PathBuf, Option<PublicKey>), Failure> {
        let key = self.key.as_deref().map(key::public).transpose()?;
        Ok((input::absolute(&self.file)?, key))
    }
}
