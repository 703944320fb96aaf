//! What is known of kinds of work: by the configuration, and by workers that said so.
//!
//! May not know documents. Invariant: what the configuration says of a kind, no worker changes.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use super::trouble::Trouble;
use super::{Error, Result};
use crate::codecs::json::{Surrogates, gate};
use crate::ground::limits::{JSON_DEPTH_MAX, WORKFLOW_SIGNATURES_MAX};
use crate::machines::workflow::signatures::{Signatures, read};
use crate::ports::disk::Disk;

/// Longest file of signatures.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Signatures of kinds, shared by all who look at documents.
#[derive(Debug, Clone, Default)]
pub struct KnownKinds {
    configured: Arc<Signatures>,
    said: Arc<RwLock<Signatures>>,
}

impl KnownKinds {
    /// Those of a file.
    ///
    /// # Errors
    /// A file that cannot be read, or says something else.
    pub fn of_file(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let wrong = |why: String| {
            let what = format!("executors.signatures: {}: {why}", path.display());
            Error::Invalid(Trouble::new("usage", what))
        };
        let bytes = disk.read_user_file(path, FILE_BYTES_MAX).map_err(|e| wrong(e.to_string()))?;
        let json =
            gate(&bytes, JSON_DEPTH_MAX, Surrogates::Paired).map_err(|e| wrong(e.to_string()))?;
        let signatures = read(&json.to_value()).map_err(wrong)?;
        Ok(Self { configured: Arc::new(signatures), ..Self::default() })
    }

    /// A worker says what its work takes and brings.
    ///
    /// # Errors
    /// When more kinds are known than there is room for.
    pub fn publish(&self, signatures: Signatures) -> std::result::Result<(), String> {
        let mut said = self.said.write().unwrap_or_else(PoisonError::into_inner);
        let added = signatures.keys().filter(|kind| !said.contains_key(*kind)).count();
        if said.len() + added > WORKFLOW_SIGNATURES_MAX {
            return Err(format!(
                "the signatures of {WORKFLOW_SIGNATURES_MAX} kinds are known already"
            ));
        }
        said.extend(signatures);
        Ok(())
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Signatures {
        let mut all = self.said.read().unwrap_or_else(PoisonError::into_inner).clone();
        all.extend(self.configured.iter().map(|(kind, known)| (kind.clone(), known.clone())));
        all
    }
}
