//! Answers about runs that leave the root and come back.
//!
//! May not print or know HTTP. Invariant: the members are those of the command line's `--json`.

use serde::Serialize;
use utoipa::ToSchema;

use super::shapes;
use crate::codecs::event::Head;
use crate::codecs::format::signature::PublicKey;
use crate::ground::id::{EffectId, RunId};
use crate::services::export::import::Imported;
use crate::services::retention::archive::Archived;
use crate::services::retention::gc::Collected;
use crate::services::runs::delete::Deleted;

/// A run that was deleted, or could be
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeleteDone {
    /// The run
    #[schema(value_type = String)]
    run_id: RunId,
    /// How it ended
    #[schema(required)]
    end: Option<&'static str>,
    /// It was deleted
    deleted: bool,
    /// Nothing of it is left on the disk
    space_freed: bool,
}

impl DeleteDone {
    /// What was done.
    pub(crate) fn of(done: &Deleted, deleted: bool) -> Self {
        let (run_id, end, space_freed) = (done.run_id.clone(), done.end, done.is_gone);
        Self { run_id, end, deleted, space_freed }
    }
}

/// A run that was archived
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArchiveDone {
    /// The run
    #[schema(value_type = String)]
    run_id: RunId,
    /// Its archive
    file: String,
    /// Size of that
    file_bytes: u64,
    /// Size of the files in it
    bytes: u64,
    /// Nothing of its directory is left on the disk
    space_freed: bool,
}

impl From<Archived> for ArchiveDone {
    fn from(done: Archived) -> Self {
        Self {
            run_id: done.run_id,
            file: done.file.display().to_string(),
            file_bytes: done.file_bytes,
            bytes: done.bytes,
            space_freed: done.is_gone,
        }
    }
}

/// A run that was brought in
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImportDone {
    /// The run
    #[schema(value_type = String)]
    run_id: RunId,
    /// Its directory
    run_dir: String,
    /// Where its journal ends
    #[schema(value_type = shapes::Head)]
    head: Head,
    /// How it ended; null if it has not
    #[schema(required)]
    end: Option<&'static str>,
    /// It has not ended, and waits for `run resume`
    paused: bool,
    /// Effects that were started elsewhere and are closed here
    #[schema(value_type = Vec<String>)]
    started_elsewhere: Vec<EffectId>,
    /// Who signed the file
    #[schema(required)]
    signer: Option<String>,
}

impl ImportDone {
    /// What was brought in, and who signed it.
    pub(crate) fn of(done: Imported, signer: Option<PublicKey>) -> Self {
        Self {
            run_id: done.dir.id().clone(),
            run_dir: done.dir.path().display().to_string(),
            head: done.head,
            end: done.end,
            paused: done.end.is_none(),
            started_elsewhere: done.elsewhere,
            signer: signer.map(|key| key.to_string()),
        }
    }
}

/// What was collected, or would be: `dryRun`, `archived`, `runs`, `staying`, `swept`, `bytes`,
/// `archiveBytes`
#[derive(Debug, Serialize, ToSchema)]
#[schema(value_type = Object)]
pub(crate) struct GcDone(pub(crate) Collected);
